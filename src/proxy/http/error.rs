//! Why a request gets an answer of our own, and what that answer is. The one place that maps errors to statuses.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use thiserror::Error;

use super::download::ResponseBody;
use super::reply::Reply;
use crate::message::UploadError;
use crate::message::h1::Invalid;

/// What a 405 says is allowed: all but the two that are refused, extension methods aside.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// Why a request is not answered by a server. The texts go to clients: they name no server and no address.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The client's fault: the request cannot be understood.
    #[error("{0}")]
    BadRequest(&'static str),
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
            Self::BadRequest(_) | Self::Upload(UploadError::Broken) => StatusCode::BAD_REQUEST,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::HeadersTimeout | Self::Upload(UploadError::Stalled) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::Upload(UploadError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoServer { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect | Self::Reset | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::AnswerTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Coding => "transfer_coding",
            Self::HeadersTooLarge => "headers_too_large",
            Self::HeadersTimeout => "headers_timeout",
            Self::Method => "method_not_allowed",
            Self::NoRoute => "no_route",
            Self::Upload(UploadError::Broken) => "body_broken",
            Self::Upload(UploadError::Stalled) => "body_stalled",
            Self::Upload(UploadError::TooLarge) => "body_too_large",
            Self::RateLimited(_) => "rate_limited",
            Self::NoServer { .. } => "no_server",
            Self::Connect => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "server_closed",
            Self::BadAnswer => "bad_answer",
            Self::AnswerTimeout => "answer_timeout",
        }
    }

    /// The answer: JSON for those who accept it by name, text for all others.
    pub fn into_reply(self, wants_json: bool, id: &HeaderValue) -> Reply {
        let status = self.status();
        let id = id.to_str().unwrap_or_default();
        let (content_type, body) = if wants_json {
            let body = serde_json::json!({
                "status": status.as_u16(), "error": self.code(), "message": self.to_string(), "request_id": id,
            });
            ("application/json", format!("{body}\n"))
        } else {
            (
                "text/plain; charset=utf-8",
                format!("{status}: {self}\nrequest id: {id}\n"),
            )
        };
        let body = ResponseBody::full(Bytes::from(body));
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
            _ => {}
        }
        reply
    }
}

impl From<Invalid> for ProxyError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Syntax => Self::BadRequest("this is not an HTTP/1.1 request"),
            Invalid::Framing => Self::BadRequest("it is not certain where the request's body ends"),
            Invalid::Coding => Self::Coding,
            Invalid::TooLarge => Self::HeadersTooLarge,
        }
    }
}

/// Whether the client names JSON among what it accepts.
pub fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("json"))
}
