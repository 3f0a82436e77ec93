//! What may come before the bytes that a connection is for: a PROXY header, and a TLS handshake.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::entrance::{self, Refused};
use super::local::Local;
use super::snapshot::{ListenerEntry, ListenerStats};
use crate::listener::Counted;
use crate::message::proxy_protocol::{self, InvalidHeader, Parsed, Source};
use crate::metrics::Counter;
use crate::net::{Tcp, Transport, tls};
use crate::tls::ServerTls;

/// Why a connection is not served.
#[derive(Debug, Error)]
pub enum PreambleError {
    /// Nobody would believe it.
    #[error("no PROXY header: it comes from {0}, which is not among trusted_proxies")]
    Untrusted(SocketAddr),
    /// There is none.
    #[error("no PROXY header: {0}")]
    Header(#[from] InvalidHeader),
    /// It took too long.
    #[error("the PROXY header or TLS handshake took too long")]
    Timeout,
    /// A request where a handshake should be.
    #[error("HTTP without TLS")]
    NotTls,
    /// As somebody does who only looks whether a port is open.
    #[error("the client has left without a word")]
    Gone,
    /// The handshake failed, or the connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a PROXY header has said.
#[derive(Debug)]
pub struct Introduction {
    /// Who the client is.
    pub client: SocketAddr,
    /// Whether it is not known, and the address is the sender's.
    pub is_unknown: bool,
    /// Where it thinks it is connected to.
    pub destination: Option<SocketAddr>,
    /// Counts it for its address.
    pub counted: Option<Counted>,
}

/// Reads the PROXY header of a connection from `peer` to a listener, by its index in the snapshot, and asks whether whoever
/// it is from may come in. `None` if it is to be closed, of which note has been taken.
pub async fn introduce(
    tcp: &mut Tcp,
    peer: SocketAddr,
    listener: usize,
    local: &Local,
    deadline: Instant,
) -> Option<Introduction> {
    let view = local.view_for(listener);
    let entry = &view.snapshot.listeners[listener];
    let stats = entry.stats.shard(local.worker);
    let address = peer.ip().to_canonical();
    let trusted = view.snapshot.trusted_proxies.contains(address);
    let source = match in_time(deadline, proxy_header(tcp, peer, trusted)).await {
        Ok(source) => source,
        Err(error) => {
            refused(entry, peer, &error, &stats.proxy_header_failures);
            return None;
        }
    };
    let mut introduction = Introduction {
        client: peer,
        is_unknown: source == Source::Unknown,
        destination: None,
        counted: None,
    };
    if let Source::Proxied {
        client,
        destination,
    } = source
    {
        introduction.client = client;
        introduction.destination = Some(destination);
    }
    let asked = entrance::ask(local, listener, introduction.client.ip());
    match asked.answer(local).await {
        Ok(counted) => introduction.counted = counted,
        Err(Refused) => {
            tcp.reset_on_close();
            return None;
        }
    }
    Some(introduction)
}

/// Takes note of a failure.
pub fn refused(entry: &ListenerEntry, peer: SocketAddr, error: &PreambleError, failures: &Counter) {
    if !matches!(error, PreambleError::Gone) {
        failures.increment();
    }
    tracing::debug!(listener = %entry.name, %peer, %error, "a connection was not opened");
}

/// Counts a handshake that came to its end.
pub fn count_handshake(stats: &ListenerStats, transport: &Transport) {
    stats.tls_handshakes.increment();
    if transport.is_resumed() {
        stats.tls_resumed.increment();
    }
}

/// Shakes hands with a client, of whom `early` has been read already.
///
/// # Errors
/// It failed. The socket is given back if there is still something to say on it, to one who speaks HTTP.
pub async fn handshake(
    mut tcp: Tcp,
    secure: &ServerTls,
    mut early: Vec<u8>,
    deadline: Instant,
) -> Result<Transport, (PreambleError, Option<Tcp>)> {
    let is_read = !early.is_empty();
    if !is_read && let Err(error) = in_time(deadline, peek(&mut tcp, &mut early)).await {
        return Err((error, None));
    }
    // Methods are of capital letters.
    if early[0].is_ascii_uppercase() {
        return Err((PreambleError::NotTls, Some(tcp)));
    }
    if !is_read {
        early = Vec::new();
    }
    let accept = tls::accept_after(tcp, secure.current(), early);
    match in_time(deadline, async { Ok(accept.await?) }).await {
        Ok(stream) => Ok(Transport::Tls(stream)),
        Err(error) => Err((error, None)),
    }
}

async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, PreambleError>>,
) -> Result<T, PreambleError> {
    timeout_at(deadline, work)
        .await
        .unwrap_or(Err(PreambleError::Timeout))
}

/// Reads the PROXY header of a connection from `peer`, and nothing behind it.
async fn proxy_header(
    tcp: &mut Tcp,
    peer: SocketAddr,
    trusted: bool,
) -> Result<Source, PreambleError> {
    if !trusted {
        return Err(PreambleError::Untrusted(peer));
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
async fn peek(tcp: &mut Tcp, seen: &mut Vec<u8>) -> Result<(), PreambleError> {
    let mut space = [0; 512];
    let mut buffer = ReadBuf::new(&mut space);
    poll_fn(|cx| tcp.poll_peek(cx, &mut buffer)).await?;
    if buffer.filled().is_empty() {
        return Err(match seen.is_empty() {
            true => PreambleError::Gone,
            false => PreambleError::Io(ErrorKind::UnexpectedEof.into()),
        });
    }
    seen.extend_from_slice(buffer.filled());
    Ok(())
}
