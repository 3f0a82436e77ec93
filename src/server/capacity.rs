//! How many connections a listener may have, over all workers: a number that a new configuration may change while there
//! are connections.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The permits of a listener's connections.
#[derive(Debug)]
pub struct Capacity {
    permits: Arc<Semaphore>,
    /// So many permits there are, taken or not, once `shrinking` is abandoned.
    total: usize,
    /// Takes away permits as they are given back, and to how many in all.
    shrinking: Option<(JoinHandle<()>, usize)>,
}

impl Capacity {
    /// Permits for `max` connections.
    pub fn new(max: usize) -> Self {
        let total = max.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(total)),
            total,
            shrinking: None,
        }
    }

    /// What a connection takes its permit from.
    pub fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// Allows `max` connections from now on. More that there are already go on, and no new one comes until there are fewer.
    /// To be called in a runtime, always the same one.
    pub fn resize(&mut self, max: usize) {
        let max = max.min(Semaphore::MAX_PERMITS);
        if let Some((shrinking, to)) = self.shrinking.take() {
            if shrinking.is_finished() {
                self.total = to;
            }
            shrinking.abort(); // what it waits for stays
        }
        if max >= self.total {
            self.permits.add_permits(max - self.total);
            self.total = max;
            return;
        }
        self.total -= self.permits.forget_permits(self.total - max);
        // The rest belongs to connections. Nobody gets a permit before this has all of its own.
        let excess = u32::try_from(self.total - max).unwrap_or(u32::MAX);
        if excess > 0 {
            let permits = Arc::clone(&self.permits);
            let shrinking = tokio::spawn(async move {
                if let Ok(permits) = permits.acquire_many(excess).await {
                    permits.forget();
                }
            });
            self.shrinking = Some((shrinking, self.total - excess as usize));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::OwnedSemaphorePermit;
    use tokio::task::yield_now;

    use super::*;

    fn take(capacity: &Capacity) -> Option<OwnedSemaphorePermit> {
        Arc::clone(capacity.permits()).try_acquire_owned().ok()
    }

    fn free(capacity: &Capacity) -> usize {
        std::iter::from_fn(|| take(capacity))
            .collect::<Vec<_>>()
            .len()
    }

    /// Lets the task run that takes permits away.
    async fn settle() {
        for _ in 0..4 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_grows_and_shrinks_at_once_while_there_is_room() {
        let mut capacity = Capacity::new(3);
        capacity.resize(5);
        assert_eq!(free(&capacity), 5);
        capacity.resize(2);
        settle().await;
        assert_eq!(free(&capacity), 2);
        capacity.resize(4);
        assert_eq!(free(&capacity), 4);
    }

    #[tokio::test]
    async fn connections_over_the_new_number_go_on_and_no_new_one_comes_before_they_end() {
        let mut capacity = Capacity::new(3);
        let mut taken: Vec<_> = (0..3).map(|_| take(&capacity).unwrap()).collect();
        capacity.resize(1);
        settle().await;
        for _ in 0..2 {
            taken.pop();
            settle().await;
            assert!(take(&capacity).is_none());
        }
        taken.pop();
        settle().await;
        assert_eq!(free(&capacity), 1);
        capacity.resize(3);
        assert_eq!(free(&capacity), 3);
    }

    #[tokio::test]
    async fn a_number_that_was_not_reached_is_given_up_for_the_next() {
        let mut capacity = Capacity::new(4);
        let mut taken: Vec<_> = (0..4).map(|_| take(&capacity).unwrap()).collect();
        capacity.resize(1);
        settle().await;
        taken.pop();
        settle().await;
        capacity.resize(5);
        settle().await;
        assert_eq!(free(&capacity), 2, "of five, three are taken");
        taken.clear();
        assert_eq!(free(&capacity), 5);
    }
}
