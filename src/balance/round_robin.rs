//! Smooth weighted round robin: everyone in turn, the heavier ones more often, nobody in bursts.
//!
//! A pick takes the next number of a ticket that all workers share, and the ticket alone decides,
//! so the shares are exact over all workers together, not only within each. From any ticket on, as
//! many picks as the weights add up to give every endpoint exactly its weight.
//!
//! Endpoints of equal weight form a group and take the group's turns in rotation. How the groups
//! take turns is written down once, as a schedule: `A B A C A B A` for A at weight 4, B at 2, C
//! at 1. If all weights are equal there is one group and the schedule has a single entry, and ten
//! thousand endpoints of two different weights need one about as short.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicU64, Ordering};

use super::turn::Turn;
use super::{Candidate, Member, Pick, Strategy, available_or_any, member_index};

/// Longest schedule, give or take a slot for each group. Longer ones are scaled down, rounding
/// each group's turns up to at least one.
const LONGEST_SCHEDULE: u64 = 65_536;

/// Gives every request the next turn of a schedule.
#[derive(Debug)]
pub struct RoundRobin {
    ticket: AtomicU64,
    schedule: Box<[Slot]>,
    groups: Box<[Group]>,
}

/// One turn of the schedule.
#[derive(Debug)]
struct Slot {
    group: u32,
    /// Which of its group's turns in the schedule this is, from 0.
    turn: u32,
}

/// Endpoints of equal weight.
#[derive(Debug)]
struct Group {
    members: Box<[u32]>,
    /// How many turns of the schedule it has.
    turns: u64,
}

impl RoundRobin {
    /// A rotation of `members` that goes on from `ticket`.
    pub(super) fn new(members: &[Member], ticket: u64) -> Self {
        let mut by_weight: BTreeMap<Reverse<u32>, Vec<u32>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            by_weight
                .entry(Reverse(member.weight))
                .or_default()
                .push(member_index(index));
        }
        let shares: Vec<u64> = by_weight
            .iter()
            .map(|(Reverse(weight), members)| u64::from(*weight) * members.len() as u64)
            .collect();
        let turns = shortest_turns(&shares);
        Self {
            ticket: AtomicU64::new(ticket),
            schedule: schedule(&turns),
            groups: by_weight
                .into_values()
                .zip(turns)
                .map(|(members, turns)| Group {
                    members: members.into_boxed_slice(),
                    turns,
                })
                .collect(),
        }
    }

    /// The next ticket: what a rotation that replaces this one goes on from.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::Relaxed)
    }

    /// Whose turn it is at `ticket`.
    fn member_at(&self, ticket: u64) -> usize {
        let length = self.schedule.len() as u64;
        let slot = &self.schedule[(ticket % length) as usize];
        let group = &self.groups[slot.group as usize];
        let turn = (ticket / length) * group.turns + u64::from(slot.turn);
        group.members[(turn % group.members.len() as u64) as usize] as usize
    }
}

impl Strategy for RoundRobin {
    fn pick<C: Candidate>(&self, set: &[C], pick: &mut Pick<'_>) -> Option<usize> {
        // A retry takes no turn. If it did, of two endpoints every request would begin at the one that refuses.
        let choice = if pick.retry {
            pick.rng.usize(..set.len())
        } else {
            self.member_at(self.ticket.fetch_add(1, Ordering::Relaxed))
        };
        available_or_any(set, choice, pick.rng)
    }
}

