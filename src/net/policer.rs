//! One direction of a client's datagrams that is under limits of bytes a second: what is over them does not wait, but is
//! dropped.

use super::bandwidth::Bucket;
use super::clock;

/// Limits that a datagram has to be within, all of them.
#[derive(Debug)]
pub struct Policer(Box<[Bucket]>);

impl Policer {
    /// A direction under these limits; none if there are none.
    pub fn new(buckets: Vec<Bucket>) -> Option<Self> {
        (!buckets.is_empty()).then(|| Self(buckets.into()))
    }

    /// Whether a datagram of so many bytes may pass now. It is counted then.
    pub fn admits(&self, bytes: usize) -> bool {
        let (bytes, now) = (bytes as u64, clock::now());
        let refuses = |bucket: &Bucket| !bucket.take(bytes, now);
        match self.0.iter().position(refuses) {
            None => true,
            Some(refusing) => {
                self.0[..refusing]
                    .iter()
                    .for_each(|bucket| bucket.untake(bytes));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::net::bandwidth::{Direction, Limit};

    fn bucket(rate: u64) -> Bucket {
        Bucket::new(&Limit::new(rate), &Arc::default(), Direction::Upload)
    }

    fn policer(buckets: &[&Bucket]) -> Policer {
        Policer::new(buckets.iter().copied().cloned().collect()).unwrap()
    }

    /// How many bytes of datagrams of this length pass that are offered ten times as fast as the limit.
    async fn passed(policer: &Policer, length: usize, rate: usize, lasts: Duration) -> usize {
        let step = Duration::from_secs(1).mul_f64(length as f64 / (10 * rate) as f64);
        let mut passed = 0;
        let mut time = Duration::ZERO;
        while time < lasts {
            passed += if policer.admits(length) { length } else { 0 };
            advance(step).await;
            time += step;
        }
        passed
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_the_rate_does_not_pass_whatever_its_length() {
        const RATE: usize = 1_000_000;
        for length in [100, 1_400, 9_000, 60_000] {
            let policer = policer(&[&bucket(RATE as u64)]);
            let passed = passed(&policer, length, RATE, Duration::from_secs(10)).await;
            let expected = 10 * RATE..10 * RATE + 50_000 + 2 * 60_000;
            let least = expected.start - 2 * length;
            assert!(
                (least..expected.end).contains(&passed),
                "{length}: {passed}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_limit_refuses_is_not_counted_by_the_others() {
        let (ample, tight) = (bucket(1_000_000), bucket(1_000));
        let both = policer(&[&ample, &tight]);
        assert!(both.admits(16_000));
        for _ in 0..1000 {
            assert!(!both.admits(16_000));
        }
        assert!(policer(&[&ample]).admits(16_000));
        assert!(Policer::new(Vec::new()).is_none());
    }
}
