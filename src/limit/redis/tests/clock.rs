//! Redis' clock goes back: it was set, or a failover led to a server that is behind. Nobody waits for it to catch up.

use super::*;

const WINDOW: Duration = Duration::from_millis(200);
const DAY: Duration = Duration::from_hours(24);

/// A quota of two that was used up, as a server noted it whose clock was ahead by a day.
fn used_up(algorithm: Algorithm, server: &RedisServer) -> String {
    let (seconds, micros): (u64, u64) = server.command("TIME");
    let ahead = Duration::from_secs(seconds) + Duration::from_micros(micros) + DAY;
    match algorithm {
        Algorithm::FixedWindow => "2".to_owned(),
        Algorithm::SlidingWindow => format!("{} 2 2", ahead.as_millis() / WINDOW.as_millis()),
        Algorithm::TokenBucket => format!("{} {}", 2 * WINDOW.as_micros(), ahead.as_micros()),
    }
}

#[test]
fn a_clock_that_went_back_by_a_day_costs_two_windows_at_most() {
    let server = RedisServer::start();
    for algorithm in ALGORITHMS {
        let store = store(&server.url(), quota(algorithm, 2, WINDOW));
        let key = store.key(&LimitKey::ALL);
        server.set(&key, &used_up(algorithm, &server), DAY);
        on_worker(async {
            let verdict = store.check(&LimitKey::ALL).await.unwrap();
            let Verdict::Deny { retry_after } = verdict else {
                panic!("{algorithm:?}: {verdict:?}");
            };
            assert!(retry_after <= 2 * WINDOW, "{algorithm:?}: {retry_after:?}");
            let left: i64 = server.command(&format!("PTTL {key}"));
            assert!(left <= 400, "{algorithm:?}: {left}");
            let deadline = Instant::now() + Duration::from_secs(5);
            while !allowed(&store).await {
                assert!(Instant::now() < deadline, "{algorithm:?}: still denied");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

/// Behind by less than a window is what servers usually are: nothing is forgotten.
#[test]
fn a_sliding_window_that_is_a_little_ahead_keeps_its_place() {
    let server = RedisServer::start();
    let quota = quota(Algorithm::SlidingWindow, 3, DAY);
    let store = store(&server.url(), quota);
    let key = store.key(&LimitKey::ALL);
    let (seconds, _): (u64, u64) = server.command("TIME");
    let next = seconds / DAY.as_secs() + 1;
    server.set(&key, &format!("{next} 1 1"), 2 * DAY);
    assert!(on_worker(allowed(&store)));
    assert_eq!(
        server.command::<String>(&format!("GET {key}")),
        format!("{next} 1 2")
    );
    let verdict = on_worker(store.check(&LimitKey::ALL)).unwrap();
    let Verdict::Deny { retry_after } = verdict else {
        panic!("{verdict:?}");
    };
    // Its window has yet to begin, and then the one before has to be out of view.
    assert!(
        (DAY..=2 * DAY).contains(&retry_after) && retry_after != DAY,
        "{retry_after:?}"
    );
}
