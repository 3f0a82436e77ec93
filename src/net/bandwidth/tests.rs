//! What lines give to one, to many, and to those who cannot wait.

use proptest::prelude::*;

use super::*;

const MB: u64 = 1_000_000;

fn bucket(rate: u64) -> Bucket {
    Bucket::new(&Limit::new(rate), &Arc::default(), Direction::Download)
}

/// Has each of these want so many bytes at a time, always, and tells when each has moved how many by the end.
fn run(bucket: &Bucket, wants: &[u64], lasts: Duration) -> Vec<u64> {
    let start = Instant::now();
    let mut moved = vec![0; wants.len()];
    let mut grants: Vec<Grant> = wants.iter().map(|it| bucket.reserve(*it, start)).collect();
    loop {
        let next = (0..wants.len()).min_by_key(|it| grants[*it].at);
        let next = next.expect("there is somebody");
        let now = grants[next].at;
        if now >= start + lasts {
            return moved;
        }
        moved[next] += grants[next].bytes;
        grants[next] = bucket.reserve(wants[next], now);
    }
}

#[tokio::test(start_paused = true)]
async fn one_or_many_get_the_rate_in_equal_parts() {
    for count in [1, 2, 10, 100] {
        let moved = run(&bucket(MB), &vec![u64::MAX; count], Duration::from_secs(10));
        let sum: u64 = moved.iter().sum();
        assert!((10 * MB..=10 * MB + 100_000).contains(&sum), "{sum}");
        let fair = sum / count as u64;
        let is_fair = |it: &u64| it.abs_diff(fair) < fair / 20 + MAX_GRANT;
        assert!(moved.iter().all(is_fair), "{moved:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_little_is_not_behind_those_who_want_much() {
    let bucket = bucket(MB);
    let start = Instant::now();
    let much: Vec<Grant> = (0..20).map(|_| bucket.reserve(u64::MAX, start)).collect();
    let little = bucket.reserve(100, start);
    assert_eq!(little.bytes, 100);
    let waits = little.at - start;
    assert!(waits < Duration::from_millis(200), "{waits:?}");
    assert!(much.iter().all(|it| it.at <= little.at));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_has_its_turn_soon() {
    let moved = run(&bucket(MB), &[u64::MAX; 1000], Duration::from_secs(2));
    assert!(moved.iter().all(|it| *it > 0));
    let sum: u64 = moved.iter().sum();
    assert!((2 * MB..=2 * MB + 100_000).contains(&sum), "{sum}");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_there_for_others() {
    let bucket = bucket(MB);
    let start = Instant::now();
    let before = bucket.reserve(10_000, start);
    for _ in 0..1000 {
        let grant = bucket.reserve(10_000, start);
        bucket.give_back(grant.bytes - 100);
    }
    // A hundred bytes each, a thousand times.
    let next = bucket.reserve(100, start);
    let waits = next.at - before.at;
    assert!(waits < Duration::from_millis(120), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn rates_change_in_the_middle_and_none_is_no_limit() {
    let bucket = bucket(1000);
    let start = Instant::now();
    let mut grant = bucket.reserve(MAX_GRANT, start);
    while grant.at == start {
        grant = bucket.reserve(MAX_GRANT, start);
    }
    bucket.limit().set_rate(0);
    let free = Grant {
        bytes: 10 * MB,
        at: start,
    };
    assert_eq!(bucket.reserve(10 * MB, start), free);
    bucket.give_back(u64::MAX);
    bucket.limit().set_rate(u64::MAX);
    bucket.give_back(u64::MAX);
    let grant = bucket.reserve(u64::MAX, start + Duration::from_secs(100));
    assert_eq!(grant.bytes, MAX_GRANT);
}

/// Has so many streams always want bytes, and somebody who cannot wait offer `length` bytes at a time, three times as fast
/// as the rate. What the streams have moved after `lasts`, and what he has.
fn contend(bucket: &Bucket, streams: usize, length: u64, lasts: Duration) -> (u64, u64) {
    let start = Instant::now();
    let step = Duration::from_nanos(time_of(length, 3 * bucket.limit().rate()));
    let mut grants: Vec<Grant> = (0..streams)
        .map(|_| bucket.reserve(u64::MAX, start))
        .collect();
    let (mut now, mut streamed, mut taken) = (start, 0, 0);
    while now < start + lasts {
        for grant in &mut grants {
            while grant.at <= now {
                streamed += grant.bytes;
                *grant = bucket.reserve(u64::MAX, now);
            }
        }
        if bucket.take(length, now) {
            taken += length;
        }
        now += step;
    }
    (streamed, taken)
}

#[tokio::test(start_paused = true)]
async fn those_who_cannot_wait_have_half_beside_any_number_who_do() {
    for (streams, length) in [(1, 100), (1, 1400), (3, 9000), (100, 1400), (2, 60_000)] {
        let bucket = bucket(MB);
        let (streamed, taken) = contend(&bucket, streams, length, Duration::from_secs(20));
        let case = format!("{streams} and {length}: {streamed}, {taken}");
        assert!((9 * MB..11 * MB).contains(&taken), "{case}");
        assert!((9 * MB..11 * MB).contains(&streamed), "{case}");
        assert!(streamed + taken < 20 * MB + 500_000, "{case}");
    }
    let (_, taken) = contend(&bucket(MB), 0, 1400, Duration::from_secs(20));
    assert!((19 * MB..20 * MB + 100_000).contains(&taken), "{taken}");
}

proptest! {
    /// Over any interval no more is usable than the rate and the burst allow, whatever is asked for and given back.
    #[test]
    fn never_more_than_rate_and_burst(
        rate in 1_000u64..50_000_000,
        asked in prop::collection::vec((1u64..100_000, 0u64..30_000_000, any::<bool>()), 1..100),
    ) {
        let limit = Limit::new(rate);
        let bucket = Bucket::new(&limit, &Arc::default(), Direction::Upload);
        let start = limit.start;
        let mut now = start;
        let mut used: Vec<(Instant, u64)> = Vec::new();
        for (wanted, pause, gives_back) in asked {
            now += Duration::from_nanos(pause);
            let grant = bucket.reserve(wanted, now);
            now = now.max(grant.at);
            let unused = if gives_back { grant.bytes / 2 } else { 0 };
            bucket.give_back(unused);
            used.push((now, grant.bytes - unused));
        }
        let burst = MIN_BURST.max(share_of(BURST, rate));
        for (i, (from, _)) in used.iter().enumerate() {
            let mut sum = 0;
            for (to, bytes) in &used[i..] {
                sum += bytes;
                let allowed = share_of(*to - *from, rate) + burst + MAX_GRANT;
                prop_assert!(sum <= allowed, "{sum} in {:?}", *to - *from);
            }
        }
    }
}
