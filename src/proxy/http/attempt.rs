//! One try to have one server answer.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::ProxyError;
use super::rewrite::Rewrite;
use crate::message::h1::Answer;
use crate::message::h1::Invalid;
use crate::message::{Upload, UploadError};
use crate::net::clock;
use crate::net::connect::is_local;
use crate::upstream::connection::{AnswerError, SendError};
use crate::upstream::{Connection, InFlight, LocalEndpoint, RetryReason, is_too_many};

/// Interim answers of one try that are looked at in one turn, and in all: a server that has more to say does not answer.
const INTERIMS_AT_ONCE: u32 = 16;
const MAX_INTERIMS: u32 = 10_000;

/// A try: counts as load of its server, and in the server's metrics, until it is dropped.
#[derive(Debug)]
pub struct Attempt {
    flight: InFlight,
    started: Instant,
    worker: usize,
    /// The answer's status; 0 without one.
    pub status: u16,
    /// Whether nobody wanted its answer any more.
    abandoned: bool,
}

impl Attempt {
    /// A try that begins now.
    pub fn new(flight: InFlight, worker: usize) -> Self {
        Self {
            flight,
            started: clock::now(),
            worker,
            status: 0,
            abandoned: false,
        }
    }

    /// The server.
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        self.flight.endpoint()
    }

    /// The headers of an answer are there.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
        let now = clock::now();
        let endpoint = &self.endpoint().shared;
        endpoint.answered(self.worker, status, now - self.started, now.into_std());
    }

    /// There is none. If that is the server's fault, it is counted against it.
    pub fn failed(&self, failure: Failure) -> Failure {
        if failure.is_servers() {
            self.endpoint().shared.failed(self.worker);
        }
        failure
    }

    /// How long it has lasted.
    pub fn elapsed(&self) -> Duration {
        clock::now() - self.started
    }

    /// Another server was faster: that this one has not answered is no failure. How long it has taken so far is all
    /// that is known of its latency.
    pub fn abandon(mut self) {
        self.abandoned = true;
        let (now, elapsed) = (clock::now().into_std(), self.elapsed());
        let latency = self.endpoint().shared.latency();
        if elapsed.as_nanos() > u128::from(latency.nanos(now)) {
            latency.observe(elapsed, now);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.abandoned {
            return;
        }
        let stats = &self.endpoint().shared.stats;
        stats
            .shard(self.worker)
            .outcomes
            .record(self.status, self.elapsed());
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
    #[error(transparent)]
    BadAnswer(Invalid),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The client's body failed, not the server.
    #[error(transparent)]
    Upload(ProxyError),
}

impl Failure {
    /// The failure of a body.
    pub fn upload(upload: Option<&Upload>) -> Self {
        let fault = upload.and_then(Upload::error);
        Self::Upload(fault.unwrap_or(UploadError::Broken).into())
    }

    /// What it is among the reasons to try again; `None` if it is none, as the client's body is gone.
    pub fn reason(&self) -> Option<RetryReason> {
        match self {
            Self::Connect(_) => Some(RetryReason::Connect),
            Self::Unsent => Some(RetryReason::Unsent),
            Self::Reset | Self::BadAnswer(_) => Some(RetryReason::Reset),
            Self::Timeout => Some(RetryReason::Timeout),
            Self::Upload(_) => None,
        }
    }

    /// Whether the server, and not this machine, has no connection for us.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Connect(error) => {
                let is_other = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::InvalidData);
                !is_local(error) && !is_other && !is_too_many(error)
            }
            _ => false,
        }
    }

    /// Whether the server is at fault, and not this machine or the client.
    fn is_servers(&self) -> bool {
        match self {
            Self::Connect(error) => !is_local(error) && !is_too_many(error),
            Self::Unsent | Self::Reset | Self::BadAnswer(_) | Self::Timeout => true,
            Self::Upload(_) => false,
        }
    }

    /// The answer to the client if no other server is tried.
    pub fn into_error(self) -> ProxyError {
        match self {
            Self::Connect(error) if error.kind() == ErrorKind::TimedOut => {
                ProxyError::ConnectTimeout
            }
            Self::Connect(error) if is_too_many(&error) => ProxyError::Overloaded,
            Self::Connect(_) => ProxyError::Connect,
            Self::Unsent | Self::Reset => ProxyError::Reset,
            Self::BadAnswer(_) => ProxyError::BadAnswer,
            Self::Timeout => ProxyError::AnswerTimeout,
            Self::Upload(error) => error,
        }
    }
}

