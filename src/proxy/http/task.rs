//! The task that a client's connection is.
//!
//! ```text
//!            bytes, or the client's close
//!   PARKED ───────────────────────────────▶ SERVED  `connection`
//!     │  ▲                                    │  │
//!     │  └────────────────────────────────────┘  └──▶ closed
//!     │     no request for PARK_AFTER
//!     └──▶ closed: keep_alive, or the worker drains
//! ```
//!
//! While it is parked the socket, this task and a place in the roster are all that there is of a connection. It begins that
//! way.

use std::fmt;
use std::future::Future;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connection;
use crate::net::clock;
use crate::proxy::local::Local;
use crate::proxy::roster::Place;
use crate::proxy::snapshot::{ListenerEntry, ListenerStats};

/// How long a connection waits for its next request before it is parked.
pub const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long a connection on which nothing has arrived is kept when the worker drains.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A client's connection, to be run as a task. It counts as open until it is dropped.
#[derive(Debug)]
pub struct ClientTask {
    place: Place,
    // 32 bits, because there may be a hundred thousand of these.
    listener: u32,
    peer: SocketAddr,
    local: Rc<Local>,
    state: State,
    _permit: OwnedSemaphorePermit,
}

enum State {
    Parked(Parked),
    /// Boxed, because a task is as large as its largest state.
    Served(Pin<Box<dyn Future<Output = Option<Idle>>>>),
    Closed,
}

#[derive(Debug)]
struct Parked {
    tcp: TcpStream,
    /// When to close it.
    deadline: Instant,
    /// Whether nothing has arrived on it yet.
    new: bool,
}

/// A connection on which nothing is under way.
#[derive(Debug)]
pub struct Idle {
    /// The socket.
    pub tcp: TcpStream,
    /// When the wait for the next request began.
    pub since: Instant,
}

impl ClientTask {
    /// Takes over a connection that `listener`, by its index in the snapshot, has accepted.
    pub fn new(
        tcp: TcpStream,
        peer: SocketAddr,
        listener: usize,
        local: Rc<Local>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let entry = &local.snapshot.listeners[listener];
        let stats = entry.stats.shard(local.worker);
        stats.open.increment();
        stats.parked.increment();
        local.drain.enter();
        Self {
            place: local.roster.join(),
            listener: u32::try_from(listener).expect("listeners are few"),
            peer,
            state: State::Parked(Parked {
                tcp,
                deadline: clock::now() + entry.timeouts.keep_alive,
                new: true,
            }),
            local,
            _permit: permit,
        }
    }

    fn listener(&self) -> &ListenerEntry {
        &self.local.snapshot.listeners[self.listener as usize]
    }

    fn stats(&self) -> &ListenerStats {
        self.listener().stats.shard(self.local.worker)
    }

    fn poll_states(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Parked(parked) => {
                    let wanted = ready!(parked.poll(cx, &self.local, self.place));
                    self.stats().parked.decrement();
                    match mem::replace(&mut self.state, State::Closed) {
                        State::Parked(Parked { tcp, .. }) if wanted => self.serve(tcp),
                        _ => {}
                    }
                }
                State::Served(served) => match ready!(served.as_mut().poll(cx)) {
                    Some(idle) => self.park(idle),
                    None => self.state = State::Closed,
                },
                State::Closed => return Poll::Ready(()),
            }
        }
    }

    fn serve(&mut self, tcp: TcpStream) {
        self.state = State::Served(Box::pin(connection::serve(
            tcp,
            self.peer,
            self.listener as usize,
            Rc::clone(&self.local),
            self.place,
        )));
    }

    fn park(&mut self, Idle { tcp, since }: Idle) {
        self.stats().parked.increment();
        self.state = State::Parked(Parked {
            tcp,
            deadline: since + self.listener().timeouts.keep_alive,
            new: false,
        });
    }
}

impl Future for ClientTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        clock::turn(|| self.poll_states(cx))
    }
}

impl Parked {
    /// Waits; says whether there is something to serve.
    fn poll(&mut self, cx: &mut Context<'_>, local: &Local, place: Place) -> Poll<bool> {
        // An error is the next read's to find.
        if self.tcp.poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        if local.drain.draining() {
            if !self.new {
                return Poll::Ready(has_bytes(&self.tcp));
            }
            self.deadline = self.deadline.min(clock::now() + DRAIN_GRACE);
        }
        if local.roster.wait(place, cx, self.deadline) {
            return Poll::Ready(false);
        }
        Poll::Pending
    }
}

/// Whether there is something to read that the runtime has not heard of yet.
pub fn has_bytes(tcp: &TcpStream) -> bool {
    let mut byte = [mem::MaybeUninit::uninit()];
    SockRef::from(tcp)
        .peek(&mut byte)
        .is_ok_and(|bytes| bytes > 0)
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parked(parked) => parked.fmt(f),
            Self::Served(_) => f.write_str("Served"),
            Self::Closed => f.write_str("Closed"),
        }
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        let stats = self.stats();
        stats.open.decrement();
        if matches!(self.state, State::Parked(_)) {
            stats.parked.decrement();
        }
        self.local.roster.leave(self.place);
        self.local.drain.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_connection_is_small() {
        // With what the runtime adds this is a block of 256 bytes.
        assert!(size_of::<ClientTask>() <= 152);
    }
}
