//! Nodes in memory, with a network, clocks and requests of their own.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::limit::cluster::ClusterStore;
use crate::limit::{Algorithm, LimitKey, Quota};
use crate::net::moment::{Moment, TURN};
use crate::net::simulated::{Conditions, Network};

const INTERVAL: u64 = 500;
const DEAD_AFTER: u64 = 4000;
const KEY: LimitKey = LimitKey::ALL;
/// The fleet's clock at the beginning.
const CLOCK: u64 = 1_763_000_000_000;

pub struct Node {
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
    pub load: f64,
    due: f64,
    pub side: usize,
    pub stopped: bool,
    /// By second.
    pub admitted: Vec<u32>,
}

#[derive(Clone)]
struct Datagram {
    /// Places and their sessions; a call is for whoever is there.
    from: (usize, u64),
    to: (usize, Option<u64>),
    parts: Vec<Vec<u8>>,
}

pub struct Fleet {
    quota: Quota,
    random: fastrand::Rng,
    network: Network<Datagram>,
    pub nodes: Vec<Node>,
    start: Instant,
    clock: u64,
}

pub fn quota(algorithm: Algorithm, requests: u32, window: u64) -> Quota {
    Quota {
        algorithm,
        requests: NonZeroU32::new(requests).unwrap(),
        window: Duration::from_millis(window),
        burst: NonZeroU32::new(requests).unwrap(),
    }
}

impl Fleet {
    /// Nodes that know each other, and have no load.
    pub fn new(quota: Quota, nodes: usize, conditions: Conditions, seed: u64) -> Self {
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
    pub fn replace(&mut self, at: usize) {
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
    pub fn take_admitted(&mut self) -> u32 {
        let all = self.nodes.iter_mut();
        all.flat_map(|it| std::mem::take(&mut it.admitted)).sum()
    }

    pub fn load(mut self, loads: &[f64]) -> Self {
        self.set_load(loads);
        self
    }

    pub fn set_load(&mut self, loads: &[f64]) {
        for (node, load) in self.nodes.iter_mut().zip(loads) {
            node.load = *load;
        }
    }

    fn elapsed(&self) -> u64 {
        self.clock - CLOCK
    }

    pub fn run(&mut self, millis: u64) {
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
    pub fn last(&self, seconds: usize) -> Vec<u32> {
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
    pub fn rate(&self, seconds: usize) -> f64 {
        self.last(seconds).iter().sum::<u32>() as f64 / seconds as f64
    }
}
