//! A watchdog for one direction of a transfer: it fires when nothing has moved for a while.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::clock;

/// Fires when a transfer has waited for `limit` without progress.
///
/// It costs nothing until something has to wait for the first time, and a wait that ends in time costs no timer
/// operation: the timer is left where it is and moved on only when it fires too early.
#[derive(Debug)]
pub struct Stall {
    limit: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// A watchdog that allows waits of up to `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            waiting_since: None,
            timer: None,
        }
    }

    /// Starts anew, with another limit.
    pub fn restart(&mut self, limit: Duration) {
        self.limit = limit;
        self.waiting_since = None;
    }

    /// Something moved: the next wait starts anew.
    pub fn progress(&mut self) {
        self.waiting_since = None;
    }

    /// To be called while waiting; ready once the wait has lasted for the limit.
    pub fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(clock::now);
        let deadline = since + self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fires_only_after_a_whole_wait_without_progress() {
        let mut stall = Stall::new(Duration::from_secs(60));
        for _ in 0..3 {
            let early = tokio::time::timeout(
                Duration::from_secs(40),
                poll_fn(|cx| stall.poll_stalled(cx)),
            )
            .await;
            assert!(early.is_err(), "40 s of waiting is not a stall");
            stall.progress();
        }
        let start = Instant::now();
        poll_fn(|cx| stall.poll_stalled(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
