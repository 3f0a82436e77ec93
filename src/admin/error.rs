//! Why the admin API refuses a request. The one place that maps errors to statuses.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::error::Category;
use utoipa::ToSchema;

use super::state::StateError;
use crate::config::types::ServerAddress;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The client's fault: the message names the field and what is expected.
    #[error("{0}")]
    Invalid(String),
    /// The client's fault: no token, or not the right one.
    #[error("send the token of the configuration as \"Authorization: Bearer TOKEN\"")]
    Unauthorized,
    /// The request may come from a web page that the operator is looking at.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Nothing is at this path.
    #[error("nothing is at this path; GET / lists what there is")]
    NotFound,
    /// The path has other methods, which the Allow field lists.
    #[error("the method {0} is not for this path")]
    Method(Method),
    /// No upstream has this name.
    #[error("there is no upstream {0:?}")]
    UnknownUpstream(String),
    /// No server has this id or address.
    #[error("there is no server {0:?}")]
    UnknownServer(String),
    /// The upstream has a server with this address.
    #[error("there is a server {0:?} already")]
    Duplicate(String),
    /// Several upstreams have a server with this address.
    #[error("{address} is a server of several upstreams; name one of {}", ids.join(", "))]
    Ambiguous {
        /// The address.
        address: ServerAddress,
        /// The servers' ids.
        ids: Vec<String>,
    },
    /// A reload runs already.
    #[error("another reload has not ended yet; GET /config/status tells when it has")]
    Reloading,
    /// The body is too large.
    #[error("the body is too large")]
    TooLarge,
    /// Our fault, or the disk's: the change was not made.
    #[error("nothing was changed: {0}")]
    State(#[from] StateError),
    /// Our fault, or the disk's: it took too long. A change that has begun may still be made.
    #[error("this took too long; a change that has begun may still be made")]
    Timeout,
    /// Our fault.
    #[error("an error of the load balancer; its log says more")]
    Internal,
}

/// The body of an answer that refuses a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// A word for programs.
    #[schema(example = "duplicate")]
    error: &'static str,
    /// A sentence for people.
    message: String,
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::UnknownUpstream(_) => (StatusCode::NOT_FOUND, "unknown_upstream"),
            Self::UnknownServer(_) => (StatusCode::NOT_FOUND, "unknown_server"),
            Self::Duplicate(_) => (StatusCode::CONFLICT, "duplicate"),
            Self::Ambiguous { .. } => (StatusCode::CONFLICT, "ambiguous"),
            Self::Reloading => (StatusCode::CONFLICT, "reloading"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "state_file"),
            Self::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = self.status_and_code();
        let mut response = (
            status,
            Json(ErrorBody {
                error,
                message: self.to_string(),
            }),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => Self::Invalid(rejection.body_text()),
        }
    }
}

/// A body that is not as expected. The message names the field, what it holds and what is expected there.
impl From<serde_path_to_error::Error<serde_json::Error>> for ApiError {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let json = error.inner();
        // Bodies are a line, as a rule: the field's name says where it is.
        let position = format!(" at line {} column {}", json.line(), json.column());
        let message = error.to_string();
        let message = message.strip_suffix(&position).unwrap_or(&message);
        Self::Invalid(match json.classify() {
            Category::Data => message.to_owned(),
            Category::Syntax | Category::Eof | Category::Io => {
                format!("the body is not JSON: {message}")
            }
        })
    }
}
