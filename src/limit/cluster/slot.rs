//! A hot key as workers see it: how many they have admitted, and how far they may go.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::super::Verdict;

/// A hot key's place. Workers count, the control thread says how far.
#[derive(Debug)]
pub(super) struct Slot {
    used: AtomicU64,
    ceiling: AtomicU64,
    /// What `used` would be if all that the fleet has left were used here.
    top: AtomicU64,
    /// Denied since this was last taken.
    denied: AtomicU32,
    max_denied: u32,
    reset_millis: AtomicU32,
    retry_millis: AtomicU32,
}

/// How far a node may go, and what its clients are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grant {
    /// Requests that this node may admit until the next grant.
    pub(super) allowance: u64,
    /// Requests that the fleet may still admit.
    pub(super) left: u64,
    /// Until the whole quota is there again, in milliseconds.
    pub(super) reset: u64,
    /// Until one that is denied may try again, in milliseconds.
    pub(super) retry: u64,
}

// Relaxed throughout: the words are independent, and a grant that is seen in part is off by what one turn brings.
impl Slot {
    /// One that grants nothing yet. Denied requests are counted up to `max_denied`, so that a flood of them does not pass
    /// the cache line around for ever.
    pub(super) fn new(max_denied: u32) -> Self {
        Self {
            used: AtomicU64::new(0),
            ceiling: AtomicU64::new(0),
            top: AtomicU64::new(0),
            denied: AtomicU32::new(0),
            max_denied,
            reset_millis: AtomicU32::new(0),
            retry_millis: AtomicU32::new(0),
        }
    }

    /// Counts one request if the grant allows.
    pub(super) fn take(&self) -> Verdict {
        let mut used = self.used.load(Relaxed);
        loop {
            if used >= self.ceiling.load(Relaxed) {
                if self.denied.load(Relaxed) < self.max_denied {
                    self.denied.fetch_add(1, Relaxed);
                }
                let retry_after = Duration::from_millis(self.retry_millis.load(Relaxed).into());
                return Verdict::Deny { retry_after };
            }
            match self
                .used
                .compare_exchange_weak(used, used + 1, Relaxed, Relaxed)
            {
                Ok(_) => break,
                Err(current) => used = current,
            }
        }
        let remaining = self.top.load(Relaxed).saturating_sub(used + 1);
        Verdict::Allow {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_millis(self.reset_millis.load(Relaxed).into()),
        }
    }

    /// How many have been admitted.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Whether it was asked for since so many had been admitted.
    pub(super) fn is_used(&self, since: u64) -> bool {
        self.used() != since || self.denied.load(Relaxed) > 0
    }

    /// How many have been denied since this was last asked, as far as they were counted.
    pub(super) fn take_denied(&self) -> u32 {
        match self.denied.load(Relaxed) {
            0 => 0,
            _ => self.denied.swap(0, Relaxed),
        }
    }

    /// Grants anew, from `used` on.
    pub(super) fn grant(&self, used: u64, grant: Grant) {
        let millis = |millis: u64| u32::try_from(millis).unwrap_or(u32::MAX);
        self.top.store(used.saturating_add(grant.left), Relaxed);
        self.reset_millis.store(millis(grant.reset), Relaxed);
        self.retry_millis.store(millis(grant.retry), Relaxed);
        self.ceiling
            .store(used.saturating_add(grant.allowance), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_as_far_as_was_granted() {
        let slot = Slot::new(2);
        let denied = (0..3).map(|_| slot.take()).filter(|it| !it.is_allowed());
        assert_eq!(denied.count(), 3);
        assert_eq!((slot.take_denied(), slot.take_denied()), (2, 0));
        slot.grant(
            0,
            Grant {
                allowance: 2,
                left: 5,
                reset: 1500,
                retry: 250,
            },
        );
        let remaining = |remaining| Verdict::Allow {
            remaining,
            reset: Duration::from_millis(1500),
        };
        assert_eq!(slot.take(), remaining(4));
        assert_eq!(slot.take(), remaining(3));
        let retry_after = Duration::from_millis(250);
        assert_eq!(slot.take(), Verdict::Deny { retry_after });
        assert_eq!(slot.used(), 2);
        slot.grant(
            2,
            Grant {
                allowance: 1,
                left: 1,
                reset: 1,
                retry: 1,
            },
        );
        assert!(slot.take().is_allowed());
        assert!(!slot.take().is_allowed());
    }

    #[test]
    fn racing_workers_never_go_further() {
        let slot = Slot::new(9);
        slot.grant(
            0,
            Grant {
                allowance: 1000,
                left: 1000,
                reset: 0,
                retry: 0,
            },
        );
        let admitted = || (0..800).filter(|_| slot.take().is_allowed()).count();
        let all: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(admitted)).collect();
            workers.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(all, 1000);
    }
}
