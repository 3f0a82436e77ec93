//! Where nodes may be that this one does not know yet, or no longer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::member::{Members, Standing};

/// Addresses that are called because others have told of them.
const MAX_CALLED: usize = 128;
/// How often one that does not answer is called.
const MAX_CALLS: u8 = 20;
/// Dead nodes that are called each round.
const DEAD_CALLED: usize = 4;
/// Addresses that may turn out to be this node's.
const MAX_OWN: usize = 16;
/// Rounds after which a seed that was this node's is called again: addresses move, and anybody may have sent its call back.
const OWN_ROUNDS: u8 = 20;
/// Rounds in which it should come back.
const OWN_CALLED: u8 = 4;

/// Whom to call.
#[derive(Debug, Default)]
pub(super) struct Calls {
    seeds: Vec<SocketAddr>,
    /// Addresses that others have told of, and how often they were called.
    heard_of: BTreeMap<SocketAddr, u8>,
    /// Where others are told that this node is reached.
    advertised: Option<SocketAddr>,
    /// Where this node's own calls came back from, and how many rounds ago.
    own: BTreeMap<SocketAddr, u8>,
    next_dead: usize,
}

impl Calls {
    pub(super) fn set_seeds(&mut self, seeds: Vec<SocketAddr>) {
        self.seeds = seeds;
    }

    pub(super) fn set_advertised(&mut self, address: Option<SocketAddr>) {
        self.advertised = address;
        if let Some(address) = address {
            self.heard_of.remove(&address);
        }
    }

    /// Whether somebody of the fleet may be there.
    pub(super) fn knows(&self, address: SocketAddr, members: &Members) -> bool {
        self.seeds.contains(&address)
            || self.heard_of.contains_key(&address)
            || members.iter().any(|it| it.address == address)
    }

    /// Others know somebody there.
    pub(super) fn hear_of(&mut self, contact: SocketAddr, members: &Members) {
        let known = members.iter().any(|it| it.address == contact);
        if !known && !self.is_here(contact) && self.heard_of.len() < MAX_CALLED {
            self.heard_of.entry(contact).or_default();
        }
    }

    /// It is this node that is reached there.
    pub(super) fn is_own(&mut self, address: SocketAddr) {
        if self.own.contains_key(&address) || self.own.len() < MAX_OWN {
            self.own.insert(address, 0);
        }
        self.heard_of.remove(&address);
    }

    /// Somebody is known there by now.
    pub(super) fn met(&mut self, address: SocketAddr) {
        self.heard_of.remove(&address);
        self.own.remove(&address);
    }

    /// Seeds that are neither members nor this node.
    pub(super) fn missing_seeds(&self, members: &Members) -> impl Iterator<Item = SocketAddr> {
        let seeds = self.seeds.iter().copied();
        seeds.filter(|seed| !self.is_here(*seed) && !members.is_at(*seed))
    }

    fn is_here(&self, address: SocketAddr) -> bool {
        self.advertised == Some(address) || self.own.contains_key(&address)
    }

    /// Seeds that are not there, addresses that others have told of, and some of the dead.
    pub(super) fn of_round(&mut self, members: &Members) -> Vec<SocketAddr> {
        let mut calls: Vec<_> = self.missing_seeds(members).collect();
        self.heard_of.retain(|_, times| {
            *times += 1;
            *times <= MAX_CALLS
        });
        calls.extend(self.heard_of.keys());
        let seeds = &self.seeds;
        self.own.retain(|address, rounds| {
            *rounds += 1;
            if *rounds > OWN_ROUNDS && seeds.contains(address) {
                calls.push(*address);
            }
            *rounds <= OWN_ROUNDS + OWN_CALLED
        });
        let dead = members.iter().filter(|it| it.standing == Standing::Dead);
        let dead: Vec<_> = dead.map(|it| it.address).collect();
        for _ in 0..dead.len().min(DEAD_CALLED) {
            self.next_dead = (self.next_dead + 1) % dead.len();
            calls.push(dead[self.next_dead]);
        }
        calls.sort_unstable();
        calls.dedup();
        calls
    }
}
