//! Upstreams: named groups of servers, which of them may be used, and the connections to them.
//!
//! [`Upstream`] and [`Endpoint`] are shared by all threads. The control thread changes who belongs to an upstream and who
//! is healthy, and publishes the eligible ones as one immutable [`Members`]. [`local`] is a worker's own side of an
//! upstream: its view of the members and its pool of connections, which no other thread touches.

pub mod adaptive;
pub mod announce;
pub mod budget;
mod conduct;
pub mod connection;
mod datagram;
mod dial;
mod driver;
pub mod ejection;
pub mod endpoint;
mod group;
pub mod http1;
pub mod http2;
pub mod latency;
mod load;
pub mod local;
mod members;
mod picking;
pub mod pool;
mod protection;
pub mod quantile;
pub mod queue;
mod reconfigure;
mod regulator;
mod request;
mod settings;
mod slow_start;
mod sockets;
mod standing;
mod stats;
pub mod sticky;
pub mod supervisor;

pub use announce::{Announced, Announces};
pub use connection::Connection;
pub use datagram::{Link, NoLink};
pub use endpoint::{Endpoint, Origin};
pub use group::{RosterError, Upstream};
pub use local::{LocalEndpoint, LocalUpstream, Wish};
pub use members::Members;
pub use picking::{InFlight, Picked};
pub use protection::Protection;
pub use queue::{Priority, Refusal, Waiter};
pub use reconfigure::proven;
pub use settings::{Protocol, Settings};
pub use sockets::is_too_many;
pub use stats::{MirrorResult, RetryReason, UpstreamStats};
pub use sticky::Sticky;
