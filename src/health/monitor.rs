//! The loop that watches one endpoint.
//!
//! ```text
//! short random delay ─▶ probe ─▶ result into the state machine ─▶ pause ─┐
//!                         ▲                                              │
//!                         └──────────────────────────────────────────────┘
//! ```
//!
//! Live traffic is heard in both waits, during a probe and during a pause, without cutting either short. An endpoint
//! has a loop of its own, so a probe that hangs delays nobody else's.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::probe::{HealthProbe, ProbeError};
use super::reach::Target;
use super::state::{Health, State, Transition};
use crate::net::connect::is_local;

/// The longest pause before a probe that may confirm a change.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// How an endpoint is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From the end of a probe to the next, plus or minus 10 %. While a change is being confirmed the pause is one
    /// second, or `interval` if that is shorter.
    pub interval: Duration,
    /// Bounds a whole probe, from connecting to the answer's headers.
    pub timeout: Duration,
    /// Consecutive failures that take an endpoint down.
    pub fall: NonZeroU32,
    /// Consecutive successes that bring it back.
    pub rise: NonZeroU32,
}

/// The endpoint that is watched: where it is, what traffic says of it, and who is told.
pub trait Subject: Send + Sync {
    /// The upstream's name, for logs.
    fn upstream(&self) -> &str;

    /// Where to send the next probe; asked anew for each, since names may resolve differently.
    fn target(&self) -> Target;

    /// What was known of it before it is watched.
    fn state(&self) -> State {
        State::Unknown
    }

    /// Resolves while live traffic has seen [`Settings::fall`] consecutive connection failures, at once if it has
    /// already. Only called while the endpoint is not down; may be dropped and called again at any time.
    ///
    /// Failures from before the last [`publish`](Self::publish) do not count: the implementation starts its count
    /// over there, else an endpoint that comes back would be taken down again by what happened before.
    fn live_failures(&self) -> impl Future<Output = ()> + Send;

    /// The state is `state` from now on, because of `reason`. Called once for each change.
    fn publish(&self, state: State, reason: &str);
}

/// Probes `subject` for ever. Drop the future to stop: a probe under way ends with it.
///
/// The first probe comes after a random delay of up to a tenth of `interval` and at most 100 ms, so that many
/// endpoints are not probed in the same instant and a start is still quick; of up to `interval` if the state is known.
pub async fn watch<S: Subject, P: HealthProbe>(
    subject: S,
    probe: P,
    settings: Settings,
    mut rng: fastrand::Rng,
) {
    let mut watch = Watch {
        subject: &subject,
        health: Health::resume(subject.state(), settings.fall, settings.rise),
        settings,
    };
    let spread = match watch.health.state() {
        State::Unknown => settings.interval.min(CONFIRM_INTERVAL) / 10,
        State::Up | State::Down => settings.interval,
    };
    let mut pause = up_to(spread, &mut rng);
    loop {
        watch.hear_traffic_during(sleep(pause)).await;
        let target = subject.target();
        let result = watch
            .hear_traffic_during(probe_in_time(&probe, &target, settings.timeout))
            .await;
        watch.record(&target, result);
        pause = watch.pause(&mut rng);
    }
}

async fn probe_in_time<P: HealthProbe>(
    probe: &P,
    target: &Target,
    limit: Duration,
) -> Result<(), ProbeError> {
    timeout(limit, probe.probe(target))
        .await
        .unwrap_or(Err(ProbeError::Timeout(limit)))
}

/// Uniform in `0..=most`.
fn up_to(most: Duration, rng: &mut fastrand::Rng) -> Duration {
    most.mul_f64(rng.f64())
}

struct Watch<'a, S> {
    subject: &'a S,
    health: Health,
    settings: Settings,
}

impl<S: Subject> Watch<'_, S> {
    /// Awaits `step`, whatever traffic says meanwhile.
    async fn hear_traffic_during<F: Future>(&mut self, step: F) -> F::Output {
        let mut step = pin!(step);
        loop {
            let listening = self.health.state() != State::Down;
            tokio::select! {
                biased;
                () = self.subject.live_failures(), if listening => self.record_live_failures(),
                output = &mut step => return output,
            }
        }
    }

    fn record_live_failures(&mut self) {
        if let Some(transition) = self.health.on_live_failures() {
            let fall = self.settings.fall;
            self.announce(
                transition,
                &self.subject.target(),
                &format!("{fall} consecutive connection failures on live traffic"),
            );
        }
    }

    fn record(&mut self, target: &Target, result: Result<(), ProbeError>) {
        let Settings { fall, rise, .. } = self.settings;
        match result {
            Ok(()) => {
                if let Some(transition) = self.health.on_success() {
                    let reason = match transition.from {
                        State::Unknown => "first probe succeeded".to_owned(),
                        State::Up | State::Down => format!("{rise} consecutive probes succeeded"),
                    };
                    self.announce(transition, target, &reason);
                }
            }
            // It says nothing about the endpoint.
            Err(ProbeError::Connect { source, .. }) if is_local(&source) => tracing::warn!(
                upstream = self.subject.upstream(),
                server = target.address,
                error = %source,
                "cannot probe for want of resources here"
            ),
            Err(error) => match self.health.on_failure() {
                Some(transition) => {
                    let reason = match transition.from {
                        State::Unknown => format!("first probe failed: {error}"),
                        State::Up | State::Down => {
                            format!("{fall} consecutive probes failed, the last: {error}")
                        }
                    };
                    self.announce(transition, target, &reason);
                }
                None => tracing::debug!(
                    upstream = self.subject.upstream(),
                    server = target.address,
                    state = %self.health.state(),
                    %error,
                    "health probe failed"
                ),
            },
        }
    }

    fn announce(&self, transition: Transition, target: &Target, reason: &str) {
        let upstream = self.subject.upstream();
        let server = target.address.as_str();
        match transition.to {
            State::Down => tracing::warn!(upstream, server, reason, "server is down"),
            State::Up | State::Unknown => tracing::info!(upstream, server, reason, "server is up"),
        }
        self.subject.publish(transition.to, reason);
    }

    /// How long to wait before the next probe.
    fn pause(&self, rng: &mut fastrand::Rng) -> Duration {
        let interval = self.settings.interval;
        if self.health.changing() {
            return interval.min(CONFIRM_INTERVAL);
        }
        let tenth = interval / 10;
        (interval - tenth).saturating_add(up_to(tenth * 2, rng))
    }
}

#[cfg(test)]
mod tests;
