//! What the control thread makes of a server's conduct: ejects and returns servers, has their shares grow, and sets the
//! number of requests that each may have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::adaptive::{self, Adaptive, Sample};
use super::conduct;
use super::ejection::{self, History, Reason, Tally};
use super::endpoint::Endpoint;
use super::group::Upstream;

/// Time between two looks while a server has more than a few requests.
const BUSY_TICK: Duration = Duration::from_millis(100);

/// A server with so many requests at a time may soon have too many.
const BUSY: u32 = 4;

/// Time between two looks while it is found out what a limit does.
const TRIAL_TICK: Duration = Duration::from_millis(25);

/// Time between two looks otherwise, and two steps of a slow start.
const TICK: Duration = Duration::from_secs(1);

/// Regulates an upstream for ever.
pub(super) async fn regulate(upstream: &Upstream) {
    let mut regulator = Regulator::new(Instant::now());
    loop {
        tokio::select! {
            () = sleep(regulator.pause) => {}
            () = upstream.failing() => {}
        }
        if regulator.step(upstream, Instant::now()) {
            upstream.publish();
        }
    }
}

/// What is known of an upstream's servers.
#[derive(Debug)]
pub(super) struct Regulator {
    watched: HashMap<usize, Watched>,
    /// When it looked last.
    looked: Instant,
    /// When the last interval ended.
    interval: Instant,
    /// When the shares of servers that start were published.
    started: Instant,
    starting: bool,
    /// Until the next look.
    pause: Duration,
}

/// What is known of a server.
#[derive(Debug)]
struct Watched {
    endpoint: Arc<Endpoint>,
    /// All that it had done when the interval began.
    before: Tally,
    history: History,
    limit: Option<Adaptive>,
    /// How many successes there were at the last look.
    successes: u64,
}

impl Watched {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            before: conduct::tally(&endpoint.stats, |it| &it.met),
            endpoint: Arc::clone(endpoint),
            history: History::default(),
            limit: None,
            successes: 0,
        }
    }

    /// Brings the history up to date; `is_over` ends the interval.
    fn look(&mut self, is_over: bool) {
        let now = conduct::tally(&self.endpoint.stats, |it| &it.met);
        self.history.latest(now - self.before, is_over);
        if is_over {
            self.before = now;
        }
        if !self.endpoint.is_fit() {
            self.history.forget(); // what was before is settled by then
        }
    }

    /// The limit that is found out.
    fn find_limit(
        &mut self,
        elapsed: Duration,
        waiting: bool,
        settings: &adaptive::Settings,
    ) -> u32 {
        let stats = &self.endpoint.stats;
        let successes = conduct::tally(stats, |it| &it.met).successes;
        let sample = Sample {
            elapsed,
            answers: successes.saturating_sub(self.successes),
            fastest: conduct::take_fastest(stats, |it| &it.met),
            in_flight: self.endpoint.in_flight(),
            waiting,
        };
        self.successes = successes;
        let limit = self.limit.get_or_insert_with(|| Adaptive::new(settings));
        limit.update(sample, settings)
    }
}

