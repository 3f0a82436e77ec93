//! One key's lease: requests that Redis has counted already, to be admitted without asking it. Pure arithmetic.
//!
//! ```text
//!           2nd request     4th     8th ...            nothing more comes
//!   size 1 ────────────▶ 2 ─────▶ 4 ─────▶ ... max ──────────────────────▶ what was used in the last hold, the rest
//!                                                                          goes back
//! ```
//! A lease begins with the one request that it was asked for, and doubles as long as it is used up: a key of few requests
//! never holds what others could have. What nobody has used for a hold is given back.

use std::time::{Duration, Instant};

use crate::limit::redis::{Grant, Window};
use crate::limit::{Quota, Verdict};

/// Bounds of a hold.
const MIN_HOLD: Duration = Duration::from_millis(100);
const MAX_HOLD: Duration = Duration::from_secs(5);
/// Bounds of the time in which Redis is not asked again after it has denied.
const MAX_PACE: Duration = Duration::from_secs(1);
const MIN_RECHECK: Duration = Duration::from_secs(1);

/// What holds for all leases of a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The most that a lease holds.
    pub(super) max: u32,
    /// The time in which a lease has to be used: a tenth of the window, from 100 ms to 5 s.
    pub(super) hold: Duration,
    /// Redis is not asked sooner after a denial: the time in which a lease is refilled, at most 1 s and a tenth of the
    /// window.
    pace: Duration,
    /// Redis is asked after this time even if it has denied for longer, since others may have given back, or a failover
    /// have led to a server that knows of less: a tenth of the window, at least 1 s.
    recheck: Duration,
}

impl Terms {
    pub(super) fn new(quota: &Quota, max: u32) -> Self {
        let window = Duration::from_millis(quota.window_millis());
        let max = max.clamp(1, quota.capacity());
        let refilled = window.saturating_mul(max) / quota.requests.get();
        let pace = refilled.min(MAX_PACE).min(window / 10);
        Self {
            max,
            hold: (window / 10).clamp(MIN_HOLD, MAX_HOLD).min(window),
            // Where nobody holds more than is needed, there is nothing to refill, and the next request is admitted in time.
            pace: if max == 1 { Duration::ZERO } else { pace },
            recheck: MIN_RECHECK.max(window / 10),
        }
    }
}

/// Requests that were counted and not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) count: u32,
    pub(super) window: u64,
    /// When their window ends, if it does.
    pub(super) ends: Option<Instant>,
}

impl Unused {
    /// Their window, as it is seen `now`; `None` if it has ended.
    pub(super) fn window(&self, now: Instant) -> Option<Window> {
        let left = self.ends.map(|ends| ends.saturating_duration_since(now));
        (left != Some(Duration::ZERO)).then_some(Window {
            number: self.window,
            left,
        })
    }
}

/// A key's lease on one worker.
#[derive(Debug)]
pub(super) struct Lease {
    /// Requests that may be admitted.
    left: u32,
    /// Requests that were admitted since the lease was last settled.
    used: u32,
    /// How many are to be held.
    size: u32,
    /// When it is settled again: in a hold, or when its window ends.
    due: Instant,
    window: u64,
    ends: Option<Instant>,
    /// What Redis said: what was left there, and when the whole quota is back, or the next request is admitted.
    remaining: u32,
    reset: Instant,
    /// Redis is not asked before.
    ask_again: Instant,
    /// Whether it is being asked.
    pub(super) is_asking: bool,
}