/// The smallest numbers of turns in the proportion of `shares`, or as near to it as the longest
/// schedule allows with at least one turn for each.
fn shortest_turns(shares: &[u64]) -> Vec<u64> {
    let divisor = shares.iter().copied().fold(0, greatest_common_divisor);
    let total: u64 = shares.iter().sum();
    shares
        .iter()
        .map(|&share| {
            if total / divisor <= LONGEST_SCHEDULE {
                share / divisor
            } else {
                (share * LONGEST_SCHEDULE).div_ceil(total)
            }
        })
        .collect()
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Spreads the groups' turns evenly over a schedule that has as many slots as there are turns.
///
/// Earliest eligible deadline first (WF2Q: Bennett and Zhang, "Worst-case fair weighted fair
/// queueing", 1996). With s slots for t turns, a group's turn k (from 1) may come from slot
/// (k - 1) s/t on and is due at k s/t; of those that may come, the one due first does. So nobody
/// is ever a whole turn ahead of its share or behind it. Deadlines alone would not do: a heavy
/// group's first turns are all due before a light one's only turn, and come in one burst.
fn schedule(turns: &[u64]) -> Box<[Slot]> {
    let slots: u64 = turns.iter().sum();
    let mut waiting: BinaryHeap<Reverse<(u64, Turn)>> = turns
        .iter()
        .enumerate()
        .map(|(group, &weight)| {
            let party = member_index(group);
            let first = Turn {
                number: 1,
                weight,
                party,
            };
            Reverse((0, first))
        })
        .collect();
    let mut eligible: BinaryHeap<Reverse<Turn>> = BinaryHeap::new();

    (0..slots)
        .map(|slot| {
            while let Some(&Reverse((from, turn))) = waiting.peek()
                && from <= slot
            {
                waiting.pop();
                eligible.push(Reverse(turn));
            }
            let Reverse(turn) = eligible
                .pop()
                .expect("all groups together had one turn a slot, so they cannot all be ahead");
            let from = (turn.number * slots).div_ceil(turn.weight);
            let next = Turn {
                number: turn.number + 1,
                ..turn
            };
            waiting.push(Reverse((from, next)));
            Slot {
                group: turn.party,
                turn: u32::try_from(turn.number - 1).expect("the schedule is short"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::super::tests::{Server, members, picks};
    use super::*;

    fn rotation(weights: &[u32]) -> RoundRobin {
        RoundRobin::new(&members(weights), 0)
    }

    fn turns(rotation: &RoundRobin, tickets: std::ops::Range<u64>) -> Vec<usize> {
        tickets.map(|ticket| rotation.member_at(ticket)).collect()
    }

    #[test]
    fn equal_weights_go_round_without_a_schedule() {
        let rotation = rotation(&[7; 10_000]);
        assert_eq!(rotation.schedule.len(), 1);
        assert_eq!(turns(&rotation, 9_998..10_002), [9_998, 9_999, 0, 1]);
    }

    #[test]
    fn shares_are_exact_and_nobody_comes_twice_in_a_row() {
        let picked = picks(&rotation(&[3, 1, 2, 1]), &[Server::idle(); 4], 700);
        assert_eq!(picked, [300, 100, 200, 100]);
        for weights in [&[3, 1, 2, 1][..], &[2, 1, 1], &[4, 1, 1, 1, 1], &[5, 3, 2]] {
            let sum = u64::from(weights.iter().sum::<u32>());
            let turns = turns(&rotation(weights), 0..2 * sum);
            assert!(turns.is_sorted_by(|a, b| a != b), "{weights:?}: {turns:?}");
        }
    }

    #[test]
    fn a_heavy_server_comes_in_no_burst() {
        assert_eq!(turns(&rotation(&[5, 1, 1]), 0..7), [0, 1, 0, 0, 2, 0, 0]);
        assert_eq!(turns(&rotation(&[1, 4, 2]), 0..7), [1, 2, 1, 0, 1, 2, 1]);
    }

    #[test]
    fn one_ticket_serves_all_threads() {
        let strategy = rotation(&[2, 1]);
        let picked: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| picks(&strategy, &[Server::idle(); 2], 1_500)))
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let first: usize = picked.iter().map(|picked| picked[0]).sum();
        assert_eq!(first, 4_000);
    }

    #[test]
    fn a_long_schedule_is_scaled_down_and_leaves_nobody_out() {
        // 256 weights, the lightest of which has less than a slot of the longest schedule.
        let mut weights: Vec<u32> = (1..=256).collect();
        weights.extend([251; 9_744]);
        let rotation = rotation(&weights);
        let length = rotation.schedule.len() as u64;
        assert!(length <= LONGEST_SCHEDULE + 256, "{length}");

        let heaviest = turns(&rotation, 0..length)
            .iter()
            .filter(|&&it| it == 255)
            .count();
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        assert_eq!(heaviest as u64, (256 * LONGEST_SCHEDULE).div_ceil(sum));
        assert!(turns(&rotation, 0..length).contains(&0));
    }

    proptest! {
        #[test]
        fn any_stretch_as_long_as_the_sum_of_weights_is_exact(
            weights in prop::collection::vec(1_u32..=40, 1..20),
            start in 0_u64..1_000_000,
        ) {
            let sum = u64::from(weights.iter().sum::<u32>());
            let mut picked = vec![0; weights.len()];
            for member in turns(&rotation(&weights), start..start + sum) {
                picked[member] += 1;
            }
            prop_assert_eq!(picked, weights);
        }

        #[test]
        fn no_group_is_a_turn_ahead_or_behind(turns in prop::collection::vec(1_u64..=60, 1..12)) {
            let slots: u64 = turns.iter().sum();
            let mut taken = vec![0; turns.len()];
            for (slot, now) in schedule(&turns).iter().zip(1..) {
                prop_assert_eq!(u64::from(slot.turn), taken[slot.group as usize]);
                taken[slot.group as usize] += 1;
                for (&taken, &turns) in taken.iter().zip(&turns) {
                    prop_assert!((taken * slots).abs_diff(turns * now) < slots);
                }
            }
        }
    }
}
