//! Leases over a real redis-server.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::limit::Algorithm;
use crate::limit::redis::tests::server::RedisServer;
use crate::limit::redis::tests::{connection, on_worker};

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];
const MINUTE: Duration = Duration::from_secs(60);
/// Only tests of the timeout itself depend on how long it is; the others must not fail on a busy machine.
const PATIENT: Duration = Duration::from_secs(5);

fn quota(algorithm: Algorithm, requests: u32) -> Quota {
    let requests = NonZeroU32::new(requests).unwrap();
    Quota {
        algorithm,
        requests,
        window: MINUTE,
        burst: requests,
    }
}

/// A worker's leases, with a connection of its own.
fn store(server: &RedisServer, quota: Quota, max: u32) -> Rc<LeasedStore> {
    store_within(server, quota, max, PATIENT)
}

fn store_within(
    server: &RedisServer,
    quota: Quota,
    max: u32,
    timeout: Duration,
) -> Rc<LeasedStore> {
    let redis = RedisStore::new(connection(&server.url(), timeout), "api", quota);
    LeasedStore::new(redis, &quota, max, Arc::default())
}

/// As a request does it: first without waiting.
async fn allowed(store: &Rc<LeasedStore>) -> bool {
    let now = Instant::now();
    match store.check_local(&LimitKey::ALL, now) {
        Some(verdict) => verdict.is_allowed(),
        None => store.check(&LimitKey::ALL, now).await.unwrap().is_allowed(),
    }
}

async fn allowed_in_parallel(stores: &[Rc<LeasedStore>], requests: usize) -> usize {
    let mut checks = JoinSet::new();
    for at in 0..requests {
        let store = Rc::clone(&stores[at % stores.len()]);
        checks.spawn_local(async move { allowed(&store).await });
    }
    let verdicts = checks.join_all().await;
    verdicts.into_iter().filter(|&allowed| allowed).count()
}

#[test]
fn a_limit_of_five_is_five_for_ten_workers() {
    for algorithm in ALGORITHMS {
        let server = RedisServer::start();
        on_worker(async {
            let store = || store(&server, quota(algorithm, 5), 1);
            let stores: Vec<_> = (0..10).map(|_| store()).collect();
            assert_eq!(allowed_in_parallel(&stores, 100).await, 5, "{algorithm:?}");
            assert_eq!(allowed_in_parallel(&stores, 100).await, 0, "{algorithm:?}");
        });
    }
}

#[test]
fn fewer_are_missing_than_are_held() {
    for algorithm in ALGORITHMS {
        let server = RedisServer::start();
        on_worker(async {
            let stores: Vec<_> = (0..4)
                .map(|_| store(&server, quota(algorithm, 1000), 10))
                .collect();
            let mut admitted = 0;
            for _ in 0..30 {
                admitted += allowed_in_parallel(&stores, 100).await;
            }
            // A bucket refills while the test runs, and so does a window that another one's end falls into.
            let least = 1000 - 4 * 10;
            assert!(admitted >= least, "{algorithm:?}: {admitted}");
            if algorithm == Algorithm::FixedWindow {
                assert!(admitted <= 1000, "{algorithm:?}: {admitted}");
            }
        });
    }
}

#[test]
fn redis_is_asked_once_for_many_requests_and_not_at_all_for_denied_ones() {
    let server = RedisServer::start();
    on_worker(async {
        let store = store(&server, quota(Algorithm::FixedWindow, 20_000), 200);
        for _ in 0..10_000 {
            assert!(allowed(&store).await);
            // A request takes longer than this; the answer needs a turn to come.
            tokio::task::yield_now().await;
        }
        let asked = store.stats.taken.get();
        assert!(asked < 500, "{asked}");
        while allowed(&store).await {}
        let asked = store.stats.taken.get();
        for _ in 0..1000 {
            assert!(!allowed(&store).await);
        }
        assert_eq!(store.stats.taken.get(), asked);
    });
}

#[test]
fn what_is_not_used_is_given_back_to_redis() {
    for algorithm in ALGORITHMS {
        let server = RedisServer::start();
        on_worker(async {
            let mut quota = quota(algorithm, 100);
            // So slow that nothing is refilled, so fast that nothing is held for long.
            quota.window = Duration::from_secs(20);
            let store = store(&server, quota, 50);
            for _ in 0..20 {
                assert!(allowed(&store).await);
            }
            let ahead = store.stats.requests.get() - 20;
            assert!(ahead > 0);
            let deadline = Instant::now() + Duration::from_secs(20);
            while store.stats.returned.get() + store.stats.lapsed.get() < ahead {
                assert!(
                    Instant::now() < deadline,
                    "{algorithm:?}: {:?}",
                    store.stats
                );
                sleep(Duration::from_millis(20)).await;
            }
            if algorithm == Algorithm::TokenBucket {
                assert_eq!(store.stats.returned.get(), ahead);
            }
        });
    }
}

