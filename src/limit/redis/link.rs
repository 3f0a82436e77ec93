//! A worker's connection to one Redis server: never in a request's way for longer than its timeout.
//!
//! ```text
//!            check             connected
//!   Idle ───────────▶ Connecting ───────▶ Ready
//!    ▲                    │                │ │ 3 failures in a row
//!    │                    │ refused, or    │ ▼
//!    │                    │ 3 waited    Down ◀─┐ probe failed, again after 500 ms
//!    │                    └───────────────▶│ └─┘
//!    │                                     │ probe answered ──▶ Ready
//!    └── the connection broke (from Ready), or its server is a master no more
//! ```
//!
//! While it is down, checks fail at once and a task in the background probes. A probe is a check of its own and not a
//! PING, because a Redis that is a read-only replica, out of memory, or denies scripts answers PING all the same. Behind
//! sentinels each try to connect begins with the question who the master is, and so does each second of a connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::script::{Call, Script};
use super::sentinel::Sentinels;
use super::server::{CONNECT_TIMEOUT, MAX_IN_FLIGHT, Server, Session};
use super::settings::Role;
use super::{PROBE_KEY, RedisStats, StoreError};
use crate::tls::ClientTls;

/// Failures in a row after which Redis counts as down.
const MAX_FAILURES: u32 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two questions to sentinels while the master is well. One that was replaced by an operator, or cut off from the
/// sentinels, may take writes for 10 s, which are lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What all links of a worker have in common.
pub(super) struct Terms {
    pub(super) timeout: Duration,
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) stats: Arc<RedisStats>,
    pub(super) probe: Script,
}

/// Whom a link leads to.
pub(super) enum Target {
    /// Always the same server.
    Server(Server),
    /// Whom the sentinels name.
    Master(Sentinels),
    /// A node of a cluster.
    Node(Server),
}

enum State {
    /// Not connected, and nobody is at it: the next check starts.
    Idle,
    /// A task connects; checks wait for it.
    Connecting,
    /// Checks go here.
    Ready(Session),
    /// Checks fail at once while a task probes.
    Down,
}

/// A connection to one server. It connects when it is first needed.
///
/// It spawns tasks with `spawn_local`, so checks must run inside a `LocalSet`; they end when the link is dropped.
pub(super) struct Link {
    terms: Rc<Terms>,
    target: Target,
    /// The key of probes, which a node of a cluster must own; `None` has it ping.
    probe_key: RefCell<Option<String>>,
    state: RefCell<State>,
    /// Wakes the checks that wait for `Connecting` to end.
    changed: Notify,
    failures: Cell<u32>,
    in_flight: Cell<usize>,
    /// Whether a task asks the sentinels from time to time.
    is_looked_after: Cell<bool>,
    /// Whom the metrics count a session with.
    counted: RefCell<Option<String>>,
}

impl Link {
    pub(super) fn new(terms: Rc<Terms>, target: Target) -> Rc<Self> {
        let of_cluster = matches!(target, Target::Node(_));
        Rc::new(Self {
            terms,
            target,
            probe_key: RefCell::new((!of_cluster).then(|| PROBE_KEY.to_owned())),
            state: RefCell::new(State::Idle),
            changed: Notify::new(),
            failures: Cell::new(0),
            in_flight: Cell::new(0),
            is_looked_after: Cell::new(false),
            counted: RefCell::new(None),
        })
    }

    /// Probes with this key from now on.
    pub(super) fn probe_with(&self, key: Option<String>) {
        self.probe_key.replace(key);
    }

    /// Whom it leads to now, as far as that is known.
    pub(super) fn server(&self) -> Server {
        match &self.target {
            Target::Server(server) | Target::Node(server) => server.clone(),
            Target::Master(sentinels) => sentinels.last(),
        }
    }

    fn role(&self) -> Role {
        match &self.target {
            Target::Server(_) => Role::Server,
            Target::Master(_) => Role::Master,
            Target::Node(_) => Role::Primary,
        }
    }