impl Lease {
    /// A lease of nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: 0,
            used: 0,
            size: 1,
            due: now,
            window: 0,
            ends: None,
            remaining: 0,
            reset: now,
            ask_again: now,
            is_asking: false,
        }
    }

    /// Admits a request, or denies it if Redis is known to; `None` if it has to be asked.
    pub(super) fn take(&mut self, now: Instant) -> Option<Verdict> {
        if self.left > 0 {
            self.left -= 1;
            self.used = self.used.saturating_add(1);
            return Some(Verdict::Allow {
                remaining: self.remaining.saturating_add(self.left),
                reset: self.reset.saturating_duration_since(now),
            });
        }
        let until = self.reset.max(self.ask_again);
        (now < self.ask_again).then(|| Verdict::Deny {
            retry_after: until.saturating_duration_since(now),
        })
    }

    /// How many to ask for before the lease runs out; `None` while there is time.
    pub(super) fn runs_out(&self, now: Instant, terms: &Terms) -> Option<u32> {
        let is_low = self.left <= self.size / 4 && self.size > 1;
        (is_low && !self.is_asking && now >= self.ask_again)
            .then(|| self.next_size(terms) - self.left)
    }

    /// How many to ask for when there is nothing left, `needed` of them at once.
    pub(super) fn wants(&self, needed: u32, terms: &Terms) -> u32 {
        let next = if self.used > 0 {
            self.next_size(terms)
        } else {
            self.size
        };
        next.max(needed)
    }

    fn next_size(&self, terms: &Terms) -> u32 {
        self.size.saturating_mul(2).min(terms.max)
    }

    /// Takes in what Redis has answered to a question of the time `asked`, for requests the lease was to hold `wanted` of
    /// with what was left. Says how many were left of a window that has ended.
    pub(super) fn add(
        &mut self,
        grant: &Grant,
        asked: Instant,
        now: Instant,
        terms: &Terms,
    ) -> u32 {
        let lapsed = self.end(now);
        if self.left > 0 || self.used > 0 {
            self.size = self.next_size(terms);
        }
        self.left = self.left.saturating_add(grant.admitted);
        self.window = grant.window.number;
        // Redis has counted later than it was asked.
        self.ends = grant.window.left.map(|left| asked + left);
        if self.due <= now {
            self.due = now + terms.hold;
        }
        self.due = self.before_its_end(self.due, now);
        match grant.verdict {
            Verdict::Allow { remaining, reset } => {
                self.remaining = remaining;
                self.reset = now + reset;
                self.ask_again = now;
            }
            Verdict::Deny { retry_after } => {
                self.remaining = 0;
                self.reset = now + retry_after;
                let pause = retry_after.max(terms.pace).min(terms.recheck);
                // A window that begins anew has room, whatever the last one had.
                self.ask_again = self.before_its_end(now + pause, now);
            }
        }
        lapsed
    }

    /// When it is due, keeps what is likely to be used, and says what is not and how many have lapsed with their window.
    pub(super) fn settle(&mut self, now: Instant, terms: &Terms) -> (Option<Unused>, u32) {
        if now < self.due {
            return (None, 0);
        }
        let lapsed = self.end(now);
        let kept = self.left.min(self.used);
        let count = self.left - kept;
        self.left = kept;
        self.size = self.used.clamp(1, terms.max);
        self.used = 0;
        self.due = self.before_its_end(now + terms.hold, now);
        let unused = Unused {
            count,
            window: self.window,
            ends: self.ends,
        };
        ((count > 0).then_some(unused), lapsed)
    }

    /// Asks for as little as at its beginning: what an answer that did not come would have held is lost, each time.
    pub(super) fn begin_again(&mut self) {
        self.size = 1;
    }

    /// Requests that it holds.
    pub(super) fn held(&self) -> u32 {
        self.left
    }

    /// Whether it says no more than a new one does.
    pub(super) fn is_blank(&self, now: Instant) -> bool {
        self.left == 0 && self.used == 0 && !self.is_asking && now >= self.ask_again
    }

    /// A time, at the latest when the window ends, and not before `now`.
    fn before_its_end(&self, time: Instant, now: Instant) -> Instant {
        self.ends.map_or(time, |ends| time.min(ends.max(now)))
    }

    /// Drops what has outlived its window.
    fn end(&mut self, now: Instant) -> u32 {
        match self.ends {
            Some(ends) if now >= ends => {
                self.ends = None;
                std::mem::take(&mut self.left)
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
