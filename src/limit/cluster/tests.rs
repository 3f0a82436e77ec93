//! A store by itself: hot and cold keys, and what it tells.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn store(algorithm: Algorithm, requests: u32, start: Instant) -> ClusterStore {
    store_of(algorithm, requests, MINUTE, start)
}

fn store_of(algorithm: Algorithm, requests: u32, window: Duration, start: Instant) -> ClusterStore {
    let quota = Quota {
        algorithm,
        requests: NonZeroU32::new(requests).unwrap(),
        window,
        burst: NonZeroU32::new(requests).unwrap(),
    };
    ClusterStore::new("test", quota, 100_000, start)
}

fn moment(start: Instant, millis: u64, peers: &[u64]) -> Moment<'_> {
    Moment {
        now: start + Duration::from_millis(millis),
        clock: 1_763_000_000_000 + millis,
        interval: Duration::from_millis(500),
        peers,
        expected: 0,
    }
}

fn key(number: u32) -> LimitKey {
    LimitKey::bytes(&number.to_be_bytes())
}

fn admitted(store: &ClusterStore, key: &LimitKey, times: u32, now: Instant) -> u32 {
    let all = (0..times).map(|_| store.check(key, now).is_allowed());
    all.map(u32::from).sum()
}

#[test]
fn alone_it_gives_the_whole_quota() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let start = Instant::now();
        let store = store(algorithm, 100, start);
        assert_eq!(admitted(&store, &key(1), 40, start), 40);
        store.turn(&moment(start, 50, &[]));
        let now = moment(start, 50, &[]).now;
        assert_eq!(admitted(&store, &key(1), 40, now), 40, "{algorithm:?}");
        store.turn(&moment(start, 100, &[]));
        let now = moment(start, 100, &[]).now;
        assert_eq!(admitted(&store, &key(1), 40, now), 20, "{algorithm:?}");
    }
}

#[test]
fn it_gives_no_more_than_its_part_before_its_first_turn() {
    let start = Instant::now();
    let store = store(Algorithm::FixedWindow, 100, start).among(4);
    assert_eq!(admitted(&store, &key(1), 100, start), 25);
    // Two of them have not been met yet.
    for millis in [50, 100, 1000] {
        let moment = Moment {
            expected: 2,
            ..moment(start, millis, &[1])
        };
        store.turn(&moment);
        store.round(&moment);
        assert!(admitted(&store, &key(1), 100, moment.now) <= 1);
    }
}

#[test]
fn a_cold_key_has_one_part_of_as_many_as_there_are_nodes() {
    let start = Instant::now();
    let store = store(Algorithm::FixedWindow, 100, start);
    store.turn(&moment(start, 0, &[1, 2, 3]));
    assert_eq!(admitted(&store, &key(1), 100, start), 25);
    assert_eq!(store.hot(), 0);
    let news = store.turn(&moment(start, 50, &[1, 2, 3]));
    assert_eq!(
        (store.hot(), news.len()),
        (1, 1),
        "the others are told at once"
    );
}

#[test]
fn keys_that_are_used_little_are_nobodys_business() {
    let start = Instant::now();
    let store = store(Algorithm::TokenBucket, 100, start);
    store.turn(&moment(start, 0, &[1]));
    for number in 0..50 {
        assert_eq!(admitted(&store, &key(number), 20, start), 20);
    }
    assert!(store.turn(&moment(start, 50, &[1])).is_empty());
    assert_eq!((store.hot(), store.cold().len()), (0, 50));
    let told = store.round(&moment(start, 500, &[1]));
    assert_eq!(
        entry::read(Algorithm::TokenBucket, &told[0]),
        Some(Vec::new())
    );
}

