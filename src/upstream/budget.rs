//! How many further tries the requests of an upstream may cause: a share of their number.
//!
//! When servers fail because they have too much to do, tries on top of the requests make it worse. So each request pays a
//! little in, and each further try takes a whole one out. What is not used is lost after ten seconds: a long good time
//! must not pay for a storm of tries.

use std::time::Duration;

use tokio::time::Instant;

/// What a try costs, in the unit of deposits.
pub const TRY: u32 = 1000;

const SLOT: Duration = Duration::from_secs(1);
const SLOTS: usize = 10;

/// What is left to spend, in slots of a second each: the oldest is lost when a new one begins.
#[derive(Debug)]
pub struct Budget {
    slots: [u64; SLOTS],
    current: usize,
    /// When the current slot is over.
    ends: Instant,
    /// What every slot begins with.
    floor: u64,
}

impl Budget {
    /// A budget of at least `floor` tries a second, all of which are there.
    pub fn new(floor: u32, now: Instant) -> Self {
        let floor = u64::from(floor) * u64::from(TRY);
        Self {
            slots: [floor; SLOTS],
            current: 0,
            ends: now + SLOT,
            floor,
        }
    }

    /// A request pays in its share of a [`TRY`].
    pub fn deposit(&mut self, share: u32, now: Instant) {
        if now >= self.ends {
            self.turn(now);
        }
        self.slots[self.current] += u64::from(share);
    }

    /// Takes out a try; false if there is not enough.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        if now >= self.ends {
            self.turn(now);
        }
        let mut due = u64::from(TRY);
        if self.slots.iter().sum::<u64>() < due {
            return false;
        }
        // What would be lost first is spent first.
        for age in 1..=SLOTS {
            let slot = &mut self.slots[(self.current + age) % SLOTS];
            let paid = due.min(*slot);
            *slot -= paid;
            due -= paid;
        }
        true
    }

    /// Begins the slots up to `now`.
    fn turn(&mut self, now: Instant) {
        let over = (now - self.ends).as_secs() + 1;
        for _ in 0..over.min(SLOTS as u64) {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = self.floor;
        }
        self.ends += Duration::from_secs(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tries can be taken out now.
    fn left(budget: &mut Budget, now: Instant) -> usize {
        (0..).take_while(|_| budget.withdraw(now)).count()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fifth_of_the_requests_may_be_tried_again() {
        let now = Instant::now();
        let mut budget = Budget::new(0, now);
        for _ in 0..1000 {
            budget.deposit(TRY / 5, now);
        }
        assert_eq!(left(&mut budget, now), 200);
        for _ in 0..4 {
            budget.deposit(TRY / 5, now);
        }
        assert!(!budget.withdraw(now));
        budget.deposit(TRY / 5, now);
        assert!(budget.withdraw(now));
    }

    #[test]
    fn a_few_a_second_are_always_there_and_ten_seconds_of_them_at_most() {
        let mut now = Instant::now();
        let mut budget = Budget::new(3, now);
        assert_eq!(left(&mut budget, now), 30);
        for _ in 0..3 {
            now += SECOND;
            assert_eq!(left(&mut budget, now), 3);
        }
        now += 3600 * SECOND;
        assert_eq!(left(&mut budget, now), 30);
    }

    #[test]
    fn what_was_saved_is_lost_after_ten_seconds() {
        let start = Instant::now();
        let mut budget = Budget::new(0, start);
        for _ in 0..10 {
            budget.deposit(TRY, start);
        }
        budget.deposit(TRY, start + 5 * SECOND);
        assert!(budget.withdraw(start + 9 * SECOND));
        assert_eq!(left(&mut budget, start + 10 * SECOND), 1);
        assert_eq!(left(&mut budget, start + 15 * SECOND), 0);
    }

    #[test]
    fn the_oldest_is_spent_first() {
        let start = Instant::now();
        let mut budget = Budget::new(0, start);
        budget.deposit(TRY, start);
        budget.deposit(TRY, start + 5 * SECOND);
        assert!(budget.withdraw(start + 6 * SECOND));
        assert!(
            budget.withdraw(start + 12 * SECOND),
            "the newer one is left"
        );
    }
}
