//! A connection to a server that speaks HTTP/1.1.
//!
//! It has no task of its own: whoever uses it drives it, first the request that waits for an answer, then the answer's
//! body. A request thus never hops between tasks, and a connection that nobody uses costs nothing but its socket: while
//! it waits for bytes it has no buffer to read them into.
//!
//! Only a request whose answer comes before all of it is sent gets a task, to send the rest: a client may not read the
//! one before the other has been taken.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use tokio::io::AsyncWrite;
use tokio::task::coop;

use super::announce::Announced;
use super::connection::{AnswerError, SendError, Sending};
use crate::message::h1::body::Part;
use crate::message::h1::{Answer, Body, Wire, read_answer, write_request};
use crate::net::{Stall, Stream, Traffic, Transport};

/// A connection to a server, driven by its user.
#[derive(Debug)]
pub struct Connection(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    wire: Wire,
    upload: Option<Sending>,
    /// Watches over the wait for an answer.
    answer: Stall,
    keep_alive: bool,
    reused: bool,
    /// Whether an answer is owed.
    busy: bool,
    /// What the kernel had taken before the present request.
    sent_before: u64,
    /// The only client that it serves, if there is such a one.
    announced: Option<Announced>,
}

impl Connection {
    /// Speaks HTTP/1.1 on a connection; a write that makes no progress for `idle` fails.
    /// It may have been announced as a client's own.
    pub fn new(
        transport: Transport,
        announced: Option<Announced>,
        traffic: Traffic,
        idle: Duration,
    ) -> Self {
        let stream = Stream::new(transport, traffic, idle).reading_on();
        Self(Rc::new(RefCell::new(Inner {
            wire: Wire::new(stream),
            upload: None,
            answer: Stall::new(Duration::MAX),
            keep_alive: true,
            reused: false,
            busy: false,
            sent_before: 0,
            announced,
        })))
    }

    /// Whether it may serve a request of this client.
    pub(super) fn is_for(&self, announced: Option<Announced>) -> bool {
        self.0.borrow().announced == announced
    }

    /// Whether it may serve this client and no other.
    pub(super) fn is_only_for(&self, client: SocketAddr) -> bool {
        let announced = self.0.borrow().announced;
        announced.is_some_and(|announced| announced.is_of(client))
    }

    /// Whether the server may have seen some of the present request.
    pub fn has_sent(&self) -> bool {
        let inner = self.0.borrow();
        inner.wire.stream.sent() > inner.sent_before
    }

    /// Whether it has served an earlier request, so that its server may have closed it meanwhile.
    pub fn reused(&self) -> bool {
        self.0.borrow().reused
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
        let inner = &mut *self.0.borrow_mut();
        inner.busy = true;
        inner.answer.restart(limit);
        inner.sent_before = inner.wire.stream.sent();
        let mut sent = 0;
        if upload.is_none()
            && let Poll::Ready(result) = Pin::new(&mut inner.wire.stream).poll_write(cx, head)
        {
            sent = result?;
        }
        inner.upload = upload;
        inner.wire.output.head.extend_from_slice(&head[sent..]);
        Ok(())
    }

    /// Sends what is to be sent; ready when that was all.
    ///
    /// # Errors
    /// The connection or the client's body failed.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// Whether all of the request is sent.
    pub fn all_sent(&self) -> bool {
        let inner = self.0.borrow();
        inner.upload.is_none() && inner.wire.is_flushed()
    }

    /// Sends the rest of the request in a task, whatever becomes of the answer, until its [`Upload`] is stopped.
    pub fn send_rest(&self) {
        let inner = Rc::clone(&self.0);
        let rest = async move {
            let sent = poll_fn(|cx| inner.borrow_mut().poll_send(cx)).await;
            // Whoever reads the answer learns of an error.
            if sent.is_err() {
                let inner = &mut *inner.borrow_mut();
                inner.upload = None;
                inner.keep_alive = false;
            }
        };
        Sending::spawn(self.0.borrow().upload.as_ref(), rest);
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
        let Inner {
            wire,
            keep_alive,
            reused,
            ..
        } = &mut *self.0.borrow_mut();
        loop {
            if let Some(answer) = read_answer::read(&mut wire.scan, &mut wire.input, to_head)? {
                *keep_alive = answer.keep_alive;
                // A server that speaks had not closed it.
                *reused &= !answer.is_interim();
                return Poll::Ready(Ok(answer));
            }
            if !matches!(ready!(wire.poll_read(cx)), Ok(1..)) {
                return Poll::Ready(Err(AnswerError::Ended));
            }
        }
    }