impl Regulator {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            watched: HashMap::new(),
            looked: now,
            interval: now,
            started: now,
            starting: false,
            pause: TICK,
        }
    }

    /// Looks at all servers; true if the members have to be published.
    pub(super) fn step(&mut self, upstream: &Upstream, now: Instant) -> bool {
        let roster = upstream.endpoints();
        self.follow(&roster);
        let settings = upstream.settings();
        let ejection = settings.protection.ejection.as_ref();
        let mut changed = false;
        for endpoint in &roster {
            let told = ejection.map(|settings| settings.consecutive_failures.get());
            endpoint.conduct().tell_of(told);
            if endpoint.standing().tick(now, ejection) {
                self.returns(upstream, endpoint, now);
                changed = true;
            }
        }
        if let Some(ejection) = ejection {
            changed |= self.eject_failing(upstream, &roster, ejection, now);
            let is_over = now - self.interval >= ejection.interval;
            if is_over {
                self.interval = now;
            }
            // A server whose failures come in a row is compared with the others before the interval is over.
            let is_doubtful = |it: &Arc<Endpoint>| it.is_fit() && it.conduct().is_doubtful();
            if is_over || roster.iter().any(is_doubtful) {
                for watched in self.watched.values_mut() {
                    watched.look(is_over);
                }
                changed |= self.eject_outliers(upstream, &roster, ejection, now);
            }
        }
        self.limit(upstream, &roster, now - self.looked);
        self.looked = now;
        let longest = ejection.map_or(TICK, |it| it.interval.min(TICK));
        self.pause = self.pause.min(longest);
        changed | self.starting_goes_on(upstream, &roster, now)
    }

    /// Begins to watch who has come, and forgets who has gone.
    fn follow(&mut self, roster: &[Arc<Endpoint>]) {
        let mut before = std::mem::take(&mut self.watched);
        for endpoint in roster {
            let key = Arc::as_ptr(endpoint) as usize;
            let known = before.remove(&key);
            let watched = known.unwrap_or_else(|| Watched::new(endpoint));
            self.watched.insert(key, watched);
        }
    }

    fn watched(&mut self, endpoint: &Arc<Endpoint>) -> Option<&mut Watched> {
        self.watched.get_mut(&(Arc::as_ptr(endpoint) as usize))
    }

    fn returns(&mut self, upstream: &Upstream, endpoint: &Arc<Endpoint>, now: Instant) {
        endpoint.conduct().forgive();
        endpoint.standing().start_slowly(now);
        if let Some(watched) = self.watched(endpoint) {
            watched.history.forget();
        }
        let (upstream, server) = (upstream.name(), endpoint.address().to_string());
        tracing::info!(upstream, server, "server is back from its ejection");
    }

    fn eject_failing(
        &mut self,
        upstream: &Upstream,
        roster: &[Arc<Endpoint>],
        settings: &ejection::Settings,
        now: Instant,
    ) -> bool {
        let mut found = Vec::new();
        for endpoint in roster.iter().filter(|it| it.conduct().is_alarming()) {
            match endpoint.is_fit() {
                true => found.push((endpoint, Reason::ConsecutiveFailures)),
                false => endpoint.conduct().forgive(),
            }
        }
        self.eject(upstream, roster, found, settings, now)
    }

    fn eject_outliers(
        &mut self,
        upstream: &Upstream,
        roster: &[Arc<Endpoint>],
        settings: &ejection::Settings,
        now: Instant,
    ) -> bool {
        // Those that get no requests are nobody's measure.
        let used = |endpoint: &&Arc<Endpoint>| {
            endpoint.is_fit() && endpoint.standing().ejected().is_none()
        };
        let compared: Vec<_> = roster.iter().filter(used).collect();
        let histories: Vec<&History> = compared
            .iter()
            .map(|it| &self.watched[&(Arc::as_ptr(it) as usize)].history)
            .collect();
        let found = ejection::outliers(&histories, settings);
        let found = found
            .into_iter()
            .map(|(index, reason)| (compared[index], reason))
            .collect();
        self.eject(upstream, roster, found, settings, now)
    }

    /// Ejects as many of `found` as may be; true if that are any.
    fn eject(
        &mut self,
        upstream: &Upstream,
        roster: &[Arc<Endpoint>],
        found: Vec<(&Arc<Endpoint>, Reason)>,
        settings: &ejection::Settings,
        now: Instant,
    ) -> bool {
        if found.is_empty() {
            return false;
        }
        let servers = roster.iter().filter(|it| it.is_wanted()).count();
        let is_ejected = |it: &&Arc<Endpoint>| it.is_wanted() && it.standing().ejected().is_some();
        let mut ejected = roster.iter().filter(is_ejected).count();
        let mut changed = false;
        for (endpoint, reason) in found {
            let standing = endpoint.standing();
            if !endpoint.is_fit()
                || standing.ejected().is_some()
                || !settings.allows(servers, ejected)
            {
                // What it did until now is no reason later on.
                endpoint.conduct().forgive();
                continue;
            }
            let length = standing.eject(reason, now, settings);
            endpoint.conduct().forgive();
            ejected += 1;
            changed = true;
            let (upstream, server) = (upstream.name(), endpoint.address().to_string());
            let (reason, seconds) = (reason.name(), length.as_secs());
            tracing::warn!(upstream, server, reason, seconds, "server is ejected");
        }
        changed
    }

    /// Sets the number of requests that each server may have, and tells those who wait if it grew.
    fn limit(&mut self, upstream: &Upstream, roster: &[Arc<Endpoint>], elapsed: Duration) {
        let settings = upstream.settings();
        let laid_down = settings.protection.most_in_flight(settings.protocol);
        let waiting = upstream.queue().is_used();
        let mut busy = waiting;
        let mut grown = false;
        let mut on_trial = false;
        for endpoint in roster {
            let Some(watched) = self.watched(endpoint) else {
                continue;
            };
            let found = match &settings.protection.adaptive {
                Some(settings) => Some(watched.find_limit(elapsed, waiting, settings)),
                None => {
                    watched.limit = None;
                    None
                }
            };
            let limit = [laid_down, found].into_iter().flatten().min();
            let before = endpoint.load().limit();
            if limit != before {
                endpoint.load().set_limit(limit);
                grown |= limit.is_none() || limit > before;
            }
            endpoint
                .sockets()
                .set_limit(settings.protection.max_connections);
            on_trial |= watched.limit.as_ref().is_some_and(Adaptive::is_on_trial);
            busy |= found.is_some() && endpoint.in_flight() >= BUSY;
        }
        if grown {
            upstream.call_waiting();
        }
        self.pause = match (on_trial, busy) {
            (true, _) => TRIAL_TICK,
            (false, true) => BUSY_TICK,
            (false, false) => TICK,
        };
    }

    /// Whether the shares of servers that start have to be published anew.
    fn starting_goes_on(
        &mut self,
        upstream: &Upstream,
        roster: &[Arc<Endpoint>],
        now: Instant,
    ) -> bool {
        if now - self.started < TICK {
            return false;
        }
        self.started = now;
        let length = upstream.settings().protection.slow_start;
        let was_starting = self.starting;
        let share = |it: &Arc<Endpoint>| it.standing().start_share(now, length);
        self.starting = roster.iter().any(|it| share(it).is_some());
        self.starting || was_starting
    }
}

#[cfg(test)]
mod tests;
