//! Leases of many workers: what is admitted too much, and what too little.

mod fleet;

use proptest::prelude::*;

use self::fleet::{Fleet, MS, quota};
use super::*;
use crate::limit::Algorithm;

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];

#[test]
fn ten_workers_admit_exactly_a_limit_of_five() {
    for algorithm in ALGORITHMS {
        let mut fleet = Fleet::new(quota(algorithm, 5, 60_000 * MS), 1, 10);
        let admitted = (0..50).filter(|at| fleet.request(at % 10)).count();
        assert_eq!(admitted, 5, "{algorithm:?}");
        assert_eq!(fleet.held(), 0);
    }
}

#[test]
fn a_key_of_few_requests_holds_nothing_that_others_could_have() {
    let mut fleet = Fleet::new(quota(Algorithm::FixedWindow, 1000, 60_000 * MS), 100, 10);
    for worker in 0..10 {
        assert!(fleet.request(worker));
    }
    assert_eq!(fleet.held(), 0);
}

#[test]
fn a_busy_key_asks_once_a_lease() {
    let mut fleet = Fleet::new(
        quota(Algorithm::FixedWindow, 1_000_000, 60_000 * MS),
        1000,
        1,
    );
    for _ in 0..100_000 {
        assert!(fleet.request(0));
    }
    assert!(fleet.questions < 150, "{}", fleet.questions);
}

#[test]
fn what_is_not_used_comes_back_and_is_found_by_those_who_were_denied() {
    let mut fleet = Fleet::new(quota(Algorithm::FixedWindow, 100, 60_000 * MS), 20, 2);
    // The first worker takes leases, and its clients leave.
    for _ in 0..30 {
        assert!(fleet.request(0));
    }
    let held = fleet.held();
    assert!((1..=20).contains(&held), "{held}");
    let admitted = (0..1000).filter(|_| fleet.request(1)).count() as u32;
    assert_eq!(30 + admitted + held, 100);
    assert!(!fleet.request(1));
    // Some are kept for one hold, since as many were used in the one before.
    for _ in 0..2 {
        fleet.now += fleet.terms.hold.as_millis() as u64;
        fleet.settle(0);
    }
    assert_eq!(fleet.held(), 0);
    let admitted = (0..1000).filter(|_| fleet.request(1)).count() as u32;
    assert_eq!(admitted, held);
}

#[test]
fn a_denial_is_remembered() {
    for algorithm in ALGORITHMS {
        let mut fleet = Fleet::new(quota(algorithm, 1000, 60_000 * MS), 10, 1);
        while fleet.request(0) {}
        let asked = fleet.questions;
        for _ in 0..1000 {
            assert!(!fleet.request(0), "{algorithm:?}");
        }
        assert_eq!(fleet.questions, asked, "{algorithm:?}");
    }
}

#[test]
fn a_denial_ends_with_its_window() {
    let mut fleet = Fleet::new(quota(Algorithm::FixedWindow, 50, 1000 * MS), 10, 2);
    while fleet.request(0) {}
    // The other one hears of it just before the end.
    fleet.now = 999;
    assert!(!fleet.request(1));
    fleet.now = 1000;
    assert!(fleet.request(1));
}

#[test]
fn a_denial_is_looked_into_again_before_its_window_ends() {
    for max in [1, 10] {
        let mut fleet = Fleet::new(quota(Algorithm::FixedWindow, 5, 60_000 * MS), max, 1);
        while fleet.request(0) {}
        // A failover has led to a server that knows of nothing.
        fleet.server.count = 0;
        fleet.now += 5999;
        assert!(!fleet.request(0), "{max}");
        fleet.now += 1;
        assert!(fleet.request(0), "{max}");
    }
}

#[test]
fn a_question_without_an_answer_costs_less_the_next_time() {
    let mut fleet = Fleet::new(quota(Algorithm::FixedWindow, 10_000, 60_000 * MS), 100, 1);
    for _ in 0..1000 {
        assert!(fleet.request(0));
    }
    let lease = &mut fleet.leases[0];
    assert!(lease.wants(1, &fleet.terms) >= 100);
    lease.begin_again();
    assert_eq!(lease.wants(1, &fleet.terms), 2);
}

#[test]
fn a_lease_says_when_to_come_again() {
    let mut fleet = Fleet::new(quota(Algorithm::FixedWindow, 100, 60_000 * MS), 10, 1);
    while fleet.request(0) {}
    fleet.now += 1000;
    let now = fleet.instant();
    let verdict = fleet.leases[0].take(now);
    let retry_after = Duration::from_secs(59);
    assert_eq!(verdict, Some(Verdict::Deny { retry_after }));
}

