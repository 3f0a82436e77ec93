//! Serving a client's connection: request after request, until it ends or no more come.
//!
//! ```text
//!            first byte             headers complete
//!   WAITING ─────────────▶ HEAD ──────────────────────▶ EXCHANGE ─┐
//!    ▲  │ keep_alive: close  headers: 408, close      (bodies and answers have watchdogs of their own)
//!    │  └ PARK_AFTER: parked                                       │
//!    └────────────────────────────────────────────────────────────┘ answer sent, request's body read
//! ```

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::answer::{self, Sent};
use super::error::ProxyError;
use super::task::{Idle, PARK_AFTER, has_bytes};
use super::tunnel::Tunnel;
use crate::message::Upload;
use crate::message::forwarded::Hop;
use crate::message::h1::{Framing, Invalid, Request, Scan, Wire, read_request};
use crate::message::headers;
use crate::net::{Stream, Traffic, clock};
use crate::proxy::local::Local;
use crate::proxy::roster::Place;
use crate::proxy::snapshot::ListenerEntry;

/// How long, and for how much, an unread request body is read and thrown away after the answer, so that the close does
/// not reset the connection before the client has read the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1024 * 1024;

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 67\r\nconnection: close\r\n\r\n\
    408 Request Timeout: the request's headers did not arrive in time.\n";

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    /// The worker's own state.
    pub local: Rc<Local>,
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// The hop that the connection is.
    pub hop: Hop,
}

impl Client {
    /// The listener that accepted it.
    pub fn listener(&self) -> &ListenerEntry {
        &self.local.snapshot.listeners[self.listener]
    }
}

/// Why a connection is served no more.
enum End {
    /// No request has come for a while.
    Park,
    /// The client has gone, or there is nothing more to say to it.
    Close,
    /// It may still be sending what nobody wants.
    Linger,
    /// An answer broke off that the client may take to end with the connection: only a reset differs from that.
    Reset,
    /// It goes on as something else.
    Switch(Box<Tunnel>),
}

