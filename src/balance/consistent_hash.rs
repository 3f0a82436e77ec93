//! Consistent hashing: the same key goes to the same endpoint as long as that one is there, and
//! when endpoints come or go, few keys move besides those that must.
//!
//! This is Maglev (Eisenbud et al., "Maglev: a fast and reliable software network load balancer",
//! NSDI 2016, section 3.4). Every member has its own order of preference over all slots of a
//! table. In turns, each takes the slot that it likes best among those still free. A key's hash
//! then selects a slot. The table depends on nothing but the members' identities and weights, so
//! that all load balancers of a fleet agree, whatever order they learned of the members in.
//!
//! Weights decide how often a member's turn comes. The order of two members' turns does not depend
//! on third ones, so that a change of one member disturbs the others as little as without weights.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::turn::Turn;
use super::{Candidate, Member, Pick, Strategy, first_available, member_index};

/// Table sizes: primes, because a member's stride must visit every slot.
const SIZES: [u32; 4] = [65_537, 262_147, 1_048_583, 4_194_319];

/// Slots that each member should have at least on average. It bounds how uneven equal members'
/// shares can be: one slot in so many.
const SLOTS_PER_MEMBER: usize = 100;

/// How often a key whose endpoint is unavailable is hashed anew before the search goes in order.
/// Each time spreads the endpoint's keys over all the others, and all workers find the same one.
const REHASHES: u64 = 8;

// What the hashes of identities are seeded with. Any change moves every key of every user.
const OFFSET_SEED: u64 = 0;
const STRIDE_SEED: u64 = 1;

/// Looks the hash of the request's key up in a Maglev table.
#[derive(Debug)]
pub struct ConsistentHash {
    /// The member that each slot belongs to.
    table: Box<[u32]>,
}

impl ConsistentHash {
    pub(super) fn new(members: &[Member]) -> Self {
        let wanted = members.len() * SLOTS_PER_MEMBER;
        let largest = SIZES[SIZES.len() - 1];
        let size = SIZES
            .into_iter()
            .find(|&size| size as usize >= wanted)
            .unwrap_or(largest);
        Self {
            table: populate(members, size),
        }
    }

    fn member_for(&self, hash: u64) -> usize {
        self.table[(hash % self.table.len() as u64) as usize] as usize
    }
}

impl Strategy for ConsistentHash {
    fn pick<C: Candidate>(&self, set: &[C], pick: &mut Pick<'_>) -> Option<usize> {
        let mut choice = self.member_for(pick.hash);
        for seed in 0..REHASHES {
            if set[choice].available() {
                return Some(choice);
            }
            choice = self.member_for(xxh3_64_with_seed(&pick.hash.to_le_bytes(), seed));
        }
        first_available(set, choice)
    }
}

/// Marks a slot that nobody has taken yet.
const FREE: u32 = u32::MAX;

/// A member's order of preference over the slots: from some slot on, in strides.
struct Preference {
    member: u32,
    next: u32,
    stride: u32,
}

impl Preference {
    fn new(index: usize, identity: u64, size: u32) -> Self {
        let hash = |seed| xxh3_64_with_seed(&identity.to_le_bytes(), seed);
        let below = |bound: u32, hash: u64| (hash % u64::from(bound)) as u32;
        Self {
            member: member_index(index),
            next: below(size, hash(OFFSET_SEED)),
            stride: 1 + below(size - 1, hash(STRIDE_SEED)),
        }
    }

    /// Takes the best slot that is still free. There must be one.
    fn take(&mut self, slots: &mut [u32]) {
        let size = member_index(slots.len());
        loop {
            let slot = &mut slots[self.next as usize];
            self.next = (self.next + self.stride) % size;
            if *slot == FREE {
                *slot = self.member;
                return;
            }
        }
    }
}

/// Fills a table of `size` slots, a prime.
fn populate(members: &[Member], size: u32) -> Box<[u32]> {
    // By identity, so that ties between turns do not depend on the order of the members.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&index| (members[index].identity, members[index].weight));
    let mut preferences: Vec<Preference> = order
        .iter()
        .map(|&index| Preference::new(index, members[index].identity, size))
        .collect();
    // Turns count from 0: the first is at moment 0 for everyone, so nobody is left without a slot.
    let mut turns: BinaryHeap<Reverse<Turn>> = order
        .iter()
        .zip(0..)
        .map(|(&index, party)| {
            Reverse(Turn {
                number: 0,
                weight: u64::from(members[index].weight),
                party,
            })
        })
        .collect();

    let mut slots = vec![FREE; size as usize].into_boxed_slice();
    for _ in 0..size {
        let Some(mut turn) = turns.peek_mut() else {
            break;
        };
        preferences[turn.0.party as usize].take(&mut slots);
        turn.0.number += 1;
    }
    slots
}

#[cfg(test)]
mod tests;
