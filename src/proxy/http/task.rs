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

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connection;
use crate::message::h1::wire::poll_first_read;
use crate::net::{Tcp, clock};
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
    tcp: Tcp,
    /// When to close it.
    deadline: Instant,
    past: Past,
}

/// What has been on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Past {
    /// It was just accepted.
    Accepted,
    /// Nothing yet.
    Nothing,
    /// Requests and answers.
    Exchanges,
}

/// Whether new connections have their request with them, as far as the last ones tell.
///
/// One that has need not be watched at all (see [`Tcp`]). One that has not would be read in vain. Under load most have,
/// because they had to wait; a worker that has time accepts them before their request is there.
#[derive(Debug, Default)]
pub struct FirstReads {
    in_vain: Cell<bool>,
    skipped: Cell<u8>,
}

impl FirstReads {
    /// One in so many is read in any case, to see whether that has changed.
    const SAMPLE: u8 = 16;

    /// Whether to read a new connection before it is watched.
    fn pays(&self) -> bool {
        let skipped = (self.skipped.get() + 1) % Self::SAMPLE;
        self.skipped.set(skipped);
        !self.in_vain.get() || skipped == 0
    }
}

/// A connection on which nothing is under way.
#[derive(Debug)]
pub struct Idle {
    /// The socket.
    pub tcp: Tcp,
    /// When the wait for the next request began.
    pub since: Instant,
}

impl ClientTask {
    /// Takes over a connection that `listener`, by its index in the snapshot, has accepted.
    pub fn new(
        tcp: Tcp,
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
                past: Past::Accepted,
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
                    let read = ready!(parked.poll(cx, &self.local, self.place));
                    self.stats().parked.decrement();
                    match mem::replace(&mut self.state, State::Closed) {
                        State::Parked(Parked { tcp, .. }) if !read.is_empty() => {
                            self.serve(tcp, read);
                        }
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

    fn serve(&mut self, tcp: Tcp, read: BytesMut) {
        self.state = State::Served(Box::pin(connection::serve(
            tcp,
            read,
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
            past: Past::Exchanges,
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
    /// Waits for the beginning of a request; gives nothing when the connection is to be closed.
    fn poll(&mut self, cx: &mut Context<'_>, local: &Local, place: Place) -> Poll<BytesMut> {
        let mut read = BytesMut::new();
        let take = |bytes: &[u8]| read.extend_from_slice(bytes);
        let in_haste = self.past == Past::Accepted && local.first_reads.pays();
        if !in_haste {
            self.tcp.watch();
        }
        let polled = poll_first_read(&mut self.tcp, cx, take);
        if in_haste {
            local.first_reads.in_vain.set(polled.is_pending());
        }
        self.past = self.past.max(Past::Nothing);
        if polled.is_ready() {
            return Poll::Ready(read); // nothing, if the client has gone
        }
        if local.drain.draining() {
            if self.past == Past::Exchanges {
                return match self.tcp.has_bytes() {
                    true => Poll::Pending, // it will be woken to read them
                    false => Poll::Ready(read),
                };
            }
            self.deadline = self.deadline.min(clock::now() + DRAIN_GRACE);
        }
        if local.roster.wait(place, cx, self.deadline) {
            return Poll::Ready(read);
        }
        Poll::Pending
    }
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
    fn reads_in_vain_are_tried_again_now_and_then() {
        let reads = FirstReads::default();
        assert!((0..100).all(|_| reads.pays()));
        reads.in_vain.set(true);
        assert_eq!((0..160).filter(|_| reads.pays()).count(), 10);
    }

    #[test]
    fn a_parked_connection_is_small() {
        // With what the runtime adds this is a block of 256 bytes.
        assert!(size_of::<ClientTask>() <= 152);
    }
}
