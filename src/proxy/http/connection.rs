//! Serving a client's connection: request after request, until it ends or no more come.
//!
//! ```text
//!            first byte             headers complete
//!   WAITING ─────────────▶ HEAD ──────────────────────▶ EXCHANGE ─┐
//!    ▲  │ keep_alive: close  headers: 408, close      (bodies and answers have watchdogs of their own)
//!    │  └ PARK_AFTER: parked                                       │
//!    └────────────────────────────────────────────────────────────┘ answer sent, request's body read
//! ```
//!
//! Empty lines are the beginning of a head too, but of one that nobody waits for an answer to: its end is silent.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::answer::{self, Sent};
use super::client::Client;
use super::error::ProxyError;
use super::http2;
use super::open::Opened;
use super::task::{DRAIN_GRACE, Idle, PARK_AFTER};
use super::tunnel::Tunnel;
use crate::message::Upload;
use crate::message::h1::{Framing, Request, Wire, read_request};
use crate::net::{Stream, clock};
use crate::proxy::roster::Place;

/// How long, and for how much, an unread request body is read and thrown away after the answer, so that the close does
/// not reset the connection before the client has read the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1024 * 1024;

/// How long a request on a new connection may take until it is watched whether its client has gone away. To have it
/// watched is what a short connection can do without.
const WATCH_AFTER: Duration = Duration::from_millis(100);

/// Why a connection is served no more.
enum End {
    /// No request has come for a while.
    Park,
    /// The client has gone, or there is nothing more to say to it.
    Close,
    /// An answer has broken off, which the client should notice.
    Abort,
    /// It speaks HTTP/2.
    Http2,
    /// It may still be sending what nobody wants.
    Linger,
    /// It goes on as something else.
    Switch(Box<Tunnel>),
}

/// Serves a client's connection to its end, or until it is idle, which is for the task of that place to wait out. `read`
/// is what was read of it already.
///
/// Not an `async fn`: the future of one would keep room for its arguments.
pub fn serve(opened: Opened, read: BytesMut) -> impl Future<Output = Option<Idle>> {
    let (place, is_new) = (opened.place, opened.is_new);
    let (client, stream) = Client::new(opened);
    let came = !read.is_empty();
    let wire = Wire::with_input(stream, read);
    let connection = Connection {
        // Over TLS ALPN has said so (RFC 9113, section 3.2).
        may_be_http2: client.listener().http2 && is_new && !client.hop.is_encrypted(),
        wire: Rc::new(RefCell::new(wire)),
        client: Rc::new(client),
        place,
        since: clock::now(),
        waiting_for: Wait::Request,
        is_new,
        came,
    };
    connection.serve()
}

/// What a connection waits for between two exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The first byte of a request.
    Request,
    /// The rest of its headers.
    Head,
}

struct Connection {
    client: Rc<Client>,
    wire: Rc<RefCell<Wire>>,
    place: Place,
    waiting_for: Wait,
    /// When that wait began.
    since: Instant,
    /// Whether no request has come since it was opened.
    is_new: bool,
    /// Whether anything has come since the last request.
    came: bool,
    /// Whether HTTP/2 is spoken here, and nothing has come yet that is not its preface.
    may_be_http2: bool,
}

impl Connection {
    async fn serve(mut self) -> Option<Idle> {
        loop {
            let end = match self.next().await {
                Ok(request) => self.exchange(request).await,
                Err(end) => Some(end),
            };
            match end {
                None => {}
                Some(End::Park) => {
                    let since = self.since;
                    let wire = Rc::into_inner(self.wire)?.into_inner();
                    let transport = wire.stream.into_transport();
                    let peer = self.client.peer;
                    return Some(Idle {
                        transport,
                        peer,
                        since,
                        is_new: self.is_new,
                        facts: self.client.facts.take(),
                    });
                }
                Some(End::Abort) => return None,
                Some(End::Close) if !self.client.hop.is_encrypted() => return None,
                Some(end) => {
                    // Boxed: most connections end without ado, and need no room for this.
                    Box::pin(self.end(end)).await;
                    return None;
                }
            }
        }
    }

