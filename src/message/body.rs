//! Request bodies on their way from the client to a server.
//!
//! An [`Upload`] is the client's body together with what the proxy must know about it afterwards: how much has passed,
//! whether it ended, and whether it failed by the client's fault. The server's connection gets a handle to it, so that a
//! body of which nothing was taken can be sent to another server.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use thiserror::Error;

use crate::net::Stall;

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
    max: Cell<u64>,
    received: Cell<u64>,
    begun: Cell<bool>,
    finished: Rc<Cell<bool>>,
    error: Cell<Option<UploadError>>,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    stall: Stall,
}

impl Upload {
    /// Takes a body that may pause for at most `idle`.
    pub fn new(incoming: Incoming, idle: Duration) -> Rc<Self> {
        let finished = incoming.is_end_stream();
        Rc::new(Self {
            source: RefCell::new(Source {
                incoming,
                stall: Stall::new(idle),
            }),
            max: Cell::new(u64::MAX),
            received: Cell::new(0),
            begun: Cell::new(false),
            finished: Rc::new(Cell::new(finished)),
            error: Cell::new(None),
        })
    }

    /// Has it fail beyond `max` bytes.
    pub fn limit(&self, max: u64) {
        self.max.set(max);
    }

    /// Its length in bytes, if it was said before.
    pub fn announced(&self) -> Option<u64> {
        self.source.borrow().incoming.size_hint().exact()
    }

    /// Body bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether any part of it was handed on, so that it cannot be sent again.
    pub fn begun(&self) -> bool {
        self.begun.get()
    }

    /// Whether its end was reached.
    pub fn finished(&self) -> bool {
        self.finished.get()
    }

    /// What [`finished`](Self::finished) says, for those who ask when the body itself is gone.
    pub fn end(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.finished)
    }

    /// Why it failed, if it did.
    pub fn error(&self) -> Option<UploadError> {
        self.error.get()
    }

    /// Its next part.
    ///
    /// # Errors
    /// It failed, which [`error`](Self::error) says from then on.
    pub fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Source { incoming, stall } = &mut *self.source.borrow_mut();
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                stall.progress();
                self.begun.set(true);
                let received =
                    self.received.get() + frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received.set(received);
                if received > self.max.get() {
                    return Poll::Ready(Some(Err(self.fail(UploadError::TooLarge))));
                }
                // Nobody asks for more after trailers.
                self.finished
                    .set(frame.is_trailers() || incoming.is_end_stream());
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.fail(UploadError::Broken)))),
            Poll::Ready(None) => {
                self.finished.set(true);
                Poll::Ready(None)
            }
            Poll::Pending => stall
                .poll_stalled(cx)
                .map(|()| Some(Err(self.fail(UploadError::Stalled)))),
        }
    }

    fn fail(&self, error: UploadError) -> UploadError {
        self.error.set(Some(error));
        error
    }
}
