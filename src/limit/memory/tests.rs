//! The store under parallel requests, sweeps and floods.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::limit::Algorithm;

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];
const WINDOW: Duration = Duration::from_secs(1);

fn quota(algorithm: Algorithm, requests: u32) -> Quota {
    let requests = NonZeroU32::new(requests).unwrap();
    Quota {
        algorithm,
        requests,
        window: WINDOW,
        burst: requests,
    }
}

fn client(number: u32) -> LimitKey {
    LimitKey::address(Ipv4Addr::from_bits(number).into())
}

#[test]
fn keys_are_counted_apart_and_windows_reopen() {
    for algorithm in ALGORITHMS {
        let start = Instant::now();
        let store = MemoryStore::new(&quota(algorithm, 2), 10, start);
        let admitted = |key, now| {
            (0..5)
                .filter(|_| store.check(&key, now).is_allowed())
                .count()
        };
        assert_eq!(admitted(client(1), start), 2, "{algorithm:?}");
        assert_eq!(admitted(client(2), start), 2, "{algorithm:?}");
        let later = start + 2 * WINDOW;
        assert_eq!(admitted(client(1), later), 2, "{algorithm:?}");
    }
}

#[test]
fn a_clock_before_the_stores_own_is_its_start() {
    let start = Instant::now() + WINDOW;
    let store = MemoryStore::new(&quota(Algorithm::FixedWindow, 1), 10, start);
    assert!(store.check(&client(1), start - WINDOW).is_allowed());
    assert!(!store.check(&client(1), start).is_allowed());
}

#[test]
fn exactly_the_quota_of_many_parallel_requests() {
    for algorithm in ALGORITHMS {
        let start = Instant::now();
        let store = MemoryStore::new(&quota(algorithm, 1000), 10, start);
        let (admitted, barrier) = (AtomicU32::new(0), Barrier::new(8));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..1000 {
                        let verdict = store.check(&client(1), start);
                        admitted.fetch_add(u32::from(verdict.is_allowed()), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 1000, "{algorithm:?}");
    }
}

#[test]
fn a_live_cell_is_not_removed() {
    let start = Instant::now();
    let store = MemoryStore::new(&quota(Algorithm::FixedWindow, 1), 10, start);
    assert!(store.check(&client(1), start).is_allowed());
    for shard in &store.shards {
        assert!(!store.remove(&shard.pin(), &client(1)));
    }
    assert!(!store.check(&client(1), start).is_allowed());
}

/// In every round the key's state of the round before has run out, so the sweeper keeps removing the very cell that
/// the requests count in.
#[test]
fn a_sweep_takes_no_count_away() {
    const ROUNDS: u32 = 2000;
    for algorithm in ALGORITHMS {
        let start = Instant::now();
        let store = MemoryStore::new(&quota(algorithm, 3), 10, start);
        let admitted: Vec<_> = (0..ROUNDS).map(|_| AtomicU32::new(0)).collect();
        let (barrier, swept) = (Barrier::new(3), AtomicUsize::new(0));
        let requests = || {
            for (round, admitted) in (0..).zip(&admitted) {
                barrier.wait();
                for _ in 0..4 {
                    let verdict = store.check(&client(1), start + 2 * WINDOW * round);
                    admitted.fetch_add(u32::from(verdict.is_allowed()), Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(requests);
            scope.spawn(requests);
            for round in 0..ROUNDS {
                barrier.wait();
                for _ in 0..3 {
                    let removed = store.sweep(start + 2 * WINDOW * round);
                    swept.fetch_add(removed, Ordering::Relaxed);
                }
            }
        });
        assert!(
            admitted
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 3)
        );
        assert!(swept.into_inner() > 0, "the sweeper never met the key");
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn a_flood_of_keys_is_bounded_in_memory_and_in_requests() {
    for algorithm in ALGORITHMS {
        let start = Instant::now();
        let store = MemoryStore::new(&quota(algorithm, 1), 100, start);
        let admitted = (0..50_000)
            .filter(|&number| store.check(&client(number), start).is_allowed())
            .count();
        assert_eq!(store.len(), 100);
        assert!(admitted > 100, "newcomers still get the overflow cells");
        assert!(
            admitted <= 100 + OVERFLOW_CELLS,
            "{algorithm:?}: {admitted}"
        );
        // A key that has a cell of its own does not share the fate of the flood.
        let later = start + 2 * WINDOW;
        assert!(store.check(&client(1), later).is_allowed());
        assert_eq!(store.sweep(later), 99);
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn sweeps_do_a_bounded_part_and_come_round() {
    let start = Instant::now();
    let store = MemoryStore::new(&quota(Algorithm::FixedWindow, 1), 200_000, start);
    for number in 0..200_000 {
        store.check(&client(number), start);
    }
    assert_eq!(store.sweep(start), 0, "live keys stay");
    let later = start + WINDOW;
    let first = store.sweep(later);
    let shard = 2 * 200_000 / SHARDS;
    assert!((SWEEP_KEYS..SWEEP_KEYS + shard).contains(&first), "{first}");
    let rest: usize = (0..200_000 / SWEEP_KEYS).map(|_| store.sweep(later)).sum();
    assert_eq!(first + rest, 200_000);
    assert!(store.is_empty());
}

/// A word holds 26 bits of this quota's window index, and a cell that still had its old state when they come round
/// would take it for the present one.
#[test]
fn swept_overflow_cells_have_no_past() {
    let start = Instant::now();
    let requests = (1 << 20) - 1;
    let mut quota = quota(Algorithm::SlidingWindow, requests);
    quota.window = Duration::from_millis(1);
    let store = MemoryStore::new(&quota, 0, start);
    for _ in 0..requests {
        assert!(store.check(&client(1), start).is_allowed());
    }
    assert!(!store.check(&client(1), start).is_allowed());
    store.sweep(start + Duration::from_millis(2));
    let round = Duration::from_millis(1 << 26);
    assert!(store.check(&client(1), start + round).is_allowed());
}

/// Requests go on while the clock moves and sweeps run: nobody is admitted more than the bucket gives.
#[test]
fn a_bucket_keeps_its_rate_under_sweeps() {
    let start = Instant::now();
    let store = MemoryStore::new(&quota(Algorithm::TokenBucket, 1000), 10, start);
    let (clock, done, admitted) = (AtomicU32::new(0), AtomicBool::new(false), AtomicU32::new(0));
    let now = || start + Duration::from_millis(clock.load(Ordering::Relaxed).into());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let verdict = store.check(&client(1), now());
                    admitted.fetch_add(u32::from(verdict.is_allowed()), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5000 {
            clock.fetch_add(1, Ordering::Relaxed);
            store.sweep(now());
        }
        done.store(true, Ordering::Relaxed);
    });
    let admitted = admitted.into_inner();
    assert!((1000..=1000 + 5000).contains(&admitted), "{admitted}");
}