    /// Whether the server is known to be down.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.state.borrow(), State::Down)
    }

    /// Begins to connect, unless that has been done.
    pub(super) fn start(self: &Rc<Self>) {
        if matches!(*self.state.borrow(), State::Idle) {
            self.connect_after(Duration::ZERO);
            self.state.replace(State::Connecting);
            let is_master = matches!(self.target, Target::Master(_));
            if is_master && !self.is_looked_after.replace(true) {
                tokio::task::spawn_local(look_after(Rc::downgrade(self)));
            }
        }
    }

    /// Returns when the connection is there, or the server is known to be down; at once if it is down already.
    pub(super) async fn warm_up(self: &Rc<Self>) {
        _ = timeout(CONNECT_TIMEOUT, self.ready()).await;
    }

    /// Runs a script until `deadline`.
    ///
    /// # Errors
    /// Redirections of a cluster are [`StoreError::Redis`]; the server has answered then.
    pub(super) async fn call(
        self: &Rc<Self>,
        call: &Call<'_>,
        deadline: Instant,
        asking: bool,
    ) -> Result<Value, StoreError> {
        if self.is_down() {
            return Err(StoreError::Unavailable);
        }
        let _slot = Slot::take(&self.in_flight)?;
        let mut sending = pin!(self.send(call, asking));
        let result = match timeout_at(deadline, sending.as_mut()).await {
            Ok(result) => result,
            Err(_) => look_again(sending)
                .await
                .unwrap_or(Err(StoreError::Timeout(self.terms.timeout))),
        };
        match &result {
            Ok(_) => self.failures.set(0),
            Err(error) if error.is_redirection() => self.failures.set(0),
            Err(error) => self.count_failure(error),
        }
        result
    }

    /// Asks the server something else than a script, if there is a connection.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let session = match &*self.state.borrow() {
            State::Ready(session) => Some(session.clone()),
            _ => None,
        };
        let mut session = session.ok_or(StoreError::Unavailable)?;
        let limit = self.terms.timeout;
        match timeout(limit, session.command(command)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StoreError::Timeout(limit)),
        }
    }

    /// A connection that turns out to be broken is worth one more try, since Redis may just have been restarted, and so
    /// is a master that is none any more. The worst that can come of it is that what is asked for is counted twice: a
    /// request, or a lease.
    async fn send(self: &Rc<Self>, call: &Call<'_>, asking: bool) -> Result<Value, StoreError> {
        let mut retried = false;
        loop {
            let mut session = self.ready().await?;
            match session.run(call, asking).await {
                Err(error) if error.is_unrecoverable_error() || self.is_deposed(&error) => {
                    self.disconnect(&session);
                    if retried {
                        return Err(error.into());
                    }
                    retried = true;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Whether the answer is that of a replica, and there are sentinels to ask who is not.
    fn is_deposed(&self, error: &redis::RedisError) -> bool {
        let kinds = [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown];
        let deposed = matches!(error.kind(), ErrorKind::Server(kind) if kinds.contains(&kind));
        deposed && matches!(self.target, Target::Master(_))
    }

    /// Waits for a connection while one is being made.
    async fn ready(self: &Rc<Self>) -> Result<Session, StoreError> {
        loop {
            let changed = self.changed.notified();
            match &*self.state.borrow() {
                State::Ready(session) => return Ok(session.clone()),
                State::Down => return Err(StoreError::Unavailable),
                State::Idle | State::Connecting => {}
            }
            self.start();
            changed.await;
        }
    }

    /// Drops a connection that is broken, or whose server is a master no more. If others have seen that before, there is
    /// nothing left to do, and there may be a new one already.
    fn disconnect(&self, session: &Session) {
        let is_current =
            matches!(&*self.state.borrow(), State::Ready(current) if current.is(session));
        if is_current {
            self.state.replace(State::Idle);
            self.count(None);
        }
    }

    fn connect_after(self: &Rc<Self>, pause: Duration) {
        tokio::task::spawn_local(connect(Rc::downgrade(self), pause));
    }

    fn count_failure(self: &Rc<Self>, error: &StoreError) {
        self.terms.stats.failures.increment();
        self.failures.set(self.failures.get().saturating_add(1));
        if self.failures.get() < MAX_FAILURES || self.is_down() {
            return;
        }
        // The task that connects goes on to probe.
        if !matches!(*self.state.borrow(), State::Connecting) {
            self.connect_after(PROBE_INTERVAL);
        }
        self.go_down(error);
    }

    fn go_down(&self, error: &StoreError) {
        if !self.is_down() {
            let error: &dyn std::error::Error = error;
            let server = self.server();
            tracing::warn!(%server, error, "Redis is down, limits are decided without it");
            self.state.replace(State::Down);
            self.count(None);
            self.changed.notify_waiters();
        }
    }

    fn go_up(&self, session: Session) {
        let server = self.server();
        if self.is_down() {
            tracing::info!(%server, "Redis is back");
        }
        self.failures.set(0);
        self.state.replace(State::Ready(session));
        self.count(Some(server.to_string()));
        self.changed.notify_waiters();
    }

    /// Has the metrics count a session with `server`, and the one before no more.
    fn count(&self, server: Option<String>) {
        let role = self.role();
        let before = self.counted.replace(server.clone());
        self.terms.stats.sessions(role, before, server);
    }

    /// A new session in which a check has been answered.
    pub(super) async fn dial(&self) -> Result<Session, StoreError> {
        let sentinels = match &self.target {
            Target::Server(server) | Target::Node(server) => return self.dial_to(server).await,
            Target::Master(sentinels) => sentinels,
        };
        let master = sentinels.master(&self.terms).await?;
        match self.dial_to(&master).await {
            Ok(session) => {
                sentinels.settle(master, &self.terms);
                Ok(session)
            }
            Err(error) => {
                sentinels.doubt();
                Err(error)
            }
        }
    }

    async fn dial_to(&self, server: &Server) -> Result<Session, StoreError> {
        let terms = &self.terms;
        terms.stats.dials.increment();
        let mut session = server.session(terms.tls.as_deref()).await?;
        match timeout(terms.timeout, self.probe(&mut session)).await {
            Ok(answer) => answer.map(|()| session),
            Err(_) => Err(StoreError::Timeout(terms.timeout)),
        }
    }

    /// Leaves a master that has been replaced, and may take a while to learn of it. The new one has to be at work.
    async fn look_after(&self, sentinels: &Sentinels) {
        let last = sentinels.last();
        let named = sentinels.master(&self.terms).await;
        if named.is_ok_and(|master| !master.is_at(&last))
            && let Ok(session) = self.dial().await
            && matches!(*self.state.borrow(), State::Ready(_) | State::Idle)
        {
            self.go_up(session);
        }
    }

    async fn probe(&self, session: &mut Session) -> Result<(), StoreError> {
        let key = self.probe_key.borrow().clone();
        let Some(key) = key else {
            return Ok(session.command::<()>(&redis::cmd("PING")).await?);
        };
        // Always admitted, because only then does the script write.
        let arguments = [u64::from(u32::MAX), 1000, 1, 1, 1];
        let call = self.terms.probe.call(&key, &arguments);
        match session.run(&call, false).await.map_err(StoreError::from) {
            Err(error) if error.is_redirection() => Ok(()),
            answer => answer.map(drop),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.count(None);
    }
}

/// What a future has come to by now, its last chance.
///
/// On a machine short of processors a worker may itself have been waiting for longer than the timeout. Then the answer
/// is in the socket, and the task that reads it has only to be given a turn.
pub(in crate::limit) async fn look_again<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    for _ in 0..2 {
        yield_now().await;
    }
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Connects, and tries again until it has succeeded or nobody is left to use the connection.
async fn connect(link: Weak<Link>, mut pause: Duration) {
    loop {
        sleep(pause).await;
        let Some(link) = link.upgrade() else { return };
        match link.dial().await {
            Ok(session) => return link.go_up(session),
            Err(error) => link.go_down(&error),
        }
        pause = PROBE_INTERVAL;
    }
}

/// Asks the sentinels from time to time whether the master is still the same.
async fn look_after(link: Weak<Link>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        let Some(link) = link.upgrade() else { return };
        let is_ready = matches!(*link.state.borrow(), State::Ready(_));
        if let (Target::Master(sentinels), true) = (&link.target, is_ready) {
            link.look_after(sentinels).await;
        }
    }
}

/// A place among the checks under way, given back on drop.
struct Slot<'a>(&'a Cell<usize>);

impl<'a> Slot<'a> {
    fn take(in_flight: &'a Cell<usize>) -> Result<Self, StoreError> {
        if in_flight.get() >= MAX_IN_FLIGHT {
            return Err(StoreError::Busy);
        }
        in_flight.set(in_flight.get() + 1);
        Ok(Self(in_flight))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests;
