//! A worker's listening sockets, and what becomes of the connections that they accept.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;

use super::bind::{Assignment, Seat};
use crate::listener::{self, Acceptor};
use crate::metrics::Counter;
use crate::net::Tcp;
use crate::proxy::entrance::{self, Admission, Asked};
use crate::proxy::http::task::ClientTask;
use crate::proxy::local::Local;
use crate::proxy::snapshot::ListenerStats;
use crate::proxy::tcp::task::TcpTask;

/// A worker's listening sockets.
#[derive(Debug)]
pub struct Accepting {
    local: Rc<Local>,
    /// By the ids of their seats.
    sockets: HashMap<u32, Rc<Socket>>,
}

/// What the tasks of an address' sockets are to know.
#[derive(Debug)]
struct Socket {
    listener: Cell<usize>,
    permits: RefCell<Arc<Semaphore>>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Socket {
    fn new(seat: &Seat) -> Rc<Self> {
        Rc::new(Self {
            listener: Cell::new(seat.listener),
            permits: RefCell::new(Arc::clone(&seat.permits)),
            closed: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Accepts connections for this listener from now on.
    fn sit(&self, seat: Seat) {
        let same_permits = Arc::ptr_eq(&self.permits.borrow(), &seat.permits);
        if same_permits && self.listener.get() == seat.listener {
            return;
        }
        self.listener.set(seat.listener);
        self.permits.replace(seat.permits);
        self.changed.notify_waiters();
    }

    fn close(&self) {
        self.closed.set(true);
        self.changed.notify_waiters();
    }
}

impl Accepting {
    /// No sockets yet.
    pub fn new(local: &Rc<Local>) -> Self {
        Self {
            local: Rc::clone(local),
            sockets: HashMap::new(),
        }
    }

    /// Accepts connections from these sockets from now on, and closes the others once what the kernel has accepted is
    /// taken.
    pub fn assign(&mut self, assignment: Assignment) {
        let mut former = std::mem::take(&mut self.sockets);
        for seat in assignment.seats {
            let id = seat.id;
            let socket = former.remove(&id).unwrap_or_else(|| Socket::new(&seat));
            socket.sit(seat);
            self.sockets.insert(id, socket);
        }
        former.values().for_each(|socket| socket.close());
        for (id, listening) in assignment.new {
            let socket = Rc::clone(&self.sockets[&id]);
            spawn_local(listen(listening, socket, Rc::clone(&self.local)));
        }
    }
}

/// Accepts connections until the socket is to be closed or the worker drains; the last ones are those that the kernel has
/// accepted by then.
async fn listen(listening: Arc<TcpListener>, socket: Rc<Socket>, local: Rc<Local>) {
    local.drain.enter();
    let acceptor = Connections {
        socket: Rc::clone(&socket),
        local: Rc::clone(&local),
    };
    match listener::watch(listening) {
        Ok(listening) => {
            while !socket.closed.get() && !local.drain.draining() {
                let permits = Arc::clone(&socket.permits.borrow());
                tokio::select! {
                    () = listener::accept(&listening, &permits, &acceptor) => {}
                    () = socket.changed.notified() => {}
                    () = local.drain.begun() => {}
                }
            }
            // Else they would be shared with who has taken over, for as long as there are new ones.
            if !local.drain.handed_over() {
                let permits = Arc::clone(&socket.permits.borrow());
                listener::accept_waiting(listening.get_ref(), &permits, &acceptor);
            }
        }
        Err(error) => acceptor.failed(&error),
    }
    local.drain.leave();
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
    socket: Rc<Socket>,
    local: Rc<Local>,
}

impl Connections {
    /// Counts something, and tells how often it has happened.
    fn count(&self, counter: impl FnOnce(&ListenerStats) -> &Counter) -> u64 {
        let listener = self.local.listener(self.socket.listener.get());
        let counter = counter(listener.stats.shard(self.local.worker));
        counter.increment();
        counter.get()
    }
}

impl Acceptor for Connections {
    fn accepted(&self, tcp: Tcp, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        self.count(|stats| &stats.accepted);
        let local = Rc::clone(&self.local);
        let listener = self.socket.listener.get();
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
                local.drain.enter();
                spawn_local(async move {
                    let admission = question.answer(&local).await;
                    newcomer.enter(&local, admission);
                    local.drain.leave();
                });
            }
        }
    }

    fn failed(&self, error: &io::Error) {
        let failures = self.count(|stats| &stats.accept_failures);
        // The first of each thousand: out of file descriptors it is 20 a second.
        if failures % 1000 == 1 {
            let listener = self.local.listener(self.socket.listener.get());
            tracing::error!(listener = %listener.name, %error, "accepting a connection failed; trying again");
        }
    }
}
