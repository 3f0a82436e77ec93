//! Leases of many workers against a Redis made of arithmetic: what is admitted too much, and what too little.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::limit::Algorithm;
use crate::limit::window::{SlidingState, SlidingWindow};

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];
const MS: Duration = Duration::from_millis(1);

fn quota(algorithm: Algorithm, requests: u32, window: Duration) -> Quota {
    let requests = NonZeroU32::new(requests).unwrap();
    Quota {
        algorithm,
        requests,
        window,
        burst: requests,
    }
}

/// The scripts' arithmetic, time in milliseconds.
struct Server {
    quota: Quota,
    /// When the window began, its number if it slides, or when the bucket was last looked at.
    since: u64,
    /// Requests admitted in the window, or, times the window, taken from the bucket.
    count: u64,
    /// Those admitted in the window before, if it slides.
    previous: u64,
}

impl Server {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            since: 0,
            count: 0,
            previous: 0,
        }
    }

    fn take(&mut self, now: u64, needed: u32, wanted: u32) -> Grant {
        let (limit, window) = (
            u64::from(self.quota.requests.get()),
            self.quota.window_millis(),
        );
        if self.quota.algorithm == Algorithm::SlidingWindow {
            return self.take_sliding(now, needed, wanted);
        }
        let is_bucket = self.quota.algorithm == Algorithm::TokenBucket;
        if is_bucket {
            self.count = self.count.saturating_sub((now - self.since) * limit);
            self.since = now;
        } else if now >= self.since + window {
            (self.since, self.count) = (now, 0);
        }
        let weight = if is_bucket { window } else { 1 };
        let free = (limit * weight - self.count) / weight;
        let first = free.min(needed.into());
        let admitted = first + u64::from(wanted - needed).min((free - first).div_ceil(2));
        self.count += admitted * weight;
        let left = if is_bucket {
            (self.count + weight)
                .saturating_sub(limit * weight)
                .div_ceil(limit)
        } else {
            self.since + window - now
        };
        let wait = MS * u32::try_from(left).unwrap();
        let verdict = if admitted > 0 && admitted >= needed.into() {
            Verdict::Allow {
                remaining: (free - admitted) as u32,
                reset: wait,
            }
        } else {
            Verdict::Deny { retry_after: wait }
        };
        let window = Window {
            number: 0,
            left: (!is_bucket).then_some(wait),
        };
        Grant {
            admitted: admitted as u32,
            verdict,
            window,
        }
    }

    fn take_sliding(&mut self, now: u64, needed: u32, wanted: u32) -> Grant {
        let (limit, window) = (
            u64::from(self.quota.requests.get()),
            self.quota.window_millis(),
        );
        let (index, offset) = (now / window, now % window);
        if index > self.since {
            let is_next = index == self.since + 1;
            self.previous = if is_next { self.count } else { 0 };
            (self.since, self.count) = (index, 0);
        }
        let used = self.previous * (window - offset) + self.count * window;
        let free = (limit * window).saturating_sub(used) / window;
        let first = free.min(needed.into());
        let admitted = first + u64::from(wanted - needed).min((free - first).div_ceil(2));
        self.count += admitted;
        let state = SlidingState {
            index,
            previous: self.previous as u32,
            current: self.count as u32,
        };
        let is_enough = admitted > 0 && admitted >= needed.into();
        Grant {
            admitted: admitted as u32,
            verdict: SlidingWindow::new(&self.quota).verdict(state, now, is_enough),
            window: Window {
                number: index,
                left: Some(Duration::from_millis(window - offset)),
            },
        }
    }

    fn give_back(&mut self, unused: &Unused, now: Instant) -> u32 {
        if unused.window(now).is_none() {
            return 0;
        }
        let count = u64::from(unused.count);
        if self.quota.algorithm == Algorithm::SlidingWindow {
            let counted = match self.since.checked_sub(unused.window) {
                Some(0) => &mut self.count,
                Some(1) => &mut self.previous,
                _ => return 0,
            };
            assert!(*counted >= count, "more is given back than was counted");
            *counted -= count;
            return unused.count;
        }
        let weight = match self.quota.algorithm {
            Algorithm::TokenBucket => self.quota.window_millis(),
            _ => 1,
        };
        self.count = self.count.saturating_sub(count * weight);
        unused.count
    }
}

/// Workers with a lease each of one key.
struct Fleet {
    server: Server,
    terms: Terms,
    start: Instant,
    now: u64,
    leases: Vec<Lease>,
    questions: u32,
}

impl Fleet {
    fn new(quota: Quota, max: u32, workers: usize) -> Self {
        let start = Instant::now();
        Self {
            server: Server::new(quota),
            terms: Terms::new(&quota, max),
            start,
            now: 0,
            leases: (0..workers).map(|_| Lease::new(start)).collect(),
            questions: 0,
        }
    }

    fn instant(&self) -> Instant {
        self.start + MS * u32::try_from(self.now).unwrap()
    }

    fn ask(&mut self, worker: usize, needed: u32, wanted: u32) {
        let now = self.instant();
        let grant = self.server.take(self.now, needed, wanted);
        self.questions += 1;
        self.leases[worker].add(&grant, now, now, &self.terms);
    }

    fn settle(&mut self, worker: usize) {
        let now = self.instant();
        let (unused, _) = self.leases[worker].settle(now, &self.terms);
        if let Some(unused) = unused {
            self.server.give_back(&unused, now);
        }
    }

    /// A request to a worker: whether it is admitted.
    fn request(&mut self, worker: usize) -> bool {
        self.settle(worker);
        let now = self.instant();
        let verdict = self.leases[worker].take(now).or_else(|| {
            let wanted = self.leases[worker].wants(1, &self.terms);
            self.ask(worker, 1, wanted);
            self.leases[worker].take(now)
        });
        if let Some(wanted) = self.leases[worker].runs_out(now, &self.terms) {
            self.ask(worker, 0, wanted);
        }
        verdict.is_some_and(|verdict| verdict.is_allowed())
    }

    fn held(&self) -> u32 {
        self.leases.iter().map(|lease| lease.left).sum()
    }
}

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
