//! Every way in which Redis can be away: what a check costs then, and that the store comes back by itself.

use std::net::TcpListener;

use super::*;
use crate::limit::{Limiter, LimiterShared, OnStoreFailure, Store};

/// The timeout, and some leave for a busy machine.
const AT_MOST: Duration = Duration::from_millis(100);

/// Every check until Redis counts as down fails within the timeout, and the ones after that at once.
async fn assert_goes_down(store: &RedisStore) {
    let mut checks = 0;
    while !store.is_down(&LimitKey::ALL) {
        let asked = Instant::now();
        assert!(store.check(&LimitKey::ALL).await.is_err());
        assert!(asked.elapsed() < AT_MOST, "{:?}", asked.elapsed());
        checks += 1;
        assert!(checks <= 3, "down after three failures");
    }
    let asked = Instant::now();
    for _ in 0..100 {
        let error = store.check(&LimitKey::ALL).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable), "{error}");
    }
    assert!(asked.elapsed() < DEFAULT_TIMEOUT, "{:?}", asked.elapsed());
}

#[test]
fn a_frozen_redis_costs_three_timeouts_and_comes_back_by_itself() {
    let server = RedisServer::start();
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    let store = store_within(&server.url(), quota, DEFAULT_TIMEOUT);
    on_worker(async {
        answered(&store).await;
        server.freeze();
        assert_goes_down(&store).await;
        server.thaw();
        answered(&store).await;
    });
}

#[test]
fn checks_do_not_pile_up_before_a_frozen_redis() {
    let server = RedisServer::start();
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    let store = store_within(&server.url(), quota, DEFAULT_TIMEOUT);
    on_worker(async {
        answered(&store).await;
        server.freeze();
        let mut checks = JoinSet::new();
        for _ in 0..2000 {
            let store = Rc::clone(&store);
            checks.spawn_local(async move { store.check(&LimitKey::ALL).await.unwrap_err() });
        }
        let errors = checks.join_all().await;
        let busy = errors
            .iter()
            .filter(|error| matches!(error, StoreError::Busy));
        assert_eq!(busy.count(), 2000 - 1024);
        assert!(store.is_down(&LimitKey::ALL));
    });
}

#[test]
fn a_killed_redis_is_missed_at_once_and_found_when_it_is_back() {
    let mut server = RedisServer::start();
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    let store = store_within(&server.url(), quota, DEFAULT_TIMEOUT);
    on_worker(async {
        answered(&store).await;
        server.kill();
        assert_goes_down(&store).await;
        server.restart();
        answered(&store).await;
    });
}

#[test]
fn a_restart_between_two_checks_goes_unnoticed() {
    let mut server = RedisServer::start();
    let store = store(&server.url(), quota(Algorithm::FixedWindow, 1000, MINUTE));
    on_worker(async {
        assert!(allowed(&store).await);
        server.kill();
        server.restart();
        assert!(allowed(&store).await);
    });
}

#[test]
fn a_redis_that_answers_but_cannot_count_is_down() {
    let server = RedisServer::start();
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    let store = store_within(&server.url(), quota, DEFAULT_TIMEOUT);
    on_worker(async {
        answered(&store).await;
        let _: () = server.command("REPLICAOF 127.0.0.1 1");
        assert_goes_down(&store).await;
        // Long enough for a probe or two, none of which may be taken in.
        let probed = Instant::now() + Duration::from_millis(1200);
        while Instant::now() < probed {
            assert!(store.is_down(&LimitKey::ALL));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _: () = server.command("REPLICAOF NO ONE");
        answered(&store).await;
    });
}

#[test]
fn a_password_is_needed_and_never_told() {
    let server = RedisServer::start();
    let _: () = server.command("CONFIG SET requirepass correct");
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    let with_password = |password| format!("{}?pass={password}", server.url());
    let right = store(&with_password("correct"), quota);
    assert!(on_worker(allowed(&right)));

    let wrong = store_within(&with_password("guessed"), quota, DEFAULT_TIMEOUT);
    on_worker(async {
        assert_goes_down(&wrong).await;
        let error = wrong.connection.dial().await.unwrap_err();
        assert!(matches!(error, StoreError::Redis(_)));
        assert!(!format!("{error} {error:?}").contains("guessed"));
    });
}

#[test]
fn nobody_there_and_nobody_answering_are_down() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    for address in [silent.local_addr().unwrap(), closed] {
        let store = store_within(&format!("redis://{address}"), quota, DEFAULT_TIMEOUT);
        on_worker(assert_goes_down(&store));
    }
}

#[test]
fn a_url_that_cannot_be_used_is_an_error_without_its_password() {
    for url in [
        "",
        "http://:secret@localhost",
        "redis://:secret@host:port",
        "redis://:secret@h/db",
    ] {
        let error = settings(url, DEFAULT_TIMEOUT).check().unwrap_err();
        assert!(matches!(error, StoreError::Url(_)));
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}

#[test]
fn the_task_in_the_background_ends_with_its_connection() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let quota = quota(Algorithm::FixedWindow, 1000, MINUTE);
    let store = store_within(&format!("redis://{closed}"), quota, DEFAULT_TIMEOUT);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, assert_goes_down(&store));
    drop(store);
    // A local set ends when its last task has.
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), tasks)
            .await
            .unwrap();
    });
}

#[test]
fn a_limiter_falls_back_and_returns() {
    let server = RedisServer::start();
    let quota = quota(Algorithm::FixedWindow, 3, MINUTE);
    let on_failure = OnStoreFailure::Local;
    let start = Instant::now();
    let shared = Arc::new(LimiterShared::new(
        "api",
        quota,
        Store::Redis { on_failure },
        start,
    ));
    on_worker(async {
        let connection = connection(&server.url(), DEFAULT_TIMEOUT);
        let limiter = Limiter::new(shared, Some(&connection));
        let check = || limiter.check(&LimitKey::ALL, start);
        // The first check of a busy machine may be late.
        while check().await.degraded {}
        assert!(limiter.check_local(&LimitKey::ALL, start).is_none());

        server.freeze();
        let mut allowed = 0;
        for _ in 0..10 {
            let asked = Instant::now();
            let decision = check().await;
            assert!(asked.elapsed() < AT_MOST, "{:?}", asked.elapsed());
            assert!(decision.degraded);
            allowed += u32::from(decision.verdict.is_allowed());
        }
        assert!(allowed <= 3, "the local quota holds");
        assert!(limiter.check_local(&LimitKey::ALL, start).is_some());

        server.thaw();
        let deadline = Instant::now() + Duration::from_secs(5);
        while check().await.degraded {
            assert!(
                Instant::now() < deadline,
                "Redis is back, the limiter is not"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
