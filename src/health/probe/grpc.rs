//! gRPC's health service: `grpc.health.v1.Health/Check`, over HTTP/2, without TLS by prior knowledge.
//!
//! Its two messages have one field each, so they are written and read by hand:
//!
//! ```text
//! message HealthCheckRequest  { string service = 1; }
//! message HealthCheckResponse { ServingStatus status = 1; }
//! ```

use std::fmt;

use http::header::CONTENT_TYPE;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::{AGENT, BODY_TIMEOUT, HEAD_LIMIT, HealthProbe, ProbeError, Target};
use crate::health::reach::{self, Speaks};

const PATH: &str = "/grpc.health.v1.Health/Check";

/// Length of what stands in front of each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// An answer whose messages are longer, in bytes, fails the probe. One is 7 bytes as a rule.
const MESSAGE_LIMIT: usize = 4 * 1024;

/// How much of a server's grpc-message is shown, in bytes.
const TOLD_LIMIT: usize = 200;

/// A call of gRPC's health service. Healthy is who answers SERVING.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrpcProbe {
    /// The service that is asked about; empty for the server as a whole.
    pub service: String,
}

/// What the health service says, when it is not SERVING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingStatus(u64);

/// The one that is healthy.
const SERVING: ServingStatus = ServingStatus(1);

impl fmt::Display for ServingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("UNKNOWN"),
            1 => f.write_str("SERVING"),
            2 => f.write_str("NOT_SERVING"),
            3 => f.write_str("SERVICE_UNKNOWN"),
            other => write!(f, "{other}"),
        }
    }
}

impl GrpcProbe {
    fn request(&self, target: &Target) -> Result<Request<Full<Bytes>>, ProbeError> {
        let uri = Uri::builder()
            .scheme(match target.secure {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            })
            .authority(target.address.as_str())
            .path_and_query(PATH)
            .build()
            .map_err(|_| ProbeError::Host(target.address.clone()))?;
        let mut request = Request::new(Full::from(message(&self.service)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().extend([
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (header::TE, HeaderValue::from_static("trailers")),
            AGENT,
        ]);
        Ok(request)
    }
}

impl HealthProbe for GrpcProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        let request = self.request(target)?;
        let (stream, _) = reach::open(target, Speaks::Http2).await?;
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(HEAD_LIMIT as u32)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ProbeError::Response)?;
        // A set of one, because it aborts its task when it is dropped: the socket never outlives the probe for long.
        let mut driver = JoinSet::new();
        driver.spawn(connection);

        let response = sender
            .send_request(request)
            .await
            .map_err(ProbeError::Response)?;
        let verdict = verdict(response).await;
        // Says goodbye, on the side.
        tokio::spawn(async move {
            drop(sender);
            // Ended or not, nothing depends on it any more.
            let _ = tokio::time::timeout(BODY_TIMEOUT, driver.join_next()).await;
        });
        verdict
    }
}

/// What an answer says.
async fn verdict(response: http::Response<Incoming>) -> Result<(), ProbeError> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(ProbeError::Status(head.status));
    }
    let mut messages = Vec::new();
    // A call that fails at once has its status here (gRPC: "Trailers-Only").
    let mut call = call_status(&head.headers);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ProbeError::Response)?;
        if let Some(data) = frame.data_ref() {
            if messages.len() + data.len() > MESSAGE_LIMIT {
                return Err(ProbeError::GrpcResponse("its message is too long"));
            }
            messages.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            call = call.or(call_status(trailers));
        }
    }
    match call {
        None => return Err(ProbeError::GrpcResponse("it has no grpc-status")),
        Some(Ok(())) => {}
        Some(Err(error)) => return Err(error),
    }
    match serving_status(&messages).map_err(ProbeError::GrpcResponse)? {
        SERVING => Ok(()),
        other => Err(ProbeError::GrpcHealth(other)),
    }
}

/// How a call ended, if that is in these fields.
fn call_status(fields: &HeaderMap) -> Option<Result<(), ProbeError>> {
    let status = fields.get("grpc-status")?;
    let code = status.to_str().ok().and_then(|code| code.parse().ok());
    Some(match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = fields.get("grpc-message").map(HeaderValue::to_str);
            let message = message.and_then(Result::ok).unwrap_or_default();
            Err(ProbeError::GrpcStatus {
                code,
                message: message.chars().take(TOLD_LIMIT).collect(),
            })
        }
        None => Err(ProbeError::GrpcResponse("its grpc-status is no number")),
    })
}

/// The name of a grpc-status.
pub(super) fn status_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND: it does not know the service",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED: it has no health service",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.unwrap_or(&"no known one")
}

/// A grpc-message behind what was said before.
pub(super) fn told(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

/// A request about `service`, with its prefix.
fn message(service: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    // What is empty is left out.
    if !service.is_empty() {
        fields.push(SERVICE << 3 | LENGTH_DELIMITED);
        let mut length = service.len();
        while length >= 0x80 {
            fields.push(length as u8 | 0x80);
            length >>= 7;
        }
        fields.push(length as u8);
        fields.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(fields.len() as u32).to_be_bytes());
    message.extend_from_slice(&fields);
    message
}

/// Numbers of fields.
const SERVICE: u8 = 1;
const STATUS: u64 = 1;

/// Ways in which protocol buffers write values.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u64 = 5;

/// The status in what should be one answer with its prefix.
fn serving_status(messages: &[u8]) -> Result<ServingStatus, &'static str> {
    let (prefix, mut fields) = messages
        .split_at_checked(PREFIX)
        .ok_or("it has no message")?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 {
        return Err("its message is compressed");
    }
    if usize::try_from(length) != Ok(fields.len()) {
        return Err("its message is not as long as it says");
    }
    // What is 0 is left out; of several the last counts; other fields are of later versions.
    let mut status = 0;
    while !fields.is_empty() {
        let field = field(&mut fields).ok_or("its message is malformed")?;
        if let (STATUS, Some(value)) = field {
            status = value;
        }
    }
    Ok(ServingStatus(status))
}

/// Takes a field off the front: its number, and its value if that is a plain number.
fn field(fields: &mut &[u8]) -> Option<(u64, Option<u64>)> {
    let key = varint(fields)?;
    let size = match key & 7 {
        VARINT => return Some((key >> 3, Some(varint(fields)?))),
        FIXED64 => 8,
        FIXED32 => 4,
        other if other == u64::from(LENGTH_DELIMITED) => usize::try_from(varint(fields)?).ok()?,
        _ => return None,
    };
    *fields = fields.get(size..)?;
    Some((key >> 3, None))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
