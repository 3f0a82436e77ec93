//! What live traffic says of a server: how its requests end, counted by worker, and failures in a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

use super::ejection::Tally;
use crate::metrics::{Counter, Sharded};

/// No fastest answer, in microseconds.
const NONE: u32 = u32::MAX;

/// What a worker's requests have met.
#[derive(Debug)]
pub struct Met {
    successes: Counter,
    failures: Counter,
    /// Sum of the successes' times to the answer's headers, in microseconds.
    latency: Counter,
    /// The shortest of them since it was taken last, in microseconds.
    fastest: AtomicU32,
}

impl Default for Met {
    fn default() -> Self {
        Self {
            successes: Counter::default(),
            failures: Counter::default(),
            latency: Counter::default(),
            fastest: AtomicU32::new(NONE),
        }
    }
}

impl Met {
    fn tally(&self) -> Tally {
        Tally {
            successes: self.successes.get(),
            failures: self.failures.get(),
            latency: self.latency.get(),
        }
    }
}

/// Whether an answer with this status is a failure of the server, and not its opinion of the request.
fn is_failure(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// How a server behaves towards its requests.
#[derive(Debug)]
pub struct Conduct {
    /// Failures in a row that are the server's for certain.
    in_a_row: AtomicU32,
    /// All failures in a row.
    doubts: AtomicU32,
    /// Failures in a row that are told.
    alarming: AtomicU32,
    alarm: Arc<Notify>,
}

impl Conduct {
    /// Tells of failures in a row by `alarm`.
    pub(super) fn new(alarm: Arc<Notify>) -> Self {
        Self {
            in_a_row: AtomicU32::new(0),
            doubts: AtomicU32::new(0),
            alarming: AtomicU32::new(u32::MAX),
            alarm,
        }
    }

    /// An answer's headers have come after `latency`.
    pub(super) fn answered(&self, met: &Met, status: u16, latency: Duration) {
        if status == 500 {
            // Often the fault of a single path. One client that asks for that must not be able to eject a server, but their
            // share may.
            met.failures.increment();
            return self.tell(&self.doubts);
        }
        if is_failure(status) {
            return self.failed(met);
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        met.successes.increment();
        met.latency.add(micros);
        let micros = u32::try_from(micros).unwrap_or(NONE - 1);
        if micros < met.fastest.load(Relaxed) {
            met.fastest.store(micros, Relaxed);
        }
        // Mostly both are 0, and a store would take the cache line from the other workers.
        if self.doubts.load(Relaxed) | self.in_a_row.load(Relaxed) != 0 {
            self.forgive();
        }
    }

    /// A request got no answer, or one that is a failure.
    pub(super) fn failed(&self, met: &Met) {
        met.failures.increment();
        self.doubts.fetch_add(1, Relaxed);
        self.tell(&self.in_a_row);
    }

    fn tell(&self, row: &AtomicU32) {
        let in_a_row = row.fetch_add(1, Relaxed).wrapping_add(1);
        // Again after as many more, should the first alarm have had no consequence.
        if in_a_row.is_multiple_of(self.alarming.load(Relaxed)) {
            self.alarm.notify_one();
        }
    }

    /// Has `failures` in a row told; `None` tells of none.
    pub(super) fn tell_of(&self, failures: Option<u32>) {
        self.alarming.store(failures.unwrap_or(u32::MAX), Relaxed);
    }

    /// Whether there were as many failures in a row as are told.
    pub(super) fn is_alarming(&self) -> bool {
        self.in_a_row.load(Relaxed) >= self.alarming.load(Relaxed)
    }

    /// Whether it is worth looking at the share of its failures before it is time.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubts.load(Relaxed) >= self.alarming.load(Relaxed)
    }

    /// Forgets failures in a row.
    pub(super) fn forgive(&self) {
        self.in_a_row.store(0, Relaxed);
        self.doubts.store(0, Relaxed);
    }
}

/// What all workers have met.
pub(super) fn tally<T>(shards: &Sharded<T>, met: impl Fn(&T) -> &Met) -> Tally {
    shards.iter().map(|shard| met(shard).tally()).sum()
}

/// The fastest answer since this was asked last. For a single caller.
pub(super) fn take_fastest<T>(shards: &Sharded<T>, met: impl Fn(&T) -> &Met) -> Option<Duration> {
    let fastest = shards
        .iter()
        .map(|shard| met(shard).fastest.swap(NONE, Relaxed));
    let fastest = fastest.min().filter(|&micros| micros != NONE)?;
    Some(Duration::from_micros(fastest.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn failures_are_told_when_there_are_so_many_in_a_row() {
        let alarm = Arc::new(Notify::new());
        let conduct = Conduct::new(Arc::clone(&alarm));
        let met = Met::default();
        conduct.tell_of(Some(3));
        for status in [502, 503, 200, 504, 404, 503, 500, 500, 502] {
            conduct.answered(&met, status, MS);
            assert!(!conduct.is_alarming(), "{status}");
        }
        assert!(conduct.is_doubtful(), "three, whatever they say");
        conduct.failed(&met);
        assert!(conduct.is_alarming());
        conduct.forgive();
        assert!(!conduct.is_alarming() && !conduct.is_doubtful());
        let tally = met.tally();
        assert_eq!(
            (tally.successes, tally.failures, tally.latency),
            (2, 8, 2000)
        );
    }

    #[test]
    fn a_success_ends_a_row_whatever_was_counted_first() {
        let conduct = Conduct::new(Arc::default());
        let met = Met::default();
        conduct.tell_of(Some(2));
        conduct.in_a_row.store(1, Relaxed); // a failure beside a success on another thread
        conduct.answered(&met, 200, MS);
        conduct.failed(&met);
        assert!(!conduct.is_alarming());
    }

    #[test]
    fn the_fastest_is_of_all_workers_and_since_the_last_look() {
        let conduct = Conduct::new(Arc::default());
        let shards: Sharded<Met> = Sharded::new(2);
        assert_eq!(take_fastest(&shards, |it| it), None);
        for (worker, millis) in [(0, 7), (1, 3), (0, 9), (1, 5)] {
            conduct.answered(shards.shard(worker), 200, millis * MS);
        }
        conduct.answered(shards.shard(0), 500, MS);
        assert_eq!(take_fastest(&shards, |it| it), Some(3 * MS));
        assert_eq!(take_fastest(&shards, |it| it), None);
    }
}
