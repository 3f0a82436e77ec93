//! What nodes tell each other of a limit: whatever was heard, what is told of it fits and is understood.
#![no_main]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use loadbalancer::limit::cluster::{Head, MAX_PART};
use loadbalancer::limit::{Algorithm, ClusterStore, LimitKey, Quota};
use loadbalancer::net::Moment;

fuzz_target!(|list: &[u8]| {
    let ten = NonZeroU32::new(10).expect("it is not zero");
    let start = Instant::now();
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let quota = Quota {
            algorithm,
            requests: ten,
            window: Duration::from_secs(1),
            burst: ten,
        };
        let node = || ClusterStore::new("global", quota, 64, start);
        let (one, other) = (node(), node());
        let moment = |millis: u64| Moment {
            now: start + Duration::from_millis(millis),
            clock: 1_763_000_000_000 + millis,
            interval: Duration::from_millis(500),
            peers: &[7],
            expected: 0,
        };
        let understood = one.hear(7, list, &moment(0));
        assert!(!understood || Head::read(list).is_some());
        for turn in 1..=25 {
            let moment = moment(turn * 50);
            for key in [[0; 16], [1; 16]] {
                one.check(&LimitKey::from_bytes(key), moment.now);
            }
            let mut told = one.turn(&moment);
            if turn % 10 == 0 {
                told.extend(one.round(&moment));
            }
            for part in told {
                assert!(part.len() <= MAX_PART);
                assert_eq!(Head::read(&part), Some(one.head()));
                assert!(other.hear(7, &part, &moment));
            }
        }
    }
});
