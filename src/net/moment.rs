//! The circumstances of a turn in a fleet of nodes, as the one that drives a node gives them to what nodes agree on.

use std::time::{Duration, Instant};

/// How often what nodes agree on gets a turn.
pub const TURN: Duration = Duration::from_millis(50);

/// The time, and who else is there.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The time.
    pub now: Instant,
    /// The same on the fleet's clock, in milliseconds, which never goes back.
    pub clock: u64,
    /// Time between two rounds.
    pub interval: Duration,
    /// The other nodes that take part, each by a number of its own, with which what it tells is heard.
    pub peers: &'a [u64],
    /// How many more are likely to be there, and have not been met yet.
    pub expected: usize,
}
