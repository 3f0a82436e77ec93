//! What a node sends: to whom, in how many datagrams, and what it says of itself in each.

use std::net::SocketAddr;
use std::time::Instant;

use super::Node;
use crate::gossip::message::{About, MAX_CONTACTS, MAX_NAME, Message, Part};
use crate::gossip::seal::{Envelope, MAX_DATAGRAM, OVERHEAD, Session};

impl Node {
    pub(super) fn call(&mut self, addresses: &[SocketAddr], now: Instant) {
        for address in addresses {
            self.send_all(Session::NONE, *address, &[], now);
        }
    }

    /// Tells a session that is not known to be there of this one.
    pub(super) fn answer(&mut self, to: Session, address: SocketAddr, room: usize, now: Instant) {
        if !self.answers.take(now) {
            return;
        }
        let message = Message {
            about: self.about(to, now),
            contacts: Vec::new(),
            parts: Vec::new(),
        };
        let message = message.write();
        // A longer name than the caller's is no amplification worth the name.
        if message.len() + OVERHEAD <= room + MAX_NAME {
            self.send(to, address, message);
        }
    }

    /// Tells a session where somebody else is.
    pub(super) fn tell_where(
        &mut self,
        contact: SocketAddr,
        to: Session,
        address: SocketAddr,
        now: Instant,
    ) {
        let message = Message {
            about: self.about(to, now),
            contacts: vec![contact],
            parts: Vec::new(),
        };
        self.send(to, address, message.write());
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
    pub(super) fn send_all(
        &mut self,
        to: Session,
        address: SocketAddr,
        parts: &[&Part],
        now: Instant,
    ) {
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
            message.parts.push(Part::clone(part));
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

    pub(super) fn send(&mut self, to: Session, address: SocketAddr, message: Vec<u8>) {
        self.counter += 1;
        let envelope = Envelope {
            from: self.session,
            to,
            counter: self.counter,
        };
        self.outgoing
            .push((address, self.key.seal(envelope, message)));
    }
}
