//! What a worker owns: everything that its requests use without asking another thread.
//!
//! [`Local`] is there as long as the worker is. [`View`] belongs to a configuration: the worker takes a new one when there
//! is a new configuration, and a request uses the one that it began with to its end.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::http::date::Date;
use super::http::request_id::RequestIds;
use super::http::task::FirstReads;
use super::roster::Roster;
use super::seldom::Seldom;
use super::snapshot::{ListenerEntry, Snapshot};
use super::view::View;
use crate::message::h2::Recent;
use crate::metrics::access_log::AccessLog;
use crate::upstream::LocalUpstream;

/// How long a listener that is gone may still get connections that the kernel had accepted for it.
const LAST_CONNECTIONS: Duration = Duration::from_secs(5);

/// A worker's own state.
#[derive(Debug)]
pub struct Local {
    /// Its number, which is also that of its shards.
    pub worker: usize,
    view: RefCell<Rc<View>>,
    /// Of listeners that are gone and still have connections: the last view in which they had routes.
    last_views: RefCell<Vec<LastView>>,
    /// Sides of upstreams that are gone, as far as somebody still uses them.
    retired: RefCell<Vec<Weak<LocalUpstream>>>,
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
    /// Of connections refused because of their address.
    pub told_of_denied: Seldom,
    /// Of connections refused because their address has too many new ones.
    pub told_of_over_rate: Seldom,
}

/// How requests at a listener that is gone are served.
#[derive(Debug)]
struct LastView {
    listener: usize,
    view: Rc<View>,
    /// When it was closed.
    since: Instant,
}

/// A listener as it is configured now.
#[derive(Debug)]
pub struct Listener {
    view: Rc<View>,
    index: usize,
}

impl Deref for Listener {
    type Target = ListenerEntry;

    fn deref(&self) -> &ListenerEntry {
        &self.view.snapshot.listeners[self.index]
    }
}

impl Local {
    /// The state of worker number `worker`. To be called in the worker's runtime: limits may connect to Redis.
    pub fn new(
        worker: usize,
        snapshot: Arc<Snapshot>,
        access_log: Option<Arc<AccessLog>>,
    ) -> Rc<Self> {
        let mut rng = fastrand::Rng::new();
        Rc::new(Self {
            worker,
            view: RefCell::new(Rc::new(View::new(snapshot, worker, None))),
            last_views: RefCell::default(),
            retired: RefCell::default(),
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
            told_of_denied: Seldom::default(),
            told_of_over_rate: Seldom::default(),
        })
    }

    /// The configuration in force.
    pub fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// The configuration for requests at this listener: the one in force, or the last one that had the listener.
    pub fn view_for(&self, listener: usize) -> Rc<View> {
        let view = self.view();
        if view.snapshot.listeners[listener].closed {
            let last_views = self.last_views.borrow();
            let last = last_views.iter().find(|it| it.listener == listener);
            return last.map_or(view, |it| Rc::clone(&it.view));
        }
        view
    }

    /// A listener, by its index.
    pub fn listener(&self, index: usize) -> Listener {
        Listener {
            view: self.view(),
            index,
        }
    }

    /// Whether connections of this listener are to end as soon as they have done what they are doing.
    pub fn is_ending(&self, listener: usize) -> bool {
        self.drain.draining() || self.view.borrow().snapshot.listeners[listener].closed
    }

    /// Takes over a new configuration: requests that begin from now on use it. What it shares with the one before is kept.
    pub fn replace(&self, view: View) {
        let view = Rc::new(view);
        let former = self.view.replace(Rc::clone(&view));
        let mut last_views = self.last_views.borrow_mut();
        last_views.retain(|it| view.snapshot.listeners[it.listener].closed);
        let listeners = former.snapshot.listeners.iter().enumerate();
        let closed: Vec<usize> = listeners
            .filter(|(index, it)| !it.closed && view.snapshot.listeners[*index].closed)
            .map(|(index, _)| index)
            .collect();
        last_views.extend(closed.iter().map(|listener| LastView {
            listener: *listener,
            view: Rc::clone(&former),
            since: Instant::now(),
        }));
        let kept: HashSet<_> = view.upstreams.iter().map(Rc::as_ptr).collect();
        let upstreams = former.upstreams.iter();
        let gone = upstreams.filter(|it| !kept.contains(&Rc::as_ptr(it)));
        self.retired.borrow_mut().extend(gone.map(Rc::downgrade));
        if !closed.is_empty() {
            self.roster.wake_all();
        }
    }

    /// The worker's sides of all upstreams that somebody uses.
    fn each_upstream(&self, mut visit: impl FnMut(&LocalUpstream)) {
        self.view.borrow().upstreams.iter().for_each(|it| visit(it));
        let mut retired = self.retired.borrow_mut();
        retired.retain(|it| it.upgrade().inspect(|it| visit(it)).is_some());
    }

    /// Closes connections to servers that are too old or closed, and lets go of what nobody needs any more.
    pub fn tidy_up(&self) {
        self.each_upstream(LocalUpstream::prune);
        let view = self.view();
        let is_used = |last: &LastView| {
            let stats = &view.snapshot.listeners[last.listener].stats;
            // What the kernel had accepted is taken over soon, but not at once.
            stats.shard(self.worker).open.get() > 0 || last.since.elapsed() < LAST_CONNECTIONS
        };
        self.last_views.borrow_mut().retain(is_used);
    }

    /// Closes the connections to servers that only this client could use, which has gone.
    pub fn forget(&self, client: SocketAddr) {
        self.each_upstream(|upstream| upstream.forget(client));
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
