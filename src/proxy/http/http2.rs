//! HTTP/2 towards clients (RFC 9113): a connection, and its streams, each a request and its answer.
//!
//! The h2 crate has frames, HPACK and flow control. A stream goes the same way as a request of HTTP/1.1: through
//! [`service`](super::service), its body an [`Upload`], its answer a [`ResponseBody`].

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, COOKIE, DATE, HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::answer;
use super::connection::Client;
use super::download::ResponseBody;
use super::reply::Reply;
use super::service;
use super::websocket::{self, StreamIo};
use crate::message::h1::write_answer::{Ending, Fields};
use crate::message::h2::{Flood, Limits, Meter};
use crate::message::{Upload, headers};
use crate::net::{Stall, Stream, clock};
use crate::proxy::roster::Place;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Its name in TLS.
pub const ALPN: &[u8] = b"h2";

const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that may wait for the client to take them.
const SEND_BUFFER: usize = 64 * 1024;
/// Decoded size of a request's fields, as the RFC counts it; the same as in HTTP/1.1.
const MAX_FIELDS_SIZE: u32 = 32 * 1024;
/// How long a connection that is told to end may take for what is under way no more.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves a connection to its end. `read` is what was read of it already.
pub async fn serve(stream: Stream, read: BytesMut, client: Rc<Client>, place: Place) {
    let flood = Rc::new(Cell::new(None));
    let io = Metered {
        stream,
        read,
        meter: Meter::new(Limits::default()),
        preface: PREFACE.len(),
        flood: Rc::clone(&flood),
    };
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_FIELDS_SIZE)
        .enable_connect_protocol()
        .handshake(io);
    let limit = client.listener().timeouts.headers;
    let Ok(Ok(connection)) = timeout(limit, handshake).await else {
        return;
    };
    let mut session = Session {
        connection,
        client,
        place,
        flood,
        open: Rc::default(),
        idle_since: clock::now(),
        ending: None,
    };
    poll_fn(|cx| session.poll(cx)).await;
}

struct Session {
    connection: Connection<Metered, Bytes>,
    client: Rc<Client>,
    place: Place,
    flood: Rc<Cell<Option<Flood>>>,
    /// Streams that have a task.
    open: Rc<Cell<usize>>,
    /// Since when there have been none, if there are none.
    idle_since: Instant,
    /// Since when the client has been told that no more streams are taken.
    ending: Option<Instant>,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    let listener = &self.client.listener().name;
                    tracing::debug!(%listener, %error, "an HTTP/2 connection has failed");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if let Some(flood) = self.flood.take() {
                self.refuse(flood);
                continue;
            }
            if !self.poll_idle(cx) {
                return Poll::Pending;
            }
            if self.ending.is_some() {
                return Poll::Ready(());
            }
            self.connection.graceful_shutdown();
            self.ending = Some(clock::now());
        }
    }

    /// Whether nobody needs the connection any more.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        let local = &self.client.local;
        if self.open.get() > 0 {
            self.idle_since = clock::now();
        }
        if self.ending.is_none() && local.drain.draining() {
            return true;
        }
        let deadline = match self.ending {
            Some(since) => self.idle_since.max(since) + GOODBYE,
            None => self.idle_since + self.client.listener().timeouts.keep_alive,
        };
        local.roster.wait(self.place, cx, deadline) && self.open.get() == 0
    }

    fn refuse(&mut self, flood: Flood) {
        let listener = self.client.listener();
        let stats = listener.stats.shard(self.client.local.worker);
        stats.floods.increment();
        tracing::warn!(
            listener = %listener.name, peer = %self.client.peer, flood = flood.name(),
            "a client floods its HTTP/2 connection, which is closed"
        );
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.ending = Some(clock::now());
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.open.set(self.open.get() + 1);
        let open = Open(Rc::clone(&self.open));
        let exchange = exchange(Rc::clone(&self.client), request, respond);
        spawn_local(async move {
            let mut exchange = pin!(exchange);
            poll_fn(|cx| clock::turn(|| exchange.as_mut().poll(cx))).await;
            drop(open);
        });
    }
}