/// Serves a client's connection to its end, or until it is idle, which is for the task of that place to wait out.
///
/// Not an `async fn`: the future of one would keep room for its arguments.
pub fn serve(
    tcp: TcpStream,
    peer: SocketAddr,
    listener: usize,
    local: Rc<Local>,
    place: Place,
) -> impl Future<Output = Option<Idle>> {
    let entry = &local.snapshot.listeners[listener];
    let traffic = Traffic::new(Arc::clone(&entry.bytes), local.worker);
    let stream = Stream::new(tcp, traffic, entry.timeouts.idle);
    let connection = Connection {
        wire: Rc::new(RefCell::new(Wire::new(stream))),
        client: Rc::new(Client {
            listener,
            hop: Hop::new(peer, &local.snapshot.trusted_proxies),
            local,
        }),
        place,
        scan: Scan::default(),
        since: clock::now(),
        waiting_for: Wait::Request,
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
    scan: Scan,
    waiting_for: Wait,
    /// When that wait began.
    since: Instant,
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
                    let tcp = wire.stream.into_tcp();
                    return Some(Idle { tcp, since });
                }
                Some(end) => {
                    Box::pin(self.end(end)).await;
                    return None;
                }
            }
        }
    }

    /// Ends the connection.
    async fn end(self, end: End) {
        let Some(wire) = Rc::into_inner(self.wire) else {
            return; // a task still sends the rest of a request that failed
        };
        let Wire {
            mut stream, input, ..
        } = wire.into_inner();
        match end {
            End::Park | End::Close => {}
            End::Linger => linger(&mut stream).await,
            End::Reset => {
                _ = SockRef::from(&*stream.tcp()).set_linger(Some(Duration::ZERO));
            }
            End::Switch(tunnel) => {
                let idle = self.client.listener().timeouts.idle;
                tunnel.run(stream, input.freeze(), idle).await;
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
            match read_request::read(&mut self.scan, &mut wire.input) {
                Ok(Some(request)) => return Poll::Ready(Ok(request)),
                Ok(None) => {}
                Err(invalid) => {
                    return Poll::Ready(Err(refuse(&self.client, wire, invalid)));
                }
            }
            match wire.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Err(End::Close)),
                Poll::Pending => break,
            }
        }
        if self.waiting_for == Wait::Request && !wire.input.is_empty() {
            self.waiting_for = Wait::Head;
            self.since = clock::now();
        }
        let local = &self.client.local;
        let timeouts = &self.client.listener().timeouts;
        let (limit, end) = match self.waiting_for {
            Wait::Head => (timeouts.headers, End::Close),
            Wait::Request if local.drain.draining() => {
                return match has_bytes(wire.stream.tcp()) {
                    true => Poll::Pending, // it will be woken to read them
                    false => Poll::Ready(Err(End::Close)),
                };
            }
            Wait::Request if timeouts.keep_alive > PARK_AFTER => (PARK_AFTER, End::Park),
            Wait::Request => (timeouts.keep_alive, End::Close),
        };
        if !local.roster.wait(self.place, cx, self.since + limit) {
            return Poll::Pending;
        }
        if self.waiting_for == Wait::Head {
            let stats = self.client.listener().stats.shard(local.worker);
            stats.header_timeouts.increment();
            // A client that is not reading either gets no more than this.
            _ = wire.stream.tcp().try_write(REQUEST_TIMEOUT);
        }
        Poll::Ready(Err(end))
    }

    /// Answers a request; `None` if another one may follow.
    async fn exchange(&mut self, request: Request) -> Option<End> {
        let Request {
            head,
            framing,
            keep_alive,
        } = request;
        let upload = (framing != Framing::Empty).then(|| {
            let expected = headers::expects_continue(head.version, &head.headers);
            let idle = self.client.listener().timeouts.idle;
            Upload::new(Rc::clone(&self.wire), framing, expected, idle)
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
        match sent {
            None => Some(End::Close),
            Some(Sent::Whole { keep_alive }) => match upload {
                Some(upload) => {
                    let taken = taken(upload).await;
                    (!taken || !keep_alive).then_some(End::Linger)
                }
                None => (!keep_alive).then_some(End::Close),
            },
            Some(Sent::Broken { to_http_1_0 }) => Some(match to_http_1_0 {
                true => End::Reset,
                false => End::Close,
            }),
            Some(Sent::Switched(tunnel)) => Some(End::Switch(tunnel)),
        }
    }

    /// Whether the client has gone away, which ends its exchange. While its body is on the way, that will tell.
    fn is_gone(&self, cx: &mut Context<'_>, upload: Option<&Upload>) -> bool {
        if upload.is_some_and(|upload| !upload.finished()) {
            return false;
        }
        let wire = &mut *self.wire.borrow_mut();
        // The next request may be there already; one read of it is enough.
        wire.input.is_empty() && matches!(wire.poll_read(cx), Poll::Ready(Ok(0) | Err(_)))
    }
}

/// Waits until a body whose answer is sent was taken as well; false if that will not happen.
async fn taken(upload: Rc<Upload>) -> bool {
    if Rc::strong_count(&upload) > 1 {
        // Its server still takes it.
        poll_fn(|cx| upload.poll_end(cx)).await;
    }
    upload.finished() && upload.error().is_none()
}

/// Answers what is no request, as far as there is room to.
fn refuse(client: &Client, wire: &mut Wire, invalid: Invalid) -> End {
    let listener = client.listener();
    let stats = listener.stats.shard(client.local.worker);
    stats.malformed.increment();
    tracing::debug!(listener = listener.name, %invalid, "a client sent what is no request");
    let error = ProxyError::from(invalid);
    answer::refusal(client, error, &mut wire.output.head);
    // The socket is empty but for pipelined answers; a client that does not read those gets no more.
    _ = wire.stream.tcp().try_write(&wire.output.head);
    End::Linger
}

/// Ends the sending side, and reads on for a while: the client may still be sending.
async fn linger(stream: &mut Stream) {
    let tcp = stream.tcp();
    if tcp.shutdown().await.is_ok() {
        let mut rest = tcp.take(LINGER_BYTES);
        _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_answer_is_framed_right() {
        let text = std::str::from_utf8(REQUEST_TIMEOUT).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "the body has {} bytes",
            body.len()
        );
    }
}
