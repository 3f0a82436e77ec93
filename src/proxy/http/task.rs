//! The task that a client's connection is.
//!
//! ```text
//!            bytes, or the client's close
//!   PARKED ───────────────────────────────▶ SERVED  `connection`, or `open` first
//!     │  ▲                                    │  │
//!     │  └────────────────────────────────────┘  └──▶ closed
//!     │     no request for PARK_AFTER
//!     └──▶ closed: keep_alive, or the worker drains, or the listener is gone
//! ```
//!
//! While it is parked the socket, this task and its seat are all that there is of a connection. It begins that
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
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connection;
use super::open::{self, After, Opened};
use crate::listener::Counted;
use crate::message::h1::wire::poll_first_read;
use crate::metrics::Counter;
use crate::net::{Tcp, Transport, clock};
use crate::proxy::local::Local;
use crate::proxy::seat::Seat;
use crate::proxy::tcp::session::Session;

/// How long a connection waits for its next request before it is parked.
pub const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long a connection on which nothing has arrived is kept when the worker drains or its listener is gone.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A client's connection, to be run as a task. It counts as open until it is dropped.
#[derive(Debug)]
pub struct ClientTask {
    state: State,
    peer: SocketAddr,
    seat: Seat,
}

enum State {
    Parked(Parked),
    /// Boxed, because a task is as large as its largest state.
    Served(Pin<Box<dyn Future<Output = After>>>),
    /// It is not ours to decrypt.
    Passed(Box<Session>),
    Closed,
}

#[derive(Debug)]
struct Parked {
    transport: Transport,
    /// When to close it.
    deadline: Instant,
    past: Past,
    facts: Option<Box<Facts>>,
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

/// What is known of a connection besides its socket and its peer, mostly nothing. A PROXY header may tell it, which comes
/// only once.
#[derive(Debug, Default)]
pub struct Facts {
    /// Counts it for its address.
    pub counted: Option<Counted>,
    /// Whether nobody knows who is behind the peer, so that nothing is believed of what comes from it.
    pub is_unknown: bool,
    /// Where the client thinks it is connected to.
    pub destination: Option<SocketAddr>,
    /// There as long as the client, if servers are told of it.
    pub presence: Option<Presence>,
}

impl Facts {
    fn of(counted: Counted) -> Self {
        Self {
            counted: Some(counted),
            ..Self::default()
        }
    }
}

/// A client that servers are told of. With it go the connections to servers that nobody else may use.
#[derive(Debug)]
pub struct Presence {
    local: Rc<Local>,
    client: SocketAddr,
}

impl Presence {
    /// The presence of a client.
    pub fn new(local: &Rc<Local>, client: SocketAddr) -> Self {
        Self {
            local: Rc::clone(local),
            client,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.local.forget(self.client);
    }
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
    /// The socket, with what TLS knows of it.
    pub transport: Transport,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// When the wait for the next request began.
    pub since: Instant,
    /// What else is known of it.
    pub facts: Option<Box<Facts>>,
}

impl ClientTask {
    /// Takes over a connection that `listener`, by its index in the snapshot, has accepted.
    pub fn new(
        tcp: Tcp,
        peer: SocketAddr,
        listener: usize,
        local: Rc<Local>,
        permit: OwnedSemaphorePermit,
        counted: Option<Counted>,
    ) -> Self {
        let entry = local.listener(listener);
        entry.stats.shard(local.worker).parked.increment();
        Self {
            state: State::Parked(Parked {
                transport: tcp.into(),
                deadline: clock::now() + entry.first_wait(),
                past: Past::Accepted,
                facts: counted.map(|counted| Box::new(Facts::of(counted))),
            }),
            peer,
            seat: Seat::new(local, listener, permit),
        }
    }

    fn count_parked(&self, count: fn(&Counter)) {
        let stats = &self.seat.listener().stats;
        count(&stats.shard(self.seat.local.worker).parked);
    }

