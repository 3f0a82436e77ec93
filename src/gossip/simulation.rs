//! Fleets in memory, in virtual time, over networks that lose, delay and double datagrams, and come apart.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::member::Standing;
use super::node::{Node, Settings};
use super::seal::{FleetKey, Refusal};
use crate::net::simulated::{Conditions, Network};

const INTERVAL: u64 = 500;
const DEAD_AFTER: u64 = 4000;
const STEP: u64 = 10;
const SECRET: &[u8] = b"a secret of the simulated fleet";

const GOOD: Conditions = Conditions::GOOD;
const BAD: Conditions = Conditions {
    delay: (5, 300),
    lost: 0.2,
    doubled: 0.2,
};

struct Place {
    node: Option<Node>,
    round: u64,
    side: usize,
}

/// From a place to an address.
type Datagram = (usize, SocketAddr, Vec<u8>);

struct Fleet {
    network: Network<Datagram>,
    places: Vec<Place>,
    start: Instant,
    millis: u64,
    random: fastrand::Rng,
}

fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (place / 250) as u8, (place % 250 + 1) as u8], 7946))
}

impl Fleet {
    /// Nodes of which each knows the first only.
    fn new(nodes: usize, conditions: Conditions, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fleet = Self {
            network: Network::new(conditions, random.fork()),
            places: Vec::new(),
            start: Instant::now(),
            millis: 0,
            random,
        };
        for place in 0..nodes {
            fleet.make_room();
            fleet.start(place);
        }
        fleet
    }

    fn make_room(&mut self) {
        self.places.push(Place {
            node: None,
            round: self.millis + self.random.u64(0..INTERVAL),
            side: 0,
        });
    }

    /// Starts a node where none has been.
    fn add(&mut self, name: &str, unix: u64) {
        self.make_room();
        self.start_as(self.places.len() - 1, name, unix);
    }

    /// Starts a node, perhaps anew.
    fn start(&mut self, place: usize) {
        // Each node's clock is wrong in its own way.
        let unix = 1_763_000_000_000 + self.millis + place as u64 * 7_000_000;
        self.start_as(place, &format!("node-{place}"), unix);
    }

