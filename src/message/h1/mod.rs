//! HTTP/1.1, bytes only (RFC 9112): heads are read and written here, and bodies framed.
//!
//! hyper's HTTP/1 would cost a request several channels, copies of every header, and two more state machines that
//! cannot be asked what they have sent; this costs a request two buffers. The grammar of heads is httparse's, as it is in
//! hyper. Both sides use a [`Wire`]: `upstream::connection` is the client of servers, `proxy::http::connection` the
//! server of clients.

pub mod body;
mod head;
pub mod read_answer;
pub mod read_request;
pub mod wire;
pub mod write_answer;
pub mod write_request;

pub use body::{Body, Framing};
pub use head::{Invalid, Scan};
pub use read_answer::Answer;
pub use read_request::Request;
pub use wire::Wire;
pub use write_request::RequestHead;
