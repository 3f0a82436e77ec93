//! A worker's unused connections to one server: a stack, so that the most recently used is taken first, few stay hot, and
//! the rest time out.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::announce::Announced;
use super::http1::Connection;
use crate::net::clock;

/// Idle connections kept for an endpoint and worker. Clients of HTTP/2 come with a hundred requests at once; what they
/// need no more times out.
const MAX_IDLE: usize = 1024;

/// Unused connections to one server.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection that was used last and is still open, of those that may serve this client. With `certain` the
    /// kernel is asked whether it is, besides the runtime.
    pub fn take(
        &self,
        announced: Option<Announced>,
        certain: bool,
        cx: &mut Context<'_>,
    ) -> Option<Connection> {
        loop {
            let Idle { connection, .. } = {
                let mut idle = self.idle.borrow_mut();
                // The first look finds it, unless servers are told who the clients are.
                let position = idle
                    .iter()
                    .rposition(|it| it.connection.is_for(announced))?;
                idle.remove(position)
            };
            if connection.is_reusable(cx) && (!certain || connection.is_open()) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer has been read, if it can be used again.
    pub fn put(&self, connection: Connection, cx: &mut Context<'_>) {
        connection.set_answered();
        if connection.is_reusable(cx) {
            let mut idle = self.idle.borrow_mut();
            if idle.len() < MAX_IDLE {
                connection.rest();
                idle.push(Idle {
                    connection,
                    since: clock::now(),
                });
            }
        }
    }

    /// Closes what has been unused for `max_idle` or was closed by the server.
    pub fn prune(&self, now: Instant, max_idle: Duration) {
        let mut cx = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain(|idle| {
            now.saturating_duration_since(idle.since) < max_idle
                && idle.connection.is_reusable(&mut cx)
        });
    }

    /// Closes what only this client could use.
    pub fn forget(&self, client: SocketAddr) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.connection.is_only_for(client));
    }

    /// Closes the one that has been unused for the longest time; false if there is none.
    pub fn close_one(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let any = !idle.is_empty();
        if any {
            idle.remove(0);
        }
        any
    }

    /// How many connections are unused.
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Whether no connection is unused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
