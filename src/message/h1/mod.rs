//! HTTP/1.1 towards servers, bytes only: writing requests, reading answers (RFC 9112).
//!
//! hyper speaks to the clients; its client side would cost a request two channels, a copy of every header and a second
//! state machine. What is here does no I/O: `upstream::connection` has the socket. The grammar of heads is httparse's.

pub mod answer;
pub mod body;
pub mod request;

pub use answer::Answer;
pub use body::{Body, Framing};
pub use request::RequestHead;
