//! A worker's own side of an upstream: its view of the members and its connections to them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::group::{Members, Upstream};
use super::pool::Pool;
use crate::balance::{Candidate, Load, Pick, Strategy};
use crate::net::{Traffic, connect};

/// A server, with this worker's connections to it.
#[derive(Debug)]
pub struct LocalEndpoint {
    /// What all workers share.
    pub shared: Arc<Endpoint>,
    /// This worker's unused connections.
    pub pool: Pool,
    /// Set while a pick must pass it over.
    excluded: Cell<bool>,
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
        !self.excluded.get()
    }
}

/// A request on its way to a server: counts as load until it is dropped.
#[derive(Debug)]
pub struct InFlight(Rc<LocalEndpoint>);

impl InFlight {
    /// The server.
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.shared.end_request();
    }
}

/// A worker's own side of an upstream.
#[derive(Debug)]
pub struct LocalUpstream {
    /// What all workers share.
    pub shared: Arc<Upstream>,
    worker: usize,
    generation: Cell<u64>,
    view: RefCell<View>,
}

#[derive(Debug)]
struct View {
    members: Arc<Members>,
    endpoints: Vec<Rc<LocalEndpoint>>,
}

impl LocalUpstream {
    /// Worker number `worker`'s side of `shared`.
    pub fn new(shared: Arc<Upstream>, worker: usize) -> Self {
        let generation = shared.generation();
        let view = View::new(shared.members(), Vec::new(), &shared);
        Self {
            shared,
            worker,
            generation: Cell::new(generation),
            view: RefCell::new(view),
        }
    }

    /// Chooses a server that is not in `tried` and counts the request as its load.
    pub fn pick(&self, pick: &mut Pick<'_>, tried: &[Rc<LocalEndpoint>]) -> Option<InFlight> {
        self.refresh();
        let view = self.view.borrow();
        tried
            .iter()
            .for_each(|endpoint| endpoint.excluded.set(true));
        let choice = view.members.balancer.pick(&view.endpoints, pick);
        tried
            .iter()
            .for_each(|endpoint| endpoint.excluded.set(false));
        let endpoint = Rc::clone(&view.endpoints[choice?]);
        endpoint.shared.begin_request();
        Some(InFlight(endpoint))
    }

    /// Takes over what the control thread has published since the last pick.
    fn refresh(&self) {
        let generation = self.shared.generation();
        if generation != self.generation.get() {
            self.generation.set(generation);
            let mut view = self.view.borrow_mut();
            let endpoints = std::mem::take(&mut view.endpoints);
            *view = View::new(self.shared.members(), endpoints, &self.shared);
        }
    }

    /// A connection to a server: an unused one unless `fresh`, else a new one.
    ///
    /// # Errors
    /// The server could not be reached in time. It is counted against the server's health, unless the reason is here.
    pub async fn connect(&self, endpoint: &LocalEndpoint, fresh: bool) -> io::Result<Connection> {
        if !fresh && let Some(connection) = poll_fn(|cx| Poll::Ready(endpoint.pool.take(cx))).await
        {
            return Ok(connection);
        }
        // Boxed: most requests need no room for this.
        Box::pin(self.dial(endpoint)).await
    }

    async fn dial(&self, endpoint: &LocalEndpoint) -> io::Result<Connection> {
        let settings = self.shared.settings();
        let stats = endpoint.shared.stats.shard(self.worker);
        match connect::connect(&endpoint.shared.resolved(), settings.connect).await {
            Ok(tcp) => {
                stats.connects.increment();
                endpoint.shared.connect_succeeded();
                let traffic = Traffic::new(Arc::clone(&endpoint.shared.bytes), self.worker);
                Ok(Connection::new(tcp, traffic, settings.idle))
            }
            Err(error) => {
                stats.connect_failures.increment();
                if connect::is_local(&error) {
                    tracing::debug!(server = endpoint.shared.id(), %error, "cannot connect for want of resources here");
                } else {
                    endpoint.shared.connect_failed();
                }
                Err(error)
            }
        }
    }

    /// Closes connections that have been unused for too long, and those to servers that are no longer used.
    pub fn prune(&self) {
        self.refresh();
        let now = tokio::time::Instant::now();
        self.view
            .borrow()
            .endpoints
            .iter()
            .filter(|e| !e.pool.is_empty())
            .for_each(|e| e.pool.prune(now));
    }
}

impl View {
    /// A view of `members` that keeps the connections of those who were in the view before.
    fn new(members: Arc<Members>, before: Vec<Rc<LocalEndpoint>>, upstream: &Upstream) -> Self {
        let mut known: HashMap<*const Endpoint, Rc<LocalEndpoint>> = before
            .into_iter()
            .map(|endpoint| (Arc::as_ptr(&endpoint.shared), endpoint))
            .collect();
        let local = |shared: &Arc<Endpoint>| {
            known.remove(&Arc::as_ptr(shared)).unwrap_or_else(|| {
                Rc::new(LocalEndpoint {
                    shared: Arc::clone(shared),
                    pool: Pool::new(upstream.settings().pool_idle),
                    excluded: Cell::new(false),
                })
            })
        };
        let endpoints = members.endpoints.iter().map(local).collect();
        Self { members, endpoints }
    }
}
