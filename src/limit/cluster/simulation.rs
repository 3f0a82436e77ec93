//! A fleet in memory, in virtual time: what all its nodes admit together, whatever the load and the network.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::*;
use crate::net::moment::TURN;
use crate::net::simulated::{Conditions, Network};

const INTERVAL: u64 = 500;
const DEAD_AFTER: u64 = 4000;
const KEY: LimitKey = LimitKey::ALL;
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

/// The fleet's clock at the beginning.
const CLOCK: u64 = 1_763_000_000_000;

struct Node {
    store: ClusterStore,
    /// Its number, another one with each start.
    session: u64,
    /// When it has started; before the beginning if at 0.
    started: u64,
    /// How far its clock is behind the one that is most ahead.
    behind: u64,
    /// When its next round is.
    round: u64,
    /// When it has last heard of each node, and of which session.
    heard: Vec<Option<(u64, u64)>>,
    /// Requests a second, and the part of one that is due.
    load: f64,
    due: f64,
    side: usize,
    stopped: bool,
    /// By second.
    admitted: Vec<u32>,
}

#[derive(Clone)]
struct Datagram {
    /// Places and their sessions; a call is for whoever is there.
    from: (usize, u64),
    to: (usize, Option<u64>),
    parts: Vec<Vec<u8>>,
}

struct Fleet {
    quota: Quota,
    random: fastrand::Rng,
    network: Network<Datagram>,
    nodes: Vec<Node>,
    start: Instant,
    clock: u64,
}

fn quota(algorithm: Algorithm, requests: u32, window: u64) -> Quota {
    Quota {
        algorithm,
        requests: NonZeroU32::new(requests).unwrap(),
        window: Duration::from_millis(window),
        burst: NonZeroU32::new(requests).unwrap(),
    }
}

impl Fleet {
    /// Nodes that know each other, and have no load.
    fn new(quota: Quota, nodes: usize, conditions: Conditions, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fleet = Self {
            quota,
            network: Network::new(conditions, random.fork()),
            random,
            nodes: Vec::new(),
            start: Instant::now(),
            clock: CLOCK,
        };
        for at in 0..nodes {
            let mut node = fleet.node(at, nodes);
            // Clocks follow the one that is most ahead as fast as datagrams come.
            node.behind = fleet.random.u64(0..=conditions.delay.0 + 5);
            node.heard = (0..nodes).map(|it| Some((0, it as u64))).collect();
            fleet.nodes.push(node);
        }
        fleet.run(3 * INTERVAL);
        fleet.nodes.iter_mut().for_each(|it| it.admitted.clear());
        fleet
    }

    /// One of so many, which knows nobody.
    fn node(&mut self, session: usize, nodes: usize) -> Node {
        let random = fastrand::Rng::with_seed(self.random.u64(..));
        Node {
            store: ClusterStore::with_random("test", self.quota, 1000, self.start, random),
            session: session as u64,
            started: self.elapsed(),
            behind: 0,
            round: self.elapsed() + self.random.u64(0..INTERVAL),
            heard: vec![None; nodes],
            load: 0.0,
            due: 0.0,
            side: 0,
            stopped: false,
            admitted: Vec::new(),
        }
    }

    /// Another process takes a node's place, without load. The others have been told that the former one has left.
    fn replace(&mut self, at: usize) {
        let session = self.nodes[at].session as usize + self.nodes.len();
        let mut node = self.node(session, self.nodes.len());
        node.behind = self.nodes[at].behind;
        self.nodes[at] = node;
        self.nodes.iter_mut().for_each(|it| it.heard[at] = None);
        for to in (0..self.nodes.len()).filter(|to| *to != at) {
            self.post(at, (to, None), Vec::new());
        }
    }

    /// What has been admitted since this was last asked.
    fn take_admitted(&mut self) -> u32 {
        let all = self.nodes.iter_mut();
        all.flat_map(|it| std::mem::take(&mut it.admitted)).sum()
    }

    fn load(mut self, loads: &[f64]) -> Self {
        self.set_load(loads);
        self
    }

    fn set_load(&mut self, loads: &[f64]) {
        for (node, load) in self.nodes.iter_mut().zip(loads) {
            node.load = *load;
        }
    }

