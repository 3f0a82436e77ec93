//! The store against a real redis-server: counting, sharing, expiry.

mod clock;
mod give_back;
mod outage;
pub(in crate::limit) mod server;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinSet, LocalSet};

use self::server::RedisServer;
use super::link::Terms;
use super::*;
use crate::config::types::RedisServers;

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];
const MINUTE: Duration = Duration::from_secs(60);

pub(in crate::limit) fn quota(algorithm: Algorithm, requests: u32, window: Duration) -> Quota {
    let requests = NonZeroU32::new(requests).unwrap();
    Quota {
        algorithm,
        requests,
        window,
        burst: requests,
    }
}

fn store(url: &str, quota: Quota) -> Rc<RedisStore> {
    // Only tests of the timeout itself depend on how long it is; the others must not fail on a busy machine.
    store_within(url, quota, Duration::from_secs(5))
}

fn store_within(url: &str, quota: Quota, timeout: Duration) -> Rc<RedisStore> {
    Rc::new(RedisStore::new(connection(url, timeout), "api", quota))
}

pub(in crate::limit) fn connection(url: &str, timeout: Duration) -> Rc<RedisConnection> {
    RedisConnection::new(&settings(url, timeout)).unwrap()
}

fn settings(url: &str, timeout: Duration) -> RedisSettings {
    RedisSettings {
        servers: RedisServers::One(url.to_owned().into()),
        timeout,
        tls: None,
        stats: Arc::default(),
    }
}

/// What links have in common.
pub(super) fn terms() -> Rc<Terms> {
    Rc::new(Terms {
        timeout: Duration::from_secs(5),
        tls: None,
        stats: Arc::default(),
        probe: Script::new(FIXED_WINDOW),
    })
}

/// Runs a test as a worker runs requests.
pub(in crate::limit) fn on_worker<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

async fn allowed(store: &RedisStore) -> bool {
    store.check(&LimitKey::ALL).await.unwrap().is_allowed()
}

async fn allowed_in_parallel(store: &Rc<RedisStore>, requests: usize) -> usize {
    let mut checks = JoinSet::new();
    for _ in 0..requests {
        let store = Rc::clone(store);
        checks.spawn_local(async move { allowed(&store).await });
    }
    let verdicts = checks.join_all().await;
    verdicts.into_iter().filter(|&allowed| allowed).count()
}

/// Asks until Redis answers; fails after five seconds.
async fn answered(store: &RedisStore) -> Verdict {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match store.check(&LimitKey::ALL).await {
            Ok(verdict) => return verdict,
            Err(error) => assert!(Instant::now() < deadline, "still {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn exactly_the_quota_of_fifty_parallel_requests() {
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        let store = store(&server.url(), quota(algorithm, 5, MINUTE));
        let allowed = on_worker(allowed_in_parallel(&store, 50));
        assert_eq!(allowed, 5, "{algorithm:?}");
    }
}

#[test]
fn two_load_balancers_share_one_limit() {
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        let quota = quota(algorithm, 5, MINUTE);
        let instance = || {
            let store = store(&server.url(), quota);
            on_worker(allowed_in_parallel(&store, 25))
        };
        let allowed = std::thread::scope(|scope| {
            let other = scope.spawn(instance);
            instance() + other.join().unwrap()
        });
        assert_eq!(allowed, 5, "{algorithm:?}");
    }
}

#[test]
fn keys_and_limits_are_counted_apart() {
    let server = RedisServer::start();
    on_worker(async {
        let connection = connection(&server.url(), Duration::from_secs(5));
        let quota = quota(Algorithm::FixedWindow, 1, MINUTE);
        let stores =
            ["api", "web"].map(|name| RedisStore::new(Rc::clone(&connection), name, quota));
        let keys = ["192.0.2.1", "192.0.2.2"].map(|ip| LimitKey::address(ip.parse().unwrap()));
        for store in &stores {
            for key in &keys {
                assert!(store.check(key).await.unwrap().is_allowed());
                assert!(!store.check(key).await.unwrap().is_allowed());
            }
        }
    });
    let mut keys: Vec<String> = server.command("KEYS lb:{*:192*");
    keys.sort();
    assert_eq!(keys[0], "lb:{api:192.0.2.1}:fw60000");
    assert_eq!(keys.len(), 4);
}