#[test]
fn the_first_request_at_a_node_is_admitted_while_the_fleet_has_any_left() {
    let start = Instant::now();
    let (one, other) = (
        store(Algorithm::FixedWindow, 10, start),
        store(Algorithm::FixedWindow, 10, start),
    );
    one.turn(&moment(start, 0, &[2]));
    assert_eq!(admitted(&one, &key(1), 9, start), 5);
    for part in one.turn(&moment(start, 50, &[2])) {
        assert!(other.hear(1, &part, &moment(start, 60, &[1])));
    }
    assert_eq!(other.hot(), 1);
    let verdict = other.check(&key(1), start);
    assert!(
        matches!(verdict, Verdict::Allow { remaining: 4, .. }),
        "{verdict:?}"
    );
}

#[test]
fn what_is_used_up_is_used_up_everywhere() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let start = Instant::now();
        let (one, other) = (store(algorithm, 10, start), store(algorithm, 10, start));
        assert_eq!(
            admitted(&one, &key(1), 20, start),
            10,
            "nobody else was there"
        );
        one.turn(&moment(start, 50, &[2]));
        for part in one.round(&moment(start, 100, &[2])) {
            assert!(other.hear(1, &part, &moment(start, 110, &[1])));
        }
        let verdict = other.check(&key(1), start);
        assert!(
            matches!(verdict, Verdict::Deny { retry_after } if retry_after > Duration::from_secs(1)),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_key_cools_down_when_it_is_over() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let start = Instant::now();
        let store = store(algorithm, 10, start);
        admitted(&store, &key(1), 9, start);
        store.turn(&moment(start, 50, &[]));
        assert_eq!(store.hot(), 1);
        for round in 1..300 {
            store.turn(&moment(start, round * 500, &[]));
            store.round(&moment(start, round * 500, &[]));
        }
        assert_eq!(store.hot(), 0, "{algorithm:?}");
    }
}

#[test]
fn hot_keys_are_so_many_and_no_more() {
    let start = Instant::now();
    let store = store(Algorithm::FixedWindow, 4, start);
    let peers = [1];
    for batch in 0..20u64 {
        store.turn(&moment(start, batch, &peers));
        for number in 0..1000 {
            admitted(&store, &key(batch as u32 * 1000 + number), 1, start);
        }
    }
    store.turn(&moment(start, 100, &peers));
    assert_eq!(store.hot(), 8192);
    let told = store.round(&moment(start, 500, &peers));
    let entries = told
        .iter()
        .map(|part| entry::read(Algorithm::FixedWindow, part).unwrap().len());
    assert_eq!(entries.sum::<usize>(), 256);
}

/// A round of a store whose peers have the limit too, and no hot keys.
fn round(store: &ClusterStore, moment: &Moment<'_>) {
    let nothing = entry::write(store.head(), store.quota.algorithm, 0, &[]);
    for peer in moment.peers {
        assert!(store.hear(*peer, &nothing[0], moment));
    }
    store.turn(moment);
    store.round(moment);
}

/// One of three nodes that may admit 60 an hour, with `count` keys of which it has used its part and told.
fn crowded(algorithm: Algorithm, count: u32, start: Instant) -> ClusterStore {
    let store = store_of(algorithm, 60, MINUTE * 60, start);
    for batch in 0..count.div_ceil(500) {
        store.turn(&moment(start, 0, &[1, 2]));
        for number in batch * 500..count.min(batch * 500 + 500) {
            assert_eq!(admitted(&store, &key(number), 21, start), 20);
        }
    }
    for number in 0..90 {
        round(&store, &moment(start, number * 500, &[1, 2]));
    }
    assert_eq!(store.hot(), count.min(8192) as usize);
    store
}

#[test]
fn what_was_used_is_known_in_a_crowd_too() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let start = Instant::now();
        let store = crowded(algorithm, 7000, start);
        let (client, mut all) = (key(100_000), 0);
        for number in 96..136 {
            let moment = moment(start, number * 500, &[1, 2]);
            if number % 8 < 2 {
                // Fewer than half, and then a pause of six rounds.
                all += admitted(&store, &client, 14, moment.now);
            }
            round(&store, &moment);
        }
        assert!((50..=60).contains(&all), "{algorithm:?}: {all}");
    }
}

