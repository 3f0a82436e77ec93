//! One try to have one server answer.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::error::ProxyError;
use crate::message::{RequestBody, Upload};
use crate::net::connect::is_local;
use crate::upstream::{Connection, InFlight, LocalEndpoint};

/// A try: counts as load of its server, and in the server's metrics, until it is dropped.
#[derive(Debug)]
pub struct Attempt {
    flight: InFlight,
    started: Instant,
    worker: usize,
    /// The answer's status; 0 without one.
    pub status: u16,
}

impl Attempt {
    /// A try that begins now.
    pub fn new(flight: InFlight, worker: usize) -> Self {
        Self {
            flight,
            started: Instant::now(),
            worker,
            status: 0,
        }
    }

    /// The server.
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        self.flight.endpoint()
    }

    /// The headers of an answer are there.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
        let now = Instant::now();
        let endpoint = &self.endpoint().shared;
        endpoint.answered(now - self.started, now.into_std());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let stats = &self.endpoint().shared.stats;
        stats
            .shard(self.worker)
            .outcomes
            .record(self.status, self.started.elapsed());
    }
}

/// Why a try gave no answer.
#[derive(Debug, Error)]
pub enum Failure {
    /// No connection: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection ended before any byte of the request was taken by the kernel.
    #[error("the connection ended before the request was sent")]
    Unsent,
    /// The connection ended after that, without an answer: the server may have acted on the request.
    #[error("the connection ended without an answer")]
    Reset,
    /// What the server sent is no answer.
    #[error("what it sent is not HTTP/1.1, or is too large")]
    BadAnswer,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The client's body failed, not the server.
    #[error(transparent)]
    Upload(ProxyError),
}

impl Failure {
    /// Whether the server, and not this machine, has no connection for us.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Connect(error) => !is_local(error) && error.kind() != ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// The answer to the client if no other server is tried.
    pub fn into_error(self) -> ProxyError {
        match self {
            Self::Connect(error) if error.kind() == ErrorKind::TimedOut => {
                ProxyError::ConnectTimeout
            }
            Self::Connect(_) => ProxyError::Connect,
            Self::Unsent | Self::Reset => ProxyError::Reset,
            Self::BadAnswer => ProxyError::BadAnswer,
            Self::Timeout => ProxyError::AnswerTimeout,
            Self::Upload(error) => error,
        }
    }
}

/// Sends a request and waits for the answer's headers, at most `limit` after the request was sent.
///
/// # Errors
/// Says how far it got.
pub async fn send(
    connection: &mut Connection,
    request: Request<RequestBody>,
    upload: Option<&Upload>,
    limit: Duration,
) -> Result<Response<Incoming>, Failure> {
    let sent_before = connection.sent();
    let mut answer = pin!(connection.send(request));
    let mut deadline = pin!(None);
    poll_fn(|cx| {
        let over = connection.drive(cx);
        match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => {
                Poll::Ready(Err(failure(error, upload, connection.sent() > sent_before)))
            }
            Poll::Pending if over => Poll::Ready(Err(lost(connection.sent() > sent_before))),
            // While the body is on its way, its own watchdog and the connection's see to progress.
            Poll::Pending if upload.is_some_and(|upload| !upload.finished()) => Poll::Pending,
            Poll::Pending => {
                if deadline.is_none() {
                    deadline.set(Some(sleep(limit)));
                }
                let deadline = deadline.as_mut().as_pin_mut().expect("it was just set");
                deadline.poll(cx).map(|()| Err(Failure::Timeout))
            }
        }
    })
    .await
}

fn failure(
    error: TrySendError<Request<RequestBody>>,
    upload: Option<&Upload>,
    sent: bool,
) -> Failure {
    if let Some(fault) = upload.and_then(Upload::error) {
        return Failure::Upload(fault.into());
    }
    if sent && error.into_error().is_parse() {
        Failure::BadAnswer
    } else {
        lost(sent)
    }
}

/// The connection ended without an answer.
fn lost(sent: bool) -> Failure {
    if sent {
        Failure::Reset
    } else {
        Failure::Unsent
    }
}
