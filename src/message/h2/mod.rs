//! HTTP/2, bytes only (RFC 9113). The h2 crate speaks it; here is what is looked at before it does.

mod limits;
mod meter;

pub use limits::Limits;
pub use meter::{Flood, Meter};
