//! A worker's connection to Redis: shared by all of the worker's limits, and never in a request's way for longer than
//! its timeout.
//!
//! ```text
//!            check             connected
//!   Idle ───────────▶ Connecting ───────▶ Ready
//!    ▲                    │                │ │ 3 failures in a row
//!    │                    │ refused, or    │ ▼
//!    │                    │ 3 waited    Down ◀─┐ probe failed, again after 500 ms
//!    │                    └───────────────▶│ └─┘
//!    │                                     │ probe answered ──▶ Ready
//!    └── the connection broke (from Ready)
//! ```
//!
//! While it is down, checks fail at once and a task in the background probes. A probe is a check of its own and not a
//! PING, because a Redis that is a read-only replica, out of memory, or denies scripts answers PING all the same.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, RedisError, Script,
};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// How long a check may take by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

/// Failures in a row after which Redis counts as down.
const MAX_FAILURES: u32 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// In the background, so it may take longer than a check; checks that wait for it do so within their own timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Checks under way on one connection; what comes beyond fails instead of queueing.
const MAX_IN_FLIGHT: usize = 1024;

/// A script run with its arguments.
pub(super) type Call<'a> = redis::ScriptInvocation<'a>;

/// Why there is no verdict from Redis.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used; the only error of [`RedisConnection::new`], and of it alone.
    #[error("not a usable Redis URL")]
    Url(#[source] RedisError),
    /// Redis is known to be down; nothing was sent.
    #[error("Redis is down")]
    Unavailable,
    /// Too many checks are waiting for an answer; nothing was sent.
    #[error("{MAX_IN_FLIGHT} checks are waiting for Redis already")]
    Busy,
    /// Redis did not answer in time. It may have counted the request.
    #[error("no answer from Redis within {0:?}")]
    Timeout(Duration),
    /// Redis could not be reached, or answered with an error.
    #[error("Redis failed")]
    Redis(#[from] RedisError),
}

enum Link {
    /// Not connected, and nobody is at it: the next check starts.
    Idle,
    /// A task connects; checks wait for it.
    Connecting,
    /// Checks go here.
    Ready(MultiplexedConnection),
    /// Checks fail at once while a task probes.
    Down,
}

/// A worker's connection to Redis. It connects when it is first needed, or when it is [warmed up](Self::warm_up).
///
/// It spawns tasks with `spawn_local`, so checks must run inside a `LocalSet`; they end when the connection is dropped.
pub struct RedisConnection {
    client: Client,
    timeout: Duration,
    probe: Script,
    link: RefCell<Link>,
    /// Wakes the checks that wait for `Connecting` to end.
    changed: Notify,
    failures: Cell<u32>,
    in_flight: Cell<usize>,
}

impl RedisConnection {
    /// A connection to `redis://[user:password@]host[:port][/db]`, or `redis+unix:///path`, on which no check takes
    /// longer than `timeout` ([`DEFAULT_TIMEOUT`]). Nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Url`], which does not repeat the URL: there may be a password in it.
    pub fn new(url: &str, timeout: Duration) -> Result<Rc<Self>, StoreError> {
        // A check is one small packet, which must not wait for the answer to the one before it.
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = url
            .into_connection_info()
            .and_then(|info| Client::open(info.set_tcp_settings(tcp)))
            .map_err(StoreError::Url)?;
        Ok(Rc::new(Self {
            client,
            timeout,
            probe: Script::new(super::FIXED_WINDOW),
            link: RefCell::new(Link::Idle),
            changed: Notify::new(),
            failures: Cell::new(0),
            in_flight: Cell::new(0),
        }))
    }

    /// Connects ahead of the first check, which would otherwise spend its timeout on that. Returns when the connection is
    /// there, or Redis is known to be down.
    pub async fn warm_up(self: &Rc<Self>) {
        _ = timeout(CONNECT_TIMEOUT, self.ready()).await;
    }

    /// Whether Redis is known to be down.
    pub fn is_down(&self) -> bool {
        matches!(*self.link.borrow(), Link::Down)
    }

    /// Runs a script within the timeout.
    pub(super) async fn call<T: FromRedisValue>(
        self: &Rc<Self>,
        call: &Call<'_>,
    ) -> Result<T, StoreError> {
        if self.is_down() {
            return Err(StoreError::Unavailable);
        }
        let _slot = Slot::take(&self.in_flight)?;
        let mut sending = pin!(self.send(call));
        let result = match timeout(self.timeout, sending.as_mut()).await {
            Ok(result) => result,
            Err(_) => look_again(sending)
                .await
                .unwrap_or(Err(StoreError::Timeout(self.timeout))),
        };
        match &result {
            Ok(_) => self.failures.set(0),
            Err(error) => self.count_failure(error),
        }
        result
    }

    /// A connection that turns out to be broken is worth one more try, since Redis may just have been restarted. The
    /// worst that can come of it is that one request is counted twice.
    async fn send<T: FromRedisValue>(self: &Rc<Self>, call: &Call<'_>) -> Result<T, StoreError> {
        let mut retried = false;
        loop {
            let mut connection = self.ready().await?;
            match call.invoke_async(&mut connection).await {
                Err(error) if error.is_unrecoverable_error() => {
                    self.disconnect();
                    if retried {
                        return Err(error.into());
                    }
                    retried = true;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Waits for a connection while one is being made.
    async fn ready(self: &Rc<Self>) -> Result<MultiplexedConnection, StoreError> {
        loop {
            let changed = self.changed.notified();
            let idle = match &*self.link.borrow() {
                Link::Ready(connection) => return Ok(connection.clone()),
                Link::Down => return Err(StoreError::Unavailable),
                Link::Idle => true,
                Link::Connecting => false,
            };
            if idle {
                self.link.replace(Link::Connecting);
                tokio::task::spawn_local(connect(Rc::downgrade(self), Duration::ZERO));
            }
            changed.await;
        }
    }

    /// Drops a broken connection; if others have seen it before, there is nothing left to do.
    fn disconnect(&self) {
        if matches!(*self.link.borrow(), Link::Ready(_)) {
            self.link.replace(Link::Idle);
        }
    }

    fn count_failure(self: &Rc<Self>, error: &StoreError) {
        self.failures.set(self.failures.get().saturating_add(1));
        if self.failures.get() < MAX_FAILURES || self.is_down() {
            return;
        }
        // The task that connects goes on to probe.
        if !matches!(*self.link.borrow(), Link::Connecting) {
            tokio::task::spawn_local(connect(Rc::downgrade(self), PROBE_INTERVAL));
        }
        self.go_down(error);
    }

    fn go_down(&self, error: &StoreError) {
        if !self.is_down() {
            let error: &dyn std::error::Error = error;
            let server = self.client.get_connection_info().addr();
            tracing::warn!(%server, error, "Redis is down, limits are decided without it");
            self.link.replace(Link::Down);
            self.changed.notify_waiters();
        }
    }

    fn go_up(&self, connection: MultiplexedConnection) {
        if self.is_down() {
            let server = self.client.get_connection_info().addr();
            tracing::info!(%server, "Redis is back");
        }
        self.failures.set(0);
        self.link.replace(Link::Ready(connection));
        self.changed.notify_waiters();
    }

    /// A new connection on which a check has been answered.
    pub(super) async fn dial(&self) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(MAX_IN_FLIGHT);
        let dialing = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = dialing.await?;
        let mut probe = self.probe.key("lb:{probe}");
        // Always admitted, because only then does the script write.
        probe.arg(u32::MAX).arg(1000);
        let probing = probe.invoke_async::<(bool, u32, u64)>(&mut connection);
        match timeout(self.timeout, probing).await {
            Ok(answer) => answer.map(|_| connection).map_err(StoreError::from),
            Err(_) => Err(StoreError::Timeout(self.timeout)),
        }
    }
}

/// What a future has come to by now, its last chance.
///
/// On a machine short of processors a worker may itself have been waiting for longer than the timeout. Then the answer
/// is in the socket, and the task that reads it has only to be given a turn.
async fn look_again<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
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
async fn connect(link: Weak<RedisConnection>, mut pause: Duration) {
    loop {
        sleep(pause).await;
        let Some(link) = link.upgrade() else { return };
        match link.dial().await {
            Ok(connection) => return link.go_up(connection),
            Err(error) => link.go_down(&error),
        }
        pause = PROBE_INTERVAL;
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.client.get_connection_info().addr().to_string();
        f.debug_struct("RedisConnection")
            .field("server", &server)
            .field("down", &self.is_down())
            .finish_non_exhaustive()
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
