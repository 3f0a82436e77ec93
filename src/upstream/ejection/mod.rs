//! Servers that fail the requests they get are left out for a while, whatever their probes say. Plain inputs, plain
//! outputs: the regulator gathers what servers did, and does what is decided here.
//!
//! ```text
//!                  failures in a row, share of failures, or latency
//!   in service ──────────────────────────────────────────────────────▶ ejected
//!       ▲                                                                 │
//!       └──────── after `base` × times ejected, at most `max` ◀───────────┘
//! ```
//! Each `base` in service without another ejection makes it one time less.

mod history;

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::history::{History, Tally};

/// How much slower than others a server has to be at least, whatever the factor, in microseconds.
const LATENCY_MARGIN: f64 = 5_000.0;

/// When servers are ejected, and for how long. Shares are from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// So many failures in a row eject a server.
    pub consecutive_failures: NonZeroU32,
    /// A larger share of failures does too, if it is twice that of all others together; 1 never does.
    pub error_ratio: f64,
    /// And so does a mean latency of so many times the median of the others; `None` never does.
    pub latency_factor: Option<f64>,
    /// How often shares and latencies are looked at.
    pub interval: Duration,
    /// How long the first ejection lasts.
    pub base: Duration,
    /// How long any ejection lasts at most.
    pub max: Duration,
    /// How many of an upstream's servers may be ejected at a time; of two or more always one.
    pub max_share: f64,
    /// If fewer than this share of an upstream's servers can be used, the ejected ones are used too.
    pub panic: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: NonZeroU32::new(5).expect("it is not 0"),
            error_ratio: 0.3,
            latency_factor: None,
            interval: Duration::from_secs(1),
            base: Duration::from_secs(30),
            max: Duration::from_secs(300),
            max_share: 0.5,
            panic: 0.5,
        }
    }
}

impl Settings {
    /// Whether one more of `servers` may be ejected when `ejected` are.
    pub(super) fn allows(&self, servers: usize, ejected: usize) -> bool {
        let most = (servers as f64 * self.max_share) as usize;
        servers > 1 && ejected < most.max(1)
    }

    /// Whether `usable` servers are too few of `servers` to do without the ejected ones.
    pub(super) fn panics(&self, servers: usize, usable: usize) -> bool {
        (usable as f64) < servers as f64 * self.panic
    }
}

/// Why a server was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Failures in a row.
    ConsecutiveFailures,
    /// The share of failures.
    ErrorRatio,
    /// The mean latency.
    Latency,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ConsecutiveFailures, Self::ErrorRatio, Self::Latency];

    /// Its word in metrics and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::ErrorRatio => "error_ratio",
            Self::Latency => "latency",
        }
    }
}

/// An ejection that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejected {
    /// When the server returns.
    pub until: Instant,
    /// Why it was ejected.
    pub reason: Reason,
}

/// A server's ejections.
#[derive(Debug, Default)]
pub(super) struct Record {
    ejected: Option<Ejected>,
    times: u32,
    /// Since when it is in service without one more or one less of `times`.
    calm_since: Option<Instant>,
}

impl Record {
    /// The ejection that is in force.
    pub(super) fn ejected(&self) -> Option<Ejected> {
        self.ejected
    }

    /// Ejects it, and says for how long.
    pub(super) fn eject(&mut self, reason: Reason, now: Instant, settings: &Settings) -> Duration {
        self.times = self.times.saturating_add(1);
        let length = settings.base.saturating_mul(self.times).min(settings.max);
        let until = now + length;
        self.ejected = Some(Ejected { until, reason });
        length
    }

    /// Time has passed; true if that ended an ejection.
    pub(super) fn tick(&mut self, now: Instant, settings: &Settings) -> bool {
        if let Some(ejected) = self.ejected {
            if now < ejected.until {
                return false;
            }
            self.end(now);
            return true;
        }
        if let Some(since) = self.calm_since
            && self.times > 0
            && now.saturating_duration_since(since) >= settings.base
        {
            self.times -= 1;
            self.calm_since = Some(now);
        }
        false
    }

    /// Ends an ejection before its time.
    pub(super) fn end(&mut self, now: Instant) {
        self.ejected = None;
        self.calm_since = Some(now);
    }
}

/// Those who should be ejected for the share of their failures or for their latency, by their place in `servers`.
pub(super) fn outliers(servers: &[&History], settings: &Settings) -> Vec<(usize, Reason)> {
    let mut found = Vec::new();
    let mut means: Vec<Option<f64>> = Vec::new();
    let totals: Vec<Tally> = (1..=History::LENGTH)
        .map(|intervals| servers.iter().map(|it| it.last(intervals)).sum())
        .collect();
    for (index, history) in servers.iter().enumerate() {
        let Some(intervals) = history.telling() else {
            means.push(None);
            continue;
        };
        let own = history.last(intervals);
        means.push(own.mean_latency());
        let others = totals[intervals - 1] - own;
        let (ratio, usual) = (own.failure_ratio(), others.failure_ratio());
        if settings.error_ratio < 1.0 && ratio > settings.error_ratio && ratio >= 2.0 * usual {
            found.push((index, Reason::ErrorRatio));
        }
    }
    if let Some(factor) = settings.latency_factor {
        let mut sorted: Vec<f64> = means.iter().copied().flatten().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        for (index, mean) in means.into_iter().enumerate() {
            if let Some(mean) = mean
                && let Some(median) = median_of_others(&sorted, mean)
                && mean > median * factor
                && mean > median + LATENCY_MARGIN
                && !found.iter().any(|(other, _)| *other == index)
            {
                found.push((index, Reason::Latency));
            }
        }
    }
    found
}

/// The median of `sorted` without one `own`, the lower one of two; `None` if there is nothing else.
fn median_of_others(sorted: &[f64], own: f64) -> Option<f64> {
    let place = sorted.partition_point(|&it| it < own);
    let middle = sorted.len().checked_sub(2)? / 2;
    let middle = if middle >= place { middle + 1 } else { middle };
    sorted.get(middle).copied()
}

#[cfg(test)]
mod tests;
