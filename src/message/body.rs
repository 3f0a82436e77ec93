//! Request bodies on their way from the client to a server.
//!
//! An [`Upload`] is the client's body together with what the proxy must know about it afterwards: how much has passed,
//! whether it ended, and whether it failed by the client's fault. The server's connection gets a handle to it, so that a
//! body of which nothing was taken, or all of which was [kept](super::replay), can be sent to another server.

mod source;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http_body::Frame;
use thiserror::Error;
use tokio::task::{JoinHandle, coop};

use self::source::{Expectation, Origin, Source};
use super::h1::body::Part;
use super::h1::{Body, Framing, Wire};
use super::pace::Pace;
use super::replay::Kept;
use crate::net::{Stall, Throttle};

/// Why a request body did not reach its end. All of these are the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UploadError {
    /// The client went away or sent a malformed chunk.
    #[error("the request body was cut off or malformed")]
    Broken,
    /// No byte arrived for the listener's idle timeout.
    #[error("the request body stalled")]
    Stalled,
    /// It is larger than the route's `max_body`.
    #[error("the request body is too large")]
    TooLarge,
}

/// A client's request body.
#[derive(Debug)]
pub struct Upload {
    source: RefCell<Source>,
    taker: RefCell<Option<JoinHandle<()>>>,
    announced: Option<u64>,
    max: Cell<u64>,
    received: Cell<u64>,
    received_all: Cell<bool>,
    begun: Cell<bool>,
    finished: Cell<bool>,
    kept: RefCell<Kept>,
    error: Cell<Option<UploadError>>,
}

impl Upload {
    /// Takes a body, framed like this, that may pause for at most `idle`. `expected` says that the client waits to be
    /// told to send it.
    pub fn new(
        wire: Rc<RefCell<Wire>>,
        framing: Framing,
        expected: bool,
        idle: Duration,
    ) -> Rc<Self> {
        let body = Body::new(framing);
        let length = body.remaining();
        Self::from(Origin::Http1 { body, wire }, length, expected, idle)
    }

    /// Takes the body of a stream, which says that it is of `length`. With `respond` a client that waits for that is
    /// told to send it.
    pub fn http2(
        body: RecvStream,
        length: Option<u64>,
        respond: Option<Rc<RefCell<SendResponse<Bytes>>>>,
        idle: Duration,
    ) -> Rc<Self> {
        let expected = respond.is_some();
        Self::from(Origin::Http2 { body, respond }, length, expected, idle)
    }

    fn from(origin: Origin, announced: Option<u64>, expected: bool, idle: Duration) -> Rc<Self> {
        Rc::new(Self {
            taker: RefCell::new(None),
            announced,
            max: Cell::new(u64::MAX),
            received: Cell::new(0),
            received_all: Cell::new(origin.ended()),
            begun: Cell::new(false),
            finished: Cell::new(origin.ended()),
            kept: RefCell::default(),
            error: Cell::new(None),
            source: RefCell::new(Source {
                origin,
                expectation: match expected {
                    true => Expectation::Due,
                    false => Expectation::None,
                },
                stall: Stall::new(idle),
                pace: None,
                paced: None,
            }),
        })
    }

    /// Has it fail once it is ten seconds behind `rate` bytes a second of the time that is spent waiting for it.
    pub fn hurry(&self, rate: u64) {
        self.source.borrow_mut().pace = Some(Pace::new(rate));
    }

    /// Has what is handed on from now on be under these limits. The time that it waits for them is not held against it.
    pub fn throttle(&self, throttle: Option<Box<Throttle>>) {
        let source = &mut *self.source.borrow_mut();
        if throttle.is_some() || source.paced.is_some() {
            source.paced.get_or_insert_default().set(throttle);
        }
    }

    /// Whether its trailers need not be announced, as in HTTP/2.
    pub fn has_free_trailers(&self) -> bool {
        match self.source.borrow().origin {
            Origin::Http1 { .. } => false,
            Origin::Http2 { .. } => true,
            Origin::Copy { has_free_trailers } => has_free_trailers,
        }
    }

