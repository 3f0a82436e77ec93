//! A network of datagrams in virtual time, which loses, delays and doubles them, for tests.

use fastrand::Rng;

/// What happens to what is sent.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The shortest and the longest way, in milliseconds.
    pub delay: (u64, u64),
    /// The part that never arrives.
    pub lost: f64,
    /// The part that arrives twice.
    pub doubled: f64,
}

impl Conditions {
    /// A network in one room.
    pub const GOOD: Self = Self {
        delay: (0, 5),
        lost: 0.0,
        doubled: 0.0,
    };
}

/// What is under way, with the time of its arrival in milliseconds.
#[derive(Debug)]
pub struct Network<T> {
    conditions: Conditions,
    random: Rng,
    flying: Vec<(u64, T)>,
}

impl<T: Clone> Network<T> {
    /// A network on which nothing is under way.
    pub fn new(conditions: Conditions, random: Rng) -> Self {
        Self {
            conditions,
            random,
            flying: Vec::new(),
        }
    }

    /// Sends something.
    pub fn send(&mut self, now: u64, what: &T) {
        let times = match self.random.f64() {
            chance if chance < self.conditions.lost => 0,
            chance if chance > 1.0 - self.conditions.doubled => 2,
            _ => 1,
        };
        for _ in 0..times {
            let (least, most) = self.conditions.delay;
            let arrives = now + self.random.u64(least..=most);
            self.flying.push((arrives, what.clone()));
        }
    }

    /// Takes what has arrived by now.
    pub fn arrived(&mut self, now: u64) -> Vec<T> {
        let due = self.flying.extract_if(.., |it| it.0 <= now);
        due.map(|it| it.1).collect()
    }

    /// What is under way.
    pub fn flying(&self) -> impl Iterator<Item = &T> {
        self.flying.iter().map(|it| &it.1)
    }
}