    /// Ends the connection.
    async fn end(self, end: End) {
        let Some(wire) = Rc::into_inner(self.wire) else {
            return; // whoever has it closes it
        };
        let Wire {
            mut stream, input, ..
        } = wire.into_inner();
        match end {
            End::Park | End::Abort => {}
            // TLS says that this is the end, and not somebody who cuts the connection (RFC 8446, section 6.1).
            End::Close => _ = timeout(LINGER, stream.shutdown()).await,
            End::Linger => linger(&mut stream).await,
            End::Http2 => http2::serve(stream, input, self.client, self.place).await,
            End::Switch(tunnel) => {
                let idle = self.client.listener().timeouts.idle;
                tunnel.run(stream.switched(), input.freeze(), idle).await;
            }
        }
    }

    /// Waits for a request.
    async fn next(&mut self) -> Result<Request, End> {
        self.waiting_for = Wait::Request;
        self.since = clock::now();
        self.wire.borrow_mut().rest();
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Request, End>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            if self.may_be_http2 {
                match wire.input.get(..http2::PREFACE.len()) {
                    Some(http2::PREFACE) => return Poll::Ready(Err(End::Http2)),
                    _ => self.may_be_http2 = http2::PREFACE.starts_with(&wire.input),
                }
            }
            if !self.may_be_http2 {
                match read_request::read(&mut wire.scan, &mut wire.input) {
                    Ok(Some(request)) => return Poll::Ready(Ok(request)),
                    Ok(None) => {}
                    Err(invalid) => {
                        let listener = self.client.listener();
                        let stats = listener.stats.shard(self.client.local.worker);
                        stats.malformed.increment();
                        refuse(&self.client, wire, cx, invalid.into(), self.since);
                        return Poll::Ready(Err(End::Linger));
                    }
                }
            }
            match wire.poll_read(cx) {
                Poll::Ready(Ok(1..)) => self.came = true,
                Poll::Ready(_) => return Poll::Ready(Err(End::Close)),
                Poll::Pending => break,
            }
        }
        // Be it nothing but empty lines, of which more and more would else keep it open.
        if self.waiting_for == Wait::Request && (self.came || !wire.input.is_empty()) {
            self.waiting_for = Wait::Head;
            self.since = clock::now();
        }
        let local = &self.client.local;
        let timeouts = self.client.listener().timeouts;
        let (limit, end) = match self.waiting_for {
            Wait::Head if !wire.input.is_empty() => (timeouts.headers, End::Linger),
            _ if local.drain.closes_idle() && self.is_new => (DRAIN_GRACE, End::Close),
            _ if local.drain.closes_idle() => {
                return match wire.stream.transport().has_bytes() {
                    true => Poll::Pending, // it will be woken to read them
                    false => Poll::Ready(Err(End::Close)),
                };
            }
            // Nothing but empty lines has come.
            Wait::Head => (timeouts.headers, End::Close),
            Wait::Request if timeouts.keep_alive > PARK_AFTER => (PARK_AFTER, End::Park),
            Wait::Request => (timeouts.keep_alive, End::Close),
        };
        if !local.roster.wait(self.place, cx, self.since + limit) {
            return Poll::Pending;
        }
        if matches!(end, End::Linger) {
            let listener = self.client.listener();
            let stats = listener.stats.shard(local.worker);
            stats.header_timeouts.increment();
            tracing::info!(
                listener = %listener.name, peer = %self.client.peer,
                "a client takes too long for a request's headers"
            );
            refuse(
                &self.client,
                wire,
                cx,
                ProxyError::HeadersTimeout,
                self.since,
            );
        }
        Poll::Ready(Err(end))
    }

    /// Answers a request; `None` if another one may follow.
    async fn exchange(&mut self, request: Request) -> Option<End> {
        self.since = clock::now();
        self.is_new = false;
        self.came = false;
        let Request {
            head,
            framing,
            keep_alive,
        } = request;
        let upload = (framing != Framing::Empty).then(|| {
            let expected = head.expects_continue();
            let listener = self.client.listener();
            let idle = listener.timeouts.idle;
            let upload = Upload::new(Rc::clone(&self.wire), framing, expected, idle);
            listener.min_body_rate.inspect(|rate| upload.hurry(*rate));
            upload
        });
        let work = answer::answer(
            Rc::clone(&self.client),
            Rc::clone(&self.wire),
            head,
            upload.clone(),
            keep_alive,
        );
        let sent = {
            let mut work = pin!(work);
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(sent) => Poll::Ready(Some(sent)),
                Poll::Pending if self.is_gone(cx, upload.as_deref()) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        if let Some(upload) = &upload {
            match &sent {
                // Its server may still take the rest of it, whatever it has answered.
                Some(Sent::Whole { .. } | Sent::Switched(_)) => upload.taken().await,
                Some(Sent::Broken) | None => upload.stop().await,
            }
        }
        match sent {
            Some(Sent::Whole { keep_alive }) => match upload {
                Some(upload) if !upload.received_all() || upload.error().is_some() => {
                    Some(End::Linger)
                }
                _ if keep_alive => None,
                _ if self.has_more() => Some(End::Linger),
                _ => Some(End::Close),
            },
            Some(Sent::Switched(tunnel)) => Some(End::Switch(tunnel)),
            Some(Sent::Broken) | None => Some(End::Abort),
        }
    }

    /// Whether the client has gone away, which ends its exchange. While its body is on the way, that will tell.
    fn is_gone(&self, cx: &mut Context<'_>, upload: Option<&Upload>) -> bool {
        if upload.is_some_and(|upload| !upload.received_all() && upload.error().is_none()) {
            return false;
        }
        let wire = &mut *self.wire.borrow_mut();
        if !wire.stream.tcp().is_watched() {
            let (roster, deadline) = (&self.client.local.roster, self.since + WATCH_AFTER);
            if !roster.wait(self.place, cx, deadline) {
                return false;
            }
        }
        // The next request may be there already; one read of it is enough.
        wire.input.is_empty() && matches!(wire.poll_read(cx), Poll::Ready(Ok(0) | Err(_)))
    }

    /// Whether there may be something that the client has sent and nobody has read, which a close would answer with a
    /// reset.
    fn has_more(&self) -> bool {
        let wire = &mut *self.wire.borrow_mut();
        !wire.input.is_empty() || wire.stream.transport().has_more()
    }
}

/// Answers what is no request, as far as there is room to.
fn refuse(
    client: &Client,
    wire: &mut Wire,
    cx: &mut Context<'_>,
    error: ProxyError,
    since: Instant,
) {
    let listener = client.listener();
    tracing::debug!(listener = %listener.name, %error, "a client sent what is no request");
    answer::refusal(client, error, since, &mut wire.output.head);
    // The socket is empty but for pipelined answers; a client that does not read those gets no more.
    _ = wire.poll_flush(cx);
}

/// Tells a client that it should speak TLS here.
pub async fn refuse_plain(opened: Opened) {
    let (client, stream) = Client::new(opened);
    let mut wire = Wire::new(stream);
    poll_fn(|cx| {
        let error = ProxyError::BadRequest("this port speaks HTTPS; use https:// in the URL");
        refuse(&client, &mut wire, cx, error, clock::now());
        Poll::Ready(())
    })
    .await;
    linger(&mut wire.stream).await;
}

/// Ends the sending side, and reads on for a while: the client may still be sending.
pub async fn linger(stream: &mut Stream) {
    if let Ok(Ok(())) = timeout(LINGER, stream.shutdown()).await {
        let mut rest = stream.take(LINGER_BYTES);
        _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}
