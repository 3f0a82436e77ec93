//! HTTP/2, bytes and requests only (RFC 9113). The h2 crate speaks it; here is what is looked at before it does, and what
//! it lets pass.

mod fault;
mod limits;
mod liveness;
mod malformed;
mod meter;
mod recent;

pub use fault::{Fault, Flood, LAST_WORDS_LENGTH};
pub use limits::Limits;
pub use liveness::{Liveness, Step};
pub use malformed::{Malformed, check, has_space};
pub use meter::Meter;
pub use recent::Recent;