#[test]
fn extreme_quotas_do_not_overflow() {
    for max in [1, u32::MAX] {
        for requests in [1, u32::MAX] {
            for window in [Duration::ZERO, Duration::MAX] {
                let terms = Terms::new(&quota(Algorithm::TokenBucket, requests, window), max);
                let now = Instant::now();
                let mut lease = Lease::new(now);
                let grant = Grant {
                    admitted: u32::MAX,
                    verdict: Verdict::Deny {
                        retry_after: window.min(Duration::from_secs(1 << 32)),
                    },
                    window: Window {
                        number: u64::MAX,
                        left: Some(Duration::ZERO),
                    },
                };
                for _ in 0..3 {
                    lease.add(&grant, now, now, &terms);
                    lease.take(now);
                    lease.settle(now + terms.hold, &terms);
                }
            }
        }
    }
}

/// Requests to a fleet of which each worker may hold `max` requests, with a limit for this window.
#[derive(Debug)]
struct Traffic {
    limit: u32,
    max: u32,
    workers: usize,
    /// The worker of each request, and the milliseconds before it.
    steps: Vec<(usize, u64)>,
}

const WINDOW: u64 = 1000;

prop_compose! {
    fn traffic(most: usize)(
        limit in 1u32..500,
        max in 1u32..50,
        workers in 1usize..8,
        steps in prop::collection::vec((0usize..8, 0u64..40), 1..most),
    ) -> Traffic {
        Traffic { limit, max, workers, steps }
    }
}

impl Traffic {
    /// How much the fleet may hold.
    fn holdable(&self) -> u32 {
        self.max * self.workers as u32
    }

    /// Makes the requests, and has `look` see of each whether it is admitted. No more is ever held than may be.
    fn run(
        &self,
        algorithm: Algorithm,
        mut look: impl FnMut(&Fleet, bool) -> Result<(), TestCaseError>,
    ) -> Result<Fleet, TestCaseError> {
        let quota = quota(algorithm, self.limit, Duration::from_millis(WINDOW));
        let mut fleet = Fleet::new(quota, self.max, self.workers);
        for (worker, pause) in &self.steps {
            fleet.now += pause;
            let allowed = fleet.request(worker % self.workers);
            look(&fleet, allowed)?;
            prop_assert!(fleet.held() <= self.holdable());
        }
        Ok(fleet)
    }
}

proptest! {
    /// A fixed window admits no more than its limit, and all of it but what is held, wherever requests come.
    #[test]
    fn a_fixed_window_is_never_passed(traffic in traffic(3000)) {
        let (mut began, mut admitted, mut denied) = (0, 0, false);
        let fleet = traffic.run(Algorithm::FixedWindow, |fleet, allowed| {
            if fleet.server.since != began {
                (began, admitted, denied) = (fleet.server.since, 0, false);
            }
            admitted += u32::from(allowed);
            denied |= !allowed;
            prop_assert!(admitted <= traffic.limit);
            Ok(())
        })?;
        if denied && fleet.server.since == began {
            prop_assert!(admitted + traffic.holdable() >= traffic.limit);
        }
    }

    /// A sliding window's estimate of what was made, and not only counted, never passes its limit.
    #[test]
    fn a_sliding_window_is_never_passed(traffic in traffic(3000)) {
        let mut made: [u64; 130] = [0; 130];
        traffic.run(Algorithm::SlidingWindow, |fleet, allowed| {
            let (index, offset) = (fleet.now / WINDOW, fleet.now % WINDOW);
            // The first window has the second place.
            let at = index as usize + 1;
            made[at] += u64::from(allowed);
            let estimate = made[at - 1] * (WINDOW - offset) + made[at] * WINDOW;
            prop_assert!(estimate <= u64::from(traffic.limit) * WINDOW);
            Ok(())
        })?;
    }

    /// A bucket admits its burst, its rate, and what was held: the bound that the documentation gives.
    #[test]
    fn a_bucket_is_passed_by_what_is_held_at_most(traffic in traffic(1000)) {
        let limit = u64::from(traffic.limit);
        let mut admitted = Vec::new();
        traffic.run(Algorithm::TokenBucket, |fleet, allowed| {
            admitted.extend(allowed.then_some(fleet.now));
            Ok(())
        })?;
        let held = u64::from(traffic.holdable());
        for (first, from) in admitted.iter().enumerate().step_by(7) {
            for (last, to) in admitted.iter().enumerate().skip(first).step_by(11) {
                let count = (last - first + 1) as u64;
                let refilled = (to - from) * limit / WINDOW + 1;
                prop_assert!(count <= limit + refilled + held);
            }
        }
    }
}
