//! An answer on its way to the client: ours or a server's.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName};

use super::download::ResponseBody;
use crate::message::h1::write_answer::Fields;
use crate::message::headers::Trailers;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its fields but for those that frame it.
    pub fields: Fields,
    /// What Content-Length says when there is no body (HEAD, 304).
    pub length: Option<u64>,
    /// The trailers of its body that pass.
    pub trailers: Trailers,
    /// Whether the client's connection ends with it.
    pub closes: bool,
    /// Its body.
    pub body: ResponseBody,
}

impl Reply {
    /// An answer of our own.
    pub fn new(status: StatusCode, body: ResponseBody) -> Self {
        Self {
            status,
            fields: Fields::default(),
            length: None,
            trailers: Trailers::NONE,
            closes: false,
            body,
        }
    }

    /// Adds a field whose value is valid.
    pub fn with(mut self, name: &HeaderName, value: &[u8]) -> Self {
        self.fields.add(name.as_str(), value);
        self
    }

    /// Adds fields in place of those of the same names.
    pub fn replace(&mut self, fields: &HeaderMap) {
        for name in fields.keys() {
            self.fields.remove(name.as_str());
        }
        for (name, value) in fields {
            self.fields.add(name.as_str(), value.as_bytes());
        }
    }
}
