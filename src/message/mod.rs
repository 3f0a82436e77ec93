//! HTTP messages, apart from where they come from and go to: request bodies on their way up, header rewriting, and HTTP/1.1 as
//! servers hear it.

pub mod body;
pub mod forwarded;
pub mod h1;
pub mod headers;

pub use body::{Upload, UploadError};