    /// Has it kept as it passes, unless it is longer than `limit` bytes. To be called before any of it is asked for.
    pub fn keep(&self, limit: u64) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.kept.replace(Kept::new(limit, self.announced));
    }

    /// Keeps it no more.
    pub fn forget(&self) {
        self.kept.borrow_mut().forget();
    }

    /// Whether it can be handed on from its start: none of it was handed on, or all that was is kept.
    pub fn can_rewind(&self) -> bool {
        let is_whole = || !self.begun.get() || self.kept.borrow().is_whole();
        self.error.get().is_none() && is_whole()
    }

    /// Hands it on from its start, if that [can be](Self::can_rewind).
    pub fn rewind(&self) {
        let mut kept = self.kept.borrow_mut();
        if kept.is_whole() {
            kept.rewind();
            self.finished
                .set(self.received_all.get() && !kept.has_next());
        }
    }

    /// Another one of the same content, if all of that has come and is kept.
    pub fn copy(&self) -> Option<Rc<Self>> {
        let kept = self.kept.borrow();
        if !kept.is_whole() || !self.received_all.get() || self.error.get().is_some() {
            return None;
        }
        let has_free_trailers = self.has_free_trailers();
        let origin = Origin::Copy { has_free_trailers };
        let copy = Self::from(origin, self.announced, false, Duration::MAX);
        let kept = kept.copy();
        copy.finished.set(!kept.has_next());
        copy.kept.replace(kept);
        Some(copy)
    }

    /// Has it fail beyond `max` bytes.
    pub fn limit(&self, max: u64) {
        self.max.set(max);
    }

    /// Its length in bytes, if it was said before.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Body bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether the client has sent its end.
    pub fn received_all(&self) -> bool {
        self.received_all.get()
    }

    /// Whether its end was handed on.
    pub fn finished(&self) -> bool {
        self.finished.get()
    }

    /// Why it failed, if it did.
    pub fn error(&self) -> Option<UploadError> {
        self.error.get()
    }

    /// The answer begins: it is too late to tell the client to go on. A client that waited for that may not send its
    /// body at all.
    pub fn answered(&self) {
        self.source.borrow_mut().expectation = Expectation::None;
    }

    /// Has it known that a task sends it to a server, behind an answer that came first.
    pub fn taken_by(&self, task: JoinHandle<()>) {
        self.taker.replace(Some(task));
    }

    /// Whether there is such a task, and it has not ended.
    pub fn is_taken(&self) -> bool {
        let taker = self.taker.borrow();
        taker.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Waits for that task's end.
    pub async fn taken(&self) {
        let taker = self.taker.take();
        if let Some(task) = taker {
            _ = task.await;
        }
    }

    /// Ends that task.
    pub async fn stop(&self) {
        if let Some(task) = &*self.taker.borrow() {
            task.abort();
        }
        self.taken().await;
    }

    /// Its next part, which counts like a read of a socket, so that a body in crumbs does not keep others waiting.
    ///
    /// # Errors
    /// It failed, which [`error`](Self::error) says from then on.
    pub fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Some(frame) = self.next_again() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.received_all.get() {
            self.finished.set(true);
            return Poll::Ready(None);
        }
        let turn = ready!(coop::poll_proceed(cx));
        let source = &mut *self.source.borrow_mut();
        let part = match source.poll_part(cx) {
            Poll::Ready(Ok(part)) => part,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
            Poll::Pending if source.holds() => return Poll::Pending, // it is not the client that is slow
            Poll::Pending => {
                let received = self.received.get();
                let pace = source.pace.as_mut();
                let is_slow = pace.is_some_and(|pace| pace.poll_slow(cx, received).is_ready());
                if is_slow || source.stall.poll_stalled(cx).is_ready() {
                    return Poll::Ready(Some(Err(self.fail(UploadError::Stalled))));
                }
                return Poll::Pending;
            }
        };
        turn.made_progress();
        source.stall.progress();
        if let Some(pace) = &mut source.pace {
            pace.came();
        }
        self.begun.set(true);
        if source.ended() || matches!(part, Part::Trailers(_) | Part::End) {
            self.received_all.set(true);
            self.finished.set(true);
        }
        match &part {
            Part::Data(data) => self.kept.borrow_mut().add(data),
            Part::Trailers(trailers) => self.kept.borrow_mut().add_trailers(trailers),
            Part::End => {}
        }
        Poll::Ready(match part {
            Part::Data(data) => {
                let received = self.received.get() + data.len() as u64;
                self.received.set(received);
                if received > self.max.get() {
                    Some(Err(self.fail(UploadError::TooLarge)))
                } else {
                    Some(Ok(Frame::data(data)))
                }
            }
            Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Part::End => None,
        })
    }

    /// The next part of what is handed on again.
    fn next_again(&self) -> Option<Frame<Bytes>> {
        let mut kept = self.kept.borrow_mut();
        let frame = kept.take_next()?;
        if self.received_all.get() && !kept.has_next() {
            self.finished.set(true);
        }
        Some(frame)
    }

    fn fail(&self, error: UploadError) -> UploadError {
        self.error.set(Some(error));
        error
    }
}
