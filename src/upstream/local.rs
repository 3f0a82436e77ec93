//! A worker's own side of an upstream: its view of the members and its connections to them.

mod endpoint;

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::timeout_at;

pub use self::endpoint::{LocalEndpoint, Wish};
use super::announce::Announced;
use super::budget::Budget;
use super::connection::Connection;
use super::dial;
use super::endpoint::Endpoint;
use super::group::Upstream;
use super::members::Members;
use super::quantile::Quantile;
use super::settings::{Protocol, Settings};
use crate::net::{Traffic, Transport, clock, connect};

/// Tries after a request's first that a worker may make each second, however few requests there are.
const RETRIES_A_SECOND: u32 = 3;

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
