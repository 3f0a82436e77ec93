//! One request and its answer: a stream.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::task::coop;

use super::Shared;
use crate::message::h1::body::Part;
use crate::message::h1::{Answer, Body};
use crate::message::h2::has_space;
use crate::message::headers;
use crate::net::{Stall, clock};
use crate::upstream::connection::{AnswerError, SendError, Sending};
use crate::upstream::request::request;

/// A request and its answer.
#[derive(Debug)]
pub struct Exchange {
    connection: Rc<Shared>,
    stream: Rc<RefCell<Inner>>,
}

#[derive(Debug)]
struct Inner {
    send: Option<SendStream<Bytes>>,
    upload: Option<Sending>,
    answer: Option<ResponseFuture>,
    body: Option<RecvStream>,
    /// Watches over the wait for an answer.
    overdue: Stall,
    /// Watches over the wait for room.
    room: Stall,
    /// Whether the server may have seen the request.
    seen: bool,
    /// Whether it was sent over a connection that had served others, and has had no word of an answer.
    stale: bool,
}

impl Exchange {
    pub(super) fn new(connection: &Rc<Shared>) -> Self {
        let streams = connection.streams.get();
        if streams == 0 {
            connection.busy_since.set(clock::now());
        }
        connection.streams.set(streams + 1);
        Self {
            connection: Rc::clone(connection),
            stream: Rc::new(RefCell::new(Inner {
                send: None,
                upload: None,
                answer: None,
                body: None,
                overdue: Stall::new(Duration::MAX),
                room: Stall::new(connection.idle),
                seen: false,
                stale: false,
            })),
        }
    }

    /// Whether the server may have seen some of the request.
    pub fn has_sent(&self) -> bool {
        self.stream.borrow().seen
    }

    /// Whether its connection may have ended before the server could know of the request, or the server says that it has
    /// done nothing about it.
    pub fn may_be_stale(&self) -> bool {
        let stream = self.stream.borrow();
        stream.stale || !stream.seen
    }

    /// Sends a request, whose head is written as HTTP/1.1 has it. Its answer may take `limit`, counted from when
    /// somebody first waits for it.
    ///
    /// # Errors
    /// The connection failed.
    pub fn begin(&self, head: &[u8], upload: Option<Sending>, limit: Duration) -> io::Result<()> {
        let inner = &mut *self.stream.borrow_mut();
        let request = request(head, self.connection.https, upload.is_some())?;
        let ends = upload.is_none();
        let sent = self.connection.requests.clone().send_request(request, ends);
        let (answer, send) = sent.map_err(|error| {
            // It takes no more streams; those that are open go on.
            self.connection.closed.set(true);
            io::Error::other(error)
        })?;
        inner.seen = true;
        inner.stale = self.connection.served.get();
        inner.overdue.restart(limit);
        inner.answer = Some(answer);
        inner.send = Some(send);
        inner.upload = upload;
        Ok(())
    }

    /// Sends what is to be sent; ready when that was all.
    ///
    /// # Errors
    /// The connection or the client's body failed.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.stream.borrow_mut().poll_send(cx)
    }

    /// Whether all of the request is sent.
    pub fn all_sent(&self) -> bool {
        self.stream.borrow().upload.is_none()
    }

    /// Sends the rest of the request in a task, whatever becomes of the answer, until its [`Upload`] is stopped.
    pub fn send_rest(&self) {
        let stream = Rc::clone(&self.stream);
        let rest = async move {
            let sent = poll_fn(|cx| stream.borrow_mut().poll_send(cx)).await;
            if sent.is_err() {
                stream.borrow_mut().upload = None; // whoever reads the answer learns of it
            }
        };
        Sending::spawn(self.stream.borrow().upload.as_ref(), rest);
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
        let inner = &mut *self.stream.borrow_mut();
        let Some(future) = &mut inner.answer else {
            return Poll::Ready(Err(AnswerError::Ended));
        };
        if let Poll::Ready(Some(Ok(interim))) = future.poll_informational(cx) {
            self.connection.served.set(true);
            inner.stale = false;
            let answer = Answer::of_stream(interim.into_parts().0, false, to_head);
            return Poll::Ready(answer.map_err(AnswerError::Invalid));
        }
        match ready!(Pin::new(future).poll(cx)) {
            Ok(response) => {
                self.connection.served.set(true);
                let (head, body) = response.into_parts();
                let is_empty = body.is_end_stream();
                inner.body = Some(body);
                let answer = Answer::of_stream(head, is_empty, to_head);
                Poll::Ready(answer.map_err(AnswerError::Invalid))
            }
            Err(error) => {
                inner.seen = !was_refused(&error);
                Poll::Ready(Err(AnswerError::Ended))
            }
        }
    }

    /// Ready when the answer has been waited for too long. To be polled while waiting.
    pub fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.borrow_mut().overdue.poll_stalled(cx)
    }

    /// Waits for the next part of the answer's body.
    ///
    /// # Errors
    /// It broke off.
    pub fn poll_body(
        &self,
        cx: &mut Context<'_>,
        body: &mut Body,
    ) -> Poll<Result<Part, AnswerError>> {
        let inner = &mut *self.stream.borrow_mut();
        let Some(stream) = &mut inner.body else {
            return Poll::Ready(Err(AnswerError::Ended));
        };
        let ended = |_| AnswerError::Ended;
        if let Some(data) = ready!(stream.poll_data(cx).map_err(ended)?) {
            let flow = stream.flow_control();
            flow.release_capacity(data.len()).map_err(ended)?;
            body.pass(data.len(), stream.is_end_stream())?;
            return Poll::Ready(Ok(Part::Data(data)));
        }
        let trailers = ready!(stream.poll_trailers(cx).map_err(ended)?);
        body.pass(0, true)?;
        Poll::Ready(Ok(match trailers {
            Some(trailers) if has_space(&trailers) => return Poll::Ready(Err(AnswerError::Ended)),
            Some(mut trailers) => {
                headers::keep_trailers(&mut trailers);
                Part::Trailers(trailers)
            }
            None => Part::End,
        }))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let streams = self.connection.streams.get() - 1;
        self.connection.streams.set(streams);
        if streams == 0 {
            self.connection.idle_since.set(clock::now());
        }
        let freed = &self.connection.freed;
        if freed.waiting.get() > 0 {
            freed.notify.notify_one();
        }
    }
}