    fn elapsed(&self) -> u64 {
        self.clock - CLOCK
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.clock += 1;
            self.deliver();
            for at in 0..self.nodes.len() {
                self.step(at);
            }
        }
    }

    fn deliver(&mut self) {
        for it in self.network.arrived(self.clock) {
            let ((from, session), (to, of)) = (it.from, it.to);
            let node = &self.nodes[to];
            let reached = self.nodes[from].side == node.side && !node.stopped;
            let is_stale =
                self.nodes[from].session != session || of.is_some_and(|of| of != node.session);
            if !reached || is_stale {
                continue;
            }
            let known = self.nodes[to].heard[from].replace((self.clock, session));
            if known.is_none_or(|it| it.1 != session) {
                self.post(to, (from, Some(session)), Vec::new());
            }
            self.with(to, |store, moment| {
                for part in &it.parts {
                    assert!(store.hear(session, part, moment));
                }
            });
        }
    }

    fn with<R>(&self, at: usize, work: impl FnOnce(&ClusterStore, &Moment<'_>) -> R) -> R {
        let node = &self.nodes[at];
        let live = |heard: &(u64, u64)| heard.0 + DEAD_AFTER > self.clock || heard.0 == 0;
        let others = (0..self.nodes.len()).filter(|it| *it != at);
        let heard: Vec<_> = others.map(|it| node.heard[it]).collect();
        let peers = heard.iter().flatten().filter(|it| live(it));
        let peers: Vec<_> = peers.map(|it| it.1).collect();
        let is_new = self.elapsed() < node.started + DEAD_AFTER;
        let missing = heard.iter().filter(|it| it.is_none()).count();
        let moment = Moment {
            now: self.start + Duration::from_millis(self.elapsed()),
            clock: self.clock - node.behind,
            interval: Duration::from_millis(INTERVAL),
            peers: &peers,
            expected: if is_new { missing } else { 0 },
        };
        work(&node.store, &moment)
    }

    fn step(&mut self, at: usize) {
        if self.nodes[at].stopped {
            return;
        }
        let elapsed = self.elapsed();
        if (elapsed + at as u64 * 7).is_multiple_of(TURN.as_millis() as u64) {
            let news = self.with(at, ClusterStore::turn);
            if !news.is_empty() {
                self.send(at, &news);
            }
        }
        if elapsed >= self.nodes[at].round {
            self.nodes[at].round += INTERVAL;
            let parts = self.with(at, ClusterStore::round);
            self.send(at, &parts);
            for to in (0..self.nodes.len()).filter(|to| *to != at) {
                if self.nodes[at].heard[to].is_none() {
                    self.post(at, (to, None), Vec::new()); // a seed that has not answered
                }
            }
        }
        let now = self.start + Duration::from_millis(elapsed);
        let node = &mut self.nodes[at];
        node.due += node.load / 1000.0;
        let second = elapsed as usize / 1000;
        node.admitted.resize(second + 1, 0);
        while node.due >= 1.0 {
            node.due -= 1.0;
            if node.store.check(&KEY, now).is_allowed() {
                node.admitted[second] += 1;
            }
        }
    }

    fn send(&mut self, from: usize, parts: &[Vec<u8>]) {
        for to in 0..self.nodes.len() {
            if let Some((_, session)) = self.nodes[from].heard[to].filter(|_| to != from) {
                self.post(from, (to, Some(session)), parts.to_vec());
            }
        }
    }

    fn post(&mut self, from: usize, to: (usize, Option<u64>), parts: Vec<Vec<u8>>) {
        let from = (from, self.nodes[from].session);
        self.network.send(self.clock, &Datagram { from, to, parts });
    }

    /// What all have admitted in each second of the last ones.
    fn last(&self, seconds: usize) -> Vec<u32> {
        let end = self.elapsed() as usize / 1000;
        let of = |second: usize| {
            self.nodes
                .iter()
                .filter_map(|it| it.admitted.get(second))
                .sum()
        };
        (end - seconds..end).map(of).collect()
    }

    /// What they have admitted a second.
    fn rate(&self, seconds: usize) -> f64 {
        self.last(seconds).iter().sum::<u32>() as f64 / seconds as f64
    }
}

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
