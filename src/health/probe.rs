//! One question to one endpoint: HTTP `GET`, or a TCP connection.
//!
//! A probe opens a connection of its own, so that its answer does not depend on a pool, and closes it. It has no
//! deadline of its own: [`watch`](super::watch) bounds it, and dropping the future ends it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::net::connect::{attributed, is_local};

/// An answer whose head is longer, in bytes, fails the probe. Checked between reads, so a little more may pass.
const HEAD_LIMIT: usize = 32 * 1024;
/// How much of an answer's body is read, in bytes, before the connection is closed all the same.
const BODY_LIMIT: usize = 64 * 1024;
/// How long an answer's body is waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// What is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port` as configured: for the Host header and for logs.
    pub address: String,
    /// What `address` resolves to, tried in this order until one accepts a connection.
    pub addrs: Vec<SocketAddr>,
}

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
    /// The probe did not end in time.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// The answer is not HTTP/1, is too large, or broke off.
    #[error("bad response: {}", cause(.0))]
    Response(#[source] hyper::Error),
    /// The answer's status is not an expected one.
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
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

/// `GET path` over HTTP/1.1. The status decides, as soon as the headers are there.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// Usually `/health`.
    pub path: PathAndQuery,
    /// The Host header; `None` sends the target's address.
    pub host: Option<HeaderValue>,
    /// Statuses that count as healthy.
    pub expect: StatusRanges,
}

impl HttpProbe {
    fn request(&self, target: &Target) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => HeaderValue::from_str(&target.address)
                .map_err(|_| ProbeError::Host(target.address.clone()))?,
        };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from(self.path.clone());
        request.headers_mut().extend([
            (header::HOST, host),
            AGENT,
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ]);
        Ok(request)
    }
}

const AGENT: (HeaderName, HeaderValue) = (
    header::USER_AGENT,
    HeaderValue::from_static("loadbalancer-health"),
);

impl HealthProbe for HttpProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        let request = self.request(target)?;
        let stream = connect(target).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ProbeError::Response)?;
        // A set of one, because it aborts its task when it is dropped: the socket never outlives the probe.
        let mut driver = JoinSet::new();
        driver.spawn(connection);

        let response = sender
            .send_request(request)
            .await
            .map_err(ProbeError::Response)?;
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

/// A TCP connection that is accepted; it is closed without a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpProbe;

impl HealthProbe for TcpProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        connect(target).await.map(drop)
    }
}

async fn connect(target: &Target) -> Result<TcpStream, ProbeError> {
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

/// Any of the probes.
#[derive(Debug, Clone)]
pub enum Probe {
    /// See [`HttpProbe`].
    Http(HttpProbe),
    /// See [`TcpProbe`].
    Tcp(TcpProbe),
}

impl HealthProbe for Probe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        match self {
            Self::Http(probe) => probe.probe(target).await,
            Self::Tcp(probe) => probe.probe(target).await,
        }
    }
}

#[cfg(test)]
mod tests;
