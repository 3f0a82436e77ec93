//! Peak-sensitive moving average of a server's latency, for the `peak_ewma` strategy.
//!
//! A slower answer counts at once, faster ones count gradually, and without answers the average decays, so that a
//! server that was slow is tried again (the algorithm of Finagle's peak EWMA balancer).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time after which an observation's weight has fallen to 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// What a server that has not answered yet is taken to need.
const UNKNOWN: Duration = Duration::from_millis(10);

/// The average, written by all workers.
///
/// Value (microseconds, `f32`) and time (milliseconds since `start`, wrapping) share one word, so that a reader never sees
/// a value with another one's time. Of two workers that write at once, one observation may be lost: it is an average.
#[derive(Debug)]
pub struct PeakEwma {
    start: Instant,
    state: AtomicU64,
}

impl PeakEwma {
    /// An average that starts now, at 10 ms.
    pub fn new(now: Instant) -> Self {
        let average = Self {
            start: now,
            state: AtomicU64::new(0),
        };
        average.store(UNKNOWN.as_secs_f32() * 1e6, now);
        average
    }

    /// Takes a latency into account.
    pub fn observe(&self, latency: Duration, now: Instant) {
        let latency = latency.as_secs_f32() * 1e6;
        let (value, age) = self.load(now);
        let old = decay(age);
        let average = if latency >= value {
            latency
        } else {
            value * old + latency * (1.0 - old)
        };
        self.store(average, now);
    }

    /// The average at `now`, in nanoseconds, at least 1 µs.
    pub fn nanos(&self, now: Instant) -> u64 {
        let (value, age) = self.load(now);
        ((value * decay(age)).max(1.0) * 1e3) as u64
    }

    fn load(&self, now: Instant) -> (f32, Duration) {
        let state = self.state.load(Relaxed);
        let age = self.millis(now).wrapping_sub(state as u32) as i32;
        (
            f32::from_bits((state >> 32) as u32),
            Duration::from_millis(u64::try_from(age).unwrap_or(0)),
        )
    }

    fn store(&self, value: f32, now: Instant) {
        self.state.store(
            u64::from(value.to_bits()) << 32 | u64::from(self.millis(now)),
            Relaxed,
        );
    }

    fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_millis() as u32
    }
}

fn decay(age: Duration) -> f32 {
    (-age.as_secs_f32() / DECAY.as_secs_f32()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let start = Instant::now();
        let average = PeakEwma::new(start);
        average.observe(100 * MS, start + MS);
        assert_eq!(average.nanos(start + MS) / 1_000_000, 100);
        average.observe(MS, start + 2 * MS);
        assert!(
            average.nanos(start + 2 * MS) > 99_000_000,
            "one fast answer does not wash a slow one away"
        );
        let later = start + 10 * DECAY;
        assert!(
            average.nanos(later) < 1_000_000,
            "without answers it decays"
        );
        average.observe(5 * MS, later);
        assert_eq!(average.nanos(later) / 1_000_000, 5);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_does_no_harm() {
        let start = Instant::now();
        let average = PeakEwma::new(start + 50 * MS);
        average.observe(20 * MS, start);
        assert_eq!(average.nanos(start) / 1_000_000, 20);
    }
}
