//! New connections to a server: TCP, TLS if its upstream asks for it, and the version of HTTP that is then spoken, if any.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::announce::Announced;
use super::connection::Connection;
use super::http1;
use super::local::LocalEndpoint;
use super::settings::{Protocol, Settings};
use crate::config::types::ServerAddress;
use crate::net::{Stream, Tcp, Traffic, Transport, connect, tls};
use crate::tls::ClientTls;

/// The name of HTTP/2 in TLS.
const HTTP2: &[u8] = b"h2";
/// And that of HTTP/1.1.
const HTTP1: &[u8] = b"http/1.1";

/// Opens a connection of HTTP/1.1.
///
/// # Errors
/// The server cannot be reached or does not prove who it is.
pub(super) async fn http1(
    endpoint: &LocalEndpoint,
    settings: &Settings,
    announced: Option<Announced>,
    traffic: Traffic,
) -> io::Result<http1::Connection> {
    let transport = transport(endpoint, settings, announced, Some(Protocol::Http1)).await?;
    let idle = settings.idle;
    Ok(http1::Connection::new(transport, announced, traffic, idle))
}

/// Opens a connection of the version that the upstream or its server chooses. A request can be sent over what comes of
/// it at once, and others follow if there is room.
///
/// # Errors
/// The server cannot be reached, does not prove who it is, or does not speak that version.
pub(super) async fn any(
    endpoint: &LocalEndpoint,
    settings: &Settings,
    announced: Option<Announced>,
    traffic: Traffic,
) -> io::Result<Connection> {
    let transport = transport(endpoint, settings, announced, Some(settings.protocol)).await?;
    let chosen = match (settings.protocol, transport.alpn()) {
        (Protocol::Http1, _) => Protocol::Http1,
        (Protocol::Http2, None | Some(HTTP2)) | (Protocol::Auto, Some(HTTP2)) => Protocol::Http2,
        (Protocol::Auto, _) => Protocol::Http1,
        (Protocol::Http2, Some(_)) => {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the server does not speak HTTP/2",
            ));
        }
    };
    endpoint.spoken.set(chosen);
    if chosen == Protocol::Http1 {
        let idle = settings.idle;
        let connection = http1::Connection::new(transport, announced, traffic, idle);
        return Ok(Connection::Http1(connection));
    }
    let https = transport.is_encrypted();
    let stream = Stream::new(transport, traffic, settings.idle);
    let exchange = endpoint
        .http2
        .open(stream, https, announced, settings.idle)
        .await?;
    Ok(Connection::Http2(exchange))
}

/// Opens a connection for a client whose bytes are passed on as they are.
///
/// # Errors
/// The server cannot be reached or does not prove who it is.
pub(super) async fn bare(
    endpoint: &LocalEndpoint,
    settings: &Settings,
    announced: Option<Announced>,
) -> io::Result<Transport> {
    transport(endpoint, settings, announced, None).await
}

/// A connection within the upstream's time for that, TLS included, on which `protocol` is to be spoken, or something that is the client's business.
async fn transport(
    endpoint: &LocalEndpoint,
    settings: &Settings,
    announced: Option<Announced>,
    protocol: Option<Protocol>,
) -> io::Result<Transport> {
    let deadline = Instant::now() + settings.connect;
    let addresses = endpoint.shared.resolved();
    let mut tcp = Tcp::from(connect::connect(&addresses, settings.connect).await?);
    if let Some(socket) = tcp.socket() {
        settings.tcp.set(socket)?;
    }
    if let (Some(version), Some(announced)) = (settings.announces, announced) {
        tcp.write_all(&announced.header(version)).await?; // a new socket has room for it
    }
    let Some(tls) = &settings.tls else {
        return Ok(tcp.into());
    };
    let handshake = handshake(tcp, tls, endpoint.shared.address(), protocol);
    match timeout_at(deadline, handshake).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(ErrorKind::TimedOut, "TLS handshake timeout")),
    }
}

async fn handshake(
    tcp: Tcp,
    secure: &ClientTls,
    address: &ServerAddress,
    protocol: Option<Protocol>,
) -> io::Result<Transport> {
    let name = secure
        .server_name(&address.host())
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    let mut config = secure.current();
    match protocol {
        // A switch of protocols, which HTTP/2 does not have.
        Some(Protocol::Http1) if config.alpn_protocols.iter().any(|it| it == HTTP2) => {
            Arc::make_mut(&mut config).alpn_protocols = vec![HTTP1.to_vec()];
        }
        None if !config.alpn_protocols.is_empty() => {
            Arc::make_mut(&mut config).alpn_protocols = Vec::new();
        }
        Some(_) | None => {}
    }
    let stream = tls::connect(tcp, config, name).await?;
    Ok(Transport::Tls(stream))
}
