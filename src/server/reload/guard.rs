//! `reload_guard`: whether requests fare worse under a new configuration than they did before.
//!
//! Pure arithmetic over sums that somebody else takes each second.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::model::ReloadGuard;

/// So many requests are needed on both sides to say anything.
const ENOUGH: u64 = 100;

/// Answers that take longer by less than this are as good as before.
const NOTICED: Duration = Duration::from_millis(5);

/// Seconds that are remembered.
const LONGEST: usize = 3600;

/// What requests came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many there were.
    pub requests: u64,
    /// Those of them that were answered 5xx.
    pub errors: u64,
    /// Those of them whose time is known.
    pub timed: u64,
    /// The time of those, in microseconds.
    pub micros: u64,
}

impl Sum {
    /// Adds what another time came to.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.timed += other.timed;
        self.micros += other.micros;
    }

    fn error_share(&self) -> f64 {
        self.errors as f64 / self.requests as f64
    }

    fn mean(&self) -> Duration {
        Duration::from_micros(self.micros / self.timed.max(1))
    }
}

/// The seconds until now.
#[derive(Debug, Default)]
pub struct History(VecDeque<Sum>);

impl History {
    /// A second has passed.
    pub fn push(&mut self, second: Sum) {
        if self.0.len() == LONGEST {
            self.0.pop_front();
        }
        self.0.push_back(second);
    }

    /// What the last seconds came to, for as long as `window`.
    pub fn last(&self, window: Duration) -> Sum {
        let mut sum = Sum::default();
        let seconds = self.0.iter().rev().take(seconds(window));
        seconds.for_each(|second| sum.add(*second));
        sum
    }
}

/// At least one.
fn seconds(window: Duration) -> usize {
    let seconds = window.as_secs_f64().ceil();
    (seconds as usize).clamp(1, LONGEST)
}

/// A configuration on trial.
#[derive(Debug)]
pub struct Guard {
    settings: ReloadGuard,
    before: Sum,
    after: Sum,
    /// So many seconds are left.
    left: usize,
    /// Whether the next second began before the configuration was in force.
    is_mixed: bool,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Open,
    /// Its time is over, and nothing speaks against it. False if there were too few requests to tell.
    Passed(bool),
    /// It is worse than the one before, for this reason.
    Worse(String),
}

impl Guard {
    /// Watches over a configuration that is in force from now on. `before` is what requests came to until now.
    pub fn new(settings: ReloadGuard, history: &History) -> Self {
        Self {
            settings,
            before: history.last(settings.window),
            after: Sum::default(),
            left: seconds(settings.window),
            is_mixed: true,
        }
    }

    /// Watches over the next configuration, in comparison with what was before this one.
    pub fn again(self, settings: ReloadGuard) -> Self {
        Self {
            before: self.before,
            ..Self::new(settings, &History::default())
        }
    }

    /// A second has passed.
    pub fn second(&mut self, second: Sum) -> Verdict {
        if std::mem::take(&mut self.is_mixed) {
            return Verdict::Open;
        }
        self.after.add(second);
        self.left = self.left.saturating_sub(1);
        let can_tell = self.before.requests >= ENOUGH && self.after.requests >= ENOUGH;
        match self.fault() {
            Some(fault) if can_tell => Verdict::Worse(fault),
            _ if self.left == 0 => Verdict::Passed(can_tell),
            _ => Verdict::Open,
        }
    }

