//! What a worker owns: everything that its requests use without asking another thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::http::date::Date;
use super::http::request_id::RequestIds;
use super::snapshot::Snapshot;
use crate::limit::{Limiter, RedisConnection};
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
    /// Where heads of requests to servers are written before they are sent.
    pub head: RefCell<Vec<u8>>,
    /// Where access log lines go, if anywhere.
    pub access_log: Option<Arc<AccessLog>>,
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
            head: RefCell::default(),
            access_log,
            drain: Drain::default(),
        })
    }
}

/// The end of a worker: tells its connections that it has begun, and counts those that are still open.
#[derive(Debug, Default)]
pub struct Drain {
    draining: Cell<bool>,
    begun: Notify,
    open: Cell<usize>,
    closed: Notify,
}

impl Drain {
    /// Has every connection finish what it is doing and close.
    pub fn begin(&self) {
        self.draining.set(true);
        self.begun.notify_waiters();
    }

    /// Resolves when draining has begun. Cheap to poll often: it registers its task once, which must stay the same.
    pub fn begun(&self) -> Begun<'_> {
        Begun {
            drain: self,
            notified: self.begun.notified(),
            registered: false,
        }
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn open(&self) -> Open<'_> {
        self.open.set(self.open.get() + 1);
        Open(self)
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        self.open.get()
    }

    /// Resolves when no connection is open.
    pub async fn closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Open<'a>(&'a Drain);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.closed.notify_one();
        }
    }
}

pin_project! {
    /// See [`Drain::begun`].
    #[derive(Debug)]
    pub struct Begun<'a> {
        drain: &'a Drain,
        #[pin]
        notified: Notified<'a>,
        registered: bool,
    }
}

impl Future for Begun<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.drain.draining.get() {
            return Poll::Ready(());
        }
        if *this.registered {
            return Poll::Pending;
        }
        *this.registered = true;
        this.notified.poll(cx)
    }
}
