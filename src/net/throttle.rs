//! One direction of a connection that is under limits of bytes a second: it waits for its turn in each of them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::bandwidth::Bucket;
use super::clock;

/// Less is not worth waiting for: timers are not more precise.
const SLACK: Duration = Duration::from_micros(500);

/// What a direction asks for that does not know yet how much there is: as much as came last, and twice that while all of
/// it is used.
const LEAST: u64 = 512;
const FIRST: u64 = 4 * 1024;
const MOST: u64 = 64 * 1024;

/// Limits, and how far a direction has come in asking for bytes.
///
/// They are asked one after the other, so that nobody holds a place in one line while it waits in another. What was
/// granted and not used is given back, also when this is dropped.
#[derive(Debug)]
pub struct Throttle {
    buckets: Box<[Bucket]>,
    /// How many of them have granted `size`, the one that is waited for included.
    asked: usize,
    size: u64,
    wait: Option<Wait>,
    timer: Option<Pin<Box<Sleep>>>,
    expected: u64,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Instant,
    until: Instant,
}

impl Throttle {
    /// A direction under these limits; none if there are none.
    pub fn new(buckets: Vec<Bucket>) -> Option<Box<Self>> {
        if buckets.is_empty() {
            return None;
        }
        Some(Box::new(Self {
            buckets: buckets.into(),
            asked: 0,
            size: 0,
            wait: None,
            timer: None,
            expected: FIRST,
        }))
    }

    /// Ready with how many of `wanted` bytes, of which there is at least one, may move now.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        let wanted = wanted as u64;
        if self.asked == 0 {
            self.size = wanted;
        }
        loop {
            ready!(self.poll_wait(cx));
            let Some(bucket) = self.buckets.get(self.asked) else {
                break;
            };
            let now = clock::now();
            let grant = bucket.reserve(self.size, now);
            let excess = self.size - grant.bytes;
            give_back(&self.buckets[..self.asked], excess);
            self.size = grant.bytes;
            self.asked += 1;
            if grant.at > now + SLACK {
                bucket.limit().wait_begins(grant.bytes);
                self.wait = Some(Wait {
                    since: now,
                    until: grant.at,
                });
            }
        }
        // Who waited for more may have changed its mind.
        let taken = self.size.min(wanted);
        give_back(&self.buckets, self.size - taken);
        self.asked = 0;
        Poll::Ready(usize::try_from(taken).unwrap_or(usize::MAX))
    }

    /// The same for somebody who cannot know how much there is. What has moved then is to be told to [`moved`](Self::moved).
    pub fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let expected = usize::try_from(self.expected).unwrap_or(usize::MAX);
        self.poll_take(cx, expected)
    }

    /// Of the bytes that were granted, so many have moved.
    pub fn moved(&mut self, granted: usize, moved: usize) {
        let (granted, moved) = (granted as u64, moved as u64);
        give_back(&self.buckets, granted.saturating_sub(moved));
        self.expected = match moved {
            0 => self.expected,
            _ if moved >= granted => (granted * 2).clamp(LEAST, MOST),
            _ => moved.next_power_of_two().clamp(LEAST, MOST),
        };
    }

    /// Whether it waits for its turn, and not for anybody else.
    pub fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wait) = self.wait else {
            return Poll::Ready(());
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(wait.until)));
        if timer.deadline() != wait.until {
            timer.as_mut().reset(wait.until);
        }
        ready!(timer.as_mut().poll(cx));
        self.end_wait();
        Poll::Ready(())
    }

    fn end_wait(&mut self) {
        if let Some(wait) = self.wait.take() {
            let waited = Instant::now().saturating_duration_since(wait.since);
            self.buckets[self.asked - 1].limit().wait_ends(waited);
        }
    }
}

/// Bytes that are there, and are handed on as a throttle allows.
#[derive(Debug, Default)]
pub struct Paced {
    throttle: Option<Box<Throttle>>,
    held: Bytes,
}

