//! Load in relation to weight: what the strategies that look at load compare.

use std::cmp::Ordering;

/// The load a member would have for its weight if it got the request: `(load + 1) / weight`,
/// compared exactly, by cross-multiplication.
///
/// An idle member counts as 0 whatever its weight. Otherwise the heaviest would win whenever all
/// are idle, and with one request at a time the others would never see any. Idle members are equal
/// instead, and the strategies settle that by lot, in proportion to the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct RelativeLoad {
    load: u64,
    weight: u32,
}

impl RelativeLoad {
    pub(super) fn new(load: u64, weight: u32) -> Self {
        let load = if load == 0 { 0 } else { load.saturating_add(1) };
        Self { load, weight }
    }
}

impl Ord for RelativeLoad {
    fn cmp(&self, other: &Self) -> Ordering {
        // 128 bits: latencies in nanoseconds times requests in flight times weights are large.
        let left = u128::from(self.load) * u128::from(other.weight);
        let right = u128::from(other.load) * u128::from(self.weight);
        left.cmp(&right)
    }
}

impl PartialOrd for RelativeLoad {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RelativeLoad {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RelativeLoad {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_the_load_after_the_request_for_the_weight() {
        // (1 + 1) / 1 against (2 + 1) / 2: the heavier one has more room.
        assert!(RelativeLoad::new(1, 1) > RelativeLoad::new(2, 2));
        assert_eq!(RelativeLoad::new(1, 1), RelativeLoad::new(3, 2));
        assert!(RelativeLoad::new(1, 1) < RelativeLoad::new(4, 2));
    }

    #[test]
    fn idle_is_least_and_equal_whatever_the_weight() {
        assert_eq!(RelativeLoad::new(0, 1), RelativeLoad::new(0, 256));
        assert!(RelativeLoad::new(0, 1) < RelativeLoad::new(1, 256));
    }

    #[test]
    fn the_largest_loads_compare_without_overflow() {
        let (light, heavy) = (u32::MAX - 1, u32::MAX);
        assert!(RelativeLoad::new(u64::MAX, light) > RelativeLoad::new(u64::MAX, heavy));
    }
}
