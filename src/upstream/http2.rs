//! HTTP/2 towards servers: connections that many requests share, each request a stream (RFC 9113).
//!
//! The h2 crate needs somebody to read and write for all streams of a connection: a task of its own. A request still
//! drives its own stream: it hands over head and body, and waits for the answer's parts.

mod exchange;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::Instant;

pub use self::exchange::Exchange;
use super::announce::Announced;
use super::driver::Driver;
use crate::net::{Stream, clock};

const STREAM_WINDOW: u32 = 256 * 1024;
/// As much as all streams together: a client that does not read its answer must not keep others from theirs.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// What unread small frames may cost altogether, as the library counts: 256 each, less their length. Its default is a
/// tenth of it, and ends the connection of everybody when some clients are slow to read small messages.
const SMALL_FRAMES: usize = 128 * 1024 * 1024;
/// Bytes of a request's body that may wait for the server to take them.
const SEND_BUFFER: usize = 64 * 1024;
/// Decoded size of an answer's fields; twice what a client may send, as in HTTP/1.1.
const MAX_FIELDS_SIZE: u32 = 64 * 1024;
/// Streams on one connection until a server says what it takes, and at most.
const MAX_STREAMS: usize = 100;
/// After this time a connection gets no more streams, so that requests find new servers behind a name, and keys change.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// A worker's connections to one server.
#[derive(Debug)]
pub struct Pool {
    connections: RefCell<Vec<Rc<Shared>>>,
    /// How many streams a connection may have, as far as the server has said so on others.
    streams: Cell<usize>,
    /// Those who wait for a stream to end.
    freed: Rc<Freed>,
}

/// Tells that a stream has ended.
#[derive(Debug, Default)]
struct Freed {
    waiting: Cell<usize>,
    notify: Notify,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            connections: RefCell::default(),
            streams: Cell::new(MAX_STREAMS),
            freed: Rc::default(),
        }
    }
}

/// A connection.
#[derive(Debug)]
struct Shared {
    requests: SendRequest<Bytes>,
    https: bool,
    /// The only client that it serves, if there is such a one.
    announced: Option<Announced>,
    /// How long the server may take nothing.
    idle: Duration,
    streams: Cell<usize>,
    freed: Rc<Freed>,
    /// Whether something was answered over it.
    served: Cell<bool>,
    /// Set when its task has ended, or the server has said that it takes no more streams.
    closed: Cell<bool>,
    since: Instant,
    /// Since when it has no streams.
    idle_since: Cell<Instant>,
    /// Since when it has streams.
    busy_since: Cell<Instant>,
}

impl Shared {
    fn has_room(&self) -> bool {
        self.is_good() && self.streams.get() < self.max_streams()
    }

    fn max_streams(&self) -> usize {
        self.requests.current_max_send_streams().min(MAX_STREAMS)
    }

    fn is_good(&self) -> bool {
        !self.closed.get() && clock::now() - self.since < MAX_AGE
    }
}

impl Pool {
    /// A stream on a connection that has room for it.
    pub fn take(&self, announced: Option<Announced>) -> Option<Exchange> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_good());
        if let Some(connection) = connections.first() {
            self.streams.set(connection.max_streams());
        }
        let fits = |it: &&Rc<Shared>| it.announced == announced && it.has_room();
        let connection = connections.iter().find(fits);
        connection.map(Exchange::new)
    }

    /// A stream on the connection that was opened last, if that has room for it.
    pub fn take_newest(&self, announced: Option<Announced>) -> Option<Exchange> {
        let connections = self.connections.borrow();
        let newest = connections.iter().rfind(|it| it.announced == announced)?;
        newest.has_room().then(|| Exchange::new(newest))
    }

    /// Waits until there is room for a stream on one of the connections that are there.
    pub async fn wait(&self, announced: Option<Announced>) -> Exchange {
        self.freed.waiting.set(self.freed.waiting.get() + 1);
        let _leaves = Leaves(&self.freed);
        loop {
            if let Some(exchange) = self.take(announced) {
                return exchange;
            }
            self.freed.notify.notified().await;
        }
    }

    /// Opens a connection, and a stream on it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn open(
        &self,
        mut stream: Stream,
        https: bool,
        announced: Option<Announced>,
        idle: Duration,
    ) -> io::Result<Exchange> {
        let heard = stream.heard();
        let (requests, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_FIELDS_SIZE)
            .initial_max_send_streams(self.streams.get())
            .data_frame_budget(SMALL_FRAMES)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let shared = Rc::new(Shared {
            requests,
            https,
            announced,
            idle,
            streams: Cell::new(0),
            freed: Rc::clone(&self.freed),
            served: Cell::new(false),
            closed: Cell::new(false),
            since: clock::now(),
            idle_since: Cell::new(clock::now()),
            busy_since: Cell::new(clock::now()),
        });
        let driven = Rc::downgrade(&shared);
        spawn_local(async move {
            // Whoever has a stream has the connection.
            let busy_since = || {
                let shared = driven.upgrade()?;
                (shared.streams.get() > 0).then(|| shared.busy_since.get())
            };
            let ended = Driver::new(connection, heard, busy_since).await;
            tracing::debug!(%ended, "an HTTP/2 connection to a server has ended");
            if let Some(driven) = driven.upgrade() {
                driven.closed.set(true);
            }
        });
        self.connections.borrow_mut().push(Rc::clone(&shared));
        Ok(Exchange::new(&shared))
    }

    /// Lets go of connections that have been unused for `max_idle`, or are too old; those close when their last stream
    /// has ended.
    pub fn prune(&self, now: Instant, max_idle: Duration) {
        self.connections.borrow_mut().retain(|connection| {
            let idle = now.saturating_duration_since(connection.idle_since.get());
            connection.is_good() && (connection.streams.get() > 0 || idle < max_idle)
        });
    }

    /// Lets go of one that has no streams.
    pub fn close_one(&self) {
        let mut connections = self.connections.borrow_mut();
        let unused = connections.iter().position(|it| it.streams.get() == 0);
        if let Some(index) = unused {
            connections.remove(index);
        }
    }

    /// Lets go of those that only this client could use.
    pub fn forget(&self, client: SocketAddr) {
        let is_its = |it: &Shared| it.announced.is_some_and(|told| told.is_of(client));
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !is_its(connection));
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }
}

/// One of those who wait for a stream to end.
struct Leaves<'a>(&'a Freed);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
