//! What was counted ahead of time and is given back, by a user who may do no more than the documentation says.

use super::*;

/// So long that none ends, and nothing is refilled, in a test.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// The counts of a hundred requests.
fn hundred(server: &RedisServer, algorithm: Algorithm) -> Rc<RedisStore> {
    let permissions = "+eval +evalsha +get +set +incrby +decrby +pttl +pexpire +time +ping +select";
    let () = server.command(&format!("ACL SETUSER lb on >secret ~lb:* {permissions}"));
    let url = format!("{}?user=lb&pass=secret", server.url());
    store(&url, quota(algorithm, 100, YEAR))
}

async fn take_eleven(store: &RedisStore) -> Window {
    let grant = store.take(&LimitKey::ALL, 1, 11).await.unwrap();
    assert_eq!(grant.admitted, 11);
    grant.window
}

async fn give_back(store: &RedisStore, unused: u32, window: Window) -> u32 {
    let taken = store.give_back(&LimitKey::ALL, unused, window).await;
    taken.unwrap()
}

#[test]
fn what_is_given_back_is_admitted_again() {
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        let store = hundred(&server, algorithm);
        on_worker(async {
            let window = take_eleven(&store).await;
            assert_eq!(give_back(&store, 4, window).await, 4, "{algorithm:?}");
            let admitted = allowed_in_parallel(&store, 150).await;
            assert_eq!(admitted, 100 - 11 + 4, "{algorithm:?}");
        });
        let left: i64 = server.command(&format!("PTTL {}", store.key(&LimitKey::ALL)));
        assert!(left > 0, "{algorithm:?}: it expires as before");
    }
}

#[test]
fn a_window_that_has_ended_takes_nothing_back() {
    let server = RedisServer::start();
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let store = hundred(&server, algorithm);
        on_worker(async {
            let window = take_eleven(&store).await;
            let ended = match algorithm {
                // It was about to end, so that the one that Redis has is another.
                Algorithm::FixedWindow => Window {
                    left: Some(Duration::from_millis(1)),
                    ..window
                },
                _ => Window {
                    number: window.number - 2,
                    ..window
                },
            };
            assert_eq!(give_back(&store, 4, ended).await, 0, "{algorithm:?}");
            assert_eq!(give_back(&store, 12, window).await, 0, "{algorithm:?}");
            let admitted = allowed_in_parallel(&store, 150).await;
            assert_eq!(admitted, 100 - 11, "{algorithm:?}");
        });
    }
}

#[test]
fn a_sliding_window_takes_back_what_was_counted_before_its_present_one() {
    let server = RedisServer::start();
    let store = hundred(&server, Algorithm::SlidingWindow);
    let key = store.key(&LimitKey::ALL);
    on_worker(async {
        let window = take_eleven(&store).await;
        server.set(&key, &format!("{} 5 3", window.number), 2 * YEAR);
        let before = Window {
            number: window.number - 1,
            ..window
        };
        assert_eq!(give_back(&store, 4, before).await, 4);
        assert_eq!(give_back(&store, 2, before).await, 0);
    });
    let kept: String = server.command(&format!("GET {key}"));
    assert!(kept.ends_with(" 1 3"), "{kept}");
}

#[test]
fn a_key_that_is_gone_takes_nothing_back() {
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        let store = hundred(&server, algorithm);
        on_worker(async {
            let window = take_eleven(&store).await;
            let _: () = server.command("FLUSHALL");
            assert_eq!(give_back(&store, 4, window).await, 0, "{algorithm:?}");
        });
        let keys: Vec<String> = server.command("KEYS *");
        assert!(keys.is_empty(), "{algorithm:?}: {keys:?}");
    }
}
