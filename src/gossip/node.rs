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

mod sending;
#[cfg(test)]
mod tests;

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::alarm::Forgeries;
use super::budget::Budget;
use super::calls::Calls;
use super::member::{Member, Members, Standing};
use super::message::{About, MAX_CLOCK, Message, Part, Telling};
use super::seal::{Envelope, FleetKey, Refusal, Session, SessionKey, Sessions};

/// Datagrams of unknown sessions that are looked at in a second. Each costs a key.
const STRANGERS: u32 = 5000;
/// Calls that are answered in a second.
const ANSWERS: u32 = 1000;
/// How far ahead of this process' clock the fleet's may be, in milliseconds.
const MAX_AHEAD: u64 = 24 * 60 * 60 * 1000;

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

    /// Takes over the clock of another node if it is ahead.
    fn follow_clock(&mut self, about: &About, now: Instant) {
        let at_start = about
            .clock
            .saturating_sub(self.elapsed(now).as_millis() as u64);
        if at_start <= self.generation.saturating_add(MAX_AHEAD) {
            self.clock = self.clock.max(at_start);
        } else if !mem::replace(&mut self.doubted, true) {
            let node = &about.name;
            tracing::error!(
                node,
                "the clock of a node of the cluster is more than a day ahead of this one's and is not followed: set them both"
            );
        }
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

    /// Takes a datagram, and gives what its sender tells.
    ///
    /// # Errors
    /// It is none that can be believed; it has been counted.
    pub fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Vec<Told>, Refusal> {
        let taken = self.take(datagram, from, now);
        if let Err(refusal) = taken {
            let at = Refusal::ALL.iter().position(|it| *it == refusal);
            self.refused[at.expect("it is one of all")] += 1;
            if refusal == Refusal::Forged {
                self.tell_of_forgery(from, now);
            }
        }
        taken
    }

    /// Anybody can send such datagrams, and from any address: how often it is told must not depend on either.
    fn tell_of_forgery(&mut self, from: SocketAddr, now: Instant) {
        if let Some(count) = self.forgeries.note(now) {
            tracing::warn!(%from, count, "datagrams for the cluster do not open: a node there has another cluster.key, or they are forged (told at most once a minute)");
        }
    }

    fn take(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Vec<Told>, Refusal> {
        let envelope = Envelope::read(datagram)?;
        let message = self.open(envelope, datagram, from, now)?;
        if envelope.from == self.session {
            // Who has seen a datagram can send it back, from any address. So only calls count that were just made, and for a
            // while.
            if envelope.to != Session::NONE || envelope.counter <= self.counted[0] {
                return Err(Refusal::Replayed);
            }
            self.calls.is_own(from);
            return Ok(Vec::new());
        }
        if envelope.to != self.session {
            // Whether it was sent just now or recorded long ago cannot be told. Who asks, or knows this node's last run,
            // is told of this one, in no more bytes than his own.
            self.answer(envelope.from, from, datagram.len(), now);
            return match envelope.to {
                Session::NONE => Ok(Vec::new()),
                _ => Err(Refusal::Stale),
            };
        }
        if !self.sessions.note(envelope) {
            return Err(Refusal::Replayed);
        }
        let message = Message::read(&message).ok_or(Refusal::Invalid)?;
        let Message {
            about,
            contacts,
            parts,
        } = message;
        self.follow_clock(&about, now);
        self.meet(about, envelope.from, from, now)?;
        for contact in contacts {
            self.calls.hear_of(contact, &self.members);
        }
        let peer = envelope.from.short();
        Ok(parts.into_iter().map(|part| (peer, part)).collect())
    }

    fn open(
        &mut self,
        envelope: Envelope,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        if envelope.from == self.session {
            return self.key.open(envelope, datagram);
        }
        if let Some(member) = self.members.of_session(envelope.from) {
            return member.key.open(envelope, datagram);
        }
        let budget = match self.calls.knows(from, &self.members) {
            true => &mut self.acquaintances,
            false => &mut self.strangers,
        };
        if !budget.take(now) {
            return Err(Refusal::Full);
        }
        self.fleet.of(envelope.from).open(envelope, datagram)
    }

    /// Notes that a member has been heard of, perhaps for the first time.
    fn meet(
        &mut self,
        about: About,
        session: Session,
        from: SocketAddr,
        now: Instant,
    ) -> Result<(), Refusal> {
        let round_trip = about.echo.and_then(|(sent, held)| {
            let there_and_back = self.micros(now).checked_sub(sent)?.checked_sub(held)?;
            Some(Duration::from_micros(there_and_back))
        });
        if let Some(member) = self.members.of_session(session) {
            let before = member.standing;
            member.hear(about, from, round_trip, now);
            tell_of_change(member, before);
            return Ok(());
        }
        if about.name == self.settings.name {
            if !self.is_name_taken(now) {
                let name = &self.settings.name;
                tracing::error!(%from, "another node of the cluster is called {name:?} too: give each its own cluster.name");
            }
            self.name_taken = Some(now);
            return Err(Refusal::SameName);
        }
        let former = self.members.named(&about.name);
        let is_later = |it: &&Member| {
            it.standing == Standing::Alive && it.about.generation >= about.generation
        };
        if let Some(address) = former.filter(is_later).map(|it| it.address) {
            // If it is no late datagram, there are two of one name, and nobody else tells this one of it.
            self.tell_where(address, session, about.address.unwrap_or(from), now);
            return Err(Refusal::Stale);
        }
        let member = Member {
            address: about.address.unwrap_or(from),
            standing: if about.leaving {
                Standing::Left
            } else {
                Standing::Alive
            },
            key: self.fleet.of(session),
            session,
            heard: now,
            round_trip,
            about,
        };
        let (name, version, address) = (
            member.about.name.clone(),
            member.about.version.clone(),
            member.address,
        );
        if !self.members.add(member) {
            return Err(Refusal::Full);
        }
        self.calls.met(address);
        tracing::info!(node = name, %address, version, "a node of the cluster is there");
        self.send_all(session, address, &[], now);
        Ok(())
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

fn tell_of_change(member: &Member, before: Standing) {
    let node = &member.about.name;
    match (before, member.standing) {
        (Standing::Alive | Standing::Dead, Standing::Left) => {
            tracing::info!(node, "a node of the cluster has said goodbye");
        }
        (Standing::Dead | Standing::Left, Standing::Alive) => {
            tracing::info!(node, "a node of the cluster is back");
        }
        _ => {}
    }
}
