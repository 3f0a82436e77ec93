//! Upstreams: named groups of servers, which of them may be used, and the connections to them.
//!
//! [`Upstream`] and [`Endpoint`] are shared by all threads. The control thread changes who belongs to an upstream and who
//! is healthy, and publishes the eligible ones as one immutable [`Members`]. [`local`] is a worker's own side of an
//! upstream: its view of the members and its pool of connections, which no other thread touches.

pub mod announce;
pub mod connection;
mod dial;
mod driver;
pub mod endpoint;
mod group;
pub mod http1;
pub mod http2;
pub mod latency;
pub mod local;
pub mod pool;
mod reconfigure;
mod request;
pub mod supervisor;

pub use announce::{Announced, Announces};
pub use connection::Connection;
pub use endpoint::{Endpoint, Origin};
pub use group::{Members, Protocol, RosterError, Settings, Upstream, UpstreamStats};
pub use local::{InFlight, LocalEndpoint, LocalUpstream, Wish};
pub use reconfigure::proven;
