//! Windowed counting: pure arithmetic on small states, time in milliseconds given in.
//!
//! Both check functions return the state to keep when they admit and the state as it was seen when they deny, so a
//! denied request costs nothing and prolongs nothing. A clock that goes back does no harm: a state from the future
//! keeps its place until the clock has caught up.

use std::time::Duration;

use super::{Quota, Verdict};

/// One counter whose window starts with the first request.
#[derive(Debug, Clone, Copy)]
pub struct FixedWindow {
    limit: u32,
    length: u64,
}

/// A key's place in its fixed window; the default is a key that was never seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FixedState {
    /// When the window began, in milliseconds.
    pub start: u64,
    /// Requests admitted since then.
    pub count: u32,
}

impl FixedWindow {
    /// The window of `quota`, whatever its algorithm says.
    pub fn new(quota: &Quota) -> Self {
        Self {
            limit: quota.requests.get(),
            length: quota.window_millis(),
        }
    }

    /// Counts one request at `now` milliseconds if the window has room for it.
    pub fn check(self, state: FixedState, now: u64) -> (FixedState, Verdict) {
        let state = if self.is_over(state, now) {
            FixedState {
                start: now,
                count: 0,
            }
        } else {
            state
        };
        let left = Duration::from_millis(state.start + self.length - now);
        if state.count >= self.limit {
            return (state, Verdict::Deny { retry_after: left });
        }
        let count = state.count + 1;
        let verdict = Verdict::Allow {
            remaining: self.limit - count,
            reset: left,
        };
        (FixedState { count, ..state }, verdict)
    }

    /// Whether the state says no more than an empty one does.
    pub fn is_over(self, state: FixedState, now: u64) -> bool {
        state.count == 0 || now >= state.start + self.length
    }
}

/// Two adjacent windows, aligned to the clock's zero. The requests of the older one are taken to be spread evenly and
/// weigh as much as is still in view:
///
/// ```text
///        previous = 6            current = 3
///  ├───────────────────────┼───────────────────────┤
///              ╰──── in view: 1/2 ────╯
///                          ╰─ offset ─┤ now          estimate = 6 * 1/2 + 3 = 6
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SlidingWindow {
    limit: u32,
    length: u64,
}

/// A key's counts in two adjacent windows; the default is a key that was never seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlidingState {
    /// The number of the current window since the clock's zero.
    pub index: u64,
    /// Requests admitted in the window before.
    pub previous: u32,
    /// Requests admitted in the current window.
    pub current: u32,
}

impl SlidingWindow {
    /// The window of `quota`, whatever its algorithm says.
    pub fn new(quota: &Quota) -> Self {
        Self {
            limit: quota.requests.get(),
            length: quota.window_millis(),
        }
    }

    /// The number of the window that `now` is in.
    pub fn index(self, now: u64) -> u64 {
        now / self.length
    }

    /// Counts one request at `now` milliseconds if the estimate, that request included, stays within the limit.
    pub fn check(self, state: SlidingState, now: u64) -> (SlidingState, Verdict) {
        let state = self.roll(state, self.index(now));
        let offset = now.saturating_sub(state.index * self.length);
        if self.estimate(state, offset) + u128::from(self.length) > self.budget() {
            return (state, self.verdict(state, now, false));
        }
        let state = SlidingState {
            current: state.current + 1,
            ..state
        };
        (state, self.verdict(state, now, true))
    }

    /// What a state means to the client whose request has just been admitted, and is counted in it, or denied.
    pub fn verdict(self, state: SlidingState, now: u64, admitted: bool) -> Verdict {
        let start = state.index * self.length;
        // Both are zero unless the clock went back behind the window's start.
        let (offset, lead) = (now.saturating_sub(start), start.saturating_sub(now));
        if !admitted {
            let retry_after = Duration::from_millis(lead + self.wait(state, offset));
            return Verdict::Deny { retry_after };
        }
        let room = self.budget().saturating_sub(self.estimate(state, offset));
        let remaining = room / u128::from(self.length);
        Verdict::Allow {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_millis(lead + 2 * self.length - offset),
        }
    }

    /// Whether the state says no more than an empty one does.
    pub fn is_over(self, state: SlidingState, now: u64) -> bool {
        let rolled = self.roll(state, self.index(now));
        rolled.previous == 0 && rolled.current == 0
    }

    fn roll(self, state: SlidingState, index: u64) -> SlidingState {
        match index.checked_sub(state.index) {
            None | Some(0) => state,
            Some(1) => SlidingState {
                index,
                previous: state.current,
                current: 0,
            },
            Some(_) => SlidingState {
                index,
                previous: 0,
                current: 0,
            },
        }
    }

    /// The estimated requests in view times the window's length: an integer, so that nothing is rounded.
    fn estimate(self, state: SlidingState, offset: u64) -> u128 {
        let in_view = self.length.saturating_sub(offset);
        u128::from(state.previous) * u128::from(in_view)
            + u128::from(state.current) * u128::from(self.length)
    }

    /// The limit in the unit of `estimate`.
    fn budget(self) -> u128 {
        u128::from(self.limit) * u128::from(self.length)
    }

    /// Milliseconds from `offset` until one more request fits.
    fn wait(self, state: SlidingState, offset: u64) -> u64 {
        if state.current < self.limit {
            // It is enough that the window before fades out of view.
            let fits = self.faded(state.previous, self.limit - state.current - 1);
            return fits.saturating_sub(offset);
        }
        // This window is full: it has to become the one before, and fade in turn.
        self.length.saturating_sub(offset) + self.faded(state.current, self.limit - 1)
    }

    /// The first offset at which `count` requests of the window before weigh at most `room`.
    fn faded(self, count: u32, room: u32) -> u64 {
        let in_view = u128::from(room) * u128::from(self.length) / u128::from(count.max(1));
        self.length
            .saturating_sub(u64::try_from(in_view).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
