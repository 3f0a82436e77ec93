//! Workers with leases, and a Redis that is made of arithmetic.

use std::time::{Duration, Instant};

use super::super::{Lease, Terms, Unused};
pub(in crate::limit) use crate::limit::redis::tests::quota;
use crate::limit::redis::{Grant, Window};
use crate::limit::window::{SlidingState, SlidingWindow};
use crate::limit::{Algorithm, Quota, Verdict};

pub const MS: Duration = Duration::from_millis(1);

/// The scripts' arithmetic, time in milliseconds.
pub struct Server {
    quota: Quota,
    /// When the window began, its number if it slides, or when the bucket was last looked at.
    pub since: u64,
    /// Requests admitted in the window, or, times the window, taken from the bucket.
    pub count: u64,
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
pub struct Fleet {
    pub server: Server,
    pub terms: Terms,
    start: Instant,
    pub now: u64,
    pub leases: Vec<Lease>,
    pub questions: u32,
}

impl Fleet {
    pub fn new(quota: Quota, max: u32, workers: usize) -> Self {
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

    pub fn instant(&self) -> Instant {
        self.start + MS * u32::try_from(self.now).unwrap()
    }

    fn ask(&mut self, worker: usize, needed: u32, wanted: u32) {
        let now = self.instant();
        let grant = self.server.take(self.now, needed, wanted);
        self.questions += 1;
        self.leases[worker].add(&grant, now, now, &self.terms);
    }

    pub fn settle(&mut self, worker: usize) {
        let now = self.instant();
        let (unused, _) = self.leases[worker].settle(now, &self.terms);
        if let Some(unused) = unused {
            self.server.give_back(&unused, now);
        }
    }

    /// A request to a worker: whether it is admitted.
    pub fn request(&mut self, worker: usize) -> bool {
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

    pub fn held(&self) -> u32 {
        self.leases.iter().map(|lease| lease.left).sum()
    }
}