/// How long an answer's headers are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// When the request came.
    pub since: Instant,
    /// How long after that there must be a connection.
    pub connect: Duration,
    /// Once all of the request is sent.
    pub limit: Duration,
    /// In any case, as the client has no use for them any more.
    pub until: Option<Instant>,
}

/// Sends a request and waits for the answer's headers. Interim answers are passed on.
///
/// # Errors
/// Says how far it got.
pub async fn send(
    connection: &Connection,
    request: &Rewrite<'_>,
    server: &HeaderValue,
    patience: Patience,
) -> Result<Answer, Failure> {
    let lost = || match connection.has_sent() {
        true => Failure::Reset,
        false => Failure::Unsent,
    };
    let upload = request.upload.map(Rc::as_ref);
    // What a server has seen of a request that must not be made twice need not be kept, unless the server can still say
    // that it has done nothing about it.
    let forgets = || {
        !request.is_mirrored
            && !request.head.method.is_idempotent()
            && matches!(connection, Connection::Http1(_))
    };
    let to_head = request.head.method == Method::HEAD;
    let begin = |cx: &mut Context<'_>| {
        let head = &mut *request.client.local.head.borrow_mut();
        head.clear();
        request.write(head, server);
        connection.begin(cx, head, request.body(), patience.limit)
    };
    let mut deadline = patience.until.map(|at| Box::pin(sleep_until(at)));
    let (mut begun, mut interims) = (false, 0);
    poll_fn(|cx| {
        if !begun {
            begun = true;
            if begin(cx).is_err() {
                return Poll::Ready(Err(lost()));
            }
        }
        match connection.poll_send(cx) {
            Poll::Ready(Err(SendError::Lost(_))) => return Poll::Ready(Err(lost())),
            Poll::Ready(Err(SendError::Upload)) => {
                return Poll::Ready(Err(Failure::upload(upload)));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if let Some(interim) = request.interim {
            interim.flush(cx);
        }
        if let Some(upload) = upload
            && forgets()
            && connection.has_sent()
        {
            upload.forget();
        }
        let mut polled = connection.poll_answer(cx, to_head);
        while let Poll::Ready(Ok(answer)) = &polled
            && answer.is_interim()
        {
            if let Some(interim) = request.interim {
                interim.pass(request.client, answer, cx);
            }
            interims += 1;
            if interims >= MAX_INTERIMS {
                return Poll::Ready(Err(Failure::BadAnswer(Invalid::TooLarge)));
            }
            polled = match interims % INTERIMS_AT_ONCE {
                // Others have their turn, and so have the deadlines below.
                0 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => connection.poll_answer(cx, to_head),
            };
        }
        match polled {
            Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
            Poll::Ready(Err(AnswerError::Ended)) => Poll::Ready(Err(lost())),
            Poll::Ready(Err(AnswerError::Invalid(reason))) => {
                Poll::Ready(Err(Failure::BadAnswer(reason)))
            }
            Poll::Pending if is_over(&mut deadline, cx) => Poll::Ready(Err(Failure::Timeout)),
            // While the body is on its way, its own watchdog and the connection's see to progress.
            Poll::Pending if upload.is_some_and(|upload| !upload.finished()) => Poll::Pending,
            Poll::Pending => connection.poll_overdue(cx).map(|()| Err(Failure::Timeout)),
        }
    })
    .await
}

/// Whether a deadline, if there is one, has passed.
fn is_over(deadline: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    let deadline = deadline.as_mut();
    deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
}
