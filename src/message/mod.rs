//! HTTP messages, apart from where they come from and go to: targets and hosts, request bodies on their way up, header
//! rewriting, and the bytes of HTTP/1.1 and of what may come before it.

pub mod body;
pub mod client_hello;
pub mod cookie;
pub mod forwarded;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod host;
pub mod pace;
pub mod proxy_protocol;
pub mod quic;
pub mod replay;
pub mod request_head;
pub mod target;

pub use body::{Upload, UploadError};
pub use request_head::{Field, Head};
