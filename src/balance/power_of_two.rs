//! Power of two choices: two endpoints by lot, and of these the less loaded one.
//!
//! With n requests on n endpoints, one lot each leaves the fullest with about ln n / ln ln n of
//! them, the better of two lots with ln ln n / ln 2 (Azar et al., "Balanced allocations", 1994;
//! Mitzenmacher, "The power of two choices in randomized load balancing", 1996). As workers see
//! each other's choices late, it also errs better than looking for the minimum, which sends all of
//! them to the same endpoint. Where weights differ, lots are drawn by weight and loads compared for
//! their weight, which keeps the bound (Berenbrink et al., "Balls into non-uniform bins", 2014).
//!
//! Peak EWMA is the same with a load that knows latency: how is for the candidate to say.

use super::alias::AliasTable;
use super::relative_load::RelativeLoad;
use super::{Candidate, Load, Member, Pick, Strategy, available_or_any};

/// Draws two endpoints and takes the one with the lower load for its weight.
#[derive(Debug)]
pub struct PowerOfTwo {
    measure: Load,
    weights: Box<[u32]>,
    table: AliasTable,
}

impl PowerOfTwo {
    pub(super) fn new(members: &[Member], measure: Load) -> Self {
        let weights: Box<[u32]> = members.iter().map(|member| member.weight).collect();
        Self {
            measure,
            table: AliasTable::new(&weights),
            weights,
        }
    }

    /// Another member than `first`; there must be two. When the lot falls on `first` again, any
    /// other will do: drawing until it differs would have no bound next to a very heavy member.
    fn draw_another(&self, first: usize, rng: &mut fastrand::Rng) -> usize {
        let second = self.table.draw(rng);
        if second != first {
            return second;
        }
        let members = self.weights.len();
        (first + 1 + rng.usize(..members - 1)) % members
    }
}

impl Strategy for PowerOfTwo {
    fn pick<C: Candidate>(&self, set: &[C], pick: &mut Pick<'_>) -> Option<usize> {
        let first = self.table.draw(pick.rng);
        if set.len() == 1 {
            return set[first].available().then_some(first);
        }
        let second = self.draw_another(first, pick.rng);
        if !set[first].available() {
            return available_or_any(set, second, pick.rng);
        }
        if !set[second].available() {
            return Some(first);
        }
        let load = |index: usize| {
            RelativeLoad::new(set[index].load(self.measure, pick.now), self.weights[index])
        };
        // On a tie the first, which was drawn by weight.
        Some(if load(second) < load(first) {
            second
        } else {
            first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Server, members, picks};
    use super::*;

    #[test]
    fn the_less_loaded_of_two_always_wins() {
        let strategy = PowerOfTwo::new(&members(&[1, 1]), Load::InFlight);
        let picked = picks(&strategy, &[Server::loaded(3), Server::loaded(2)], 1_000);
        assert_eq!(picked, [0, 1_000]);
    }

    #[test]
    fn idle_servers_share_by_weight() {
        let strategy = PowerOfTwo::new(&members(&[3, 1]), Load::InFlight);
        let picked = picks(&strategy, &[Server::idle(), Server::idle()], 40_000);
        assert!(picked[0].abs_diff(30_000) < 600, "{picked:?}");
    }

    #[test]
    fn the_two_lots_differ_even_beside_a_very_heavy_member() {
        let strategy = PowerOfTwo::new(&members(&[256, 1, 1]), Load::InFlight);
        let overloaded = [Server::loaded(u64::MAX), Server::idle(), Server::idle()];
        let picked = picks(&strategy, &overloaded, 10_000);
        assert_eq!(picked[0], 0);
        assert!(picked[1].abs_diff(5_000) < 500, "{picked:?}");
    }

    #[test]
    fn load_settles_far_more_evenly_than_by_lot() {
        const SERVERS: usize = 1_000;
        let members = members(&[1; SERVERS]);
        let fullest = |strategy: &dyn Fn(&[Server], &mut Pick<'_>) -> Option<usize>| {
            let mut servers = vec![Server::idle(); SERVERS];
            let mut rng = fastrand::Rng::with_seed(7);
            for _ in 0..SERVERS {
                let mut pick = Pick {
                    rng: &mut rng,
                    now: std::time::Instant::now(),
                    hash: 0,
                    retry: false,
                };
                let picked = strategy(&servers, &mut pick).unwrap();
                servers[picked].load += 1;
            }
            servers.iter().map(|server| server.load).max().unwrap()
        };
        let two = PowerOfTwo::new(&members, Load::InFlight);
        let one = super::super::Random::new(&members);
        assert!(fullest(&|set, pick| two.pick(set, pick)) <= 3);
        assert!(fullest(&|set, pick| one.pick(set, pick)) >= 5);
    }
}
