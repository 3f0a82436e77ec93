//! A way to have a server answer a request: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::task::spawn_local;

use super::{http1, http2};
use crate::message::Upload;
use crate::message::h1::body::Part;
use crate::message::h1::{Answer, Body, Invalid};
use crate::message::headers::Trailers;
use crate::net::Stream;

/// What one request is sent over.
#[derive(Debug)]
pub enum Connection {
    /// A connection of its own.
    Http1(http1::Connection),
    /// A stream of a connection that others use too.
    Http2(http2::Exchange),
}

/// A request's body on its way to the server.
#[derive(Debug)]
pub struct Sending {
    /// The body.
    pub upload: Rc<Upload>,
    /// Whether it is framed in chunks; otherwise by its length.
    pub chunked: bool,
    /// The trailers that pass.
    pub trailers: Trailers,
}

impl Sending {
    /// Has a task send `rest` of a request. Its body, if some of that is left, knows of the task and can stop it.
    pub(super) fn spawn(sending: Option<&Self>, rest: impl Future<Output = ()> + 'static) {
        let task = spawn_local(rest);
        if let Some(sending) = sending {
            sending.upload.taken_by(task);
        }
    }
}

/// Why a request cannot be sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// The client's body failed; the [`Upload`] says how.
    #[error("the request's body failed")]
    Upload,
    /// The connection failed.
    #[error(transparent)]
    Lost(#[from] io::Error),
}

/// Why there is no answer, or no more of one.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// The connection ended before the answer did.
    #[error("the connection ended")]
    Ended,
    /// What came is no answer.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Connection {
    /// Whether the server may have seen some of the request.
    pub fn has_sent(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_sent(),
            Self::Http2(exchange) => exchange.has_sent(),
        }
    }

    /// Whether its server may have closed it before it could know of the request, as it has served others; or says that it
    /// has done nothing about it.
    pub fn may_be_stale(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.reused(),
            Self::Http2(exchange) => exchange.may_be_stale(),
        }
    }

    /// Sends a request's head, as far as there is room now, and has [`poll_send`](Self::poll_send) send the rest. Its
    /// answer may take `limit`, counted from when somebody first waits for it.
    ///
    /// # Errors
    /// The connection failed.
    pub fn begin(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        upload: Option<Sending>,
        limit: Duration,
    ) -> io::Result<()> {
        match self {
            Self::Http1(connection) => connection.begin(cx, head, upload, limit),
            Self::Http2(exchange) => exchange.begin(head, upload, limit),
        }
    }

    /// Sends what is to be sent; ready when that was all.
    ///
    /// # Errors
    /// The connection or the client's body failed.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        match self {
            Self::Http1(connection) => connection.poll_send(cx),
            Self::Http2(exchange) => exchange.poll_send(cx),
        }
    }

    /// Whether all of the request is sent.
    pub fn all_sent(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.all_sent(),
            Self::Http2(exchange) => exchange.all_sent(),
        }
    }

    /// Sends the rest of the request in a task, whatever becomes of the answer, until its [`Upload`] is stopped.
    pub fn send_rest(&self) {
        match self {
            Self::Http1(connection) => connection.send_rest(),
            Self::Http2(exchange) => exchange.send_rest(),
        }
    }

    /// Waits for the head of the answer, or of an [interim](Answer::is_interim) one before it. `to_head` says that HEAD
    /// was asked.
    ///
    /// # Errors
    /// There is none, or it is no answer.
    pub fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        to_head: bool,
    ) -> Poll<Result<Answer, AnswerError>> {
        match self {
            Self::Http1(connection) => connection.poll_answer(cx, to_head),
            Self::Http2(exchange) => exchange.poll_answer(cx, to_head),
        }
    }

    /// Ready when the answer has been waited for too long. To be polled while waiting.
    pub fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(connection) => connection.poll_overdue(cx),
            Self::Http2(exchange) => exchange.poll_overdue(cx),
        }
    }

    /// The answer's body, to be read with [`poll_body`](Self::poll_body).
    pub fn body(&self, answer: &Answer) -> Body {
        match self {
            Self::Http1(_) => Body::new(answer.framing),
            Self::Http2(_) => Body::of_stream(answer.length),
        }
    }

    /// Waits for the next part of the answer's body.
    ///
    /// # Errors
    /// It broke off, or is malformed.
    pub fn poll_body(
        &self,
        cx: &mut Context<'_>,
        body: &mut Body,
    ) -> Poll<Result<Part, AnswerError>> {
        match self {
            Self::Http1(connection) => connection.poll_body(cx, body),
            Self::Http2(exchange) => exchange.poll_body(cx, body),
        }
    }

    /// Takes the socket back after the server has switched protocols, with what it sent after its answer. There is no
    /// such thing in HTTP/2.
    ///
    /// # Errors
    /// The rest of the request could not be sent.
    pub async fn into_stream(self) -> Result<(Stream, Bytes), SendError> {
        match self {
            Self::Http1(connection) => connection.into_stream().await,
            Self::Http2(_) => Err(SendError::Lost(io::ErrorKind::Unsupported.into())),
        }
    }
}
