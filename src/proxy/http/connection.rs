//! One client's connection, from the accepted socket to its close.
//!
//! hyper parses and frames; the deadlines are ours (`activity.rs`), because hyper has one for all that comes between two
//! requests, and answers none of them.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::activity::{Activity, Deadline, Wait};
use super::download::ResponseBody;
use super::service;
use super::tunnel::Tunnel;
use crate::message::forwarded::Hop;
use crate::net::{Stream, Traffic};
use crate::proxy::local::Local;
use crate::proxy::snapshot::ListenerEntry;

/// Largest request head, in bytes; 431 beyond. hyper also refuses more than 100 fields.
const MAX_HEADER_SIZE: usize = 32 * 1024;

/// How long, and for how much, an unread request body is read and thrown away after the answer, so that the close does
/// not reset the connection before the client has read the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1024 * 1024;

/// How long a connection on which nothing has arrived is kept when the worker drains.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

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
    /// Whether the last request was of HTTP/1.0, whose answers can end with the connection.
    pub http_1_0: Cell<bool>,
}

impl Client {
    /// The listener that accepted it.
    pub fn listener(&self) -> &ListenerEntry {
        &self.local.snapshot.listeners[self.listener]
    }
}

/// Why hyper is done with a connection.
enum Ending {
    /// The client closed it, an answer said `Connection: close`, or it switches protocols.
    Done,
    /// An error: hyper has answered 400 or 431 if it could.
    Failed(hyper::Error),
    /// What it waited for did not come.
    TimedOut(Wait),
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
        http_1_0: Cell::new(false),
        local,
    });
    // Not in the client, which the tunnel's exchange refers to: nothing would ever end such a circle.
    let tunnel = Rc::new(Cell::new(None));
    let service = {
        let (client, tunnel) = (Rc::clone(&client), Rc::clone(&tunnel));
        service_fn(move |request| service::serve(Rc::clone(&client), Rc::clone(&tunnel), request))
    };
    let http = http1::Builder::new()
        .max_header_size(MAX_HEADER_SIZE)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);

    let (ending, mut stream, early) = speak_http(http, &client, &traffic).await;
    match ending {
        Ending::Done => {
            if let Some(tunnel) = tunnel.take() {
                return Tunnel::run(tunnel, stream, early, &traffic, timeouts.idle).await;
            }
        }
        Ending::Failed(error) => {
            failed(&client, peer, &error);
            if client.http_1_0.get() && !error.is_parse() {
                // An answer that broke off: to this client only a reset differs from its end.
                _ = SockRef::from(&*stream.tcp()).set_linger(Some(Duration::ZERO));
                return;
            }
            return close(&mut stream, error.is_parse()).await;
        }
        Ending::TimedOut(Wait::Request) => {}
        Ending::TimedOut(Wait::Head) => {
            let stats = &client.listener().stats;
            stats.shard(client.local.worker).header_timeouts.increment();
            // A client that is not reading either gets no more than this.
            _ = stream.tcp().try_write(REQUEST_TIMEOUT);
        }
    }
    close(&mut stream, client.activity.unread_body()).await;
}

/// Has hyper serve requests until the connection's HTTP part is over. Gives back the socket, with what hyper has read of
/// it but not used.
async fn speak_http<S>(
    mut http: http1::Connection<TokioIo<Stream>, S>,
    client: &Client,
    traffic: &Traffic,
) -> (Ending, Stream, Bytes)
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let timeouts = client.listener().timeouts;
    let mut deadline = Deadline::default();
    let mut drain = pin!(client.local.drain.begun());
    let mut grace = pin!(None);
    let mut draining = false;
    let ending = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
                return Poll::Ready(result.map_or_else(Ending::Failed, |()| Ending::Done));
            }
            if !draining && drain.as_mut().poll(cx).is_ready() {
                // Told to end, hyper drops what it has of a request: that must be none or all of its headers. On a new
                // connection there may be some that nobody has read yet.
                let ready = match client.activity.wait() {
                    Some(Wait::Head) => false,
                    Some(Wait::Request) if traffic.received() == 0 => {
                        if grace.is_none() {
                            grace.set(Some(sleep(DRAIN_GRACE)));
                        }
                        let grace = grace.as_mut().as_pin_mut();
                        grace.is_none_or(|grace| grace.poll(cx).is_ready())
                    }
                    _ => true,
                };
                if ready {
                    draining = true;
                    Pin::new(&mut http).graceful_shutdown();
                    continue; // an idle connection ends here and now
                }
            }
            return deadline
                .poll(cx, &client.activity, &timeouts)
                .map(Ending::TimedOut);
        }
    })
    .await;
    let parts = http.into_parts();
    (ending, parts.io.into_inner(), parts.read_buf)
}

fn failed(client: &Client, peer: SocketAddr, error: &hyper::Error) {
    let listener = client.listener();
    if error.is_parse() {
        listener
            .stats
            .shard(client.local.worker)
            .malformed
            .increment();
    }
    tracing::debug!(%peer, listener = listener.name, %error, "a client's connection failed");
}

/// Ends the sending side, and reads on for a while if the client may still be sending.
async fn close(stream: &mut Stream, unread_body: bool) {
    let tcp = stream.tcp();
    if tcp.shutdown().await.is_ok() && unread_body {
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
