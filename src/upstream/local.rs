//! A worker's own side of an upstream: its view of the members and its connections to them.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{timeout, timeout_at};

use super::announce::Announced;
use super::budget::Budget;
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::group::{Members, Protocol, Settings, Upstream};
use super::pool::Pool;
use super::quantile::Quantile;
use super::sockets::OpenSocket;
use super::{dial, http2};
use crate::balance::{Candidate, Load};
use crate::net::{Traffic, Transport, clock, connect};

/// A server, with this worker's connections to it.
#[derive(Debug)]
pub struct LocalEndpoint {
    /// What all workers share.
    pub shared: Arc<Endpoint>,
    /// This worker's unused connections of HTTP/1.1.
    pool: Pool,
    /// This worker's connections of HTTP/2.
    pub(super) http2: http2::Pool,
    /// The version that it is known to speak, or the upstream's word on it.
    pub(super) spoken: Cell<Protocol>,
    /// Connections that are being opened, and for whom, and that others than those who do wait for.
    dialing: RefCell<Vec<(Option<Announced>, Weak<Dialing>)>>,
    /// When its TLS was last complained of.
    complaint: Cell<Option<Instant>>,
    /// Set while a pick must pass it over.
    pub(super) excluded: Cell<bool>,
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

/// Tries after a request's first that a worker may make each second, however few requests there are.
const RETRIES_A_SECOND: u32 = 3;

impl LocalEndpoint {
    pub(super) fn new(shared: Arc<Endpoint>, settings: &Settings) -> Self {
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
    async fn open_socket(self: &Rc<Self>, limit: Duration) -> io::Result<OpenSocket> {
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
    fn dialing(&self, announced: Option<Announced>) -> Rc<Dialing> {
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
    fn dialed(&self, announced: Option<Announced>) {
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

    async fn take_now(&self, announced: Option<Announced>, certain: bool) -> Option<Connection> {
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

    fn may_complain(&self) -> bool {
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

/// A worker's own side of an upstream.
#[derive(Debug)]
pub struct LocalUpstream {
    /// What all workers share.
    pub shared: Arc<Upstream>,
    /// What tries after a request's first may come to.
    pub retries: RefCell<Budget>,
    /// What second tries beside the first may come to.
    pub hedges: RefCell<Budget>,
    /// Times to the headers of answers, of requests that may get such a second try.
    pub times: RefCell<Quantile>,
    pub(super) worker: usize,
    generation: Cell<u64>,
    pub(super) view: RefCell<View>,
}

/// The members, as a worker knows them.
#[derive(Debug)]
pub(super) struct View {
    pub(super) members: Arc<Members>,
    pub(super) endpoints: Vec<Rc<LocalEndpoint>>,
    /// Those that are ejected.
    pub(super) spare: Vec<Rc<LocalEndpoint>>,
}

impl LocalUpstream {
    /// Worker number `worker`'s side of `shared`.
    pub fn new(shared: Arc<Upstream>, worker: usize) -> Self {
        let generation = shared.generation();
        let view = View::new(shared.members(), None);
        let now = clock::now();
        Self {
            shared,
            retries: RefCell::new(Budget::new(RETRIES_A_SECOND, now)),
            hedges: RefCell::new(Budget::new(0, now)),
            times: RefCell::default(),
            worker,
            generation: Cell::new(generation),
            view: RefCell::new(view),
        }
    }

    /// Takes over what the control thread has published since the last pick.
    pub(super) fn refresh(&self) {
        let generation = self.shared.generation();
        if generation != self.generation.get() {
            self.generation.set(generation);
            let mut view = self.view.borrow_mut();
            *view = View::new(self.shared.members(), Some(&view));
        }
    }

    /// This worker's side of a server, if that is eligible or ejected.
    pub(super) fn find(&self, endpoint: &Arc<Endpoint>) -> Option<Rc<LocalEndpoint>> {
        let view = self.view.borrow();
        let is_it = |it: &&Rc<LocalEndpoint>| Arc::ptr_eq(&it.shared, endpoint);
        view.all().find(is_it).map(Rc::clone)
    }

    /// The upstream's policy, as this worker knows it since its last pick.
    pub fn settings(&self) -> Ref<'_, Settings> {
        Ref::map(self.view.borrow(), |view| &*view.members.settings)
    }

    /// The same to be held while something is waited for.
    fn settings_held(&self) -> Arc<Settings> {
        Arc::clone(&self.view.borrow().members.settings)
    }

    /// What to send a request to a server over: an unused connection, or one with room for a stream, unless `fresh`; else
    /// a new one. If the upstream says so, the server is told whose it is, and no other client's.
    ///
    /// # Errors
    /// The server could not be reached in time. It is counted against the server's health, unless the reason is here.
    pub async fn connect(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        wish: Wish,
    ) -> io::Result<Connection> {
        let Wish {
            announced,
            fresh,
            upgrade,
            certain,
            within,
        } = wish;
        let (announces, protocol) = {
            let settings = self.settings();
            (settings.announces.is_some(), settings.protocol)
        };
        let announced = announced.filter(|_| announces);
        // HTTP/2 has no such thing.
        let upgrade = upgrade && protocol != Protocol::Http2;
        if !fresh
            && !upgrade
            && let Some(connection) = endpoint.take_now(announced, certain).await
        {
            return Ok(connection);
        }
        // Boxed: most requests need no room for this.
        let dialed = Box::pin(async {
            match upgrade {
                true => self.dial_http1(endpoint, announced).await,
                false => self.dial(endpoint, announced, fresh).await,
            }
        });
        match within {
            None => dialed.await,
            Some((since, limit)) => match Box::pin(timeout_at(since + limit, dialed)).await {
                Ok(dialed) => dialed,
                Err(_) => Err(ErrorKind::TimedOut.into()),
            },
        }
    }

    async fn dial(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        announced: Option<Announced>,
        fresh: bool,
    ) -> io::Result<Connection> {
        if self.settings().protocol == Protocol::Http1 {
            return self.dial_http1(endpoint, announced).await;
        }
        loop {
            // A connection of HTTP/1.1 is for one request only.
            if endpoint.spoken.get() == Protocol::Http1 {
                return self.dial_any(endpoint, announced).await;
            }
            // One request opens a connection, and those that come meanwhile see whether it has room for them too.
            let dialing = endpoint.dialing(announced);
            let mut own = None;
            let dialed = dialing.get_or_init(|| async {
                let dialed = self.dial_any(endpoint, announced).await;
                endpoint.dialed(announced);
                dialed
                    .map(|connection| own = Some(connection))
                    .map_err(|error| error.kind())
            });
            let dialed = *dialed.await;
            if let Some(connection) = own {
                return Ok(connection);
            }
            dialed?;
            let taken = match fresh {
                true => endpoint.http2.take_newest(announced).map(Connection::Http2),
                false => endpoint.take_now(announced, true).await,
            };
            if let Some(connection) = taken {
                return Ok(connection);
            }
        }
    }

    async fn dial_http1(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        announced: Option<Announced>,
    ) -> io::Result<Connection> {
        let settings = self.settings_held();
        let traffic = self.traffic(endpoint).await?;
        let began = clock::now();
        let dialed = dial::http1(endpoint, &settings, announced, traffic).await;
        // A server that does not speak HTTP/1.1 may be well all the same.
        let tells = settings.protocol == Protocol::Http1;
        self.judge(endpoint, began, dialed, tells)
            .map(Connection::Http1)
    }

    async fn dial_any(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        announced: Option<Announced>,
    ) -> io::Result<Connection> {
        let settings = self.settings_held();
        // Where connections are limited, room on one that is there may come first.
        let traffic = tokio::select! {
            biased;
            traffic = self.traffic(endpoint) => traffic?,
            exchange = endpoint.http2.wait(announced), if endpoint.shared.sockets().is_limited() => {
                return Ok(Connection::Http2(exchange));
            }
        };
        let began = clock::now();
        let dialed = dial::any(endpoint, &settings, announced, traffic).await;
        self.judge(endpoint, began, dialed, true)
    }

    /// Opens a connection for a client whose bytes are passed on as they are, with where they are counted.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn connect_bare(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        announced: Option<Announced>,
    ) -> io::Result<(Transport, Traffic)> {
        let settings = self.settings_held();
        let announced = announced.filter(|_| settings.announces.is_some());
        let traffic = self.traffic(endpoint).await?;
        let began = clock::now();
        let dialed = dial::bare(endpoint, &settings, announced).await;
        let transport = self.judge(endpoint, began, dialed, true)?;
        Ok((transport, traffic))
    }

    /// Where a new connection is counted, with its bytes.
    ///
    /// # Errors
    /// There are as many as there may be.
    async fn traffic(&self, endpoint: &Rc<LocalEndpoint>) -> io::Result<Traffic> {
        let socket = endpoint.open_socket(self.shared.settings().connect).await?;
        let bytes = Arc::clone(&endpoint.shared.bytes);
        Ok(Traffic::new(bytes, self.worker).holding(socket))
    }

    /// Counts how connecting to a server went that `began` then, and whether a failed handshake `tells` something of the
    /// server.
    fn judge<T>(
        &self,
        endpoint: &LocalEndpoint,
        began: tokio::time::Instant,
        dialed: io::Result<T>,
        tells: bool,
    ) -> io::Result<T> {
        let stats = endpoint.shared.stats.shard(self.worker);
        let server = endpoint.shared.id();
        match &dialed {
            Ok(_) => {
                stats.connects.increment();
                stats.connect_times.observe(clock::now() - began);
                endpoint.shared.connect_succeeded();
            }
            Err(error) => {
                stats.connect_failures.increment();
                if connect::is_local(error) {
                    tracing::debug!(server, %error, "cannot connect for want of resources here");
                } else if tells || error.kind() != ErrorKind::InvalidData {
                    endpoint.shared.connect_failed();
                }
                if error.kind() == ErrorKind::InvalidData && endpoint.may_complain() {
                    tracing::warn!(server, %error, "cannot connect: TLS failed");
                }
            }
        }
        dialed
    }

    /// Closes the connections that only this client could use, which has gone.
    pub fn forget(&self, client: SocketAddr) {
        if self.settings().announces.is_none() {
            return;
        }
        for endpoint in self.view.borrow().all() {
            endpoint.pool.forget(client);
            endpoint.http2.forget(client);
        }
    }

    /// Closes connections that have been unused for too long, and those to servers that are no longer used.
    pub fn prune(&self) {
        self.refresh();
        let now = tokio::time::Instant::now();
        let view = self.view.borrow();
        let max_idle = view.members.settings.pool_idle;
        view.all()
            .filter(|e| !e.pool.is_empty() || !e.http2.is_empty())
            .for_each(|e| {
                e.pool.prune(now, max_idle);
                e.http2.prune(now, max_idle);
                if e.shared.sockets().are_wanted() {
                    e.http2.close_one();
                }
            });
    }
}

impl View {
    /// A view of `members` that keeps the connections of those who were in the view `before`, unless they were made for
    /// other settings.
    fn new(members: Arc<Members>, before: Option<&Self>) -> Self {
        let settings = &members.settings;
        let before = before.filter(|it| settings.connects_like(&it.members.settings));
        let known: HashMap<*const Endpoint, &Rc<LocalEndpoint>> = before
            .iter()
            .flat_map(|before| before.all())
            .map(|endpoint| (Arc::as_ptr(&endpoint.shared), endpoint))
            .collect();
        let local = |shared: &Arc<Endpoint>| match known.get(&Arc::as_ptr(shared)) {
            Some(endpoint) => Rc::clone(endpoint),
            None => Rc::new(LocalEndpoint::new(Arc::clone(shared), settings)),
        };
        let endpoints = members.endpoints.iter().map(local).collect();
        let spare = members.spare.iter().map(local).collect();
        Self {
            members,
            endpoints,
            spare,
        }
    }

    /// Eligible or ejected.
    fn all(&self) -> impl Iterator<Item = &Rc<LocalEndpoint>> {
        self.endpoints.iter().chain(&self.spare)
    }
}
