//! A worker's own side of a server: its connections to it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::balance::{Candidate, Load};
use crate::upstream::announce::Announced;
use crate::upstream::connection::Connection;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::http2;
use crate::upstream::pool::Pool;
use crate::upstream::settings::{Protocol, Settings};
use crate::upstream::sockets::OpenSocket;

/// A server, with this worker's connections to it.
#[derive(Debug)]
pub struct LocalEndpoint {
    /// What all workers share.
    pub shared: Arc<Endpoint>,
    /// This worker's unused connections of HTTP/1.1.
    pub(super) pool: Pool,
    /// This worker's connections of HTTP/2.
    pub(in crate::upstream) http2: http2::Pool,
    /// The version that it is known to speak, or the upstream's word on it.
    pub(in crate::upstream) spoken: Cell<Protocol>,
    /// Connections that are being opened, and for whom, and that others than those who do wait for.
    dialing: RefCell<Vec<(Option<Announced>, Weak<Dialing>)>>,
    /// When its TLS was last complained of.
    complaint: Cell<Option<Instant>>,
    /// Set while a pick must pass it over.
    pub(in crate::upstream) excluded: Cell<bool>,
    /// Closes unused connections when other workers want one; there is one while connections are limited.
    closer: RefCell<Option<AbortHandle>>,
}

/// What a request wants to be sent over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// The client's connection, for servers that are told of it.
    pub announced: Option<Announced>,
    /// A new connection, and no old one.
    pub fresh: bool,
    /// One that can switch protocols; it is new too.
    pub upgrade: bool,
    /// A used one only if it is open at this very moment: the request must not be made twice.
    pub certain: bool,
    /// How long after this moment it must be there, whatever time the upstream gives connections.
    pub within: Option<(tokio::time::Instant, Duration)>,
}

/// How opening a connection went.
type Dialing = OnceCell<Result<(), ErrorKind>>;

/// Time between two lines in the log about the same server's TLS.
const COMPLAINTS: Duration = Duration::from_secs(10);

impl LocalEndpoint {
    pub(in crate::upstream) fn new(shared: Arc<Endpoint>, settings: &Settings) -> Self {
        Self {
            shared,
            pool: Pool::default(),
            http2: http2::Pool::default(),
            spoken: Cell::new(settings.protocol),
            dialing: RefCell::default(),
            complaint: Cell::new(None),
            excluded: Cell::new(false),
            closer: RefCell::default(),
        }
    }

    /// Counts one more connection, for which another may have to be closed, here or by another worker.
    ///
    /// # Errors
    /// None was closed within `limit`.
    pub(super) async fn open_socket(self: &Rc<Self>, limit: Duration) -> io::Result<OpenSocket> {
        if self.shared.sockets().is_limited() {
            self.watch_for_wishes();
        }
        if let Some(socket) = OpenSocket::open(&self.shared) {
            return Ok(socket);
        }
        if !self.pool.close_one() {
            self.http2.close_one();
        }
        let opened = timeout(limit, OpenSocket::wait(&self.shared)).await;
        opened.map_err(|_| io::Error::new(ErrorKind::QuotaExceeded, "max_connections"))
    }

    /// Begins to close unused connections when others want one.
    fn watch_for_wishes(self: &Rc<Self>) {
        let mut closer = self.closer.borrow_mut();
        if closer.is_some() {
            return;
        }
        let (shared, this) = (Arc::clone(&self.shared), Rc::downgrade(self));
        let task = spawn_local(async move {
            let close = || {
                if let Some(this) = this.upgrade()
                    && !this.pool.close_one()
                {
                    this.http2.close_one();
                }
            };
            shared.sockets().serve(close).await;
        });
        *closer = Some(task.abort_handle());
    }

    /// The connection that is being opened for this client, or is to be.
    pub(super) fn dialing(&self, announced: Option<Announced>) -> Rc<Dialing> {
        let mut all = self.dialing.borrow_mut();
        all.retain(|(_, dialing)| dialing.strong_count() > 0);
        let known = all.iter().find(|(whom, _)| *whom == announced);
        known
            .and_then(|(_, dialing)| dialing.upgrade())
            .unwrap_or_else(|| {
                let dialing = Rc::default();
                all.push((announced, Rc::downgrade(&dialing)));
                dialing
            })
    }

    /// That one is open, or cannot be opened. Whoever comes from now on begins anew.
    pub(super) fn dialed(&self, announced: Option<Announced>) {
        let mut all = self.dialing.borrow_mut();
        all.retain(|(whom, _)| *whom != announced);
    }

    /// What there is to send a request over.
    fn take(
        &self,
        announced: Option<Announced>,
        certain: bool,
        cx: &mut Context<'_>,
    ) -> Option<Connection> {
        match self.pool.take(announced, certain, cx) {
            Some(connection) => Some(Connection::Http1(connection)),
            None => self.http2.take(announced).map(Connection::Http2),
        }
    }

    pub(super) async fn take_now(
        &self,
        announced: Option<Announced>,
        certain: bool,
    ) -> Option<Connection> {
        poll_fn(|cx| Poll::Ready(self.take(announced, certain, cx))).await
    }

    /// Takes back what a request was sent over, once its answer has been read.
    pub fn release(&self, connection: Connection, cx: &mut Context<'_>) {
        if let Connection::Http1(connection) = connection
            && !self.shared.sockets().are_wanted()
        {
            self.pool.put(connection, cx);
        }
    }

    /// The same within an async function.
    pub async fn release_now(&self, connection: Connection) {
        let mut connection = Some(connection);
        poll_fn(|cx| {
            if let Some(connection) = connection.take() {
                self.release(connection, cx);
            }
            Poll::Ready(())
        })
        .await;
    }

    pub(super) fn may_complain(&self) -> bool {
        let now = Instant::now();
        let last = self.complaint.get();
        let may = last.is_none_or(|last| now - last >= COMPLAINTS);
        if may {
            self.complaint.set(Some(now));
        }
        may
    }
}

impl Drop for LocalEndpoint {
    fn drop(&mut self) {
        if let Some(closer) = self.closer.take() {
            closer.abort();
        }
    }
}

impl Candidate for Rc<LocalEndpoint> {
    fn load(&self, measure: Load, now: Instant) -> u64 {
        let in_flight = u64::from(self.shared.in_flight());
        match measure {
            Load::InFlight => in_flight,
            Load::PeakEwma => self
                .shared
                .latency()
                .nanos(now)
                .saturating_mul(in_flight + 1),
        }
    }

    fn available(&self) -> bool {
        !self.excluded.get() && self.shared.load().has_room()
    }
}
