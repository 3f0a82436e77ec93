//! Random: each request by lot, in proportion to the weights, with no memory of the last one.

use super::alias::AliasTable;
use super::{Candidate, Member, Pick, Strategy, available_or_any};

/// Draws endpoints from an alias table.
#[derive(Debug)]
pub struct Random {
    table: AliasTable,
}

impl Random {
    pub(super) fn new(members: &[Member]) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        Self {
            table: AliasTable::new(&weights),
        }
    }
}

impl Strategy for Random {
    fn pick<C: Candidate>(&self, set: &[C], pick: &mut Pick<'_>) -> Option<usize> {
        let choice = self.table.draw(pick.rng);
        available_or_any(set, choice, pick.rng)
    }
}
