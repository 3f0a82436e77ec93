//! The token bucket as GCRA, the generic cell rate algorithm (ITU-T I.371): pure arithmetic, time in nanoseconds.
//!
//! All that is kept of a key is its theoretical arrival time (TAT): when the bucket is full again. Each request pushes
//! it one emission interval ahead, and is admitted while it is not further ahead of the clock than a whole bucket.
//!
//! ```text
//!   now                      TAT                     now + capacity
//!    ├── taken ───────────────┼── left ────────────────┤
//! ```

use std::time::Duration;

use super::{Quota, Verdict};

/// A bucket that refills evenly.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    /// Nanoseconds in which one request is refilled. Rounded up, so that the rate is never above the quota's; what is
    /// lost is one part in `emission`, 0.1 % at a million requests a second.
    emission: u64,
    /// Nanoseconds in which an empty bucket fills.
    capacity: u64,
}

impl TokenBucket {
    /// The bucket of `quota`, whatever its algorithm says.
    pub fn new(quota: &Quota) -> Self {
        let window = quota.window_millis().saturating_mul(1_000_000);
        let emission = window.div_ceil(u64::from(quota.requests.get()));
        Self {
            emission,
            capacity: emission.saturating_mul(u64::from(quota.burst.get())),
        }
    }

    /// Takes one token at `now` nanoseconds if there is one; returns the new theoretical arrival time, which is the
    /// old one after a denial. Zero is a full bucket. A clock that goes back finds the bucket emptier, never fuller.
    pub fn check(self, tat: u64, now: u64) -> (u64, Verdict) {
        self.check_weighted(tat, now, 1)
    }

    /// The same for a request that is worth so many tokens, but is admitted if there is one.
    pub fn check_weighted(self, tat: u64, now: u64, weight: u32) -> (u64, Verdict) {
        let begin = tat.max(now);
        let taken = begin.saturating_add(self.emission) - now;
        if taken > self.capacity {
            let retry_after = Duration::from_nanos(taken - self.capacity);
            return (tat, Verdict::Deny { retry_after });
        }
        let next = begin.saturating_add(self.emission.saturating_mul(u64::from(weight)));
        let taken = next - now;
        let remaining = self.capacity.saturating_sub(taken) / self.emission;
        let verdict = Verdict::Allow {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(taken),
        };
        (next, verdict)
    }

    /// How many tokens are missing.
    pub fn taken(self, tat: u64, now: u64) -> f64 {
        tat.saturating_sub(now) as f64 / self.emission as f64
    }

    /// Whether the bucket is full, and its state says no more than an empty one does.
    pub fn is_full(self, tat: u64, now: u64) -> bool {
        tat <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Algorithm;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn quota(requests: u32, window: Duration, burst: u32) -> Quota {
        Quota {
            algorithm: Algorithm::TokenBucket,
            requests: NonZeroU32::new(requests).unwrap(),
            window,
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_the_rate() {
        let bucket = TokenBucket::new(&quota(2, Duration::from_secs(1), 3));
        let second = 1_000_000_000;
        let mut tat = 0;
        for remaining in [2, 1, 0] {
            let (next, verdict) = bucket.check(tat, 5 * second);
            tat = next;
            assert!(matches!(verdict, Verdict::Allow { remaining: r, .. } if r == remaining));
        }
        let (_, denied) = bucket.check(tat, 5 * second);
        let retry_after = Duration::from_millis(500);
        assert_eq!(denied, Verdict::Deny { retry_after });
        assert!(
            !bucket
                .check(tat, 5 * second + second / 2 - 1)
                .1
                .is_allowed()
        );
        assert!(bucket.check(tat, 5 * second + second / 2).1.is_allowed());
    }

    #[test]
    fn extreme_quotas_do_not_overflow() {
        let slow = TokenBucket::new(&quota(1, Duration::MAX, u32::MAX));
        let fast = TokenBucket::new(&quota(u32::MAX, Duration::ZERO, 1));
        for bucket in [slow, fast] {
            for (tat, now) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX), (0, 0)] {
                bucket.check(tat, now);
            }
        }
    }

    proptest! {
        /// Over any interval at most burst + interval * rate, and always after `retry_after`, not a moment earlier.
        #[test]
        fn never_more_than_burst_and_rate(
            requests in 1u32..2000,
            window in 1u64..20_000,
            burst in 1u32..50,
            steps in prop::collection::vec(0u64..3_000_000_000, 1..200),
            hurry in 1u64..1000,
        ) {
            let quota = quota(requests, Duration::from_millis(window), burst);
            let bucket = TokenBucket::new(&quota);
            let window = u128::from(window) * 1_000_000;
            let (mut tat, mut now, mut admitted) = (0, 0u64, Vec::new());
            for step in steps {
                now += step / hurry;
                let (next, verdict) = bucket.check(tat, now);
                match verdict {
                    Verdict::Allow { .. } => admitted.push(u128::from(now)),
                    Verdict::Deny { retry_after } => {
                        let retry_after = u64::try_from(retry_after.as_nanos()).unwrap();
                        prop_assert!(bucket.check(tat, now + retry_after).1.is_allowed());
                        prop_assert!(!bucket.check(tat, now + retry_after - 1).1.is_allowed());
                        prop_assert_eq!(next, tat);
                    }
                }
                tat = next;
            }
            for (i, first) in admitted.iter().enumerate() {
                for (j, last) in admitted.iter().enumerate().skip(i) {
                    let beyond_burst = (j - i + 1).saturating_sub(burst as usize) as u128;
                    prop_assert!(beyond_burst * window <= (last - first) * u128::from(requests));
                }
            }
        }

        /// What the clock does must not matter: a bucket never gives more than it would to the clock's highest time.
        #[test]
        fn a_clock_that_jumps_gives_nothing_away(
            times in prop::collection::vec(0u64..10_000_000_000, 1..200),
        ) {
            let bucket = TokenBucket::new(&quota(10, Duration::from_secs(1), 5));
            let (mut tat, mut admitted) = (0, 0u64);
            for &now in &times {
                let (next, verdict) = bucket.check(tat, now);
                tat = next;
                admitted += u64::from(verdict.is_allowed());
            }
            let highest = times.iter().max().copied().unwrap();
            prop_assert!(admitted <= 5 + highest / 100_000_000);
        }
    }
}
