//! The task that a client's connection to a listener of TCP is.
//!
//! ```text
//!   OPENING ──a server has accepted──▶ RELAYING ──both ends, a break, or idle for too long──▶ ENDED
//!      └── nobody has, or the client is refused ───────────────────────────────────────────────▲
//! ```
//! What opening needs is given back before the first byte moves: what is left is two sockets, this task, a
//! [`Session`] and a [`Seat`].

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::sync::OwnedSemaphorePermit;

use super::open::{self, Caller};
use super::session::Session;
use crate::listener::Counted;
use crate::net::{Tcp, clock};
use crate::proxy::local::Local;
use crate::proxy::seat::Seat;

/// A client's connection, to be run as a task. It counts as open until it is dropped.
#[derive(Debug)]
pub struct TcpTask {
    // First, as a record that is still open looks at the listener.
    state: State,
    seat: Seat,
}

enum State {
    /// Boxed, because a task is as large as its largest state.
    Opening(Pin<Box<dyn Future<Output = Option<Box<Session>>>>>),
    Relaying(Box<Session>),
    Ended,
}

impl TcpTask {
    /// Takes over a connection that `listener`, by its index in the snapshot, has accepted.
    pub fn new(
        tcp: Tcp,
        peer: SocketAddr,
        listener: usize,
        local: Rc<Local>,
        permit: OwnedSemaphorePermit,
        counted: Option<Counted>,
    ) -> Self {
        let mut caller = Caller::new(&local, listener, peer);
        caller.counted = counted;
        Self {
            state: State::Opening(Box::pin(open::open(caller, tcp))),
            seat: Seat::new(local, listener, permit),
        }
    }

    fn poll_states(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.state = match &mut self.state {
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Some(session) => State::Relaying(session),
                    None => State::Ended,
                },
                State::Relaying(session) => {
                    ready!(session.poll(cx, self.seat.place));
                    State::Ended
                }
                State::Ended => return Poll::Ready(()),
            }
        }
    }
}

impl Future for TcpTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        clock::turn(|| self.poll_states(cx))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening(_) => f.write_str("Opening"),
            Self::Relaying(session) => session.fmt(f),
            Self::Ended => f.write_str("Ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_passed_on_is_small() {
        // Besides the runtime's watch on two sockets.
        let (task, session) = (size_of::<TcpTask>(), size_of::<Session>());
        assert!(task <= 64 && session <= 512, "{task} and {session} bytes");
    }
}
