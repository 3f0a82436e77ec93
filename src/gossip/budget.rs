//! So many a second of what costs something and comes from anybody.

use std::time::{Duration, Instant};

/// The time for which what was not taken is kept.
const KEPT: Duration = Duration::from_millis(200);

/// What is left of so many a second.
#[derive(Debug)]
pub(super) struct Budget {
    a_second: u32,
    left: f64,
    at: Instant,
}

impl Budget {
    /// A full one.
    pub(super) fn new(a_second: u32, now: Instant) -> Self {
        Self {
            a_second,
            left: f64::from(a_second) * KEPT.as_secs_f64(),
            at: now,
        }
    }

    /// Takes one; false if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let refilled = |time: Duration| f64::from(self.a_second) * time.as_secs_f64();
        let left = self.left + refilled(now.saturating_duration_since(self.at));
        self.left = left.min(refilled(KEPT));
        self.at = self.at.max(now);
        let taken = self.left >= 1.0;
        if taken {
            self.left -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_taken_in_a_second_however_they_come() {
        let start = Instant::now();
        for pause in [1, 10, 100] {
            let mut budget = Budget::new(1000, start);
            let mut taken = 0;
            for millis in (0..10_000).step_by(pause) {
                let now = start + Duration::from_millis(millis);
                taken += (0..500).filter(|_| budget.take(now)).count();
            }
            assert!((9_900..=10_200).contains(&taken), "{pause} {taken}");
        }
    }
}
