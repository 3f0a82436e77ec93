//! A worker's listening sockets, and what becomes of the connections that they accept.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_local;

use super::bind::Assignment;
use super::listening::Listening;
use crate::listener::{self, Acceptor, Station};
use crate::metrics::Counter;
use crate::net::Tcp;
use crate::proxy::entrance::{self, Admission, Asked};
use crate::proxy::http::task::ClientTask;
use crate::proxy::local::Local;
use crate::proxy::snapshot::ListenerStats;
use crate::proxy::tcp::task::TcpTask;
use crate::proxy::udp;

/// A worker's listening sockets.
#[derive(Debug)]
pub struct Accepting {
    local: Rc<Local>,
    /// By the ids of their seats.
    stations: HashMap<u32, Rc<Station>>,
}

impl Accepting {
    /// No sockets yet.
    pub fn new(local: &Rc<Local>) -> Self {
        Self {
            local: Rc::clone(local),
            stations: HashMap::new(),
        }
    }

    /// Accepts connections and datagrams from these sockets from now on, and closes the others: those of TCP once what the
    /// kernel has accepted is taken.
    pub fn assign(&mut self, assignment: Assignment) {
        let mut former = std::mem::take(&mut self.stations);
        for seat in assignment.seats {
            let new = || Rc::new(Station::new(seat.listener, Arc::clone(&seat.permits)));
            let station = former.remove(&seat.id).unwrap_or_else(new);
            station.sit(seat.listener, Arc::clone(&seat.permits));
            self.stations.insert(seat.id, station);
        }
        former.values().for_each(|station| station.close());
        for (id, listening) in assignment.new {
            let (station, local) = (Rc::clone(&self.stations[&id]), Rc::clone(&self.local));
            match listening {
                Listening::Tcp(socket) => spawn_local(listen(socket, station, local)),
                Listening::Udp(socket) => spawn_local(udp::serve(socket, station, local)),
            };
        }
    }
}

/// Accepts connections until the socket is to be closed or the worker drains; the last ones are those that the kernel has
/// accepted by then.
async fn listen(listening: Arc<TcpListener>, station: Rc<Station>, local: Rc<Local>) {
    let _open = Open::new(&local);
    let acceptor = Connections {
        station: Rc::clone(&station),
        local: Rc::clone(&local),
    };
    match listener::watch(listening) {
        Ok(listening) => {
            while !station.is_closed() && !local.drain.draining() {
                let permits = station.permits();
                tokio::select! {
                    () = listener::accept(&listening, &permits, &acceptor) => {}
                    () = station.changed() => {}
                    () = local.drain.begun() => {}
                }
            }
            // Else they would be shared with who has taken over, for as long as there are new ones.
            if !local.drain.handed_over() {
                listener::accept_waiting(listening.get_ref(), &station.permits(), &acceptor);
            }
        }
        Err(error) => acceptor.failed(&error),
    }
}

/// Has the end of the worker wait for as long as this is there.
struct Open(Rc<Local>);

impl Open {
    fn new(local: &Rc<Local>) -> Self {
        local.drain.enter();
        Self(Rc::clone(local))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.drain.leave();
    }
}

/// A connection of which is not known yet whether it is served.
struct Newcomer {
    tcp: Tcp,
    peer: SocketAddr,
    listener: usize,
    permit: OwnedSemaphorePermit,
}

impl Newcomer {
    /// Serves it in a task of its own, or resets it.
    fn enter(self, local: &Rc<Local>, admission: Admission) {
        let Self {
            tcp,
            peer,
            listener,
            permit,
        } = self;
        let Ok(counted) = admission else {
            tcp.reset_on_close();
            return;
        };
        let is_tcp = local.listener(listener).is_tcp;
        let local = Rc::clone(local);
        match is_tcp {
            false => spawn_local(ClientTask::new(tcp, peer, listener, local, permit, counted)),
            true => spawn_local(TcpTask::new(tcp, peer, listener, local, permit, counted)),
        };
    }
}

/// Serves what a socket accepts.
struct Connections {
    station: Rc<Station>,
    local: Rc<Local>,
}

impl Connections {
    /// Counts something, and tells how often it has happened.
    fn count(&self, counter: impl FnOnce(&ListenerStats) -> &Counter) -> u64 {
        let listener = self.local.listener(self.station.listener());
        let counter = counter(listener.stats.shard(self.local.worker));
        counter.increment();
        counter.get()
    }
}

impl Acceptor for Connections {
    fn accepted(&self, tcp: Tcp, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        self.count(|stats| &stats.accepted);
        let local = Rc::clone(&self.local);
        let listener = self.station.listener();
        let asked = match local.listener(listener).proxy_protocol {
            // It is asked later, of the client that the header names.
            true => Asked::Answered(Ok(None)),
            false => entrance::ask(&local, listener, peer.ip()),
        };
        let newcomer = Newcomer {
            tcp,
            peer,
            listener,
            permit,
        };
        match asked {
            Asked::Answered(admission) => newcomer.enter(&local, admission),
            Asked::Undecided(question) => {
                let open = Open::new(&local);
                spawn_local(async move {
                    let admission = question.answer(&local).await;
                    newcomer.enter(&local, admission);
                    drop(open);
                });
            }
        }
    }

    fn failed(&self, error: &io::Error) {
        let failures = self.count(|stats| &stats.accept_failures);
        // The first of each thousand: out of file descriptors it is 20 a second.
        if failures % 1000 == 1 {
            let listener = self.local.listener(self.station.listener());
            tracing::error!(listener = %listener.name, %error, "accepting a connection failed; trying again");
        }
    }
}
