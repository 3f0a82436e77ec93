//! Weighted lots in constant time.

/// An alias table (Walker, "An efficient method for generating discrete random variables with
/// general distributions", 1977), built in linear time as by Vose (1991).
///
/// The weights are laid out in as many columns as there are members, all equally tall. Each column
/// belongs to one member up to some height and to one other above it. A draw takes a column and a
/// height, both uniform. In integers throughout, so every member has exactly its share.
#[derive(Debug)]
pub(super) struct AliasTable {
    columns: Box<[Column]>,
    /// The sum of the weights, which is also the height of a column.
    height: u64,
}

#[derive(Debug)]
struct Column {
    /// Below this height the column is its own member's.
    own: u64,
    /// Whose it is from there on.
    other: u32,
}

impl AliasTable {
    /// A table for members of these weights.
    pub(super) fn new(weights: &[u32]) -> Self {
        let height: u64 = weights.iter().copied().map(u64::from).sum();
        // In units that make the average member exactly one column tall.
        let mut left: Vec<u64> = weights
            .iter()
            .map(|&weight| u64::from(weight) * weights.len() as u64)
            .collect();
        let (mut short, mut tall): (Vec<usize>, Vec<usize>) =
            (0..left.len()).partition(|&member| left[member] < height);
        let mut columns: Box<[Column]> = (0..left.len())
            .map(|member| Column {
                own: height,
                other: super::member_index(member),
            })
            .collect();

        while let Some(member) = short.pop() {
            let donor = *tall.last().expect(
                "what is left averages one column, so with a short one there is a tall one",
            );
            columns[member] = Column {
                own: left[member],
                other: super::member_index(donor),
            };
            left[donor] -= height - left[member];
            if left[donor] < height {
                tall.pop();
                short.push(donor);
            }
        }
        Self { columns, height }
    }

    /// Draws a member. There must be one.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        let index = rng.usize(..self.columns.len());
        let column = &self.columns[index];
        if rng.u64(..self.height) < column.own {
            index
        } else {
            column.other as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn every_member_owns_exactly_its_share(weights in prop::collection::vec(1_u32..=256, 0..60)) {
            let table = AliasTable::new(&weights);
            let mut owned = vec![0; weights.len()];
            for (member, column) in table.columns.iter().enumerate() {
                owned[member] += column.own;
                owned[column.other as usize] += table.height - column.own;
            }
            let columns = weights.len() as u64;
            let shares: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * columns).collect();
            prop_assert_eq!(owned, shares);
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        let weights = [1, 2, 5];
        let table = AliasTable::new(&weights);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut drawn = [0_i32; 3];
        for _ in 0..80_000 {
            drawn[table.draw(&mut rng)] += 1;
        }
        for (drawn, weight) in drawn.into_iter().zip([10_000, 20_000, 50_000]) {
            // More than seven standard deviations.
            assert!(
                (drawn - weight).abs() < 1_000,
                "{drawn} instead of {weight}"
            );
        }
    }
}
