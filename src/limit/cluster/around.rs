//! Who else has a limit, as its book sees it, and what time it is for all of them.

use std::collections::HashMap;

use super::account::Fleet;
use crate::net::Moment;

/// Rounds after which a node that is there and has not told of a limit does not have it.
const SILENT_ROUNDS: u64 = 3;

/// The other nodes.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// The time.
    pub(super) clock: u64,
    /// This node's rounds so far.
    pub(super) rounds: u64,
    interval: u64,
    peers: HashMap<u64, Peer>,
    /// Those of them that have the limit, in order.
    partners: Vec<u64>,
    expected: usize,
    /// When there was somebody after there had been nobody.
    met: Option<u64>,
}

/// Another node.
#[derive(Debug, Clone, Copy)]
struct Peer {
    /// The round in which it was met, or has last told of the limit.
    round: u64,
    /// Its quota, once it has told.
    quota: Option<u32>,
}

impl Around {
    /// Notes the time, and who is there. Gives whether somebody has come.
    pub(super) fn look(&mut self, moment: &Moment<'_>) -> bool {
        self.clock = self.clock.max(moment.clock);
        self.interval = (moment.interval.as_millis() as u64).max(1);
        self.expected = moment.expected;
        let mut there = moment.peers.to_vec();
        there.sort_unstable();
        let was_alone = self.peers.is_empty();
        self.peers
            .retain(|peer, _| there.binary_search(peer).is_ok());
        let known = self.peers.len();
        let (round, quota) = (self.rounds, None);
        for peer in &there {
            self.peers.entry(*peer).or_insert(Peer { round, quota });
        }
        let has_come = self.peers.len() > known;
        if has_come && was_alone {
            self.met = Some(self.clock);
        }
        let has_it = |it: &Peer| self.rounds - it.round <= SILENT_ROUNDS || it.quota.is_some();
        there.retain(|peer| self.peers.get(peer).is_some_and(has_it));
        self.partners = there;
        has_come
    }

    /// Notes that a node has told of the limit; false if it is not there.
    pub(super) fn hear(&mut self, peer: u64, quota: u32) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        *known = Peer {
            round: self.rounds,
            quota: Some(quota),
        };
        true
    }

    /// How many nodes divide a cold key.
    pub(super) fn nodes(&self) -> u32 {
        (1 + self.partners.len() + self.expected) as u32
    }

    /// The nodes whose quota is not this one.
    pub(super) fn differing(&self, quota: u32) -> Vec<u64> {
        let peers = self.peers.iter();
        let differing = peers.filter(|(_, it)| it.quota.is_some_and(|its| its != quota));
        differing.map(|(peer, _)| *peer).collect()
    }

    /// The circumstances now.
    pub(super) fn fleet(&self) -> Fleet<'_> {
        // Everybody has had a round since, and some time for it to arrive.
        let lately = |met: u64| self.clock < met + self.interval * 3 / 2;
        Fleet {
            clock: self.clock,
            interval: self.interval,
            peers: &self.partners,
            expected: self.expected,
            knows_little: self.expected > 0 || self.met.is_some_and(lately),
        }
    }
}
