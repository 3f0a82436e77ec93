//! One client's connection, from the accepted socket to its close.
//!
//! hyper parses and frames; the deadlines are ours, because hyper has one for all that comes between two requests and
//! answers none of them.
//!
//! ```text
//!          first byte             headers complete
//!   IDLE ─────────────▶ HEAD ──────────────────────▶ EXCHANGE ─┐
//!    ▲  keep_alive:           headers: 408, close     (bodies and answers have watchdogs of their own)
//!    │  close                                                  │
//!    └─────────────────────────────────────────────────────────┘ answer handed over
//! ```

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::service;
use super::tunnel::Tunnel;
use crate::message::forwarded::Hop;
use crate::net::{Stream, Traffic};
use crate::proxy::local::Local;
use crate::proxy::snapshot::{ListenerEntry, ListenerTimeouts};

/// Largest request head, in bytes; 431 beyond. hyper also refuses more than 100 fields.
const MAX_HEADER_SIZE: usize = 32 * 1024;

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
    /// Where the connection is between requests.
    pub activity: Activity,
}

impl Client {
    /// The listener that accepted it.
    pub fn listener(&self) -> &ListenerEntry {
        &self.local.snapshot.listeners[self.listener]
    }
}

/// Where a connection is in the cycle of its requests.
#[derive(Debug)]
pub struct Activity {
    in_exchange: Cell<bool>,
    /// Since when it has waited for a request, or for the rest of its headers.
    since: Cell<Instant>,
    /// Bytes received when that wait began.
    received: Cell<u64>,
    /// Bytes sent when this was looked at last: the end of an answer may still be on its way to a slow reader.
    sent: Cell<u64>,
    in_head: Cell<bool>,
    unread_body: Cell<bool>,
    traffic: Rc<Traffic>,
    tunnel: RefCell<Option<Tunnel>>,
}

impl Activity {
    fn new(traffic: Rc<Traffic>) -> Self {
        Self {
            in_exchange: Cell::new(false),
            since: Cell::new(Instant::now()),
            received: Cell::new(0),
            sent: Cell::new(0),
            in_head: Cell::new(false),
            unread_body: Cell::new(false),
            traffic,
            tunnel: RefCell::new(None),
        }
    }

    /// A request's headers are complete.
    pub fn begin(&self) {
        self.in_exchange.set(true);
        self.in_head.set(false);
        self.unread_body.set(false);
    }

    /// The answer has been handed over, or given up. `unread_body`: the request's body was not read to its end.
    pub fn end(&self, unread_body: bool) {
        self.in_exchange.set(false);
        self.unread_body.set(unread_body);
        self.since.set(Instant::now());
        self.received.set(self.traffic.received());
    }

    /// Has the connection become a tunnel once hyper has sent the answer.
    pub fn switch_to(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// When the present wait has lasted too long, and whether it is for the rest of a request's headers.
    fn deadline(&self, timeouts: &ListenerTimeouts) -> Option<(Instant, bool)> {
        if self.in_exchange.get() {
            return None;
        }
        if !self.in_head.get() {
            let sent = self.sent.replace(self.traffic.sent());
            let received = self.traffic.received() > self.received.get();
            self.in_head.set(received);
            if received || self.traffic.sent() != sent {
                self.since.set(Instant::now());
            }
        }
        let in_head = self.in_head.get();
        let limit = if in_head {
            timeouts.headers
        } else {
            timeouts.keep_alive
        };
        Some((self.since.get() + limit, in_head))
    }
}

/// Why hyper is done with a connection.
enum Ending {
    /// The client closed it, an answer said `Connection: close`, or it switches protocols.
    Done,
    /// An error: hyper has answered 400 or 431 if it could.
    Failed(hyper::Error),
    /// Nothing came between requests.
    Idle,
    /// A request's headers did not come to their end.
    HeadersTimeout,
}

/// Serves a client's connection to its end.
pub async fn serve(tcp: TcpStream, peer: SocketAddr, listener: usize, local: Rc<Local>) {
    let entry = &local.snapshot.listeners[listener];
    let timeouts = entry.timeouts;
    let traffic = Traffic::new(Arc::clone(&entry.bytes), local.worker);
    let stream = Stream::new(tcp, Rc::clone(&traffic), timeouts.idle);
    let client = Rc::new(Client {
        listener,
        hop: Hop::new(peer, &local.snapshot.trusted_proxies),
        activity: Activity::new(Rc::clone(&traffic)),
        local,
    });
    let requests = Rc::clone(&client);
    let mut http = http1::Builder::new()
        .writev(false)
        .max_header_size(MAX_HEADER_SIZE)
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| service::serve(Rc::clone(&requests), request)),
        );

    let mut deadline = Deadline::default();
    let mut draining = false;
    let mut drain = std::pin::pin!(client.local.drain.begun());
    let ending = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
                return Poll::Ready(result.map_or_else(Ending::Failed, |()| Ending::Done));
            }
            if !draining && drain.as_mut().poll(cx).is_ready() {
                draining = true;
                Pin::new(&mut http).graceful_shutdown();
                continue; // an idle connection ends here and now
            }
            return deadline.poll(cx, &client.activity, &timeouts);
        }
    })
    .await;

    let parts = http.into_parts();
    let mut stream = parts.io.into_inner();
    match ending {
        Ending::Done => {
            let tunnel = client.activity.tunnel.borrow_mut().take();
            if let Some(tunnel) = tunnel {
                return tunnel
                    .run(stream, parts.read_buf, &traffic, timeouts.idle)
                    .await;
            }
        }
        Ending::Failed(error) => {
            failed(&client, peer, &error);
            return close(&mut stream, error.is_parse()).await;
        }
        Ending::Idle => {}
        Ending::HeadersTimeout => {
            client
                .listener()
                .stats
                .shard(client.local.worker)
                .header_timeouts
                .increment();
            _ = stream.tcp().try_write(REQUEST_TIMEOUT); // a client that is not reading either gets no more than this
        }
    }
    close(&mut stream, client.activity.unread_body.get()).await;
}

fn failed(client: &Client, peer: SocketAddr, error: &hyper::Error) {
    if error.is_parse() {
        client
            .listener()
            .stats
            .shard(client.local.worker)
            .malformed
            .increment();
    }
    tracing::debug!(%peer, listener = client.listener().name, %error, "a client's connection failed");
}

/// Ends the sending side, and reads on for a while if the client may still be sending.
async fn close(stream: &mut Stream, unread_body: bool) {
    let tcp = stream.tcp();
    if tcp.shutdown().await.is_ok() && unread_body {
        let mut rest = tcp.take(LINGER_BYTES);
        _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

/// One timer for all waits of a connection. It is moved only when it fires too early or would fire too late, so that a
/// request on a busy connection costs no timer operation.
#[derive(Default)]
struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        activity: &Activity,
        timeouts: &ListenerTimeouts,
    ) -> Poll<Ending> {
        let Some((deadline, in_head)) = activity.deadline(timeouts) else {
            return Poll::Pending;
        };
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(if in_head {
                    Ending::HeadersTimeout
                } else {
                    Ending::Idle
                });
            }
            timer.as_mut().reset(deadline);
        }
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