/// Whether the server says that it has done nothing about a request (RFC 9113, section 8.7).
fn was_refused(error: &h2::Error) -> bool {
    // The library lets streams that are above the last one of a GOAWAY fail with it, and the others go on.
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

impl Inner {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(Ok(()));
        };
        while let Some(sending) = &mut self.upload {
            match send.poll_reset(cx) {
                // It has answered, and needs no more of the body (RFC 9113, section 8.1).
                Poll::Ready(Ok(Reason::NO_ERROR)) => {
                    self.upload = None;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(_) => return self.lost(),
                Poll::Pending => {}
            }
            match ready!(poll_room(send, &mut self.room, cx))? {
                true => {}
                false => return self.lost(),
            }
            // A part counts like a read of a socket, so that a body in crumbs does not keep others waiting.
            let turn = ready!(coop::poll_proceed(cx));
            let polled = ready!(sending.upload.poll_frame(cx));
            turn.made_progress();
            let frame = match polled {
                Some(Err(_)) => {
                    send.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(SendError::Upload));
                }
                Some(Ok(frame)) => Some(frame),
                None => None,
            };
            let ended = sending.upload.finished();
            let sent = match frame.map(http_body::Frame::into_data) {
                None => send.send_data(Bytes::new(), true),
                Some(Ok(data)) => send.send_data(data, ended),
                Some(Err(frame)) => {
                    let mut fields = frame.into_trailers().unwrap_or_default();
                    fields = wanted(&fields, sending);
                    send.send_trailers(fields)
                }
            };
            if ended {
                self.upload = None;
            }
            sent.map_err(|error| SendError::Lost(io::Error::other(error)))?;
        }
        Poll::Ready(Ok(()))
    }

    /// What the end of the stream means to whoever sends.
    fn lost<T>(&self) -> Poll<Result<T, SendError>> {
        match self.body {
            // The answer's own error says more, to whoever waits for that.
            None => Poll::Pending,
            Some(_) => Poll::Ready(Err(SendError::Lost(io::ErrorKind::ConnectionReset.into()))),
        }
    }
}

fn wanted(fields: &HeaderMap, sending: &Sending) -> HeaderMap {
    let wanted = fields.iter().filter(|(name, _)| sending.trailers.has(name));
    wanted
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Waits until the server takes more; false if it never will.
fn poll_room(
    send: &mut SendStream<Bytes>,
    stall: &mut Stall,
    cx: &mut Context<'_>,
) -> Poll<Result<bool, SendError>> {
    send.reserve_capacity(1);
    while send.capacity() == 0 {
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return Poll::Ready(Ok(false)),
            Poll::Pending => {
                ready!(stall.poll_stalled(cx));
                let error = io::Error::new(io::ErrorKind::TimedOut, "the server stopped reading");
                return Poll::Ready(Err(SendError::Lost(error)));
            }
        }
    }
    stall.progress();
    Poll::Ready(Ok(true))
}
