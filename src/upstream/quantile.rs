//! How long the slower of an upstream's answers take: an estimate of a quantile that follows the present.

use std::time::Duration;

/// Buckets for each doubling: an estimate is at most an eighth too high.
const STEPS: usize = 8;
/// Times above 2^28 microseconds, four minutes, count as that.
const DOUBLINGS: usize = 26;
const LONGEST: u64 = (1 << 28) - 1;

/// Fewer observations say nothing of the slowest twentieth.
const ENOUGH: u32 = 100;
/// With so many, all counts are halved: the last thousand or two count.
const MANY: u32 = 2000;
/// The estimate is renewed after so many observations.
const RENEWAL: u32 = 16;

/// An estimate of the 95th percentile of times, from a histogram whose old counts fade.
#[derive(Debug)]
pub struct Quantile {
    counts: Box<[u32; STEPS * DOUBLINGS]>,
    total: u32,
    since_renewal: u32,
    p95: Option<Duration>,
}

impl Default for Quantile {
    fn default() -> Self {
        Self {
            counts: Box::new([0; STEPS * DOUBLINGS]),
            total: 0,
            since_renewal: 0,
            p95: None,
        }
    }
}

impl Quantile {
    /// Takes a time into account.
    pub fn observe(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        if self.total >= MANY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        self.since_renewal += 1;
        if self.since_renewal >= RENEWAL {
            self.since_renewal = 0;
            self.p95 = self.compute();
        }
    }

    /// The time that a twentieth of the answers exceed; `None` while too little is known.
    pub fn p95(&self) -> Option<Duration> {
        self.p95
    }

    fn compute(&self) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let mut above = self.total / 20;
        let slowest = self.counts.iter().enumerate().rev();
        for (index, count) in slowest {
            match above.checked_sub(*count) {
                Some(rest) => above = rest,
                None => return Some(Duration::from_micros(end(index))),
            }
        }
        None
    }
}

fn bucket(micros: u64) -> usize {
    let micros = micros.min(LONGEST);
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let step = (micros >> (doubling - 3)) as usize % STEPS;
    (doubling - 2) * STEPS + step
}

/// The first time, in microseconds, that is beyond a bucket.
fn end(index: usize) -> u64 {
    match (index / STEPS, index % STEPS) {
        (0, step) => step as u64 + 1,
        (doubling, step) => ((STEPS + step + 1) as u64) << (doubling - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        for index in 0..STEPS * DOUBLINGS {
            assert_eq!(bucket(end(index) - 1), index);
            if index + 1 < STEPS * DOUBLINGS {
                assert_eq!(bucket(end(index)), index + 1);
            }
        }
        assert_eq!(bucket(u64::MAX), STEPS * DOUBLINGS - 1);
    }

    #[test]
    fn the_slowest_twentieth_is_above_it() {
        let mut times = Quantile::default();
        for round in 0..10 {
            for millis in 1..=100 {
                times.observe(millis * MS);
            }
            assert!(round > 0 || times.p95().is_none(), "too early");
        }
        let p95 = times.p95().unwrap().as_secs_f64() * 1e3;
        assert!((95.0..=95.0 * 1.125).contains(&p95), "{p95}");
    }

    #[test]
    fn too_few_say_nothing() {
        let mut times = Quantile::default();
        for _ in 0..99 {
            times.observe(MS);
        }
        assert_eq!(times.p95(), None);
    }

    #[test]
    fn the_past_fades() {
        let mut times = Quantile::default();
        for _ in 0..5000 {
            times.observe(500 * MS);
        }
        for _ in 0..20_000 {
            times.observe(2 * MS);
        }
        assert!(times.p95().unwrap() < 3 * MS);
    }
}
