//! The sockets that could be handed over now.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Place;
use crate::admin::SharedSocket;
use crate::server::listening::{Listening, WeakListening};

/// All sockets that listen, as long as somebody uses them.
#[derive(Debug, Default)]
pub struct Registry {
    listeners: Mutex<Vec<Registered>>,
    /// Where its configuration says that it listens, and the socket.
    admin: Option<(String, SharedSocket)>,
}

#[derive(Debug)]
struct Registered {
    name: String,
    address: SocketAddr,
    socket: WeakListening,
}

/// Sockets that are kept open until they have been handed over.
pub(super) struct Held<'a> {
    listeners: Vec<(Place, Listening)>,
    admin: Option<&'a (String, SharedSocket)>,
}

impl Registry {
    /// The admin API's socket, to which the listeners' will be added; `listen` is what its configuration says of it.
    pub fn of_admin(listen: String, socket: SharedSocket) -> Self {
        Self {
            admin: Some((listen, socket)),
            ..Self::default()
        }
    }

    /// Sets the listeners' sockets: each with the name of its listener, and the address of that one's configuration.
    pub fn set<'a>(&self, sockets: impl Iterator<Item = (&'a str, SocketAddr, WeakListening)>) {
        let sockets = sockets.map(|(name, address, socket)| Registered {
            name: name.to_owned(),
            address,
            socket,
        });
        *self.lock() = sockets.collect();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Registered>> {
        // Every change leaves a list.
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are in use.
    pub(super) fn hold(&self) -> Held<'_> {
        let listeners = self.lock();
        let in_use = listeners.iter().filter_map(|it| {
            let place = Place::Listener {
                name: it.name.clone(),
                address: it.address,
            };
            Some((place, it.socket.upgrade()?))
        });
        Held {
            listeners: in_use.collect(),
            admin: self.admin.as_ref(),
        }
    }
}

impl Held<'_> {
    /// What each is for.
    pub(super) fn places(&self) -> Vec<Place> {
        let listeners = self.listeners.iter().map(|(place, _)| place.clone());
        let admin = self.admin.map(|(listen, _)| Place::Admin {
            listen: listen.clone(),
        });
        listeners.chain(admin).collect()
    }

    /// Their descriptors, in the same order.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let listeners = self.listeners.iter().map(|(_, socket)| socket.as_fd());
        let admin = self.admin.map(|(_, socket)| socket.descriptor());
        listeners.chain(admin).collect()
    }

    /// They are another process' now.
    pub(super) fn handed_over(&self) {
        if let Some((_, admin)) = self.admin {
            admin.handed_over();
        }
    }
}
