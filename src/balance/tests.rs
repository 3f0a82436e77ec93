//! What holds for every strategy, and the servers that the strategies' own tests use.

mod allocations;

use std::time::Instant;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use super::*;

pub(super) const KINDS: [Kind; 6] = [
    Kind::RoundRobin,
    Kind::Random,
    Kind::LeastConnections,
    Kind::PowerOfTwo,
    Kind::PeakEwma,
    Kind::ConsistentHash,
];

/// A candidate whose state is what the test says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) load: u64,
    pub(super) available: bool,
}

impl Server {
    pub(super) fn idle() -> Self {
        Self::loaded(0)
    }

    pub(super) fn loaded(load: u64) -> Self {
        Self {
            load,
            available: true,
        }
    }
}

impl Candidate for Server {
    fn load(&self, _measure: Load, _now: Instant) -> u64 {
        self.load
    }

    fn available(&self) -> bool {
        self.available
    }
}

/// Members of these weights, with identities as distinct as those of addresses.
pub(super) fn members(weights: &[u32]) -> Vec<Member> {
    weights
        .iter()
        .zip(1_u64..)
        .map(|(&weight, n)| Member {
            identity: xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()),
            weight,
        })
        .collect()
}

/// Picks for `requests` requests with different keys; how many each server got.
pub(super) fn picks(strategy: &impl Strategy, set: &[Server], requests: usize) -> Vec<usize> {
    let mut picked = vec![0; set.len()];
    let mut rng = fastrand::Rng::with_seed(42);
    let now = Instant::now();
    for _ in 0..requests {
        let hash = rng.u64(..);
        let rng = &mut rng;
        let index = strategy.pick(
            set,
            &mut Pick {
                rng,
                now,
                hash,
                retry: false,
            },
        );
        picked[index.expect("a server is available")] += 1;
    }
    picked
}

fn pick_once(balancer: &Balancer, set: &[Server], seed: u64) -> Option<usize> {
    let mut pick = Pick {
        rng: &mut fastrand::Rng::with_seed(seed),
        now: Instant::now(),
        hash: seed,
        retry: false,
    };
    balancer.pick(set, &mut pick)
}

proptest! {
    // Each case builds a table of 65,537 slots.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn only_an_available_server_is_picked_and_always_if_there_is_one(
        servers in prop::collection::vec((1_u32..=256, 0_u64..5, any::<bool>()), 0..50),
        seeds in prop::collection::vec(any::<u64>(), 20),
    ) {
        let weights: Vec<u32> = servers.iter().map(|server| server.0).collect();
        let set: Vec<Server> = servers
            .iter()
            .map(|&(_, load, available)| Server { load, available })
            .collect();
        for kind in KINDS {
            let balancer = Balancer::build(kind, &members(&weights), None);
            for &seed in &seeds {
                match pick_once(&balancer, &set, seed) {
                    Some(index) => prop_assert!(set[index].available, "{kind:?}"),
                    None => prop_assert!(set.iter().all(|server| !server.available), "{kind:?}"),
                }
            }
        }
    }
}

#[test]
fn the_last_available_of_many_is_found() {
    for kind in KINDS {
        for servers in [1, 2, 3, 33, 500] {
            let balancer = Balancer::build(kind, &members(&vec![1; servers]), None);
            for last in [0, servers / 2, servers - 1] {
                let mut set = vec![Server::idle(); servers];
                set.iter_mut().for_each(|server| server.available = false);
                assert_eq!(pick_once(&balancer, &set, 3), None, "{kind:?}");
                set[last].available = true;
                assert_eq!(pick_once(&balancer, &set, 3), Some(last), "{kind:?}");
            }
        }
    }
}

#[test]
fn idle_servers_share_by_weight_under_every_strategy() {
    let set = [Server::idle(); 3];
    for kind in KINDS {
        let balancer = Balancer::build(kind, &members(&[1, 2, 1]), None);
        let picked = picks(&balancer, &set, 20_000);
        for (picked, share) in picked.into_iter().zip([5_000, 10_000, 5_000]) {
            assert!(picked.abs_diff(share) < 500, "{kind:?}: {picked}");
        }
    }
}

#[test]
fn what_an_unavailable_server_leaves_over_is_spread() {
    let mut set = [Server::idle(); 5];
    set[1].available = false;
    for kind in KINDS {
        let balancer = Balancer::build(kind, &members(&[1; 5]), None);
        let picked = picks(&balancer, &set, 20_000);
        for server in [0, 2, 3, 4] {
            assert!(picked[server].abs_diff(5_000) < 500, "{kind:?}: {picked:?}");
        }
    }
}

#[test]
fn a_slow_server_gets_less_under_the_strategies_that_see_load() {
    let set = [Server::loaded(40), Server::loaded(10), Server::loaded(10)];
    for kind in [Kind::LeastConnections, Kind::PowerOfTwo, Kind::PeakEwma] {
        let balancer = Balancer::build(kind, &members(&[1; 3]), None);
        assert_eq!(picks(&balancer, &set, 3_000)[0], 0, "{kind:?}");
    }
}

#[test]
fn round_robin_goes_on_where_its_predecessor_was() {
    let set = [Server::idle(); 4];
    let first = Balancer::build(Kind::RoundRobin, &members(&[1; 4]), None);
    assert_eq!(picks(&first, &set, 6), [2, 2, 1, 1]);
    let second = Balancer::build(Kind::RoundRobin, &members(&[1; 4]), Some(&first));
    assert_eq!(pick_once(&second, &set, 0), Some(2));
    let other = Balancer::build(Kind::Random, &members(&[1; 4]), Some(&second));
    let third = Balancer::build(Kind::RoundRobin, &members(&[1; 4]), Some(&other));
    assert_eq!(pick_once(&third, &set, 0), Some(0));
}

#[test]
fn each_kind_reads_its_own_measure() {
    struct Endpoint(Load);
    impl Candidate for Endpoint {
        fn load(&self, measure: Load, _now: Instant) -> u64 {
            u64::from(measure == self.0)
        }
        fn available(&self) -> bool {
            true
        }
    }
    let set = [Endpoint(Load::InFlight), Endpoint(Load::PeakEwma)];
    for (kind, idle) in [
        (Kind::LeastConnections, 1),
        (Kind::PowerOfTwo, 1),
        (Kind::PeakEwma, 0),
    ] {
        let balancer = Balancer::build(kind, &members(&[1, 1]), None);
        let mut pick = Pick {
            rng: &mut fastrand::Rng::with_seed(1),
            now: Instant::now(),
            hash: 0,
            retry: false,
        };
        assert_eq!(balancer.pick(&set, &mut pick), Some(idle), "{kind:?}");
    }
}

#[test]
fn a_balancer_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Balancer>();
}