    fn fault(&self) -> Option<String> {
        let (before, after) = (self.before.error_share(), self.after.error_share());
        if after - before > self.settings.error_increase.ratio() {
            return Some(format!(
                "{:.1}% of {} requests were answered 5xx, {:.1}% before",
                after * 100.0,
                self.after.requests,
                before * 100.0
            ));
        }
        if self.before.timed < ENOUGH || self.after.timed < ENOUGH {
            return None;
        }
        let (before, after) = (self.before.mean(), self.after.mean());
        let is_slower =
            after > before.mul_f64(self.settings.latency_factor) && after > before + NOTICED;
        is_slower.then(|| {
            let requests = self.after.timed;
            format!("{requests} requests took {after:.1?} on average, {before:.1?} before")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::Percent;

    const SETTINGS: ReloadGuard = ReloadGuard {
        window: Duration::from_secs(3),
        error_increase: Percent::new(5).unwrap(),
        latency_factor: 2.0,
    };

    /// A second with so many requests, errors among them, of so many microseconds each.
    fn second(requests: u64, errors: u64, each: u64) -> Sum {
        Sum {
            requests,
            errors,
            timed: requests,
            micros: requests * each,
        }
    }

    /// On trial, after the second in which it came into force.
    fn started(history: &History) -> Guard {
        let mut guard = Guard::new(SETTINGS, history);
        assert_eq!(guard.second(second(1000, 1000, 9_999_999)), Verdict::Open);
        guard
    }

    fn history(seconds: &[Sum]) -> History {
        let mut history = History::default();
        seconds.iter().for_each(|second| history.push(*second));
        history
    }

    #[test]
    fn the_last_seconds_are_what_it_is_compared_with() {
        let history = history(&[second(1000, 1000, 1), second(40, 1, 10), second(60, 1, 10)]);
        let last = history.last(Duration::from_millis(1500));
        assert_eq!(last, second(100, 2, 10));
        assert_eq!(history.last(Duration::from_secs(60)).requests, 1100);
    }

    #[test]
    fn errors_that_become_more_by_so_many_points_are_too_many() {
        let before = history(&[second(200, 20, 10)]);
        let mut guard = started(&before);
        assert_eq!(guard.second(second(100, 15, 10)), Verdict::Open);
        let worse = Verdict::Worse("15.5% of 200 requests were answered 5xx, 10.0% before".into());
        assert_eq!(guard.second(second(100, 16, 10)), worse);
    }

    #[test]
    fn answers_that_take_longer_by_the_factor_take_too_long() {
        let quick = history(&[second(200, 0, 1000)]);
        let mut guard = started(&quick);
        assert_eq!(
            guard.second(second(100, 0, 5900)),
            Verdict::Open,
            "too little"
        );
        let before = history(&[second(200, 0, 10_000)]);
        let mut guard = started(&before);
        assert_eq!(guard.second(second(100, 0, 20_000)), Verdict::Open);
        let worse = "200 requests took 21.0ms on average, 10.0ms before";
        assert_eq!(
            guard.second(second(100, 0, 22_000)),
            Verdict::Worse(worse.into())
        );
    }

    #[test]
    fn few_requests_say_nothing() {
        let few = history(&[second(99, 0, 10)]);
        let mut guard = started(&few);
        assert_eq!(guard.second(second(1000, 1000, 10)), Verdict::Open);
        let many = history(&[second(1000, 0, 10)]);
        let mut guard = started(&many);
        for _ in 0..2 {
            assert_eq!(guard.second(second(33, 33, 10)), Verdict::Open);
        }
        assert_eq!(guard.second(second(33, 33, 10)), Verdict::Passed(false));
    }

    #[test]
    fn requests_of_unknown_time_count_as_errors_do_only() {
        let before = history(&[second(200, 0, 1000)]);
        let mut guard = started(&before);
        let untimed = Sum {
            timed: 0,
            ..second(500, 0, 0)
        };
        assert_eq!(guard.second(untimed), Verdict::Open);
    }

    #[test]
    fn what_is_as_good_as_before_passes_when_its_time_is_over() {
        let before = history(&[second(200, 2, 1000)]);
        let mut guard = started(&before);
        for _ in 0..2 {
            assert_eq!(guard.second(second(100, 1, 1500)), Verdict::Open);
        }
        assert_eq!(guard.second(second(100, 1, 1500)), Verdict::Passed(true));
    }
}