    fn poll_states(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Parked(parked) => {
                    let woken = ready!(parked.poll(cx, &self.seat));
                    self.count_parked(Counter::decrement);
                    if let State::Parked(mut parked) = mem::replace(&mut self.state, State::Closed)
                    {
                        if matches!(woken, Woken::Gone) && parked.transport.is_encrypted() {
                            // TLS says that this is the end, as far as there is room to.
                            _ = Pin::new(&mut parked.transport).poll_shutdown(cx);
                        }
                        self.serve(parked, woken);
                    }
                }
                State::Served(served) => match ready!(served.as_mut().poll(cx)) {
                    After::Idle(idle) => self.park(idle),
                    After::Passed(session) => self.state = State::Passed(session),
                    After::Closed => self.state = State::Closed,
                },
                State::Passed(session) => {
                    ready!(session.poll(cx, self.seat.place));
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(()),
            }
        }
    }

    fn serve(&mut self, parked: Parked, woken: Woken) {
        let Parked {
            transport,
            deadline,
            facts,
            past,
        } = parked;
        let opened = Opened {
            transport,
            peer: self.peer,
            listener: self.seat.index(),
            local: Rc::clone(&self.seat.local),
            place: self.seat.place,
            is_new: past < Past::Exchanges,
            facts,
        };
        self.state = match woken {
            Woken::Gone => State::Closed,
            Woken::Read(read) => State::Served(Box::pin(async {
                connection::serve(opened, read).await.into()
            })),
            Woken::Readable => State::Served(Box::pin(open::open(opened, deadline))),
        };
    }

    fn park(&mut self, idle: Idle) {
        self.count_parked(Counter::increment);
        self.peer = idle.peer;
        self.state = State::Parked(Parked {
            transport: idle.transport,
            deadline: idle.since + self.seat.listener().timeouts.keep_alive,
            past: Past::Exchanges,
            facts: idle.facts,
        });
    }
}

impl Future for ClientTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        clock::turn(|| self.poll_states(cx))
    }
}

/// Why a connection waits no more.
enum Woken {
    /// Bytes have come: the beginning of a request.
    Read(BytesMut),
    /// There is something to read, and a PROXY header or a TLS handshake is to be expected.
    Readable,
    /// The client has gone, or its time is up.
    Gone,
}

impl Parked {
    /// Waits for something to come.
    fn poll(&mut self, cx: &mut Context<'_>, seat: &Seat) -> Poll<Woken> {
        let local = &*seat.local;
        let polled = if self.past < Past::Exchanges && seat.listener().has_preamble() {
            let polled = self.transport.poll_readable(cx);
            polled.map(|readable| readable.map_or(Woken::Gone, |()| Woken::Readable))
        } else {
            self.poll_read(cx, local)
        };
        self.past = self.past.max(Past::Nothing);
        if polled.is_ready() {
            return polled;
        }
        if local.drain.closes_idle() {
            if self.past == Past::Exchanges {
                return match self.transport.has_bytes() {
                    true => Poll::Pending, // it will be woken to read them
                    false => Poll::Ready(Woken::Gone),
                };
            }
            self.deadline = self.deadline.min(clock::now() + DRAIN_GRACE);
        }
        if local.roster.wait(seat.place, cx, self.deadline) {
            return Poll::Ready(Woken::Gone);
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, local: &Local) -> Poll<Woken> {
        let mut read = BytesMut::new();
        let take = |bytes: &[u8]| read.extend_from_slice(bytes);
        let in_haste = self.past == Past::Accepted && local.first_reads.pays();
        if !in_haste {
            self.transport.watch();
        }
        let polled = poll_first_read(&mut self.transport, cx, take);
        if in_haste {
            local.first_reads.in_vain.set(polled.is_pending());
        }
        polled.map(|_| match read.is_empty() {
            true => Woken::Gone,
            false => Woken::Read(read),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parked(parked) => parked.fmt(f),
            Self::Served(_) => f.write_str("Served"),
            Self::Passed(session) => session.fmt(f),
            Self::Closed => f.write_str("Closed"),
        }
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        if matches!(self.state, State::Parked(_)) {
            self.count_parked(Counter::decrement);
        }
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
