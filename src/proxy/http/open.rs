//! What comes before HTTP on a client's connection: a PROXY header, a TLS handshake, and the choice of HTTP's version.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::connection::{self, Client};
use super::http2;
use super::task::{Facts, Idle};
use crate::message::proxy_protocol::{self, InvalidHeader, Parsed, Source};
use crate::metrics::Counter;
use crate::net::{Tcp, Transport, tls};
use crate::proxy::entrance::{self, Refused};
use crate::proxy::local::Local;
use crate::proxy::roster::Place;
use crate::proxy::snapshot::{ListenerEntry, ListenerStats};
use crate::tls::ServerTls;

/// A client's connection.
#[derive(Debug)]
pub struct Opened {
    /// The socket, with what TLS knows of it.
    pub transport: Transport,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// The worker that serves it.
    pub local: Rc<Local>,
    /// Its task's place in the roster.
    pub place: Place,
    /// Whether nothing has been said on it yet.
    pub is_new: bool,
    /// What else is known of it.
    pub facts: Option<Box<Facts>>,
}

/// Why there is no HTTP on a connection.
#[derive(Debug, Error)]
enum OpenError {
    #[error("no PROXY header: it comes from {0}, which is not among trusted_proxies")]
    Untrusted(SocketAddr),
    #[error("no PROXY header: {0}")]
    Header(#[from] InvalidHeader),
    #[error("the PROXY header or TLS handshake took too long")]
    Timeout,
    #[error("HTTP without TLS")]
    NotTls,
    /// As somebody does who only looks whether a port is open.
    #[error("the client has left without a word")]
    Gone,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens a connection until `deadline`, and serves it like [`connection::serve`].
pub async fn open(mut opened: Opened, deadline: Instant) -> Option<Idle> {
    let Transport::Plain(mut tcp) = opened.transport else {
        return None; // it has been opened
    };
    let local = Rc::clone(&opened.local);
    let entry = local.listener(opened.listener);
    let stats = entry.stats.shard(local.worker);

    if entry.proxy_protocol {
        let address = opened.peer.ip().to_canonical();
        let trusted = local.view().snapshot.trusted_proxies.contains(address);
        let header = proxy_header(&mut tcp, opened.peer, trusted);
        match in_time(deadline, header).await {
            Ok(source) => {
                let mut facts = Facts::default();
                if let Source::Proxied {
                    client,
                    destination,
                } = source
                {
                    opened.peer = client;
                    facts.destination = Some(destination);
                }
                let asked = entrance::ask(&local, opened.listener, opened.peer.ip());
                match asked.answer(&local).await {
                    Ok(counted) => facts.counted = counted,
                    Err(Refused) => {
                        tcp.reset();
                        return None;
                    }
                }
                opened.facts = Some(Box::new(facts));
            }
            Err(error) => {
                refused(&entry, opened.peer, &error, &stats.proxy_header_failures);
                return None;
            }
        }
    }
    opened.transport = match &entry.tls {
        None => tcp.into(),
        Some(tls) => match handshake(tcp, tls, deadline).await {
            Ok(transport) => {
                count_handshake(stats, &transport);
                transport
            }
            Err((error, tcp)) => {
                refused(&entry, opened.peer, &error, &stats.tls_failures);
                if let (OpenError::NotTls, Some(tcp)) = (error, tcp) {
                    opened.transport = tcp.into();
                    connection::refuse_plain(opened).await;
                }
                return None;
            }
        },
    };
    if opened.transport.alpn() != Some(http2::ALPN) {
        return Box::pin(connection::serve(opened, BytesMut::new())).await;
    }
    let place = opened.place;
    let (client, stream) = Client::new(opened);
    let serve = http2::serve(stream, BytesMut::new(), Rc::new(client), place);
    Box::pin(serve).await;
    None
}

/// Takes note of a failure.
fn refused(entry: &ListenerEntry, peer: SocketAddr, error: &OpenError, failures: &Counter) {
    if !matches!(error, OpenError::Gone) {
        failures.increment();
    }
    tracing::debug!(listener = %entry.name, %peer, %error, "a connection was not opened");
}

fn count_handshake(stats: &ListenerStats, transport: &Transport) {
    stats.tls_handshakes.increment();
    if transport.is_resumed() {
        stats.tls_resumed.increment();
    }
}

async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    timeout_at(deadline, work)
        .await
        .unwrap_or(Err(OpenError::Timeout))
}

/// Reads the PROXY header of a connection from `peer`, and nothing behind it.
async fn proxy_header(tcp: &mut Tcp, peer: SocketAddr, trusted: bool) -> Result<Source, OpenError> {
    if !trusted {
        return Err(OpenError::Untrusted(peer));
    }
    let mut header = Vec::new();
    loop {
        let read = header.len();
        peek(tcp, &mut header).await?;
        let parsed = proxy_protocol::parse(&header)?;
        // What has been looked at belongs to the header, or to what follows it.
        let length = match parsed {
            Parsed::Incomplete(_) => header.len(),
            Parsed::Complete { length, .. } => length,
        };
        tcp.read_exact(&mut header[read..length]).await?;
        match parsed {
            Parsed::Incomplete(_) => {}
            Parsed::Complete { source, .. } => {
                return Ok(source);
            }
        }
    }
}

/// Appends some of what has come, without taking it.
async fn peek(tcp: &mut Tcp, seen: &mut Vec<u8>) -> Result<(), OpenError> {
    let mut space = [0; 512];
    let mut buffer = ReadBuf::new(&mut space);
    poll_fn(|cx| tcp.poll_peek(cx, &mut buffer)).await?;
    if buffer.filled().is_empty() {
        return Err(match seen.is_empty() {
            true => OpenError::Gone,
            false => OpenError::Io(ErrorKind::UnexpectedEof.into()),
        });
    }
    seen.extend_from_slice(buffer.filled());
    Ok(())
}

/// Shakes hands with a client. Without success the socket is given back if there is still something to say on it.
async fn handshake(
    mut tcp: Tcp,
    secure: &ServerTls,
    deadline: Instant,
) -> Result<Transport, (OpenError, Option<Tcp>)> {
    let mut first = Vec::new();
    match in_time(deadline, peek(&mut tcp, &mut first)).await {
        // Methods are of capital letters.
        Ok(()) if first[0].is_ascii_uppercase() => return Err((OpenError::NotTls, Some(tcp))),
        Ok(()) => {}
        Err(error) => return Err((error, None)),
    }
    let accept = tls::accept(tcp, secure.current());
    match in_time(deadline, async { Ok(accept.await?) }).await {
        Ok(stream) => Ok(Transport::Tls(stream)),
        Err(error) => Err((error, None)),
    }
}