/// A stream that has a task.
struct Open(Rc<Cell<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Answers a request, unless the client takes it back.
async fn exchange(client: Rc<Client>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (head, body) = request.into_parts();
    let mut head = as_usual(head);
    let to_head = head.method == Method::HEAD;
    let respond = Rc::new(RefCell::new(respond));
    let (mut upload, mut websocket) = (None, None);
    if websocket::upgrade(&mut head, &mut client.local.rng.borrow_mut()) {
        websocket = Some(body);
    } else if !body.is_end_stream() {
        let length = headers::content_length(&head.headers).unwrap_or_default();
        let expected =
            headers::expects_continue(head.version, &head.headers).then(|| Rc::clone(&respond));
        let listener = client.listener();
        let body = Upload::http2(body, length, expected, listener.timeouts.idle);
        listener.min_body_rate.inspect(|rate| body.hurry(*rate));
        upload = Some(body);
    }
    let answered = {
        let mut work = pin!(service::serve(&client, head, upload.clone()));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            // Taken back, or the connection has ended.
            Poll::Pending => respond.borrow_mut().poll_reset(cx).map(|_| None),
        })
        .await
    };
    let Some((mut reply, tunnel)) = answered else {
        return;
    };
    if let (Some(tunnel), Some(receive)) = (tunnel, websocket) {
        websocket::accept(&mut reply.fields);
        reply.status = StatusCode::OK;
        let response = head_of(&client, reply.status, reply.fields, None);
        let stream = respond.borrow_mut().send_response(response, false);
        if let Ok(send) = stream {
            let idle = client.listener().timeouts.idle;
            let io = StreamIo::new(receive, send);
            tunnel.run(io, Bytes::new(), idle).await;
        }
        return;
    }
    if let Some(upload) = &upload {
        upload.answered();
    }
    let sent = send(&client, reply, to_head, &respond).await;
    if let Some(upload) = upload {
        match sent {
            // Its server may still take the rest of it, whatever it has answered.
            Ok(()) => upload.taken().await,
            Err(_) => upload.stop().await,
        }
    }
}

/// Says what HTTP/2 says otherwise in the way of HTTP/1.1: Host is `:authority` (RFC 9113, section 8.3.1), and cookies may
/// come in crumbs (section 8.2.3).
fn as_usual(mut head: Parts) -> Parts {
    let fields = &mut head.headers;
    if let Some(authority) = head.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        fields.insert(HOST, host);
    }
    let crumbs = fields.get_all(COOKIE);
    if crumbs.iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
        let whole = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..])));
        fields.insert(COOKIE, whole.expect("its parts were valid"));
    }
    head
}

async fn send(
    client: &Client,
    reply: Reply,
    to_head: bool,
    respond: &RefCell<SendResponse<Bytes>>,
) -> Result<(), h2::Error> {
    let (ending, has_body) = answer::ending(Version::HTTP_2, to_head, &reply);
    let length = match ending {
        Ending::Length(length) => Some(length),
        Ending::NoBody(length) => length,
        Ending::Chunked | Ending::Close => None,
    };
    let response = head_of(client, reply.status, reply.fields, length);
    let stream = respond.borrow_mut().send_response(response, !has_body)?;
    if !has_body {
        return Ok(());
    }
    let mut sending = Sending {
        stream,
        body: reply.body,
        stall: Stall::new(client.listener().timeouts.idle),
    };
    poll_fn(|cx| sending.poll(cx)).await
}

/// The head of an answer.
fn head_of(
    client: &Client,
    status: StatusCode,
    fields: Fields,
    length: Option<u64>,
) -> Response<()> {
    let has_date = fields.has_date;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields.into_map();
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    if !has_date {
        response
            .headers_mut()
            .insert(DATE, client.local.date.value());
    }
    response
}

/// An answer's body on its way.
struct Sending {
    stream: SendStream<Bytes>,
    body: ResponseBody,
    stall: Stall,
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.stream.poll_reset(cx)?.is_ready() {
                return Poll::Ready(Err(Reason::CANCEL.into()));
            }
            ready!(self.poll_room(cx))?;
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
                Some(Err(_)) => return Poll::Ready(Err(self.reset(Reason::INTERNAL_ERROR))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = self.body.is_end_stream();
                        self.stream.send_data(data, is_last)?;
                        if is_last {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                },
            }
        }
    }

    /// Waits until the client takes more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                Poll::Pending => {
                    ready!(self.stall.poll_stalled(cx));
                    return Poll::Ready(Err(self.reset(Reason::CANCEL)));
                }
            }
        }
        self.stall.progress();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, reason: Reason) -> h2::Error {
        self.stream.send_reset(reason);
        reason.into()
    }
}

/// A client's stream, with what was read of it already, and an eye on the frames that it sends.
struct Metered {
    stream: Stream,
    read: BytesMut,
    meter: Meter,
    /// So many bytes of the preface are still to come.
    preface: usize,
    /// What the client floods the connection with. From then on nothing is read.
    flood: Rc<Cell<Option<Flood>>>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.read.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let length = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read[..length]);
            this.read.advance(length);
        }
        let new = &buf.filled()[before..];
        let of_preface = this.preface.min(new.len());
        this.preface -= of_preface;
        if let Err(flood) = this.meter.observe(&new[of_preface..], clock::now()) {
            buf.set_filled(before);
            this.flood.set(Some(flood));
            return Poll::Pending; // whoever polls asks for the flood next
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