#[test]
fn what_has_no_room_among_hot_keys_has_one_part() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::TokenBucket] {
        let start = Instant::now();
        let store = crowded(algorithm, 8500, start);
        let now = moment(start, 45_000, &[]).now;
        let all = admitted(&store, &key(100_000), 60, now);
        assert_eq!(all, 20);
        round(&store, &moment(start, 45_500, &[1, 2]));
        assert_eq!(admitted(&store, &key(100_000), 60, now), 0);
        // Its part of what comes in half an hour.
        let now = moment(start, 1_845_000, &[]).now;
        assert_eq!(admitted(&store, &key(100_000), 60, now), 10);
    }
}

#[test]
fn what_others_tell_is_bounded_by_what_is_believed() {
    let start = Instant::now();
    let store = store(Algorithm::TokenBucket, 10, start);
    assert!(!store.hear(1, b"no list", &moment(start, 0, &[1])));
    let entries: Vec<_> = (0..20_000)
        .map(|number| entry::Entry {
            key: key(number),
            asked: u32::MAX,
            counts: account::Counts {
                current: (1 << 48) - 1,
                total: (1 << 48) - 1,
                ..Default::default()
            },
        })
        .collect();
    for part in entry::write(store.head(), Algorithm::TokenBucket, 0, &entries) {
        assert!(store.hear(1, &part, &moment(start, 0, &[1])));
        assert!(
            store.hear(2, &part, &moment(start, 0, &[1])),
            "of a node that is not there"
        );
    }
    assert_eq!(store.hot(), 8192);
    store.turn(&moment(start, 50, &[1]));
    let Verdict::Deny { retry_after } = store.check(&key(0), start) else {
        panic!("nothing is left");
    };
    assert!(retry_after < MINUTE * 20, "{retry_after:?}");
}

#[test]
fn a_node_without_the_limit_has_no_part_of_it() {
    let start = Instant::now();
    let (one, other) = (
        store(Algorithm::FixedWindow, 90, start),
        store(Algorithm::FixedWindow, 60, start),
    );
    let peers = [2, 3];
    for round in 0..5 {
        for part in other.round(&moment(start, round * 500, &[1])) {
            assert!(one.hear(2, &part, &moment(start, round * 500, &peers)));
        }
        one.round(&moment(start, round * 500, &peers));
        one.turn(&moment(start, round * 500, &peers));
    }
    let now = moment(start, 2500, &peers).now;
    assert_eq!(
        admitted(&one, &key(1), 90, now),
        45,
        "node 3 has never told of it"
    );
    assert_eq!(one.differing(), [2], "node 2 has another quota");
}

#[test]
fn who_is_replaced_gives_parts_and_nothing_else() {
    let start = Instant::now();
    let (one, other) = (
        store(Algorithm::FixedWindow, 100, start),
        store(Algorithm::FixedWindow, 100, start),
    );
    let peers = [2, 3, 4];
    one.turn(&moment(start, 0, &peers));
    admitted(&one, &key(1), 100, start);
    one.turn(&moment(start, 50, &peers));
    assert_eq!(one.hot(), 1);
    let told = one.round(&moment(start, 60, &peers));
    one.retire();
    assert_eq!(one.hot(), 0);
    admitted(&other, &key(3), 100, start);
    for part in other.turn(&moment(start, 50, &[1])) {
        assert!(one.hear(2, &part, &moment(start, 60, &peers)));
    }
    for round in 1..20 {
        let alone = moment(start, round * 500, &[]);
        assert!(one.turn(&alone).is_empty() && one.round(&alone).is_empty());
        assert_eq!(one.hot(), 0);
    }
    assert!(!told.is_empty());
    let now = moment(start, 10_000, &[]).now;
    assert_eq!(
        admitted(&one, &key(2), 100, now),
        25,
        "nobody else is there"
    );
    assert_eq!(admitted(&one, &key(3), 100, now), 25);
}
