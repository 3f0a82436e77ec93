//! Why a request gets an answer of our own, and what that answer is. The one place that maps errors to statuses.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use thiserror::Error;

use super::download::ResponseBody;
use super::reply::Reply;
use crate::message::UploadError;
use crate::message::h1::Invalid;
use crate::message::target::InvalidTarget;
use crate::route::InvalidPath;

/// The media type of gRPC.
const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What a 405 says is allowed: all but the two that are refused, extension methods aside.
pub const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// Why a request is not answered by a server. The texts go to clients: they name no server and no address.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The client's fault: the request cannot be understood.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The client's fault: what it asks for is no target.
    #[error(transparent)]
    Target(InvalidTarget),
    /// The client's fault: its path can be read in several ways, or in none.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// The client's fault: another major version of HTTP.
    #[error("this version of HTTP is not supported")]
    Version,
    /// The client's fault: a target of more than 32 KiB.
    #[error("the target is too long")]
    LongTarget,
    /// The client's fault: it expects something besides `100-continue`.
    #[error("what the request expects cannot be fulfilled")]
    Expectation,
    /// The client's fault: a transfer coding besides chunked.
    #[error("this transfer coding is not supported")]
    Coding,
    /// The client's fault: more than 32 KiB or 100 fields.
    #[error("the request's headers are too large")]
    HeadersTooLarge,
    /// The client's fault: they took too long.
    #[error("the request's headers did not arrive in time")]
    HeadersTimeout,
    /// The client's fault: CONNECT or TRACE.
    #[error("this method is not served here")]
    Method,
    /// The client's fault: its address may not take this route.
    #[error("this is not open to the address that the request comes from")]
    Forbidden,
    /// No route matches.
    #[error("nothing is served at this host and path")]
    NoRoute,
    /// The client's fault: its body failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Over the limit; the fields say when to come again.
    #[error("too many requests; try again later")]
    RateLimited(Box<HeaderMap>),
    /// Ours, or the operator's: no server is eligible.
    #[error("no server is available for this request; try again later")]
    NoServer {
        /// When the next probes may have found one.
        retry_after: Duration,
    },
    /// All servers have as many requests as they may, and as many wait.
    #[error("too many requests are being served; try again later")]
    Overloaded,
    /// All servers had as many requests as they may for as long as a request waits.
    #[error("no server became free for this request in time; try again later")]
    QueueTimeout,
    /// The upstream's fault: none of the servers tried accepted a connection.
    #[error("the server could not be reached")]
    Connect,
    /// The upstream's fault: connecting took too long.
    #[error("the server could not be reached in time")]
    ConnectTimeout,
    /// The upstream's fault: the connection ended before the answer's headers.
    #[error("the server closed the connection without an answer")]
    Reset,
    /// The upstream's fault: what it sent is not HTTP, or too large.
    #[error("the server sent an invalid answer")]
    BadAnswer,
    /// The upstream's fault: no answer's headers in time.
    #[error("the server did not answer in time")]
    AnswerTimeout,
}