#[test]
fn every_key_expires_with_what_it_says() {
    let server = RedisServer::start();
    for (algorithm, longest) in [
        (Algorithm::FixedWindow, 60_000),
        (Algorithm::SlidingWindow, 120_000),
        (Algorithm::TokenBucket, 60_001),
    ] {
        let store = store(&server.url(), quota(algorithm, 2, MINUTE));
        let key = store.key(&LimitKey::ALL);
        on_worker(async {
            for _ in 0..3 {
                allowed(&store).await;
                let left: i64 = server.command(&format!("PTTL {key}"));
                assert!((1..=longest).contains(&left), "{algorithm:?}: {left}");
            }
        });
    }
}

#[test]
fn a_counter_that_lost_its_expiry_gets_it_back() {
    let server = RedisServer::start();
    let store = store(&server.url(), quota(Algorithm::FixedWindow, 2, MINUTE));
    let key = store.key(&LimitKey::ALL);
    on_worker(async {
        for count in [1, 2, 700] {
            let _: () = server.command(&format!("SET {key} {count}"));
            assert_eq!(allowed(&store).await, count < 2);
            let left: i64 = server.command(&format!("PTTL {key}"));
            assert!((1..=60_000).contains(&left), "{left}");
        }
    });
}

/// Not before `retry_after`, and not a moment later, although denied requests are asked for all the while.
#[test]
fn the_quota_comes_back_as_promised() {
    // Redis counts time in whole milliseconds, and drops a key in the one after its last.
    let grain = Duration::from_millis(2);
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        let store = store(
            &server.url(),
            quota(algorithm, 2, Duration::from_millis(200)),
        );
        on_worker(async {
            let (asked, told, retry_after) = loop {
                let asked = Instant::now();
                if let Verdict::Deny { retry_after } = answered(&store).await {
                    break (asked, Instant::now(), retry_after);
                }
            };
            assert!(retry_after <= Duration::from_millis(400), "{retry_after:?}");
            loop {
                let again = Instant::now();
                if allowed(&store).await {
                    let promised = asked + retry_after;
                    assert!(Instant::now() + grain >= promised, "{algorithm:?}: early");
                    break;
                }
                assert!(again <= told + retry_after, "{algorithm:?}: still denied");
            }
        });
    }
}

#[test]
fn verdicts_say_what_is_left_and_for_how_long() {
    let server = RedisServer::start();
    for (algorithm, shortest, longest) in [
        (Algorithm::FixedWindow, MINUTE * 9 / 10, MINUTE),
        (Algorithm::SlidingWindow, MINUTE, 2 * MINUTE),
        (Algorithm::TokenBucket, MINUTE / 3, MINUTE / 3),
    ] {
        let store = store(&server.url(), quota(algorithm, 3, MINUTE));
        let verdict = on_worker(store.check(&LimitKey::ALL)).unwrap();
        let Verdict::Allow { remaining, reset } = verdict else {
            panic!("{algorithm:?}: {verdict:?}");
        };
        assert_eq!(remaining, 2, "{algorithm:?}");
        assert!(
            (shortest..=longest).contains(&reset),
            "{algorithm:?}: {reset:?}"
        );
    }
}

#[test]
fn scripts_that_redis_forgot_are_loaded_again() {
    let server = RedisServer::start();
    let store = store(&server.url(), quota(Algorithm::TokenBucket, 2, MINUTE));
    on_worker(async {
        assert!(allowed(&store).await);
        let _: () = server.command("SCRIPT FLUSH");
        assert!(allowed(&store).await);
        assert!(!allowed(&store).await);
    });
}
