//! Watches over a peer that sends, but hardly.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::net::clock;

/// How far behind a peer may fall: a slow start, or a pause, or several.
const GRACE: Duration = Duration::from_secs(10);

/// The pace at which bytes come, by the time that is spent waiting for them: who does not ask for them has no right to
/// complain.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second, at least 1.
    rate: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Asks for `rate` bytes a second.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            waited: Duration::ZERO,
            waiting_since: None,
            timer: None,
        }
    }

    /// The wait is over: bytes have come.
    pub fn came(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += clock::now() - since;
        }
    }

    /// To be called while waiting, when so many bytes have come so far; ready once that is too little.
    pub fn poll_slow(&mut self, cx: &mut Context<'_>, received: u64) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(clock::now);
        let due = Duration::from_nanos(
            u64::try_from(u128::from(received) * 1_000_000_000 / u128::from(self.rate))
                .unwrap_or(u64::MAX),
        );
        let deadline = since + (due + GRACE).saturating_sub(self.waited);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_makes_the_rate_may_go_on() {
        let mut pace = Pace::new(100);
        let mut received = 0;
        for _ in 0..60 {
            let slow = poll_fn(|cx| pace.poll_slow(cx, received));
            assert!(timeout(Duration::from_secs(1), slow).await.is_err());
            pace.came();
            received += 101;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_is_caught_once_the_grace_is_used_up() {
        let mut pace = Pace::new(100);
        let start = Instant::now();
        let mut received = 0;
        let caught = loop {
            let slow = poll_fn(|cx| pace.poll_slow(cx, received));
            if timeout(Duration::from_secs(1), slow).await.is_ok() {
                break start.elapsed();
            }
            pace.came();
            received += 50;
        };
        assert_eq!(
            caught.as_secs(),
            19,
            "half the rate, until ten seconds are lost"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_nobody_waited_does_not_count() {
        let mut pace = Pace::new(100);
        for _ in 0..5 {
            let slow = poll_fn(|cx| pace.poll_slow(cx, 0));
            assert!(timeout(Duration::from_secs(1), slow).await.is_err());
            pace.came();
            advance(Duration::from_secs(60)).await;
        }
    }
}
