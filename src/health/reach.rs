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
    let transport = open_for(target, speaks.offers()).await?;
    let version = match (speaks, transport.alpn()) {
        (Speaks::Http2, _) | (Speaks::Either, Some(HTTP2)) => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    Ok((transport, version))
}

/// Opens a connection as far as requests need it: with a PROXY header and a TLS handshake, which offers these protocols, where
/// there are such.
pub(super) async fn open_for(
    target: &Target,
    protocols: Vec<Vec<u8>>,
) -> Result<Transport, ProbeError> {
    let mut tcp = Tcp::from(connect(target).await?);
    tcp.write_all(target.header)
        .await
        .map_err(ProbeError::Tls)?;
    match &target.secure {
        None => Ok(tcp.into()),
        Some(secure) => handshake(tcp, secure, protocols)
            .await
            .map_err(ProbeError::Tls),
    }
}

async fn handshake(tcp: Tcp, secure: &Secure, protocols: Vec<Vec<u8>>) -> io::Result<Transport> {
    let name = secure
        .tls
        .server_name(&secure.host)
        .map_err(io::Error::other)?;
    let mut config = secure.tls.current();
    Arc::make_mut(&mut config).alpn_protocols = protocols;
    let stream = tls::connect(tcp, config, name).await?;
    Ok(Transport::Tls(stream))
}

/// Opens a TCP connection.
pub(super) async fn connect(target: &Target) -> Result<TcpStream, ProbeError> {
    let mut failed: Option<(SocketAddr, io::Error)> = None;
    for &addr in &target.addrs {
        match TcpStream::connect(addr).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = telling(failed, (addr, error)),
        }
    }
    Err(of_addresses(failed))
}

/// Of two addresses that there is no way to, the one whose error tells more about the target.
pub(super) fn telling(
    earlier: Option<(SocketAddr, io::Error)>,
    (addr, error): (SocketAddr, io::Error),
) -> Option<(SocketAddr, io::Error)> {
    let error = attributed(addr, error);
    match earlier {
        Some((other, told)) if is_local(&error) && !is_local(&told) => Some((other, told)),
        _ => Some((addr, error)),
    }
}

/// There is no way to any address.
pub(super) fn of_addresses(failed: Option<(SocketAddr, io::Error)>) -> ProbeError {
    match failed {
        Some((addr, source)) => ProbeError::Connect { addr, source },
        None => ProbeError::NoAddress,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_want_of_ports_does_not_hide_what_an_address_has_said_nor_count_as_that() {
        let addrs = ["192.0.2.1:53", "192.0.2.2:53"].map(|it| it.parse().unwrap());
        let of = |errnos: [Errno; 2]| {
            let mut all = std::iter::zip(addrs, errnos);
            let failed = all.try_fold(None, |failed, (addr, errno)| {
                Some(telling(failed, (addr, errno.into())))
            });
            match of_addresses(failed.unwrap()) {
                ProbeError::Connect { addr, source } => (addr, is_local(&source)),
                other => panic!("{other}"),
            }
        };
        let (refused, no_port) = (Errno::CONNREFUSED, Errno::ADDRINUSE);
        assert_eq!(of([refused, no_port]), (addrs[0], false));
        assert_eq!(of([no_port, refused]), (addrs[1], false));
        assert_eq!(of([no_port, no_port]), (addrs[1], true));
    }
}
