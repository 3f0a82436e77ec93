//! A fleet in memory, in virtual time: what all its nodes admit together, whatever the load and the network.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::*;

const INTERVAL: u64 = 500;
const DEAD_AFTER: u64 = 4000;
const KEY: LimitKey = LimitKey::ALL;
const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
];

/// What the network does to parts.
#[derive(Clone, Copy)]
struct Network {
    delay: (u64, u64),
    lost: f64,
    doubled: f64,
}

const GOOD: Network = Network {
    delay: (0, 5),
    lost: 0.0,
    doubled: 0.0,
};

const BAD: Network = Network {
    delay: (5, 120),
    lost: 0.3,
    doubled: 0.2,
};

struct Node {
    store: ClusterStore,
    /// When its next round is.
    round: u64,
    /// When it has last heard of each node.
    heard: Vec<Option<u64>>,
    /// Requests a second, and the part of one that is due.
    load: f64,
    due: f64,
    side: usize,
    stopped: bool,
    /// By second.
    admitted: Vec<u32>,
}

struct Flying {
    at: u64,
    from: usize,
    to: usize,
    parts: Vec<Vec<u8>>,
}

struct Fleet {
    quota: Quota,
    network: Network,
    nodes: Vec<Node>,
    flying: Vec<Flying>,
    start: Instant,
    clock: u64,
    random: fastrand::Rng,
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
    fn new(quota: Quota, nodes: usize, network: Network, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = Instant::now();
        let node = |random: &mut fastrand::Rng| Node {
            store: ClusterStore::new("test", quota, 1000, start),
            round: random.u64(0..INTERVAL),
            heard: vec![Some(0); nodes],
            load: 0.0,
            due: 0.0,
            side: 0,
            stopped: false,
            admitted: Vec::new(),
        };
        let nodes = (0..nodes).map(|_| node(&mut random)).collect();
        let mut fleet = Self {
            quota,
            network,
            nodes,
            flying: Vec::new(),
            start,
            clock: 1_763_000_000_000,
            random,
        };
        fleet.run(3 * INTERVAL);
        fleet.nodes.iter_mut().for_each(|it| it.admitted.clear());
        fleet
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
        self.clock - 1_763_000_000_000
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
        let clock = self.clock;
        let (due, flying) = std::mem::take(&mut self.flying).into_iter().partition(|it| it.at <= clock);
        self.flying = flying;
        let due: Vec<Flying> = due;
        for it in due {
            let there = |node: &Node| !node.stopped;
            let reached = self.nodes[it.from].side == self.nodes[it.to].side;
            if reached && there(&self.nodes[it.to]) {
                self.nodes[it.to].heard[it.from] = Some(clock);
                self.with(it.to, |store, moment| {
                    for part in &it.parts {
                        assert!(store.hear(it.from as u64, part, moment));
                    }
                });
            }
        }
    }

    fn with<R>(&self, at: usize, work: impl FnOnce(&ClusterStore, &Moment<'_>) -> R) -> R {
        let node = &self.nodes[at];
        let live = |peer: &usize| *peer != at && node.heard[*peer].is_some_and(|heard| heard + DEAD_AFTER > self.clock);
        let peers: Vec<u64> = (0..self.nodes.len()).filter(live).map(|it| it as u64).collect();
        let moment = Moment {
            now: self.start + Duration::from_millis(self.elapsed()),
            clock: self.clock,
            interval: Duration::from_millis(INTERVAL),
            peers: &peers,
            expected: 0,
        };
        work(&node.store, &moment)
    }

    fn step(&mut self, at: usize) {
        if self.nodes[at].stopped {
            return;
        }
        let elapsed = self.elapsed();
        if (elapsed + at as u64 * 7) % TURN.as_millis() as u64 == 0 {
            let news = self.with(at, ClusterStore::turn);
            if !news.is_empty() {
                self.send(at, &news);
            }
        }
        if elapsed >= self.nodes[at].round {
            self.nodes[at].round += INTERVAL;
            let parts = self.with(at, ClusterStore::round);
            self.send(at, &parts);
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
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let times = match self.random.f64() {
                chance if chance < self.network.lost => 0,
                chance if chance > 1.0 - self.network.doubled => 2,
                _ => 1,
            };
            for _ in 0..times {
                let (least, most) = self.network.delay;
                let at = self.clock + self.random.u64(least..=most);
                let parts = parts.to_vec();
                self.flying.push(Flying { at, from, to, parts });
            }
        }
    }

    /// What all have admitted in each second of the last ones.
    fn last(&self, seconds: usize) -> Vec<u32> {
        let end = self.elapsed() as usize / 1000;
        let of = |second: usize| self.nodes.iter().filter_map(|it| it.admitted.get(second)).sum();
        (end - seconds..end).map(of).collect()
    }

    /// What they have admitted a second.
    fn rate(&self, seconds: usize) -> f64 {
        self.last(seconds).iter().sum::<u32>() as f64 / seconds as f64
    }
}

#[test]
fn print_figures() {
    for network in [GOOD, BAD] {
        for algorithm in ALGORITHMS {
            for loads in [[200.0, 200.0, 200.0], [500.0, 0.0, 0.0], [300.0, 20.0, 5.0], [80.0, 10.0, 10.0], [60.0, 20.0, 10.0], [40.0, 40.0, 40.0]] {
                let mut fleet = Fleet::new(quota(algorithm, 100, 1000), 3, network, 1).load(&loads);
                fleet.run(14_000);
                println!("{:?} {algorithm:?} {loads:?}: {:?} {:.1}", network.delay, fleet.last(14), fleet.rate(10));
            }
        }
    }
}
