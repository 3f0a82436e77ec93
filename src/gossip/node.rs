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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::member::{Member, Members, Standing};
use super::message::{About, MAX_CONTACTS, Message, Part};
use super::seal::{Envelope, FleetKey, MAX_DATAGRAM, OVERHEAD, Refusal, Seen, Session, SessionKey};

/// Sessions whose datagrams are told from replayed ones; those before them belong to processes long gone.
const MAX_SESSIONS: usize = 4096;
/// Addresses that are called because others have told of them.
const MAX_CALLED: usize = 128;
/// How often one that does not answer is called.
const MAX_CALLS: u8 = 20;
/// Dead nodes that are called each interval.
const DEAD_CALLED: usize = 4;
/// Unknown sessions that are looked at in an interval, and calls that are answered. Each costs a key.
const STRANGERS: u32 = 100;
/// Addresses that may turn out to be this node's.
const MAX_OWN_ADDRESSES: usize = 16;

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
    /// What the fleet's clock was at the start, as far as is known.
    clock: u64,
    members: Members,
    seen: HashMap<Session, Seen>,
    /// The sessions in `seen`, in the order in which they came.
    sessions: VecDeque<Session>,
    seeds: Vec<SocketAddr>,
    called: BTreeMap<SocketAddr, u8>,
    own_addresses: Vec<SocketAddr>,
    next_dead: usize,
    strangers: u32,
    leaving: bool,
    name_taken: Option<Instant>,
    refused: [u64; Refusal::ALL.len()],
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
            members: Members::default(),
            seen: HashMap::new(),
            sessions: VecDeque::new(),
            seeds: Vec::new(),
            called: BTreeMap::new(),
            own_addresses: Vec::new(),
            next_dead: 0,
            strangers: STRANGERS,
            leaving: false,
            name_taken: None,
            refused: [0; Refusal::ALL.len()],
            random,
            outgoing: Vec::new(),
        }
    }

    /// Where nodes are to be looked for.
    pub fn set_seeds(&mut self, seeds: Vec<SocketAddr>) {
        self.seeds = seeds;
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
        self.settings.advertise = advertise;
        self.settings.interval = interval;
        self.settings.dead_after = dead_after;
    }

    /// How many nodes there are as far as is known, this one included. A node that has just started counts the seeds that
    /// it has not met yet: they are likely to be there.
    pub fn size(&self, now: Instant) -> usize {
        let live = 1 + self.members.live().count();
        let is_new = now.saturating_duration_since(self.start) < self.settings.dead_after;
        if is_new {
            live + self.missing_seeds().count()
        } else {
            live
        }
    }

    /// The fleet's time in milliseconds: that of the clock that is most ahead. It never goes back.
    pub fn clock(&self, now: Instant) -> u64 {
        self.clock + self.elapsed(now).as_millis() as u64
    }

    /// Says from now on that it ends.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// What is to be sent since the last time that this was asked.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        mem::take(&mut self.outgoing)
    }

    /// Tells all members of these parts, without waiting for the round.
    pub fn tell(&mut self, parts: &[Part], now: Instant) {
        let members: Vec<_> = self
            .members
            .live()
            .map(|it| (it.session, it.address))
            .collect();
        for (session, address) in members {
            self.send_all(session, address, parts, now);
        }
    }

    /// A round: who is there, and what there is to be told. Called once an interval.
    pub fn round(&mut self, parts: &[Part], now: Instant) {
        for name in self.members.look(self.settings.dead_after, now) {
            let silent = self.settings.dead_after;
            tracing::warn!(node = name, ?silent, "a node of the cluster is dead");
        }
        self.strangers = STRANGERS;
        self.tell(parts, now);
        self.call_others(now);
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
        }
        taken
    }

    fn take(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Vec<Told>, Refusal> {
        let envelope = Envelope::read(datagram)?;
        let message = self.open(envelope, datagram)?;
        if envelope.from == self.session {
            self.is_reached_at(from);
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
        if !self.note(envelope) {
            return Err(Refusal::Replayed);
        }
        let message = Message::read(&message).ok_or(Refusal::Invalid)?;
        let Message {
            about,
            contacts,
            parts,
        } = message;
        self.clock = self.clock.max(
            about
                .clock
                .saturating_sub(self.elapsed(now).as_millis() as u64),
        );
        self.meet(about, envelope.from, from, now)?;
        for contact in contacts {
            self.hear_of(contact);
        }
        let peer = envelope.from.short();
        Ok(parts.into_iter().map(|part| (peer, part)).collect())
    }

    fn open(&mut self, envelope: Envelope, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
        if envelope.from == self.session {
            return self.key.open(envelope, datagram);
        }
        if let Some(member) = self.members.of_session(envelope.from) {
            return member.key.open(envelope, datagram);
        }
        self.strangers = self.strangers.checked_sub(1).ok_or(Refusal::Full)?;
        self.fleet.of(envelope.from).open(envelope, datagram)
    }

    /// Whether a datagram for this session comes for the first time.
    fn note(&mut self, envelope: Envelope) -> bool {
        if !self.seen.contains_key(&envelope.from) {
            if self.sessions.len() >= MAX_SESSIONS
                && let Some(oldest) = self.sessions.pop_front()
            {
                self.seen.remove(&oldest);
            }
            self.sessions.push_back(envelope.from);
        }
        self.seen
            .entry(envelope.from)
            .or_default()
            .note(envelope.counter)
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
        if former.is_some_and(|it| {
            it.standing == Standing::Alive && it.about.generation >= about.generation
        }) {
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
        self.called.remove(&address);
        tracing::info!(node = name, %address, version, "a node of the cluster is there");
        self.send_all(session, address, &[], now);
        Ok(())
    }

    fn hear_of(&mut self, contact: SocketAddr) {
        let known = self.members.iter().any(|it| it.address == contact);
        if !known && !self.is_own(contact) && self.called.len() < MAX_CALLED {
            self.called.entry(contact).or_default();
        }
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        self.own_addresses.contains(&address) || self.settings.advertise == Some(address)
    }

    /// It was this node that it called.
    fn is_reached_at(&mut self, address: SocketAddr) {
        if !self.is_own(address) && self.own_addresses.len() < MAX_OWN_ADDRESSES {
            self.own_addresses.push(address);
        }
        self.called.remove(&address);
    }

    /// Seeds that are neither members nor this node.
    pub fn missing_seeds(&self) -> impl Iterator<Item = SocketAddr> {
        let seeds = self.seeds.iter().copied();
        seeds.filter(|seed| !self.is_own(*seed) && !self.members.is_at(*seed))
    }

    /// Calls seeds that are not there.
    pub fn call_missing(&mut self, now: Instant) {
        let missing: Vec<_> = self.missing_seeds().collect();
        for address in missing {
            self.send_all(Session::NONE, address, &[], now);
        }
    }

    /// Calls seeds that are not there, addresses that others have told of, and some of the dead.
    fn call_others(&mut self, now: Instant) {
        let mut calls: Vec<_> = self.missing_seeds().collect();
        self.called.retain(|_, times| {
            *times += 1;
            *times <= MAX_CALLS
        });
        calls.extend(self.called.keys());
        let gone = self.members.iter();
        let gone = gone.filter(|it| it.standing == Standing::Dead);
        let gone: Vec<_> = gone.map(|it| it.address).collect();
        for _ in 0..gone.len().min(DEAD_CALLED) {
            self.next_dead = (self.next_dead + 1) % gone.len();
            calls.push(gone[self.next_dead]);
        }
        calls.sort_unstable();
        calls.dedup();
        for address in calls {
            self.send_all(Session::NONE, address, &[], now);
        }
    }

    /// Tells a session that is not known to be there of this one.
    fn answer(&mut self, to: Session, address: SocketAddr, room: usize, now: Instant) {
        let Some(left) = self.strangers.checked_sub(1) else {
            return;
        };
        self.strangers = left;
        let message = Message {
            about: self.about(to, now),
            contacts: Vec::new(),
            parts: Vec::new(),
        };
        let message = message.write();
        // A longer name than the caller's is no amplification worth the name.
        if message.len() + OVERHEAD <= room + super::message::MAX_NAME {
            self.send(to, address, message);
        }
    }

    fn about(&mut self, to: Session, now: Instant) -> About {
        let micros = self.micros(now);
        let member = self.members.of_session(to);
        let echo = member.map(|it| {
            let held = now.saturating_duration_since(it.heard);
            (it.about.sent, held.as_micros() as u64)
        });
        About {
            name: self.settings.name.clone(),
            version: self.settings.version.clone(),
            generation: self.generation,
            address: self.settings.advertise,
            clock: self.clock(now),
            sent: micros,
            echo,
            leaving: self.leaving,
        }
    }

    /// Sends parts in as few datagrams as they take, and at least one.
    fn send_all(&mut self, to: Session, address: SocketAddr, parts: &[Part], now: Instant) {
        let mut message = Message {
            about: self.about(to, now),
            contacts: self.some_contacts(to),
            parts: Vec::new(),
        };
        let mut size = message.write().len() + OVERHEAD;
        for part in parts {
            if size + part.size() > MAX_DATAGRAM {
                self.send(to, address, message.write());
                message.contacts.clear();
                message.parts.clear();
                size = message.write().len() + OVERHEAD;
            }
            size += part.size();
            message.parts.push(part.clone());
        }
        self.send(to, address, message.write());
    }

    /// Where some of the others are. Who only asks is not told.
    fn some_contacts(&mut self, to: Session) -> Vec<SocketAddr> {
        if to == Session::NONE {
            return Vec::new();
        }
        let live = self.members.live().filter(|it| it.session != to);
        let live: Vec<_> = live.map(|it| it.address).collect();
        self.random.choose_multiple(live, MAX_CONTACTS)
    }

    fn send(&mut self, to: Session, address: SocketAddr, message: Vec<u8>) {
        self.counter += 1;
        let envelope = Envelope {
            from: self.session,
            to,
            counter: self.counter,
        };
        self.outgoing
            .push((address, self.key.seal(envelope, message)));
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

#[cfg(test)]
mod tests;
