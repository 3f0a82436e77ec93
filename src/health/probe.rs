//! One question to one endpoint: HTTP `GET`, gRPC's health service, a TCP connection, a query of DNS or another datagram.
//!
//! A probe opens a connection of its own, so that its answer does not depend on a pool, and closes it. It has no
//! deadline of its own: [`watch`](super::watch) bounds it, and dropping the future ends it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::dns::Rcode;
use super::reach::{self, Target};
use crate::net::Transport;

mod datagram;
mod grpc;

pub use datagram::{DnsProbe, UdpProbe};
pub use grpc::{GrpcProbe, ServingStatus};
use grpc::{status_name, told};

/// An answer whose head is longer, in bytes, fails the probe. Checked between reads, so a little more may pass.
const HEAD_LIMIT: usize = 32 * 1024;
/// How much of an answer's body is read, in bytes, before the connection is closed all the same.
const BODY_LIMIT: usize = 64 * 1024;
/// How long an answer's body is waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks an endpoint whether it is fit for traffic.
pub trait HealthProbe: Sync {
    /// Resolves to `Ok` when the endpoint is healthy. May be dropped at any time.
    ///
    /// # Errors
    /// Says which step failed; every error means "not healthy".
    fn probe(&self, target: &Target) -> impl Future<Output = Result<(), ProbeError>> + Send;
}

/// Why a probe failed. The text is short: it is a line's part in logs and in the admin API.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The target has no address, because its name does not resolve.
    #[error("no address")]
    NoAddress,
    /// The configured address cannot be sent as a Host header.
    #[error("{0:?} is no valid Host header")]
    Host(String),
    /// No address accepted a connection; this is the last one tried.
    #[error("connect to {addr}: {source}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The TLS handshake failed: the certificate does not verify, mostly.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// The probe did not end in time.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// The answer is not HTTP/1, is too large, or broke off.
    #[error("bad response: {}", cause(.0))]
    Response(#[source] hyper::Error),
    /// The answer's status is not an expected one.
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    /// The answer to a gRPC call is not one of the health service.
    #[error("bad gRPC response: {0}")]
    GrpcResponse(&'static str),
    /// The gRPC call failed.
    #[error("gRPC status {code} ({}){}", status_name(*.code), told(.message))]
    GrpcStatus {
        /// The grpc-status.
        code: u32,
        /// The grpc-message, which may be empty.
        message: String,
    },
    /// The gRPC health service says that the service is not fit.
    #[error("gRPC health is {0}")]
    GrpcHealth(ServingStatus),
    /// The answer of a DNS server says that it cannot do its work.
    #[error("DNS answer {0}")]
    Dns(Rcode),
    /// The answer of a UDP server has not what is expected in it.
    #[error("the answer has not what is expected")]
    Datagram,
}

/// hyper's own text names the phase only ("connection error"); the cause below it is what helps.
fn cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Statuses that count as healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRanges(Box<[RangeInclusive<u16>]>);

impl StatusRanges {
    /// The union of `ranges`, bounds included.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Whether `status` is in one of the ranges.
    #[must_use]
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for StatusRanges {
    /// 2xx and 3xx.
    fn default() -> Self {
        Self::new([200..=399])
    }
}

/// `GET path`, in the version of HTTP that the endpoint speaks. The status decides, as soon as the headers are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Usually `/health`.
    pub path: PathAndQuery,
    /// The Host header; `None` sends the target's address.
    pub host: Option<HeaderValue>,
    /// Statuses that count as healthy.
    pub expect: StatusRanges,
}

impl HttpProbe {
    /// The request, in the form of HTTP/1.1 or of HTTP/2.
    fn request(
        &self,
        target: &Target,
        version: Version,
    ) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let invalid = || ProbeError::Host(target.address.clone());
        let host = match &self.host {
            Some(host) => host.clone(),
            None => HeaderValue::from_str(&target.address).map_err(|_| invalid())?,
        };
        let mut request = Request::new(Empty::new());
        let fields = request.headers_mut();
        fields.extend([AGENT, (header::ACCEPT, HeaderValue::from_static("*/*"))]);
        if version == Version::HTTP_2 {
            let scheme = match target.secure {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            };
            let uri = Uri::builder()
                .scheme(scheme)
                .authority(host.as_bytes())
                .path_and_query(self.path.clone());
            *request.uri_mut() = uri.build().map_err(|_| invalid())?;
        } else {
            fields.insert(header::HOST, host);
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
            *request.uri_mut() = Uri::from(self.path.clone());
        }
        Ok(request)
    }
}

const AGENT: (HeaderName, HeaderValue) = (
    header::USER_AGENT,
    HeaderValue::from_static("loadbalancer-health"),
);

impl HealthProbe for HttpProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        self.request(target, Version::HTTP_11)?; // what cannot be asked needs no connection
        let (stream, version) = reach::open(target, target.speaks).await?;
        let request = self.request(target, version)?;
        // A set of one, because it aborts its task when it is dropped: the socket never outlives the probe.
        let mut driver = JoinSet::new();
        let response = if version == Version::HTTP_2 {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(HEAD_LIMIT as u32)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(ProbeError::Response)?;
            driver.spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_LIMIT)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(ProbeError::Response)?;
            driver.spawn(connection);
            sender.send_request(request).await
        };
        let response = response.map_err(ProbeError::Response)?;
        let status = response.status();
        // On the side, so that a slow body does not delay the verdict.
        tokio::spawn(finish(response.into_body(), driver));
        if self.expect.contains(status) {
            Ok(())
        } else {
            Err(ProbeError::Status(status))
        }
    }
}

/// Reads what is left of an answer, within limits: a socket closed with unread bytes is reset, and a server logs that
/// as an error with every probe.
async fn finish<T: 'static>(mut body: Incoming, _driver: JoinSet<T>) {
    let read = async {
        let mut left = BODY_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Ended or not, nothing depends on it any more.
    let _ = tokio::time::timeout(BODY_TIMEOUT, read).await;
}

/// A TCP connection that is accepted, and with TLS a handshake that succeeds; it is closed without a byte of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpProbe;

impl HealthProbe for TcpProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        if target.secure.is_none() {
            return reach::connect(target).await.map(drop);
        }
        // No protocol is offered, as what is spoken inside is not known.
        let stream = reach::open_for(target, Vec::new()).await?;
        tokio::spawn(take_leave(stream));
        Ok(())
    }
}

/// Ends a session of TLS as it should be, and takes what the server still says (tickets): else it would see a reset.
async fn take_leave(mut stream: Transport) {
    let goodbye = async {
        stream.shutdown().await?;
        let mut rest = stream.take(BODY_LIMIT as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Ended or not, nothing depends on it any more.
    let _ = tokio::time::timeout(BODY_TIMEOUT, goodbye).await;
}

/// Any of the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// See [`DnsProbe`].
    Dns(DnsProbe),
    /// See [`GrpcProbe`].
    Grpc(GrpcProbe),
    /// See [`HttpProbe`].
    Http(HttpProbe),
    /// See [`TcpProbe`].
    Tcp(TcpProbe),
    /// See [`UdpProbe`].
    Udp(UdpProbe),
}

impl HealthProbe for Probe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        match self {
            Self::Dns(probe) => probe.probe(target).await,
            Self::Grpc(probe) => probe.probe(target).await,
            Self::Http(probe) => probe.probe(target).await,
            Self::Tcp(probe) => probe.probe(target).await,
            Self::Udp(probe) => probe.probe(target).await,
        }
    }
}

#[cfg(test)]
mod tests;