#[test]
fn what_is_given_back_to_a_redis_that_hangs_holds_up_nothing_else() {
    const KEYS: usize = 1000;
    let server = RedisServer::start();
    on_worker(async {
        let mut quota = quota(Algorithm::FixedWindow, 100);
        quota.window = Duration::from_millis(200);
        let store = store_within(&server, quota, 10, Duration::from_secs(30));
        assert!(allowed(&store).await);
        server.freeze();
        for at in 0..KEYS {
            let key = LimitKey::address(IpAddr::V4((at as u32).into()));
            let unused = Unused {
                count: 1,
                window: 0,
                ends: None,
            };
            store.unused.borrow_mut().push_back((key, unused));
        }
        let deadline = Instant::now() + PATIENT;
        let waits = |what: &'static str| {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(5))
        };
        while store.unused.borrow().len() > KEYS - MAX_GIVERS {
            waits("many are on their way at once").await;
        }
        // More to look at comes meanwhile.
        let (key, now) = (LimitKey::bytes(b"other"), Instant::now());
        store.leases.borrow_mut().insert(key, Lease::new(now));
        store.keys.borrow_mut().push_back(key);
        store.start_sweeping();
        while store.leases.borrow().contains_key(&key) {
            waits("leases are looked at").await;
        }
        assert_eq!(store.unused.borrow().len(), KEYS - MAX_GIVERS);
        server.thaw();
        // Redis knows of none of them.
        while store.stats.lapsed.get() < KEYS as u64 {
            waits("the others go on their way").await;
        }
        assert_eq!(store.givers.get(), 0);
    });
}

#[test]
fn what_a_store_holds_at_its_end_lapses() {
    let server = RedisServer::start();
    on_worker(async {
        let store = store(&server, quota(Algorithm::FixedWindow, 1000), 50);
        for _ in 0..20 {
            assert!(allowed(&store).await);
        }
        let stats = Arc::clone(&store.stats);
        assert!(stats.requests.get() > 20);
        drop(store);
        // A question may still be on its way.
        let deadline = Instant::now() + PATIENT;
        while stats.lapsed.get() + 20 != stats.requests.get() {
            assert!(Instant::now() < deadline, "{stats:?}");
            sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_store_switched_to_leases_goes_on_with_the_same_counts() {
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        on_worker(async {
            let plain = RedisStore::new(
                connection(&server.url(), PATIENT),
                "api",
                quota(algorithm, 100),
            );
            for _ in 0..60 {
                assert!(plain.check(&LimitKey::ALL).await.unwrap().is_allowed());
            }
            let leased = store(&server, quota(algorithm, 100), 1);
            let admitted = allowed_in_parallel(&[leased], 100).await;
            assert!((40..=41).contains(&admitted), "{algorithm:?}: {admitted}");
        });
    }
}

#[test]
fn a_frozen_redis_costs_a_timeout_and_a_lease_lasts_meanwhile() {
    let server = RedisServer::start();
    on_worker(async {
        let timeout = Duration::from_millis(50);
        let store = store_within(&server, quota(Algorithm::FixedWindow, 10_000), 100, timeout);
        let deadline = Instant::now() + PATIENT;
        // The first check of a busy machine may be late.
        while store.check(&LimitKey::ALL, Instant::now()).await.is_err() {
            assert!(Instant::now() < deadline);
        }
        for _ in 0..300 {
            _ = store.check(&LimitKey::ALL, Instant::now()).await;
        }
        server.freeze();
        let mut admitted = 0;
        let error = loop {
            let asked = Instant::now();
            match store.check(&LimitKey::ALL, asked).await {
                Ok(verdict) => admitted += u32::from(verdict.is_allowed()),
                Err(error) => {
                    assert!(asked.elapsed() < 2 * timeout, "{:?}", asked.elapsed());
                    break error;
                }
            }
        };
        assert!(admitted > 0, "what was leased is admitted");
        assert!(
            matches!(error, StoreError::Unavailable | StoreError::Timeout(_)),
            "{error}"
        );
        while !store.is_down(&LimitKey::ALL) {
            assert!(store.check(&LimitKey::ALL, Instant::now()).await.is_err());
        }
        let (asked, lapsed) = (store.stats.taken.get(), store.stats.lapsed.get());
        assert!(lapsed > 0, "what Redis may have counted");
        assert!(store.check(&LimitKey::ALL, Instant::now()).await.is_err());
        let now = (store.stats.taken.get(), store.stats.lapsed.get());
        assert_eq!(now, (asked, lapsed), "nothing was sent");
        server.thaw();
        while store.check(&LimitKey::ALL, Instant::now()).await.is_err() {
            assert!(
                Instant::now() < deadline,
                "Redis is back, the leases are not"
            );
            sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn keys_beyond_the_most_are_counted_one_by_one_and_forgotten_keys_make_room() {
    let server = RedisServer::start();
    on_worker(async {
        let mut quota = quota(Algorithm::FixedWindow, 2);
        quota.window = Duration::from_millis(200);
        let store = store(&server, quota, 1);
        let now = Instant::now();
        for at in 0..MAX_KEYS {
            let key = LimitKey::address(IpAddr::V4((at as u32).into()));
            store.leases.borrow_mut().insert(key, Lease::new(now));
            store.keys.borrow_mut().push_back(key);
        }
        let beyond = LimitKey::bytes(b"beyond");
        for expected in [true, true, false] {
            let verdict = store.check(&beyond, Instant::now()).await.unwrap();
            assert_eq!(verdict.is_allowed(), expected);
        }
        assert!(!store.leases.borrow().contains_key(&beyond));
        store.start_sweeping();
        let deadline = Instant::now() + PATIENT;
        while !store.leases.borrow().is_empty() {
            assert!(Instant::now() < deadline, "{}", store.leases.borrow().len());
            sleep(Duration::from_millis(5)).await;
        }
        assert!(store.keys.borrow().is_empty());
    });
}
