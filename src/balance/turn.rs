//! The order in which weighted parties take turns.

use std::cmp::Ordering;

/// The moment in virtual time when a party's turn comes: turn `number` of a party of weight `w`
/// comes at `number / w`, so that a party of twice the weight has twice as many turns.
///
/// Ordered by that moment, exactly (by cross-multiplication, not in floating point), and at equal
/// moments by party. The order of two parties' turns depends on nothing but these two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) number: u64,
    /// At least 1. Its product with any `number` fits 64 bits.
    pub(super) weight: u64,
    pub(super) party: u32,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.number * other.weight)
            .cmp(&(other.number * self.weight))
            .then(self.party.cmp(&other.party))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(number: u64, weight: u64, party: u32) -> Turn {
        Turn {
            number,
            weight,
            party,
        }
    }

    #[test]
    fn comes_by_number_over_weight_and_then_by_party() {
        assert!(turn(1, 3, 9) < turn(1, 2, 0));
        assert!(turn(2, 3, 0) > turn(1, 2, 9));
        assert!(turn(2, 4, 0) < turn(1, 2, 1));
        // In floating point these two are the same moment.
        assert!(turn((1 << 31) - 1, 1 << 31, 9) < turn((1 << 32) - 1, 1 << 32, 0));
    }
}
