//! What a server did in the last intervals.

use std::collections::VecDeque;
use std::iter::Sum;
use std::ops::{Add, Sub};

/// Counts of what a server did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests that got an answer, and no failure.
    pub(crate) successes: u64,
    /// Requests that got none, or an answer that is a failure.
    pub(crate) failures: u64,
    /// Sum of the successes' times to the answer's headers, in microseconds.
    pub(crate) latency: u64,
}

impl Tally {
    pub(crate) fn requests(self) -> u64 {
        self.successes + self.failures
    }

    /// The share of failures, from 0 to 1; 0 without requests.
    pub(crate) fn failure_ratio(self) -> f64 {
        self.failures as f64 / self.requests().max(1) as f64
    }

    /// In microseconds; `None` without successes.
    pub(crate) fn mean_latency(self) -> Option<f64> {
        (self.successes > 0).then(|| self.latency as f64 / self.successes as f64)
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            successes: self.successes + other.successes,
            failures: self.failures + other.failures,
            latency: self.latency + other.latency,
        }
    }
}

impl Sub for Tally {
    type Output = Self;

    /// What came since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            successes: self.successes.saturating_sub(earlier.successes),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: self.latency.saturating_sub(earlier.latency),
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

/// The last intervals of a server, the latest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    intervals: VecDeque<Tally>,
    /// Whether the latest is not over yet.
    is_open: bool,
}

impl History {
    /// How many intervals count.
    pub(crate) const LENGTH: usize = 10;

    /// Of so many requests a share says something by itself.
    const ENOUGH: u64 = 50;

    /// With fewer than these nothing is said.
    const LEAST: u64 = 20;

    /// What the latest interval has come to so far, or altogether if it `is_over`.
    pub(crate) fn latest(&mut self, interval: Tally, is_over: bool) {
        if self.is_open {
            self.intervals.pop_front();
        }
        self.intervals.truncate(Self::LENGTH - 1);
        self.intervals.push_front(interval);
        self.is_open = !is_over;
    }

    /// What was says nothing of what will be.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The sum of the latest intervals.
    pub(crate) fn last(&self, intervals: usize) -> Tally {
        self.intervals.iter().take(intervals).copied().sum()
    }

    /// How many of the latest intervals hold enough requests to judge by; as few as possible, so that a change is seen
    /// soon. `None` if all of them hold too few.
    pub(crate) fn telling(&self) -> Option<usize> {
        let mut requests = 0;
        let enough = self.intervals.iter().position(|interval| {
            requests += interval.requests();
            requests >= Self::ENOUGH
        });
        match enough {
            Some(index) => Some(index + 1),
            None => (requests >= Self::LEAST).then_some(Self::LENGTH),
        }
    }
}