    /// Ready when the answer has been waited for too long. To be polled while waiting.
    pub fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().answer.poll_stalled(cx)
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
        let wire = &mut self.0.borrow_mut().wire;
        loop {
            if let Some(part) = body.take(&mut wire.input)? {
                return Poll::Ready(Ok(part));
            }
            match ready!(wire.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) if body.ends_with_connection() => return Poll::Ready(Ok(Part::End)),
                _ => return Poll::Ready(Err(AnswerError::Ended)),
            }
        }
    }

    /// The answer has been read, whether all of the request was sent or not.
    pub(super) fn set_answered(&self) {
        self.0.borrow_mut().busy = false;
    }

    /// Whether it can serve another request: the last one is over on both sides, the server keeps the connection open, and
    /// has sent nothing that nobody asked for.
    pub(super) fn is_reusable(&self, cx: &mut Context<'_>) -> bool {
        // Another owner would be the task that sends the rest of the last request.
        Rc::strong_count(&self.0) == 1 && self.0.borrow_mut().is_quiet(cx)
    }

    /// Whether the server has neither closed it nor sent anything up to this very moment. The runtime may not have heard
    /// of that yet, so the socket is asked, which is a system call.
    pub(super) fn is_open(&self) -> bool {
        self.0.borrow().wire.stream.tcp().is_silent_now()
    }

    /// Prepares it for a wait of unknown length.
    pub(super) fn rest(&self) {
        let inner = &mut *self.0.borrow_mut();
        inner.reused = true;
        inner.wire.rest();
    }

    /// Takes the socket back after the server has switched protocols, with what it sent after its answer.
    ///
    /// # Errors
    /// The rest of the request could not be sent.
    pub async fn into_stream(self) -> Result<(Stream, Bytes), SendError> {
        poll_fn(|cx| self.poll_send(cx)).await?;
        self.set_answered();
        let inner = Rc::clone(&self.0);
        drop(self);
        let inner = Rc::into_inner(inner).expect("the rest of the request was sent here");
        let Wire { stream, input, .. } = inner.into_inner().wire;
        Ok((stream, input.freeze()))
    }
}

impl Drop for Connection {
    /// An exchange that is given up ends with a reset. The server learns of it at once, and the port is free at once: who
    /// gives up thousands a second would else use them all up.
    fn drop(&mut self) {
        if let Ok(inner) = self.0.try_borrow()
            && inner.busy
            && let Some(socket) = inner.wire.stream.tcp().socket()
        {
            _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

impl Inner {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            let more = self.take_upload(cx)?;
            ready!(self.wire.poll_flush(cx))?;
            if self.upload.is_none() {
                return Poll::Ready(Ok(()));
            }
            if !more {
                return Poll::Pending;
            }
        }
    }

    /// Takes what the client has sent of its body, up to a reasonable amount; whether there may be more now. A part counts
    /// like a read of a socket, so that a body in crumbs does not keep others waiting.
    fn take_upload(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        let Self { upload, wire, .. } = self;
        let output = &mut wire.output;
        while let Some(sending) = upload {
            if output.is_full() {
                return Ok(true);
            }
            let Poll::Ready(turn) = coop::poll_proceed(cx) else {
                return Ok(false);
            };
            let polled = sending.upload.poll_frame(cx);
            if polled.is_ready() {
                turn.made_progress();
            }
            match polled {
                Poll::Pending => return Ok(false),
                Poll::Ready(Some(Err(_))) => return Err(SendError::Upload),
                Poll::Ready(Some(Ok(frame))) => {
                    match frame.into_data() {
                        Ok(data) => output.add(data, sending.chunked),
                        Err(frame) => {
                            if let (Ok(fields), true) = (frame.into_trailers(), sending.chunked) {
                                let wanted = |name: &HeaderName| sending.trailers.has(name);
                                write_request::write_trailers(&mut output.head, &fields, wanted);
                            }
                            *upload = None;
                            return Ok(false);
                        }
                    }
                    if sending.upload.finished() {
                        output.end(sending.chunked);
                        *upload = None;
                    }
                }
                Poll::Ready(None) => {
                    output.end(sending.chunked);
                    *upload = None;
                }
            }
        }
        Ok(false)
    }

    fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.keep_alive && self.upload.is_none() && self.wire.is_silent(cx)
    }
}
