//! What a node makes of a datagram: whether it is believed, who has sent it, and what he tells.

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Node, Told};
use crate::gossip::member::{Member, Standing};
use crate::gossip::message::{About, Message};
use crate::gossip::seal::{Envelope, Refusal, Session};

/// How far ahead of this process' clock the fleet's may be, in milliseconds.
const MAX_AHEAD: u64 = 24 * 60 * 60 * 1000;

impl Node {
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
