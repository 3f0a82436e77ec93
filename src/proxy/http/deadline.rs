//! A connection's timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for all waits of a connection. It is moved only when it fires too early or would fire too late, so that a
/// request on a busy connection costs no timer operation.
#[derive(Debug, Default)]
pub struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Ready at `deadline`.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .0
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
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_can_be_moved_both_ways() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        for seconds in [75, 10, 10, 80] {
            let at = start + Duration::from_secs(seconds);
            poll_fn(|cx| {
                // A first look at a later time must not hold it up.
                _ = deadline.poll(cx, at + Duration::from_secs(5));
                deadline.poll(cx, at)
            })
            .await;
            let expected = at.max(Instant::now());
            assert_eq!(Instant::now(), expected, "{seconds}");
            if start.elapsed() < Duration::from_secs(75) {
                panic!("the first wait ended early");
            }
        }
        assert_eq!(start.elapsed(), Duration::from_secs(80));
    }
}