impl ProxyError {
    /// The answer's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_)
            | Self::Target(_)
            | Self::Path(_)
            | Self::Upload(UploadError::Broken) => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::HeadersTimeout | Self::Upload(UploadError::Stalled) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::Upload(UploadError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoServer { .. } | Self::Overloaded | Self::QueueTimeout => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Connect | Self::Reset | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::AnswerTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::Target(_) | Self::Path(_) => "bad_request",
            Self::Version => "http_version",
            Self::LongTarget => "target_too_long",
            Self::Expectation => "expectation",
            Self::Coding => "transfer_coding",
            Self::HeadersTooLarge => "headers_too_large",
            Self::HeadersTimeout => "headers_timeout",
            Self::Method => "method_not_allowed",
            Self::Forbidden => "forbidden",
            Self::NoRoute => "no_route",
            Self::Upload(UploadError::Broken) => "body_broken",
            Self::Upload(UploadError::Stalled) => "body_stalled",
            Self::Upload(UploadError::TooLarge) => "body_too_large",
            Self::RateLimited(_) => "rate_limited",
            Self::NoServer { .. } => "no_server",
            Self::Overloaded => "overloaded",
            Self::QueueTimeout => "queue_timeout",
            Self::Connect => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "server_closed",
            Self::BadAnswer => "bad_answer",
            Self::AnswerTimeout => "answer_timeout",
        }
    }

    /// Whether the client's connection should end with the answer: what it takes for its next request may be something
    /// else. A client that asks for a tunnel may have sent what belongs into it.
    fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_) | Self::Target(_) | Self::Path(_) | Self::Method
        )
    }

    /// The answer, in the form that the client understands.
    pub fn into_reply(self, form: Form, id: &HeaderValue) -> Reply {
        let status = self.status();
        let id = id.to_str().unwrap_or_default();
        let (content_type, body) = match form {
            Form::Grpc => return self.into_grpc(),
            Form::Json => {
                let body = serde_json::json!({
                    "status": status.as_u16(), "error": self.code(), "message": self.to_string(), "request_id": id,
                });
                ("application/json", format!("{body}\n"))
            }
            Form::Text => (
                "text/plain; charset=utf-8",
                format!("{status}: {self}\nrequest id: {id}\n"),
            ),
        };
        let body = ResponseBody::full(Bytes::from(body));
        let closes = self.ends_connection();
        let mut reply = Reply::new(status, body)
            .with(&CONTENT_TYPE, content_type.as_bytes())
            .with(&CACHE_CONTROL, b"no-store");
        match self {
            Self::RateLimited(fields) => reply.replace(&fields),
            Self::Method => reply = reply.with(&ALLOW, METHODS.as_bytes()),
            Self::NoServer { retry_after } => {
                let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
                reply = reply.with(&RETRY_AFTER, seconds.max(1).to_string().as_bytes());
            }
            Self::Overloaded | Self::QueueTimeout => reply = reply.with(&RETRY_AFTER, b"1"),
            _ => {}
        }
        reply.closes = closes;
        reply
    }

    /// The answer to a gRPC client: a status of gRPC's own, without a body.
    fn into_grpc(self) -> Reply {
        let status = self.grpc_status().to_string();
        Reply::new(StatusCode::OK, ResponseBody::empty())
            .with(&CONTENT_TYPE, GRPC.as_bytes())
            .with(&GRPC_STATUS, status.as_bytes())
            // The texts have nothing that would have to be escaped there.
            .with(&GRPC_MESSAGE, self.to_string().as_bytes())
    }

    /// The status by gRPC's table of HTTP statuses, but for those that it has better names for.
    fn grpc_status(&self) -> u8 {
        const DEADLINE_EXCEEDED: u8 = 4;
        const PERMISSION_DENIED: u8 = 7;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Self::AnswerTimeout => DEADLINE_EXCEEDED,
            Self::Forbidden => PERMISSION_DENIED,
            Self::HeadersTooLarge | Self::Upload(UploadError::TooLarge) => RESOURCE_EXHAUSTED,
            Self::Method | Self::NoRoute => UNIMPLEMENTED,
            _ if self.status().is_server_error() => UNAVAILABLE,
            Self::RateLimited(_) => UNAVAILABLE,
            _ => INTERNAL,
        }
    }
}

impl From<Invalid> for ProxyError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Syntax => Self::BadRequest("this is not an HTTP/1.1 request"),
            Invalid::Version => Self::Version,
            Invalid::LongTarget => Self::LongTarget,
            Invalid::Target(reason) => Self::Target(reason),
            Invalid::Framing => Self::BadRequest("it is not certain where the request's body ends"),
            Invalid::Coding => Self::Coding,
            Invalid::TooLarge => Self::HeadersTooLarge,
        }
    }
}

/// What a client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text: everybody.
    Text,
    /// JSON: who names it among what it accepts.
    Json,
    /// A status of gRPC: who sends that.
    Grpc,
}

impl Form {
    /// What the client that sent `headers` understands.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        if is_grpc(headers) {
            Self::Grpc
        } else if accepted.any(|value| value.contains("json")) {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// Whether a message is one of gRPC, and not of gRPC-Web, which has its status in the body.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|content_type| content_type.strip_prefix(GRPC.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_all_of_them() {
        let page = include_str!("../../../docs/configuration.md");
        let retry_after = Duration::ZERO;
        let all = [
            ProxyError::BadRequest("it is wrong"),
            ProxyError::Version,
            ProxyError::LongTarget,
            ProxyError::Expectation,
            ProxyError::Coding,
            ProxyError::HeadersTooLarge,
            ProxyError::HeadersTimeout,
            ProxyError::Method,
            ProxyError::Forbidden,
            ProxyError::NoRoute,
            ProxyError::Upload(UploadError::Broken),
            ProxyError::Upload(UploadError::Stalled),
            ProxyError::Upload(UploadError::TooLarge),
            ProxyError::RateLimited(Box::default()),
            ProxyError::NoServer { retry_after },
            ProxyError::Overloaded,
            ProxyError::QueueTimeout,
            ProxyError::Connect,
            ProxyError::ConnectTimeout,
            ProxyError::Reset,
            ProxyError::BadAnswer,
            ProxyError::AnswerTimeout,
        ];
        for error in all {
            let row = format!("\n| {} | {} |", error.code(), error.status().as_u16());
            assert!(page.contains(&row), "{row:?}");
        }
    }
}
