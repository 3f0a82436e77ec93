//! What an operator may know of the fleet: published once a round, read by anybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::driver::Phase;
use super::member::Standing;
use super::node::Node;
use super::seal::Refusal;

/// The fleet as this node saw it in its last round, and what the others know of this node.
#[derive(Debug)]
pub struct Shared {
    status: ArcSwap<Status>,
    /// Which of its phases the others have been told of.
    told: watch::Sender<Phase>,
}

/// What there is to be known.
#[derive(Debug, Clone)]
pub struct Status {
    /// This node's name.
    pub name: String,
    /// This run's number: later ones have higher ones.
    pub generation: u64,
    /// The others that are remembered.
    pub members: Vec<MemberStatus>,
    /// Datagrams that were not taken, by [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Datagrams that were taken.
    pub received: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Datagrams that could not be sent.
    pub unsent: u64,
    /// Seeds that are neither members nor this node.
    pub missing_seeds: Vec<SocketAddr>,
    /// Whether another node has this one's name.
    pub name_taken: bool,
}

/// What is known of another node.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Its number in this process, by which topics know it.
    pub peer: u64,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Whether it takes part.
    pub standing: Standing,
    /// The program's version there.
    pub version: String,
    /// Its run's number.
    pub generation: u64,
    /// When something was last heard of it.
    pub heard: Instant,
    /// The time to it and back, smoothed.
    pub round_trip: Option<Duration>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            name: String::new(),
            generation: 0,
            members: Vec::new(),
            refused: [0; Refusal::ALL.len()],
            received: 0,
            sent: 0,
            unsent: 0,
            missing_seeds: Vec::new(),
            name_taken: false,
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            status: ArcSwap::default(),
            told: watch::Sender::new(Phase::Serving),
        }
    }
}

impl Shared {
    /// What was last published.
    pub fn load(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// Waits until the others have been told of this phase. Who has been replaced tells them of nothing more.
    pub async fn told(&self, phase: Phase) {
        let mut told = self.told.subscribe();
        let is_told = |it: &Phase| *it == phase || *it == Phase::Replaced;
        _ = told.wait_for(is_told).await; // the sender is here
    }

    pub(super) fn publish(&self, status: Status) {
        self.status.store(status.into());
    }

    pub(super) fn has_told(&self, phase: Phase) {
        self.told.send_replace(phase);
    }
}

impl Status {
    /// What a node knows now; how much it has sent and received it does not know.
    pub(super) fn of(node: &Node, now: Instant) -> Self {
        let members = node.members().iter().map(|it| MemberStatus {
            peer: it.session.short(),
            name: it.about.name.clone(),
            address: it.address,
            standing: it.standing,
            version: it.about.version.clone(),
            generation: it.about.generation,
            heard: it.heard,
            round_trip: it.round_trip,
        });
        Self {
            name: node.settings().name.clone(),
            generation: node.generation(),
            members: members.collect(),
            refused: node.refused(),
            missing_seeds: node.missing_seeds().collect(),
            name_taken: node.is_name_taken(now),
            ..Self::default()
        }
    }

    /// How many nodes there are, this one included.
    pub fn live(&self) -> usize {
        let alive = self
            .members
            .iter()
            .filter(|it| it.standing == Standing::Alive);
        1 + alive.count()
    }
}
