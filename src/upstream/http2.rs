//! HTTP/2 towards servers: connections that many requests share, each request a stream (RFC 9113).
//!
//! The h2 crate needs somebody to read and write for all streams of a connection: a task of its own. A request still
//! drives its own stream: it hands over head and body, and waits for the answer's parts.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::announce::Announced;
use super::connection::{AnswerError, SendError, Sending};
use super::driver::Driver;
use super::request::request;
use crate::message::h1::body::Part;
use crate::message::h1::{Answer, Body};
use crate::message::headers;
use crate::net::{Stall, Stream, clock};

const STREAM_WINDOW: u32 = 256 * 1024;
/// As much as all streams together: a client that does not read its answer must not keep others from theirs.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// What unread small frames may cost altogether, as the library counts: 256 each, less their length. Its default is a
/// tenth of it, and ends the connection of everybody when some clients are slow to read small messages.
const SMALL_FRAMES: usize = 128 * 1024 * 1024;
/// Bytes of a request's body that may wait for the server to take them.
const SEND_BUFFER: usize = 64 * 1024;
/// Decoded size of an answer's fields; twice what a client may send, as in HTTP/1.1.
const MAX_FIELDS_SIZE: u32 = 64 * 1024;
/// Streams on one connection until a server says what it takes, and at most.
const MAX_STREAMS: usize = 100;
/// After this time a connection gets no more streams, so that requests find new servers behind a name, and keys change.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// A worker's connections to one server.
#[derive(Debug)]
pub struct Pool {
    connections: RefCell<Vec<Rc<Shared>>>,
    /// How many streams a connection may have, as far as the server has said so on others.
    streams: Cell<usize>,
    /// Those who wait for a stream to end.
    freed: Rc<Freed>,
}

/// Tells that a stream has ended.
#[derive(Debug, Default)]
struct Freed {
    waiting: Cell<usize>,
    notify: Notify,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            connections: RefCell::default(),
            streams: Cell::new(MAX_STREAMS),
            freed: Rc::default(),
        }
    }
}

/// A connection.
#[derive(Debug)]
struct Shared {
    requests: SendRequest<Bytes>,
    https: bool,
    /// The only client that it serves, if there is such a one.
    announced: Option<Announced>,
    /// How long the server may take nothing.
    idle: Duration,
    streams: Cell<usize>,
    freed: Rc<Freed>,
    /// Set when its task has ended, or the server has said that it takes no more streams.
    closed: Cell<bool>,
    since: Instant,
    /// Since when it has no streams.
    idle_since: Cell<Instant>,
    /// Since when it has streams.
    busy_since: Cell<Instant>,
}

impl Shared {
    fn has_room(&self) -> bool {
        self.is_good() && self.streams.get() < self.max_streams()
    }

    fn max_streams(&self) -> usize {
        self.requests.current_max_send_streams().min(MAX_STREAMS)
    }

    fn is_good(&self) -> bool {
        !self.closed.get() && clock::now() - self.since < MAX_AGE
    }
}

impl Pool {
    /// A stream on a connection that has room for it.
    pub fn take(&self, announced: Option<Announced>) -> Option<Exchange> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_good());
        if let Some(connection) = connections.first() {
            self.streams.set(connection.max_streams());
        }
        let fits = |it: &&Rc<Shared>| it.announced == announced && it.has_room();
        let connection = connections.iter().find(fits);
        connection.map(Exchange::new)
    }

    /// A stream on the connection that was opened last, if that has room for it.
    pub fn take_newest(&self, announced: Option<Announced>) -> Option<Exchange> {
        let connections = self.connections.borrow();
        let newest = connections.iter().rfind(|it| it.announced == announced)?;
        newest.has_room().then(|| Exchange::new(newest))
    }

    /// Waits until there is room for a stream on one of the connections that are there.
    pub async fn wait(&self, announced: Option<Announced>) -> Exchange {
        self.freed.waiting.set(self.freed.waiting.get() + 1);
        let _leaves = Leaves(&self.freed);
        loop {
            if let Some(exchange) = self.take(announced) {
                return exchange;
            }
            self.freed.notify.notified().await;
        }
    }

    /// Opens a connection, and a stream on it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn open(
        &self,
        mut stream: Stream,
        https: bool,
        announced: Option<Announced>,
        idle: Duration,
    ) -> io::Result<Exchange> {
        let heard = stream.heard();
        let (requests, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_FIELDS_SIZE)
            .initial_max_send_streams(self.streams.get())
            .data_frame_budget(SMALL_FRAMES)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let shared = Rc::new(Shared {
            requests,
            https,
            announced,
            idle,
            streams: Cell::new(0),
            freed: Rc::clone(&self.freed),
            closed: Cell::new(false),
            since: clock::now(),
            idle_since: Cell::new(clock::now()),
            busy_since: Cell::new(clock::now()),
        });
        let driven = Rc::downgrade(&shared);
        spawn_local(async move {
            // Whoever has a stream has the connection.
            let busy_since = || {
                let shared = driven.upgrade()?;
                (shared.streams.get() > 0).then(|| shared.busy_since.get())
            };
            let ended = Driver::new(connection, heard, busy_since).await;
            tracing::debug!(%ended, "an HTTP/2 connection to a server has ended");
            if let Some(driven) = driven.upgrade() {
                driven.closed.set(true);
            }
        });
        self.connections.borrow_mut().push(Rc::clone(&shared));
        Ok(Exchange::new(&shared))
    }

    /// Lets go of connections that have been unused for `max_idle`, or are too old; those close when their last stream
    /// has ended.
    pub fn prune(&self, now: Instant, max_idle: Duration) {
        self.connections.borrow_mut().retain(|connection| {
            let idle = now.saturating_duration_since(connection.idle_since.get());
            connection.is_good() && (connection.streams.get() > 0 || idle < max_idle)
        });
    }

    /// Lets go of one that has no streams.
    pub fn close_one(&self) {
        let mut connections = self.connections.borrow_mut();
        let unused = connections.iter().position(|it| it.streams.get() == 0);
        if let Some(index) = unused {
            connections.remove(index);
        }
    }

    /// Lets go of those that only this client could use.
    pub fn forget(&self, client: SocketAddr) {
        let is_its = |it: &Shared| it.announced.is_some_and(|told| told.is_of(client));
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !is_its(connection));
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }
}

/// One of those who wait for a stream to end.
struct Leaves<'a>(&'a Freed);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

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
}

impl Exchange {
    fn new(connection: &Rc<Shared>) -> Self {
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
            })),
        }
    }

    /// Whether the server may have seen some of the request.
    pub fn has_sent(&self) -> bool {
        self.stream.borrow().seen
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
        let upload = stream
            .borrow()
            .upload
            .as_ref()
            .map(|it| Rc::clone(&it.upload));
        let task = spawn_local(async move {
            if poll_fn(|cx| stream.borrow_mut().poll_send(cx))
                .await
                .is_err()
            {
                stream.borrow_mut().upload = None; // whoever reads the answer learns of it
            }
        });
        if let Some(upload) = upload {
            upload.taken_by(task);
        }
    }

    /// Waits for the head of the answer. `to_head` says that HEAD was asked.
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
        match ready!(Pin::new(future).poll(cx)) {
            Ok(response) => {
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
            let frame = match ready!(sending.upload.poll_frame(cx)) {
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
