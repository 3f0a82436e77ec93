//! Counting without sharing: every worker writes to a shard of its own, and a reader adds the shards up.
//!
//! Those who count keep handles to their shards, so that the request path looks nothing up and takes no lock.
//! `text.rs` writes the Prometheus text format, `access_log.rs` the access log.

pub mod access_log;
pub mod text;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count with a single writer: the worker that owns the shard it is in.
///
/// With one writer a plain load and store loses nothing, and costs less than a locked addition.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one. Only the owning worker may call this.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Takes one away, for counts of what is open now. Only the owning worker may call this.
    pub fn decrement(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// The count, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One `T` for each worker, each on cache lines of its own.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Padded<T>]>);

/// Two cache lines: what the adjacent-line prefetcher of x86 moves together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// Shards for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Padded::default()).collect())
    }
}

impl<T> Sharded<T> {
    /// The shard that worker number `worker` writes to.
    pub fn shard(&self, worker: usize) -> &T {
        &self.0[worker].0
    }

    /// All shards.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }

    /// Adds up one figure of all shards.
    pub fn sum(&self, figure: impl Fn(&T) -> u64) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(figure(&shard.0)))
    }
}

/// Upper bounds of the duration buckets, in seconds; a last one is unbounded.
pub const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const BOUNDS_MICROS: [u64; BOUNDS.len()] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// A histogram of durations, in a worker's shard.
#[derive(Debug, Default)]
pub struct Durations {
    /// Observations in each bucket (not cumulative); the last one is beyond all bounds.
    pub buckets: [Counter; BOUNDS.len() + 1],
    /// Sum of the observations, in microseconds.
    pub sum_micros: Counter,
}

impl Durations {
    /// Records one observation. Only the owning worker may call this.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BOUNDS.len());
        self.buckets[bucket].increment();
        self.sum_micros.add(micros);
    }
}

/// Names of the status classes in [`Outcomes`], by index.
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// Requests by status class, and how long they took.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// By class; the last one counts requests that ended without a status.
    pub by_class: [Counter; CLASSES.len()],
    /// From the request's headers to the end of the answer's body.
    pub durations: Durations,
}

impl Outcomes {
    /// Records one request; status 0 is none. Only the owning worker may call this.
    pub fn record(&self, status: u16, duration: Duration) {
        let class = match status / 100 {
            class @ 1..=5 => usize::from(class) - 1,
            _ => CLASSES.len() - 1,
        };
        self.by_class[class].increment();
        self.durations.observe(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        for micros in [0, 500, 501, 10_000_000, 10_000_001] {
            durations.observe(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = durations.buckets.iter().map(Counter::get).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(durations.sum_micros.get(), 20_001_002);
    }

    #[test]
    fn the_two_tables_of_bounds_agree() {
        for (seconds, micros) in BOUNDS.iter().zip(BOUNDS_MICROS) {
            assert_eq!((seconds * 1e6).round() as u64, micros);
        }
    }

    #[test]
    fn shards_add_up() {
        let outcomes: Sharded<Outcomes> = Sharded::new(3);
        outcomes.shard(0).record(200, Duration::ZERO);
        outcomes.shard(2).record(204, Duration::ZERO);
        outcomes.shard(2).record(0, Duration::ZERO);
        assert_eq!(outcomes.sum(|o| o.by_class[1].get()), 2);
        assert_eq!(outcomes.sum(|o| o.by_class[5].get()), 1);
    }
}
