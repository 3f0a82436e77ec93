//! How a probe reaches an endpoint: the way that requests take, but for the pool.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Version;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::probe::ProbeError;
use crate::net::connect::{attributed, is_local};
use crate::net::{Tcp, Transport, tls};
use crate::tls::ClientTls;

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// What is probed.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// `host:port` as configured: for the Host header and for logs.
    pub address: String,
    /// What `address` resolves to, tried in this order until one accepts a connection.
    pub addrs: Vec<SocketAddr>,
    /// The TLS that it speaks, if any.
    pub secure: Option<Secure>,
    /// The version of HTTP that it speaks.
    pub speaks: Speaks,
    /// What a connection begins with: a PROXY header, if the endpoint wants one.
    pub header: &'static [u8],
}

/// TLS with an endpoint.
#[derive(Debug, Clone)]
pub struct Secure {
    /// Its upstream's.
    pub tls: Arc<ClientTls>,
    /// The endpoint's host.
    pub host: String,
}

/// The version of HTTP that an endpoint speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
    /// What it chooses in the TLS handshake.
    Either,
}

impl Speaks {
    fn offers(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http1 => &[HTTP1],
            Self::Http2 => &[HTTP2],
            Self::Either => &[HTTP2, HTTP1],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// Opens a connection on which HTTP can be spoken, and says in which version.
pub(super) async fn open(
    target: &Target,
    speaks: Speaks,
) -> Result<(Transport, Version), ProbeError> {
    let mut tcp = Tcp::from(connect(target).await?);
    tcp.write_all(target.header)
        .await
        .map_err(ProbeError::Tls)?;
    let transport = match &target.secure {
        None => tcp.into(),
        Some(secure) => handshake(tcp, secure, speaks)
            .await
            .map_err(ProbeError::Tls)?,
    };
    let version = match (speaks, transport.alpn()) {
        (Speaks::Http2, _) | (Speaks::Either, Some(HTTP2)) => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    Ok((transport, version))
}

async fn handshake(tcp: Tcp, secure: &Secure, speaks: Speaks) -> io::Result<Transport> {
    let name = secure
        .tls
        .server_name(&secure.host)
        .map_err(io::Error::other)?;
    let mut config = secure.tls.current();
    Arc::make_mut(&mut config).alpn_protocols = speaks.offers();
    let stream = tls::connect(tcp, config, name).await?;
    Ok(Transport::Tls(stream))
}

/// Opens a TCP connection.
pub(super) async fn connect(target: &Target) -> Result<TcpStream, ProbeError> {
    let mut failed: Option<(SocketAddr, io::Error)> = None;
    for &addr in &target.addrs {
        match TcpStream::connect(addr).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let error = attributed(addr, error);
                failed = match failed {
                    Some((other, told)) if is_local(&error) && !is_local(&told) => {
                        Some((other, told))
                    }
                    _ => Some((addr, error)),
                };
            }
        }
    }
    Err(match failed {
        Some((addr, source)) => ProbeError::Connect { addr, source },
        None => ProbeError::NoAddress,
    })
}
