//! Least connections: the endpoint with the fewest requests in flight for its weight.

use std::cmp::Ordering;

use super::relative_load::RelativeLoad;
use super::{Candidate, Load, Member, Pick, Strategy, available_or_any};

/// How many endpoints a pick looks at: all of them up to this many, otherwise as many by lot, which
/// bounds the cost. The chance that none of these is among the least loaded share p of all is
/// (1 - p)^32: 3.4 % for the least loaded tenth, 0.1 % for the least loaded fifth. So it is close
/// to the exact minimum, and concurrent workers do not all run into that one endpoint.
const SAMPLE: usize = 32;

/// Takes the endpoint with the lowest load for its weight.
#[derive(Debug)]
pub struct LeastConnections {
    weights: Box<[u32]>,
}

impl LeastConnections {
    pub(super) fn new(members: &[Member]) -> Self {
        Self {
            weights: members.iter().map(|member| member.weight).collect(),
        }
    }
}

impl Strategy for LeastConnections {
    fn pick<C: Candidate>(&self, set: &[C], pick: &mut Pick<'_>) -> Option<usize> {
        let mut contest = Contest::default();
        for turn in 0..set.len().min(SAMPLE) {
            let index = if set.len() <= SAMPLE {
                turn
            } else {
                pick.rng.usize(..set.len())
            };
            if set[index].available() {
                let in_flight = set[index].load(Load::InFlight, pick.now);
                contest.enter(index, in_flight, self.weights[index], pick.rng);
            }
        }
        match contest.leader {
            Some((index, _)) => Some(index),
            None => available_or_any(set, 0, pick.rng),
        }
    }
}

/// Finds the least loaded of those that enter. Equals share by lot, in proportion to the weights.
#[derive(Default)]
struct Contest {
    leader: Option<(usize, RelativeLoad)>,
    /// Weights of all that are equal to the leader, itself included.
    equals: u64,
}

impl Contest {
    fn enter(&mut self, index: usize, load: u64, weight: u32, rng: &mut fastrand::Rng) {
        let load = RelativeLoad::new(load, weight);
        let weight = u64::from(weight);
        let leads = match self.leader.map(|(_, leader)| load.cmp(&leader)) {
            None | Some(Ordering::Less) => {
                self.equals = weight;
                true
            }
            // Reservoir sampling: each replaces the leader with its share of the weight so far.
            Some(Ordering::Equal) => {
                self.equals += weight;
                rng.u64(..self.equals) < weight
            }
            Some(Ordering::Greater) => false,
        };
        if leads {
            self.leader = Some((index, load));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::super::tests::{Server, members, picks};
    use super::*;

    proptest! {
        #[test]
        fn nobody_is_less_loaded_than_the_one_picked(
            servers in prop::collection::vec((1_u32..=8, 0_u64..20), 1..=SAMPLE),
        ) {
            let (weights, loads): (Vec<u32>, Vec<u64>) = servers.into_iter().unzip();
            let set: Vec<Server> = loads.iter().map(|&load| Server::loaded(load)).collect();
            let picked = picks(&LeastConnections::new(&members(&weights)), &set, 10);
            let relative = |index: usize| RelativeLoad::new(loads[index], weights[index]);
            let least = (0..set.len()).map(relative).min().unwrap();
            for index in (0..set.len()).filter(|&index| picked[index] > 0) {
                prop_assert_eq!(relative(index), least);
            }
        }
    }

    #[test]
    fn idle_servers_share_by_weight_wherever_they_stand() {
        let servers = [
            Server::idle(),
            Server::loaded(1),
            Server::loaded(2),
            Server::idle(),
            Server::idle(),
        ];
        let strategy = LeastConnections::new(&members(&[1, 9, 9, 1, 2]));
        let picked = picks(&strategy, &servers, 40_000);
        for (picked, share) in picked.into_iter().zip([10_000, 0, 0, 10_000, 20_000]) {
            assert!(picked.abs_diff(share) < 600, "{picked} instead of {share}");
        }
    }

    #[test]
    fn a_large_set_is_sampled_and_the_picked_are_among_the_least_loaded() {
        const SERVERS: usize = 1_000;
        let servers: Vec<Server> = (0..SERVERS)
            .map(|load| Server::loaded(load as u64))
            .collect();
        let strategy = LeastConnections::new(&members(&[1; SERVERS]));
        let picked = picks(&strategy, &servers, 2_000);
        let outside_best_tenth: usize = picked[SERVERS / 10..].iter().sum();
        // 3.4 % are expected, 68 of 2,000.
        assert!(outside_best_tenth < 120, "{outside_best_tenth}");
    }
}
