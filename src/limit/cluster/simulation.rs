//! A fleet in memory, in virtual time: what all its nodes admit together, whatever the load and the network.

mod fleet;

use self::fleet::{Fleet, quota};
use crate::limit::{Algorithm, Quota};
use crate::net::simulated::Conditions;

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];

const GOOD: Conditions = Conditions::GOOD;
const BAD: Conditions = Conditions {
    delay: (5, 120),
    lost: 0.3,
    doubled: 0.2,
};

/// Runs until it has settled, and then for ten seconds more.
fn settled(quota: Quota, loads: &[f64], conditions: Conditions, seed: u64) -> Fleet {
    let mut fleet = Fleet::new(quota, loads.len(), conditions, seed);
    fleet.set_load(loads);
    fleet.run(15_000);
    fleet
}

fn assert_rate(fleet: &Fleet, expected: f64, tolerance: f64, what: &str) {
    let rate = fleet.rate(10);
    let near = (rate - expected).abs() <= expected * tolerance;
    assert!(near, "{what}: {rate} a second: {:?}", fleet.last(14));
}

#[test]
fn a_fleet_admits_what_the_limit_gives_however_the_load_is_spread() {
    for algorithm in ALGORITHMS {
        for loads in [
            [200.0, 200.0, 200.0],
            [500.0, 0.0, 0.0],
            [300.0, 20.0, 5.0],
            [80.0, 10.0, 10.0],
            [40.0, 40.0, 40.0],
        ] {
            let fleet = settled(quota(algorithm, 100, 1000), &loads, GOOD, 1);
            let what = format!("{algorithm:?} {loads:?}");
            assert_rate(&fleet, 100.0, 0.08, &what);
        }
    }
}

#[test]
fn a_load_below_the_limit_is_admitted_as_a_whole() {
    for algorithm in ALGORITHMS {
        for loads in [[60.0, 20.0, 10.0], [30.0, 30.0, 30.0], [95.0, 0.0, 0.0]] {
            let fleet = settled(quota(algorithm, 100, 1000), &loads, GOOD, 2);
            let all: f64 = loads.iter().sum();
            assert_rate(&fleet, all, 0.01, &format!("{algorithm:?} {loads:?}"));
        }
    }
}

#[test]
fn a_bad_network_costs_little() {
    for algorithm in ALGORITHMS {
        for loads in [
            [200.0, 200.0, 200.0],
            [300.0, 20.0, 5.0],
            [80.0, 10.0, 10.0],
        ] {
            let fleet = settled(quota(algorithm, 100, 1000), &loads, BAD, 3);
            assert_rate(&fleet, 100.0, 0.1, &format!("{algorithm:?} {loads:?}"));
        }
    }
}

#[test]
fn many_nodes_share_a_small_limit() {
    for algorithm in ALGORITHMS {
        let fleet = settled(quota(algorithm, 10, 1000), &[5.0; 40], GOOD, 4);
        // Most nodes' parts of a window are less than one request.
        let tolerance = if algorithm == Algorithm::FixedWindow {
            0.3
        } else {
            0.15
        };
        assert_rate(&fleet, 10.0, tolerance, &format!("{algorithm:?}"));
        let one = settled(
            quota(algorithm, 10, 1000),
            &[&[50.0][..], &[0.0; 39]].concat(),
            GOOD,
            5,
        );
        assert_rate(&one, 10.0, 0.1, &format!("{algorithm:?}, one"));
    }
}

#[test]
fn a_burst_at_all_nodes_at_once_is_bounded() {
    for algorithm in ALGORITHMS {
        for nodes in [2, 5, 10] {
            let mut fleet = Fleet::new(quota(algorithm, 1000, 60_000), nodes, GOOD, 6);
            fleet.set_load(&vec![10_000.0; nodes]);
            fleet.run(2000);
            let all: u32 = fleet.nodes.iter().flat_map(|it| &it.admitted).sum();
            // Two seconds of refill are 33.
            assert!(
                (950..=1000 + 50 + nodes as u32).contains(&all),
                "{algorithm:?} {nodes}: {all}"
            );
        }
    }
}

#[test]
fn load_that_moves_takes_the_limit_with_it_and_no_more() {
    for algorithm in ALGORITHMS {
        let mut fleet = Fleet::new(quota(algorithm, 1000, 10_000), 3, GOOD, 7);
        for turn in 0..9 {
            let mut loads = [0.0; 3];
            loads[turn % 3] = 400.0;
            fleet.set_load(&loads);
            fleet.run(5000);
        }
        let all: u32 = fleet.nodes.iter().flat_map(|it| &it.admitted).sum();
        // 45 seconds, beginning somewhere in a window: at most six windows, or a bucket's burst besides.
        let (least, most) = match algorithm {
            Algorithm::FixedWindow => (4000, 6000),
            Algorithm::SlidingWindow => (3900, 5600),
            Algorithm::TokenBucket => (5000, 5600),
        };
        assert!((least..=most).contains(&all), "{algorithm:?}: {all}");
    }
}

