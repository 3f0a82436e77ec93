//! A node without a socket and a clock: what it makes of datagrams and of time, and what it sends.
//!
//! ```text
//!  new node                                   a node that it was told of (seeds, contacts)
//!     │ to nobody: who are you?                  │
//!     ├─────────────────────────────────────────▶│  anybody may have sent this before: no more than an answer
//!     │◀─────────────────────────────────────────┤ to session n: I am m        ─╮ each has proof that the
//!     │ to session m: I am n, and my state       │                              │ other one is there now
//!     ├─────────────────────────────────────────▶│ a member from now on        ─╯
//!     │◀────────────── every interval ──────────▶│
//! ```
//!
//! Every node sends to every other one each interval, and believes of others only what they say of themselves. That is
//! one way for everything, as fresh as the network allows, and for a hundred nodes less traffic than one busy client.

mod receiving;
mod sending;
#[cfg(test)]
mod tests;

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::alarm::Forgeries;
use super::budget::Budget;
use super::calls::Calls;
use super::member::{Members, Standing};
use super::message::{MAX_CLOCK, Part, Telling};
use super::seal::{FleetKey, Refusal, Session, SessionKey, Sessions};

/// Datagrams of unknown sessions that are looked at in a second. Each costs a key.
const STRANGERS: u32 = 5000;
/// Calls that are answered in a second.
const ANSWERS: u32 = 1000;

/// What a node needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Its name, which no other node has.
    pub name: String,
    /// Where others reach it, if that is not where its datagrams come from.
    pub advertise: Option<SocketAddr>,
    /// The program's version.
    pub version: String,
    /// Time between two rounds.
    pub interval: Duration,
    /// How long a node may be silent.
    pub dead_after: Duration,
}

/// A datagram, and where it is to go.
pub type Outgoing = (SocketAddr, Vec<u8>);

/// What a member has told: its session's short form, and a part of its state.
pub type Told = (u64, Part);

/// One node of the fleet.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    fleet: FleetKey,
    session: Session,
    key: SessionKey,
    counter: u64,
    generation: u64,
    start: Instant,
    /// What the fleet's clock was at the start, as far as is known. The generation is what this process' own was.
    clock: u64,
    /// Whether somebody's clock was too far ahead to be believed.
    doubted: bool,
    members: Members,
    sessions: Sessions,
    calls: Calls,
    strangers: Budget,
    /// For datagrams from where somebody of the fleet may be, whatever else comes from anywhere.
    acquaintances: Budget,
    answers: Budget,
    /// The counter at the beginning of the last two rounds, the earlier one first.
    counted: [u64; 2],
    leaving: bool,
    name_taken: Option<Instant>,
    refused: [u64; Refusal::ALL.len()],
    forgeries: Forgeries,
    random: fastrand::Rng,
    outgoing: Vec<Outgoing>,
}

impl Node {
    /// A node that knows nobody. `unix` is the time in milliseconds, the start's and the node's generation.
    pub fn new(
        settings: Settings,
        fleet: FleetKey,
        unix: u64,
        start: Instant,
        random: fastrand::Rng,
    ) -> Self {
        let session = Session::random();
        Self {
            key: fleet.of(session),
            settings,
            fleet,
            session,
            counter: 0,
            generation: unix,
            start,
            clock: unix,
            doubted: false,
            members: Members::default(),
            sessions: Sessions::default(),
            calls: Calls::default(),
            strangers: Budget::new(STRANGERS, start),
            acquaintances: Budget::new(STRANGERS, start),
            answers: Budget::new(ANSWERS, start),
            counted: [0; 2],
            leaving: false,
            name_taken: None,
            refused: [0; Refusal::ALL.len()],
            forgeries: Forgeries::default(),
            random,
            outgoing: Vec::new(),
        }
    }

    /// Where nodes are to be looked for.
    pub fn set_seeds(&mut self, seeds: Vec<SocketAddr>) {
        self.calls.set_seeds(seeds);
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The others.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Its run's number.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many datagrams were refused, by [`Refusal::ALL`].
    pub fn refused(&self) -> [u64; Refusal::ALL.len()] {
        self.refused
    }

    /// Whether another node has the same name, as far as was heard lately.
    pub fn is_name_taken(&self, now: Instant) -> bool {
        let lately = |it: Instant| now.saturating_duration_since(it) < self.settings.dead_after;
        self.name_taken.is_some_and(lately)
    }

    /// Takes over settings that may change.
    pub fn change(
        &mut self,
        advertise: Option<SocketAddr>,
        interval: Duration,
        dead_after: Duration,
    ) {
        self.calls.set_advertised(advertise);
        self.settings.advertise = advertise;
        self.settings.interval = interval;
        self.settings.dead_after = dead_after;
    }

    /// How many nodes are likely to be there that have not been met. A node that has just started counts its seeds.
    pub fn expected(&self, now: Instant) -> usize {
        if self.is_new(now) {
            self.missing_seeds().count()
        } else {
            0
        }
    }

    /// Whether it has just started.
    pub fn is_new(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.start) < self.settings.dead_after
    }

    /// The fleet's time in milliseconds: that of the clock that is most ahead, of those that are not more than a day ahead
    /// of this process' own. It never goes back.
    pub fn clock(&self, now: Instant) -> u64 {
        let clock = self.clock + self.elapsed(now).as_millis() as u64;
        clock.min(MAX_CLOCK - 1)
    }

    /// Says from now on that it ends.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// What is to be sent since the last time that this was asked.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        mem::take(&mut self.outgoing)
    }

    /// Tells members of these parts, without waiting for the round. Who has nothing to be told gets no datagram.
    pub fn tell(&mut self, parts: &[Telling], now: Instant) {
        self.tell_all(parts, false, now);
    }

    /// Tells all that are heard, be it only that this node lives. A goodbye goes to those too that seem to be dead: they
    /// may have been silent for a while only, and would wait for this node in vain.
    fn tell_all(&mut self, parts: &[Telling], that_it_lives: bool, now: Instant) {
        let heard = self.members.heard(self.settings.interval, now);
        let dead = self
            .members
            .iter()
            .filter(|it| it.standing == Standing::Dead);
        let dead = dead.filter(|_| self.leaving);
        let members = heard.chain(dead).map(|it| (it.session, it.address));
        let members: Vec<_> = members.collect();
        for (session, address) in members {
            let is_for = |it: &&Telling| it.to.is_none_or(|to| to == session.short());
            let parts: Vec<_> = parts.iter().filter(is_for).map(|it| &it.part).collect();
            if that_it_lives || !parts.is_empty() {
                self.send_all(session, address, &parts, now);
            }
        }
    }

    /// A round: who is there, and what there is to be told. Called once an interval.
    pub fn round(&mut self, parts: &[Telling], now: Instant) {
        for name in self.members.look(self.settings.dead_after, now) {
            let silent = self.settings.dead_after;
            tracing::warn!(node = name, ?silent, "a node of the cluster is dead");
        }
        self.counted = [self.counted[1], self.counter];
        self.tell_all(parts, true, now);
        let calls = self.calls.of_round(&self.members);
        self.call(&calls, now);
    }

    /// Seeds that are neither members nor this node.
    pub fn missing_seeds(&self) -> impl Iterator<Item = SocketAddr> {
        self.calls.missing_seeds(&self.members)
    }

    /// Calls seeds that are not there.
    pub fn call_missing(&mut self, now: Instant) {
        let missing: Vec<_> = self.missing_seeds().collect();
        self.call(&missing, now);
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn micros(&self, now: Instant) -> u64 {
        self.elapsed(now).as_micros() as u64
    }
}
