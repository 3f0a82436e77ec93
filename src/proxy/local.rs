//! What a worker owns: everything that its requests use without asking another thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::http::date::Date;
use super::http::request_id::RequestIds;
use super::http::task::FirstReads;
use super::roster::Roster;
use super::snapshot::Snapshot;
use crate::limit::{Limiter, RedisConnection};
use crate::message::h2::Recent;
use crate::metrics::access_log::AccessLog;
use crate::upstream::LocalUpstream;

/// A worker's own state.
#[derive(Debug)]
pub struct Local {
    /// Its number, which is also that of its shards.
    pub worker: usize,
    /// The configuration in force.
    pub snapshot: Arc<Snapshot>,
    /// Its side of each upstream of the snapshot, by the same index.
    pub upstreams: Vec<Rc<LocalUpstream>>,
    /// Its side of each limit of the snapshot, by the same index.
    pub limiters: Vec<Limiter>,
    /// Its connection to Redis, if limits count there.
    pub redis: Option<Rc<RedisConnection>>,
    /// Where request ids come from.
    pub request_ids: RequestIds,
    /// The source of randomness of strategies.
    pub rng: RefCell<fastrand::Rng>,
    /// The date of answers that have none.
    pub date: Date,
    /// What answers have said lately, to clients of HTTP/2.
    pub recent: RefCell<Recent>,
    /// Where heads of requests to servers are written before they are sent.
    pub head: RefCell<Vec<u8>>,
    /// Where access log lines go, if anywhere.
    pub access_log: Option<Arc<AccessLog>>,
    /// Copies of requests that are under way.
    pub mirrors: Cell<usize>,
    /// The clients' connections.
    pub roster: Roster,
    /// What is known of new ones.
    pub first_reads: FirstReads,
    /// Whether the worker is ending, and what it still serves.
    pub drain: Drain,
}

impl Local {
    /// The state of worker number `worker`. To be called in the worker's runtime: limits may connect to Redis.
    pub fn new(
        worker: usize,
        snapshot: Arc<Snapshot>,
        access_log: Option<Arc<AccessLog>>,
    ) -> Rc<Self> {
        let mut rng = fastrand::Rng::new();
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|entry| Rc::new(LocalUpstream::new(Arc::clone(&entry.shared), worker)));
        let redis = snapshot.redis.as_ref().map(|redis| {
            RedisConnection::new(redis.url.expose(), redis.timeout)
                .expect("the URL was checked before the start")
        });
        let limiters = snapshot
            .limits
            .iter()
            .map(|limit| Limiter::new(Arc::clone(&limit.shared), redis.as_ref()));
        Rc::new(Self {
            worker,
            upstreams: upstreams.collect(),
            limiters: limiters.collect(),
            redis,
            snapshot,
            request_ids: RequestIds::new(&mut rng),
            rng: RefCell::new(rng),
            date: Date::default(),
            recent: RefCell::default(),
            head: RefCell::default(),
            access_log,
            mirrors: Cell::new(0),
            roster: Roster::default(),
            first_reads: FirstReads::default(),
            drain: Drain::default(),
        })
    }
}

/// The end of a worker: tells its connections that it has begun, and counts those that are still open.
#[derive(Debug, Default)]
pub struct Drain {
    draining: Cell<bool>,
    handed_over: Cell<bool>,
    begun: Notify,
    open: Cell<usize>,
    closed: Notify,
}

impl Drain {
    /// Has every connection finish what it is doing and close. `handed_over` says that another process accepts those that
    /// still wait.
    pub fn begin(&self, handed_over: bool) {
        self.handed_over.set(handed_over);
        self.draining.set(true);
        self.begun.notify_waiters();
    }

    /// Whether that has happened.
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether another process has the sockets that listen.
    pub fn handed_over(&self) -> bool {
        self.handed_over.get()
    }

    /// Whether connections that wait for a request are closed. For the sake of an upgrade they are not, since a request
    /// may be on its way: they are once they have had one more, and nobody waits for this process to end.
    pub fn closes_idle(&self) -> bool {
        self.draining.get() && !self.handed_over.get()
    }

    /// Resolves when it has.
    pub async fn begun(&self) {
        while !self.draining.get() {
            self.begun.notified().await;
        }
    }

    /// Counts somebody as open.
    pub fn enter(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// Somebody who has entered is closed.
    pub fn leave(&self) {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0 {
            self.closed.notify_one();
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.get()
    }

    /// Resolves when nobody is.
    pub async fn closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }
}
