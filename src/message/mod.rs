//! HTTP messages, apart from where they come from and go to: request bodies on their way up, and header rewriting.

pub mod body;
pub mod forwarded;
pub mod headers;

pub use body::{RequestBody, Upload, UploadError};