#[test]
fn each_side_of_a_partition_has_the_limit_and_afterwards_there_is_one_again() {
    for algorithm in ALGORITHMS {
        let what = format!("{algorithm:?}");
        let mut fleet = Fleet::new(quota(algorithm, 100, 1000), 4, GOOD, 8).load(&[100.0; 4]);
        fleet.run(8000);
        fleet.nodes[2].side = 1;
        fleet.nodes[3].side = 1;
        // Until the others are dead each keeps its part.
        fleet.run(3000);
        assert!(
            (90.0..=110.0).contains(&fleet.rate(2)),
            "{what}: {:?}",
            fleet.last(3)
        );
        fleet.run(10_000);
        assert!(
            (185.0..=212.0).contains(&fleet.rate(5)),
            "{what}: {:?}",
            fleet.last(5)
        );
        fleet.nodes[2].side = 0;
        fleet.nodes[3].side = 0;
        fleet.run(2000);
        fleet.run(6000);
        assert!(
            (90.0..=110.0).contains(&fleet.rate(6)),
            "{what}: {:?}",
            fleet.last(8)
        );
    }
}

#[test]
fn what_a_dead_node_had_goes_to_the_others() {
    for algorithm in ALGORITHMS {
        let mut fleet = Fleet::new(quota(algorithm, 100, 1000), 3, GOOD, 9).load(&[200.0; 3]);
        fleet.run(6000);
        fleet.nodes[0].stopped = true;
        fleet.run(3000);
        let meanwhile = fleet.rate(2);
        assert!(
            (60.0..=105.0).contains(&meanwhile),
            "{algorithm:?}: {meanwhile}"
        );
        fleet.run(12_000);
        assert_rate(&fleet, 100.0, 0.08, &format!("{algorithm:?}"));
    }
}

#[test]
fn a_node_that_starts_anew_does_not_begin_with_a_full_quota() {
    for algorithm in ALGORITHMS {
        let limit = quota(algorithm, 600, 600_000);
        let mut fleet = Fleet::new(limit, 3, GOOD, 10).load(&[100.0, 100.0, 100.0]);
        fleet.run(20_000);
        let used: u32 = fleet.nodes.iter().flat_map(|it| &it.admitted).sum();
        assert!((590..=630).contains(&used), "{algorithm:?}: {used}");
        fleet.replace(0);
        fleet.run(2000);
        fleet.nodes[0].load = 100.0;
        fleet.run(5000);
        let anew: u32 = fleet.nodes[0].admitted.iter().sum();
        assert!(anew <= 20, "{algorithm:?}: {anew}");
    }
}

#[test]
fn an_upgrade_forgets_nothing_that_only_its_own_clients_have_used() {
    for algorithm in ALGORITHMS {
        for (nodes, conditions) in [(2, GOOD), (3, GOOD), (8, GOOD), (3, BAD)] {
            for before in [2000, 4000] {
                let mut fleet =
                    Fleet::new(quota(algorithm, 1000, 3_600_000), nodes, conditions, 11);
                fleet.nodes[0].load = 400.0;
                fleet.run(before);
                fleet.nodes[0].load = 0.0;
                fleet.run(10_000);
                let mut used = vec![fleet.take_admitted()];
                for _ in 0..4 {
                    fleet.replace(0);
                    fleet.nodes[0].load = 400.0;
                    fleet.run(5000);
                    fleet.nodes[0].load = 0.0;
                    fleet.run(10_000);
                    used.push(fleet.take_admitted());
                }
                // What comes in a turn, until the others have told. Where datagrams are lost, a node's part too at most.
                let is_bad = conditions.lost > 0.0;
                let each = 20 + if is_bad { 1000 / nodes as u32 } else { 0 };
                // A bucket has been refilled a little.
                let refilled = if algorithm == Algorithm::TokenBucket {
                    20
                } else {
                    0
                };
                let what = format!("{algorithm:?} {nodes} {}: {used:?}", conditions.lost);
                assert!(used[2..].iter().all(|it| *it <= each + refilled), "{what}");
                assert!(
                    used.iter().sum::<u32>() <= 1000 + 4 * each + refilled,
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn any_load_and_any_network_stays_near_the_limit() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let algorithm = ALGORITHMS[random.usize(0..3)];
        let nodes = random.usize(2..8);
        let conditions = Conditions {
            delay: (0, random.u64(1..200)),
            lost: random.f64() * 0.25,
            doubled: random.f64() * 0.25,
        };
        let mut fleet = Fleet::new(quota(algorithm, 200, 1000), nodes, conditions, seed);
        for _ in 0..6 {
            let loads: Vec<_> = (0..nodes).map(|_| random.f64() * 200.0).collect();
            fleet.set_load(&loads);
            fleet.run(5000);
        }
        let all: u32 = fleet.nodes.iter().flat_map(|it| &it.admitted).sum();
        let rate = f64::from(all) / 30.0;
        assert!(rate <= 230.0, "seed {seed}, {algorithm:?}: {rate} a second");
    }
}
