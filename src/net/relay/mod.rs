//! Bytes both ways between two connections, until both directions have ended or one of the connections breaks.
//!
//! Each direction ends by itself, as TCP has it: what one side has closed is closed towards the other side, which may go on
//! sending. A connection that breaks has the other one broken, so that nobody takes what was cut short for whole.
//! Nothing is read that cannot be written, nor before its turn where bytes a second are limited.

mod direction;
#[cfg(test)]
mod tests;

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use self::direction::{Direction, Ends, Phase};
use super::{Throttle, Traffic, Transport, clock};

/// Two connections whose bytes go to each other.
#[derive(Debug)]
pub struct Relay {
    client: (Transport, Traffic),
    server: (Transport, Traffic),
    /// From the client.
    up: Direction,
    /// To the client.
    down: Direction,
    /// Who ended its direction first.
    first: Option<Side>,
    /// When bytes moved last.
    moved_at: Instant,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who has connected.
    Client,
    /// Who was connected to.
    Server,
}

/// How a relay has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both directions have, this one's first.
    Closed(Side),
    /// This one's connection has broken, and so the other's was.
    Reset(Side),
}

impl Relay {
    /// Relays between a client and a server. `early` are bytes of the client's that were read before.
    pub fn new(client: (Transport, Traffic), server: (Transport, Traffic), early: Vec<u8>) -> Self {
        let mut relay = Self {
            client,
            server,
            up: Direction::beginning_with(early),
            down: Direction::default(),
            first: None,
            moved_at: clock::now(),
        };
        relay.client.1.add_received(relay.up.read);
        relay
    }

    /// Has what is read from the client, and from the server, be under limits of bytes a second. The early bytes wait for
    /// their turn, too.
    pub fn throttled(mut self, [up, down]: [Option<Box<Throttle>>; 2]) -> Self {
        (self.up.throttle, self.down.throttle) = (up, down);
        self
    }

    /// Bytes received from the client.
    pub fn received(&self) -> u64 {
        self.up.read
    }

    /// Bytes sent to the client.
    pub fn sent(&self) -> u64 {
        self.down.written
    }

    /// When it is to be given up if nothing moves until then: after `idle`, or after `half_closed` once one direction has
    /// ended.
    pub fn deadline(&self, idle: Duration, half_closed: Duration) -> Instant {
        let limit = match self.first {
            None => idle,
            Some(_) => half_closed,
        };
        self.moved_at + limit
    }

    /// Whether the server does not take what the client has sent. Until it does, nobody is woken when the client's connection
    /// breaks; [`poll`](Self::poll) sees it.
    pub fn is_stopped(&self) -> bool {
        self.up.holds() || !self.server.0.is_flushed()
    }

    /// Is about to be dropped before it has ended. Closed, its connections end as if all had been said; so unless it is quiet,
    /// those whose end has not been passed on are to be reset. It is quiet if nothing has moved for `quiet`, nothing is held,
    /// and neither side has ended its sending: then the other one's end is what it waits for.
    pub fn give_up(&self, quiet: Duration) {
        let holds = self.up.holds() || self.down.holds();
        let flushed = self.client.0.is_flushed() && self.server.0.is_flushed();
        let waits = self.first.is_some();
        if !holds && flushed && !waits && self.moved_at + quiet <= clock::now() {
            return;
        }
        for (towards, side) in [(&self.up, &self.server), (&self.down, &self.client)] {
            if towards.phase() != Phase::Closed {
                side.0.tcp().reset_on_close();
            }
        }
    }

    /// Moves what there is to move. Ready when the relay has ended; all that is left to do then is to drop it.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = self.moved();
        let up = self.up.poll(
            cx,
            &mut Ends {
                from: (&mut self.client.0, &mut self.client.1),
                to: (&mut self.server.0, &mut self.server.1),
            },
            self.down.phase(),
        );
        // Nobody reads from a client while its server takes nothing.
        let is_gone = self.is_stopped() && self.client.0.tcp().is_broken();
        if matches!(up, Poll::Ready(Err(_))) || is_gone {
            return Poll::Ready(self.reset(Side::Client));
        }
        let down = self.down.poll(
            cx,
            &mut Ends {
                from: (&mut self.server.0, &mut self.server.1),
                to: (&mut self.client.0, &mut self.client.1),
            },
            self.up.phase(),
        );
        if let Poll::Ready(Err(_)) = down {
            return Poll::Ready(self.reset(Side::Server));
        }
        // That a turn takes long is no idleness.
        if self.moved() != before || self.up.waits_for_turn() || self.down.waits_for_turn() {
            self.moved_at = clock::now();
        }
        self.end()
    }

    fn moved(&self) -> u64 {
        let (up, down) = (&self.up, &self.down);
        up.read + up.written + down.read + down.written
    }

    /// What the two directions come to.
    fn end(&mut self) -> Poll<End> {
        use Phase::{Closed, Ended, Lost, Open};
        let phases = (self.up.phase(), self.down.phase());
        if self.first.is_none() {
            self.first = match phases {
                (Ended { .. } | Closed, _) => Some(Side::Client),
                (_, Ended { .. } | Closed) => Some(Side::Server),
                (Lost { .. } | Open, Lost { .. } | Open) => None,
            };
        }
        Poll::Ready(match phases {
            (Closed, Closed) => End::Closed(self.first.unwrap_or(Side::Client)),
            // What leads to the server is lost because the server is gone, and the other way round.
            (Lost { cut: false }, Closed) => End::Closed(Side::Server),
            (Closed, Lost { cut: false }) => End::Closed(Side::Client),
            (Lost { .. }, Closed | Lost { .. }) => self.reset(Side::Server),
            (Closed, Lost { .. }) => self.reset(Side::Client),
            // What it has sent need not be taken by a server any more.
            (Open | Ended { .. }, Lost { cut: true }) => self.reset(Side::Client),
            (Open | Ended { .. }, _) | (_, Open | Ended { .. }) => return Poll::Pending,
        })
    }

    /// Breaks the other connection after this one has broken.
    fn reset(&self, broken: Side) -> End {
        let other = match broken {
            Side::Client => &self.server,
            Side::Server => &self.client,
        };
        other.0.tcp().reset_on_close();
        End::Reset(broken)
    }
}
