//! How many requests a server has, over all workers, and how many it may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

use super::queue::Queue;

/// No limit.
pub(super) const UNLIMITED: u32 = u32::MAX;

/// A server's requests in flight. Never more than the limit pass [`begin`](Self::begin): of workers that come at once for
/// the last slot, one gets it.
#[derive(Debug)]
pub struct InFlightCount {
    count: AtomicU32,
    limit: AtomicU32,
    /// Those who wait for a slot.
    queue: Arc<Queue>,
}

impl InFlightCount {
    /// No requests; whoever ends one tells those in `queue`.
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            count: AtomicU32::new(0),
            limit: AtomicU32::new(UNLIMITED),
            queue,
        }
    }

    /// How many there are.
    pub fn get(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// How many there may be, if that is limited.
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Relaxed)).filter(|&limit| limit != UNLIMITED)
    }

    /// Sets the limit; `None` has none. Those in flight go on. The caller sees to those who wait.
    pub(super) fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(UNLIMITED), SeqCst);
    }

    /// How many more there may be.
    pub(super) fn room(&self) -> u32 {
        let limit = self.limit.load(SeqCst);
        limit.saturating_sub(self.count.load(SeqCst))
    }

    /// Whether there may be one more.
    pub(super) fn has_room(&self) -> bool {
        self.count.load(Relaxed) < self.limit.load(Relaxed)
    }

    /// Counts a request, unless there are as many as there may be.
    pub(super) fn begin(&self) -> bool {
        if self.count.fetch_add(1, SeqCst) < self.limit.load(Relaxed) {
            return true;
        }
        // Others may have seen one too many for a moment: they are told like of any request that ends.
        self.end();
        false
    }

    /// A counted request has ended.
    pub(super) fn end(&self) {
        let left = self.count.fetch_sub(1, SeqCst) - 1;
        // In this order: see the queue about lost calls.
        if self.queue.is_used() && left < self.limit.load(SeqCst) {
            self.queue.call_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    #[test]
    fn no_more_than_the_limit_are_let_in_whoever_comes_at_once() {
        let load = InFlightCount::new(Arc::default());
        load.set_limit(Some(3));
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if load.begin() {
                            let now = inside.fetch_add(1, SeqCst) + 1;
                            most.fetch_max(now, SeqCst);
                            inside.fetch_sub(1, SeqCst);
                            load.end();
                        }
                    }
                });
            }
        });
        assert_eq!((load.get(), load.room()), (0, 3));
        assert!(most.into_inner() <= 3);
    }

    #[test]
    fn a_limit_below_what_is_there_lets_nobody_in_until_there_is_room() {
        let load = InFlightCount::new(Arc::default());
        assert_eq!(load.limit(), None);
        (0..5).for_each(|_| assert!(load.begin()));
        load.set_limit(Some(2));
        assert_eq!(
            (load.room(), load.has_room(), load.begin()),
            (0, false, false)
        );
        (0..3).for_each(|_| load.end());
        assert!(!load.begin());
        load.end();
        assert!(load.begin());
        assert_eq!(load.get(), 2);
    }
}
