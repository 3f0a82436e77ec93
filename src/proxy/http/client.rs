//! A client's connection, as its requests see it: who it is, and what servers are told of it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::open::Opened;
use super::task::{Facts, Presence};
use crate::message::forwarded::Hop;
use crate::net::{Stream, Traffic};
use crate::proxy::local::{Listener, Local};
use crate::proxy::view::View;
use crate::tls::{self, ClientIdentity};
use crate::upstream::Announced;

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    /// The worker's own state.
    pub local: Rc<Local>,
    /// Index into the snapshots' listeners.
    pub listener: usize,
    /// Its address, by the word of a PROXY header if there was one.
    pub peer: SocketAddr,
    /// The hop that the connection is.
    pub hop: Hop,
    /// Who its certificate says it is.
    pub identity: Option<Box<ClientIdentity>>,
    /// What the connection was announced to be, for servers that want to know.
    announced: Option<Announced>,
    pub(super) facts: RefCell<Option<Box<Facts>>>,
}

impl Client {
    /// The client at the other end of a connection, and its bytes, counted and not waited for for ever.
    pub fn new(opened: Opened) -> (Self, Stream) {
        let Opened {
            transport,
            peer,
            listener,
            local,
            mut facts,
            ..
        } = opened;
        let view = local.view();
        let trusted = &view.snapshot.trusted_proxies;
        let mut hop = Hop::new(peer, trusted, transport.is_encrypted());
        if facts.as_ref().is_some_and(|facts| facts.is_unknown) {
            hop.distrust();
        }
        let certificates = transport.peer_certificates();
        let identity = certificates.and_then(tls::identity).map(Box::new);
        let entry = &view.snapshot.listeners[listener];
        let traffic = Traffic::new(Arc::clone(&entry.bytes), local.worker);
        // Not asked for in vain: it is a system call.
        let announced = view.snapshot.announces.then(|| {
            let told = facts.as_ref().and_then(|facts| facts.destination);
            let socket = transport.tcp().socket();
            let own = || socket?.local_addr().ok()?.as_socket();
            let presence = &mut facts.get_or_insert_default().presence;
            presence.get_or_insert_with(|| Presence::new(&local, peer));
            Announced::new(peer, told.or_else(own))
        });
        let stream = Stream::new(transport, traffic, entry.timeouts.idle);
        let client = Self {
            local,
            listener,
            peer,
            hop,
            identity,
            announced,
            facts: RefCell::new(facts),
        };
        (client, stream)
    }

    /// What a server that takes PROXY headers is to be told of the connection, under this configuration.
    pub fn announced(&self, view: &View) -> Option<Announced> {
        if self.announced.is_some() || !view.snapshot.announces {
            return self.announced;
        }
        // When the connection began, no server wanted to know.
        let facts = &mut *self.facts.borrow_mut();
        let facts = facts.get_or_insert_default();
        let presence = || Presence::new(&self.local, self.peer);
        facts.presence.get_or_insert_with(presence);
        Some(Announced::new(self.peer, facts.destination))
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> Listener {
        self.local.listener(self.listener)
    }

    /// Whether the connection is to end as soon as what is under way is done.
    pub fn is_ending(&self) -> bool {
        self.local.is_ending(self.listener)
    }
}
