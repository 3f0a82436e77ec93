//! Where a client's connection is in the cycle of its requests, and how long it may stay there.
//!
//! ```text
//!          first byte             headers complete
//!   IDLE ─────────────▶ HEAD ──────────────────────▶ EXCHANGE ─┐
//!    ▲  keep_alive:           headers: 408, close     (bodies and answers have watchdogs of their own)
//!    │  close                                                  │
//!    └─────────────────────────────────────────────────────────┘ answer handed to hyper
//! ```
//!
//! An exchange ends when hyper has taken the answer's last part. Until that has left for a slow client, and while the
//! rest of an early answered request's body still arrives, the connection is not waiting for a request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::message::Upload;
use crate::net::Traffic;
use crate::proxy::snapshot::ListenerTimeouts;

/// What a connection waits for between two exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The first byte of a request.
    Request,
    /// The rest of its headers.
    Head,
}

/// Where a connection is in the cycle of its requests.
#[derive(Debug)]
pub struct Activity {
    in_exchange: Cell<bool>,
    wait: Cell<Wait>,
    since: Cell<Instant>,
    /// Bytes received when the wait for a request began.
    received: Cell<u64>,
    /// The last request's body, if it had not ended when the answer did.
    upload: RefCell<Weak<Upload>>,
    /// Whether that body has ended since.
    upload_ended: RefCell<Option<Rc<Cell<bool>>>>,
    traffic: Rc<Traffic>,
}

impl Activity {
    /// A new connection.
    pub fn new(traffic: Rc<Traffic>) -> Self {
        Self {
            in_exchange: Cell::new(false),
            wait: Cell::new(Wait::Request),
            since: Cell::new(Instant::now()),
            received: Cell::new(0),
            upload: RefCell::default(),
            upload_ended: RefCell::default(),
            traffic,
        }
    }

    /// A request's headers are complete.
    pub fn begin(&self) {
        self.in_exchange.set(true);
        self.upload_ended.take();
    }

    /// The answer has been handed over, or given up. `upload` is the request's body.
    pub fn end(&self, upload: Option<&Rc<Upload>>) {
        self.in_exchange.set(false);
        if let Some(upload) = upload.filter(|upload| !upload.finished()) {
            self.upload.replace(Rc::downgrade(upload));
            self.upload_ended.replace(Some(upload.end()));
        }
        self.restart();
    }

    /// Whether the last request's body was not read to its end.
    pub fn unread_body(&self) -> bool {
        let ended = self.upload_ended.borrow();
        ended.as_ref().is_some_and(|ended| !ended.get())
    }

    /// What the connection waits for; `None` within an exchange.
    pub fn wait(&self) -> Option<Wait> {
        if self.in_exchange.get() {
            return None;
        }
        if self.traffic.blocked() || self.uploading() {
            self.restart(); // the wait has not begun
        } else if self.wait.get() == Wait::Request && self.traffic.received() > self.received.get()
        {
            self.wait.set(Wait::Head);
            self.since.set(Instant::now());
        }
        Some(self.wait.get())
    }

    fn uploading(&self) -> bool {
        let under_way = |upload: Rc<Upload>| !upload.finished() && upload.error().is_none();
        self.unread_body() && self.upload.borrow().upgrade().is_some_and(under_way)
    }

    fn restart(&self) {
        self.wait.set(Wait::Request);
        self.since.set(Instant::now());
        self.received.set(self.traffic.received());
    }
}

/// One timer for all waits of a connection. It is moved only when it fires too early or would fire too late, so that a
/// request on a busy connection costs no timer operation.
#[derive(Debug, Default)]
pub struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Ready when the present wait has lasted too long.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        activity: &Activity,
        timeouts: &ListenerTimeouts,
    ) -> Poll<Wait> {
        let Some(wait) = activity.wait() else {
            return Poll::Pending;
        };
        let limit = match wait {
            Wait::Request => timeouts.keep_alive,
            Wait::Head => timeouts.headers,
        };
        let deadline = activity.since.get() + limit;
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(wait);
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::metrics::Sharded;

    const TIMEOUTS: ListenerTimeouts = ListenerTimeouts {
        headers: Duration::from_secs(10),
        keep_alive: Duration::from_secs(75),
        idle: Duration::from_secs(60),
    };

    /// Waits for the deadline, for `seconds` at most.
    async fn ended(deadline: &mut Deadline, activity: &Activity, seconds: u64) -> Option<Wait> {
        let limit = Duration::from_secs(seconds);
        let ended = poll_fn(|cx| deadline.poll(cx, activity, &TIMEOUTS));
        tokio::time::timeout(limit, ended).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit() {
        let traffic = Traffic::new(Arc::new(Sharded::new(1)), 0);
        let activity = Activity::new(Rc::clone(&traffic));
        let mut deadline = Deadline::default();
        assert_eq!(ended(&mut deadline, &activity, 74).await, None);
        traffic.add_received(1);
        assert_eq!(ended(&mut deadline, &activity, 9).await, None);
        activity.begin();
        assert_eq!(ended(&mut deadline, &activity, 1000).await, None);
        activity.end(None);
        assert_eq!(ended(&mut deadline, &activity, 74).await, None);
        assert_eq!(
            ended(&mut deadline, &activity, 2).await,
            Some(Wait::Request)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_not_waited_for_anew_with_each_byte() {
        let traffic = Traffic::new(Arc::new(Sharded::new(1)), 0);
        let activity = Activity::new(Rc::clone(&traffic));
        let mut deadline = Deadline::default();
        traffic.add_received(1);
        assert_eq!(ended(&mut deadline, &activity, 6).await, None);
        traffic.add_received(1);
        assert_eq!(ended(&mut deadline, &activity, 6).await, Some(Wait::Head));
    }
}