impl Paced {
    /// Has what is handed on from now on be under these limits.
    pub fn set(&mut self, throttle: Option<Box<Throttle>>) {
        self.throttle = throttle;
    }

    /// Whether there are limits, or bytes that waited for them.
    pub fn is_used(&self) -> bool {
        self.throttle.is_some() || !self.held.is_empty()
    }

    /// Takes bytes, when the ones before have all been handed on.
    pub fn hold(&mut self, bytes: Bytes) {
        self.held = bytes;
    }

    /// How many are there.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Hands on as many as may go now; nothing when there are no more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.held.is_empty() {
            return Poll::Ready(None);
        }
        let granted = match &mut self.throttle {
            Some(throttle) => ready!(throttle.poll_take(cx, self.held.len())),
            None => self.held.len(),
        };
        Poll::Ready(Some(self.held.split_to(granted)))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.end_wait();
        give_back(&self.buckets[..self.asked], self.size);
    }
}

fn give_back(buckets: &[Bucket], bytes: u64) {
    buckets.iter().for_each(|bucket| bucket.give_back(bytes));
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;
    use crate::net::bandwidth::{Direction, Limit};

    const MB: u64 = 1_000_000;

    fn bucket(limit: &Arc<Limit>) -> Bucket {
        Bucket::new(limit, &Arc::default(), Direction::Download)
    }

    async fn carry(throttle: &mut Throttle, mut bytes: usize) {
        while bytes > 0 {
            bytes -= poll_fn(|cx| throttle.poll_take(cx, bytes)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_narrowest_limit_sets_the_pace() {
        let limits = [4 * MB, MB, 2 * MB].map(Limit::new);
        let start = Instant::now();
        let mut throttle = Throttle::new(limits.iter().map(bucket).collect()).unwrap();
        carry(&mut throttle, 10 * MB as usize).await;
        let took = start.elapsed();
        assert!((9900..10100).contains(&took.as_millis()), "{took:?}");
        assert!(limits[1].delayed() > 9 * MB && limits[0].delayed() == 0);
        assert!(limits[1].waited() > Duration::from_secs(9));
        assert_eq!(limits[1].waiting(), 0);
        assert!(Throttle::new(Vec::new()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn ten_share_a_limit_evenly_and_end_together() {
        let limit = Limit::new(MB);
        let lines = Arc::default();
        let start = Instant::now();
        let carries = (0..10).map(|_| {
            let bucket = Bucket::new(&limit, &lines, Direction::Upload);
            async move {
                let mut throttle = Throttle::new(vec![bucket]).unwrap();
                carry(&mut throttle, MB as usize).await;
                start.elapsed()
            }
        });
        let ends = futures_util::future::join_all(carries).await;
        let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
        assert!((9900..10100).contains(&last.as_millis()), "{last:?}");
        assert!(first.as_millis() > 9300, "{first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn tiny_messages_are_charged_their_bytes() {
        let limit = Limit::new(MB);
        let mut throttle = Throttle::new(vec![bucket(&limit)]).unwrap();
        let start = Instant::now();
        for _ in 0..10_000 {
            let granted = poll_fn(|cx| throttle.poll_some(cx)).await;
            throttle.moved(granted, 50);
        }
        let took = start.elapsed();
        assert!((400..520).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_gives_back() {
        let limit = Limit::new(MB);
        let lines = Arc::default();
        let new = || Throttle::new(vec![Bucket::new(&limit, &lines, Direction::Upload)]).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let mut throttle = new();
            let take = poll_fn(|cx| throttle.poll_take(cx, 10_000));
            if tokio::time::timeout(Duration::ZERO, take).await.is_err() {
                waiting.push(throttle);
            }
        }
        assert_eq!(limit.waiting(), waiting.len() as u64);
        assert!(waiting.len() > 80 && waiting[0].is_waiting());
        drop(waiting);
        assert_eq!(limit.waiting(), 0);
        let start = Instant::now();
        poll_fn(|cx| new().poll_take(cx, 100)).await;
        assert!(start.elapsed() < Duration::from_millis(20));
    }
}
