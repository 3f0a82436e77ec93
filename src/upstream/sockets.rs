//! How many connections there are to a server, over all workers, and how many there may be.
//!
//! While there is a limit, a worker that needs one more waits until one is closed, and asks for it: workers that keep
//! unused ones then close one each, and keep none that become unused while somebody waits. Whoever has got one has others
//! ask again.

use std::io::{self, ErrorKind};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::Notify;

use super::endpoint::Endpoint;

/// No limit.
const UNLIMITED: u32 = u32::MAX;

/// A server's open connections. Never more than the limit are open at a time.
#[derive(Debug)]
pub struct Sockets {
    open: AtomicU32,
    limit: AtomicU32,
    /// How many wait for one to be closed.
    waiting: AtomicU32,
    closed: Notify,
    asks: Notify,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            open: AtomicU32::new(0),
            limit: AtomicU32::new(UNLIMITED),
            waiting: AtomicU32::new(0),
            closed: Notify::new(),
            asks: Notify::new(),
        }
    }
}

impl Sockets {
    /// How many are open, or being opened.
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Sets how many there may be. Those that are open stay.
    pub(super) fn set_limit(&self, limit: Option<NonZeroU32>) {
        let limit = limit.map_or(UNLIMITED, NonZeroU32::get);
        if self.limit.swap(limit, SeqCst) < limit {
            self.closed.notify_waiters();
        }
    }

    /// Whether there are as many as there may be.
    pub(super) fn are_all_open(&self) -> bool {
        self.open.load(SeqCst) >= self.limit.load(SeqCst)
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit.load(Relaxed) != UNLIMITED
    }

    /// Whether somebody waits for a connection to be closed.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(SeqCst) > 0 && self.are_all_open()
    }

    fn begin(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let one_more = |open: u32| (open < limit).then_some(open + 1);
        let begun = self.open.fetch_update(SeqCst, SeqCst, one_more);
        begun.is_ok()
    }

    fn end(&self) {
        let left = self.open.fetch_sub(1, SeqCst) - 1;
        // In this order: who waits counts itself first, and tries then.
        if self.waiting.load(SeqCst) > 0 && left < self.limit.load(SeqCst) {
            self.closed.notify_one();
        }
    }

    /// Calls `close` each time that somebody asks for a connection, for ever.
    pub(super) async fn serve(&self, close: impl Fn()) {
        loop {
            let mut asks = pin!(self.asks.notified());
            // Before the look, so that no asking falls between the two.
            asks.as_mut().enable();
            if self.are_wanted() {
                close();
            }
            asks.await;
        }
    }
}

/// Whether a connection could not be had because there are as many to the server as there may be.
pub fn is_too_many(error: &io::Error) -> bool {
    error.kind() == ErrorKind::QuotaExceeded && error.raw_os_error().is_none()
}

/// A connection to a server counts as long as this is there.
#[derive(Debug)]
pub(super) struct OpenSocket(Arc<Endpoint>);

impl OpenSocket {
    /// Counts one more, unless there are as many as there may be.
    pub(super) fn open(endpoint: &Arc<Endpoint>) -> Option<Self> {
        endpoint
            .sockets()
            .begin()
            .then(|| Self(Arc::clone(endpoint)))
    }

    /// Has others close theirs until there may be one more.
    pub(super) async fn wait(endpoint: &Arc<Endpoint>) -> Self {
        let sockets = endpoint.sockets();
        let _asking = Asking::new(sockets);
        loop {
            let mut closed = pin!(sockets.closed.notified());
            closed.as_mut().enable();
            if let Some(socket) = Self::open(endpoint) {
                return socket;
            }
            closed.await;
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets().end();
    }
}

/// Somebody who waits for a connection to be closed.
struct Asking<'a>(&'a Sockets);

impl<'a> Asking<'a> {
    fn new(sockets: &'a Sockets) -> Self {
        sockets.waiting.fetch_add(1, SeqCst);
        sockets.asks.notify_waiters();
        Self(sockets)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, SeqCst) > 1 {
            self.0.asks.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::upstream::endpoint::{Origin, Spec};

    fn endpoint(limit: u32) -> Arc<Endpoint> {
        let spec = Spec {
            address: "127.0.0.1:80".parse().unwrap(),
            weight: 1,
            origin: Origin::Config,
            draining: false,
        };
        let endpoint = Endpoint::new("app", spec, None, 1, Arc::default(), Arc::default());
        endpoint.sockets().set_limit(NonZeroU32::new(limit));
        Arc::new(endpoint)
    }

    #[tokio::test]
    async fn who_waits_gets_the_next_one_that_is_closed() {
        let endpoint = endpoint(2);
        let first = OpenSocket::open(&endpoint).unwrap();
        let _second = OpenSocket::open(&endpoint).unwrap();
        assert!(OpenSocket::open(&endpoint).is_none());
        assert!(!endpoint.sockets().are_wanted());
        let wait = OpenSocket::wait(&endpoint);
        tokio::pin!(wait);
        assert!(timeout(Duration::ZERO, &mut wait).await.is_err());
        assert!(endpoint.sockets().are_wanted());
        drop(first);
        let _third = wait.await;
        assert_eq!(endpoint.sockets().open(), 2);
        assert!(!endpoint.sockets().are_wanted());
    }

    #[tokio::test]
    async fn unused_ones_are_closed_one_after_the_other_for_all_who_wait() {
        let endpoint = endpoint(3);
        let unused = RefCell::new(Vec::new());
        unused
            .borrow_mut()
            .extend((0..3).map(|_| OpenSocket::open(&endpoint)));
        let serve = endpoint.sockets().serve(|| _ = unused.borrow_mut().pop());
        let wait = async {
            let waits = [OpenSocket::wait(&endpoint), OpenSocket::wait(&endpoint)];
            let [first, second] = waits;
            tokio::join!(first, second)
        };
        let both = tokio::select! {
            both = wait => both,
            () = serve => unreachable!("it serves for ever"),
        };
        assert_eq!(endpoint.sockets().open(), 3);
        assert_eq!(unused.borrow().len(), 1, "no more than were needed");
        drop(both);
    }
}