    fn start_as(&mut self, place: usize, name: &str, unix: u64) {
        let settings = Settings {
            name: name.to_owned(),
            advertise: None,
            version: "0.1.0".to_owned(),
            interval: Duration::from_millis(INTERVAL),
            dead_after: Duration::from_millis(DEAD_AFTER),
        };
        let random = fastrand::Rng::with_seed(self.random.u64(..));
        let now = self.now();
        let mut node = Node::new(settings, FleetKey::new(SECRET), unix, now, random);
        node.set_seeds(vec![address(0), address(1)]);
        self.places[place].node = Some(node);
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.millis)
    }

    fn run(&mut self, millis: u64) {
        let end = self.millis + millis;
        while self.millis < end {
            self.millis += STEP;
            self.deliver();
            for place in 0..self.places.len() {
                self.step(place);
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now();
        for (from, to, datagram) in self.network.arrived(self.millis) {
            let side = self.places[from].side;
            let reached = |it: &(usize, &mut Place)| address(it.0) == to && it.1.side == side;
            if let Some((_, place)) = self.places.iter_mut().enumerate().find(reached)
                && let Some(node) = &mut place.node
            {
                _ = node.receive(&datagram, address(from), now);
            }
        }
    }

    fn step(&mut self, at: usize) {
        let (now, millis) = (self.now(), self.millis);
        let place = &mut self.places[at];
        let Some(node) = &mut place.node else {
            return;
        };
        if millis >= place.round {
            place.round = millis + INTERVAL;
            node.round(&[], now);
        }
        for (to, datagram) in node.take_outgoing() {
            self.network.send(millis, &(at, to, datagram));
        }
    }

    fn node(&self, place: usize) -> &Node {
        self.places[place].node.as_ref().expect("it runs")
    }

    /// How many nodes each running one sees, itself included.
    fn sizes(&self) -> Vec<usize> {
        let nodes = self.places.iter().filter_map(|it| it.node.as_ref());
        nodes.map(|it| 1 + it.members().live().count()).collect()
    }

    fn standing(&self, of: usize, at: usize) -> Option<Standing> {
        let member = self.node(at).members().named(&format!("node-{of}"));
        member.map(|it| it.standing)
    }

    fn refused(&self, at: usize, refusal: Refusal) -> u64 {
        let index = Refusal::ALL.iter().position(|it| *it == refusal).unwrap();
        self.node(at).refused()[index]
    }

    /// All that was refused for other reasons than that a process is another one by now.
    fn suspicions(&self) -> u64 {
        let all = (0..self.places.len()).filter(|at| self.places[*at].node.is_some());
        let of = |at| {
            let refused: u64 = self.node(at).refused().iter().sum();
            refused - self.refused(at, Refusal::Stale) - self.refused(at, Refusal::Replayed)
        };
        all.map(of).sum()
    }
}

#[test]
fn all_find_each_other_by_two_seeds() {
    for (nodes, network) in [(2, GOOD), (3, GOOD), (40, GOOD), (40, BAD)] {
        let mut fleet = Fleet::new(nodes, network, 1);
        fleet.run(5000);
        assert_eq!(fleet.sizes(), vec![nodes; nodes]);
        assert_eq!(fleet.suspicions(), 0);
        let of_seed = fleet.node(0).members().live();
        assert!(of_seed.filter(|it| it.round_trip.is_none()).count() == 0);
    }
}

#[test]
fn the_fleets_clock_is_one_and_never_goes_back() {
    let mut fleet = Fleet::new(10, GOOD, 2);
    let mut before = 0;
    for _ in 0..20 {
        fleet.run(500);
        let clock = fleet.node(3).clock(fleet.now());
        assert!(clock >= before + 500);
        before = clock;
    }
    let clocks = (0..10).map(|at| fleet.node(at).clock(fleet.now()));
    let (least, most) = (clocks.clone().min().unwrap(), clocks.max().unwrap());
    assert!(most - least <= 20, "{least} {most}");
}

#[test]
fn a_node_that_dies_is_noticed_within_five_seconds() {
    let mut fleet = Fleet::new(10, GOOD, 3);
    fleet.run(3000);
    fleet.places[4].node = None;
    fleet.run(3000);
    assert_eq!(fleet.sizes(), vec![10; 9], "three seconds may pass");
    fleet.run(2000);
    assert_eq!(fleet.sizes(), vec![9; 9]);
    assert_eq!(fleet.standing(4, 0), Some(Standing::Dead));
}

#[test]
fn a_goodbye_is_heard_at_once() {
    let mut fleet = Fleet::new(5, GOOD, 4);
    fleet.run(3000);
    let now = fleet.now();
    let node = fleet.places[2].node.as_mut().unwrap();
    node.leave();
    node.round(&[], now);
    fleet.run(100);
    for at in [0, 1, 3, 4] {
        assert_eq!(fleet.standing(2, at), Some(Standing::Left));
    }
}

#[test]
fn a_node_that_starts_anew_is_the_same_one_at_once() {
    for network in [GOOD, BAD] {
        let mut fleet = Fleet::new(6, network, 5);
        fleet.run(4000);
        let before = fleet.node(3).generation();
        fleet.start(3);
        fleet.run(3000);
        assert_eq!(fleet.sizes(), vec![6; 6]);
        let known = fleet.node(0).members().named("node-3").unwrap();
        assert!(known.about.generation > before);
    }
}

#[test]
fn a_node_whose_clock_went_back_is_taken_once_its_last_run_is_dead() {
    let mut fleet = Fleet::new(4, GOOD, 6);
    fleet.run(3000);
    fleet.start_as(3, "node-3", 1_000);
    fleet.run(DEAD_AFTER - 1000);
    assert_eq!(fleet.sizes()[..3], [4; 3]);
    assert!(fleet.refused(0, Refusal::Stale) > 0);
    fleet.run(3000);
    assert_eq!(fleet.sizes(), [4; 4]);
    assert_eq!(
        fleet
            .node(0)
            .members()
            .named("node-3")
            .unwrap()
            .about
            .generation,
        1_000
    );
}

#[test]
fn of_two_with_one_name_the_later_is_known_and_the_other_is_told() {
    let mut fleet = Fleet::new(4, GOOD, 7);
    fleet.run(2000);
    fleet.start_as(3, "node-2", 1_763_100_000_000);
    fleet.run(8000);
    assert_eq!(fleet.sizes()[..2], [3, 3]);
    assert!(fleet.node(2).is_name_taken(fleet.now()));
    assert!(fleet.refused(2, Refusal::SameName) > 0);
}

#[test]
fn two_with_one_name_learn_of_it_wherever_the_second_is() {
    let mut fleet = Fleet::new(4, GOOD, 11);
    fleet.run(2000);
    // A place that nobody has been at, and that is no seed.
    fleet.add("node-2", 1_763_100_000_000);
    fleet.run(8000);
    assert_eq!(fleet.sizes()[..2], [4, 4]);
    assert!(fleet.node(2).is_name_taken(fleet.now()));
}

#[test]
fn a_clock_that_is_years_ahead_does_not_take_the_fleet_along() {
    let mut fleet = Fleet::new(3, GOOD, 12);
    fleet.run(2000);
    fleet.add("node-3", (1 << 43) - 1_000);
    fleet.run(8000);
    assert_eq!(fleet.sizes(), [4; 4], "it is there all the same");
    let clocks = (0..3).map(|at| fleet.node(at).clock(fleet.now()));
    let day = 24 * 60 * 60 * 1000;
    assert!(clocks.max().unwrap() < 1_763_000_000_000 + day);
    // And others that start believe the fleet's, whoever tells them.
    fleet.start(1);
    fleet.run(3000);
    assert_eq!(fleet.sizes(), [4; 4]);
    assert!(fleet.node(1).clock(fleet.now()) < 1_763_000_000_000 + day);
}

#[test]
fn a_partition_is_noticed_and_heals_by_itself() {
    for network in [GOOD, BAD] {
        let mut fleet = Fleet::new(12, network, 8);
        fleet.run(5000);
        for at in 5..12 {
            fleet.places[at].side = 1;
        }
        fleet.run(20_000);
        assert_eq!(fleet.sizes(), [vec![5; 5], vec![7; 7]].concat());
        for at in 5..12 {
            fleet.places[at].side = 0;
        }
        fleet.run(6000);
        assert_eq!(fleet.sizes(), vec![12; 12]);
        assert_eq!(fleet.suspicions(), 0);
    }
}

#[test]
fn random_ends_starts_and_partitions_leave_a_whole_fleet() {
    for seed in 10..16 {
        let mut fleet = Fleet::new(15, BAD, seed);
        for _ in 0..20 {
            fleet.run(700);
            let at = fleet.random.usize(0..15);
            match fleet.random.u8(0..3) {
                0 => fleet.places[at].node = None,
                1 => fleet.start(at),
                _ => fleet.places[at].side ^= 1,
            }
        }
        for at in 0..15 {
            fleet.places[at].side = 0;
            if fleet.places[at].node.is_none() {
                fleet.start(at);
            }
        }
        fleet.run(15_000);
        assert_eq!(fleet.sizes(), vec![15; 15], "seed {seed}");
    }
}

#[test]
fn what_was_recorded_does_no_harm_to_anybody() {
    let mut fleet = Fleet::new(3, GOOD, 9);
    let mut recorded = Vec::new();
    for _ in 0..300 {
        fleet.run(STEP);
        recorded.extend(fleet.network.flying().map(|it| (it.1, it.2.clone())));
    }
    // Node 2 starts anew; everything is sent again, to everybody.
    fleet.start(2);
    fleet.run(3000);
    let before = fleet.sizes();
    let generations: Vec<_> = (0..2)
        .map(|at| {
            fleet
                .node(at)
                .members()
                .named("node-2")
                .unwrap()
                .about
                .generation
        })
        .collect();
    for (_, datagram) in &recorded {
        for to in 0..3 {
            let now = fleet.now();
            let node = fleet.places[to].node.as_mut().unwrap();
            let told = node.receive(datagram, address(77), now);
            assert!(told.is_err() || told.is_ok_and(|told| told.is_empty()));
        }
    }
    let answers: usize = (0..3)
        .map(|at| {
            fleet.places[at]
                .node
                .as_mut()
                .unwrap()
                .take_outgoing()
                .len()
        })
        .sum();
    assert!(answers <= 3 * 100, "answers are bounded: {answers}");
    assert_eq!(fleet.sizes(), before);
    fleet.run(2000);
    assert_eq!(fleet.sizes(), [3; 3]);
    for (at, generation) in generations.into_iter().enumerate() {
        let member = fleet.node(at).members().named("node-2").unwrap();
        assert_eq!(member.about.generation, generation);
        assert_eq!(member.address, address(2), "nobody was led elsewhere");
    }
    assert!(fleet.refused(0, Refusal::Replayed) > 0);
    assert!(fleet.refused(0, Refusal::Stale) > 0);
}
