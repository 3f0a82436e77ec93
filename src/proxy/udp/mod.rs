//! Datagrams that are passed on as they are: listeners with `mode = "udp"`.
//!
//! ```text
//!  clients                        a worker                                 servers
//!     │        ┌───────────────────────────────────────────────┐              │
//!     ├───────▶│ socket of the    relay    a connected socket  ├─────────────▶│
//!     │◀───────┤ listener                  for each session    │◀─────────────┤
//!     │        └───────────────────────────────────────────────┘              │
//! ```
//!
//! There are no connections, so a client has a session from its first datagram until neither side has sent anything for a
//! while. The kernel gives a client's datagrams to the same worker as long as there are as many sockets (SO_REUSEPORT), so
//! a [`relay`] shares its [`sessions`] with nobody; only [`ids`] of QUIC are known to all. A [`session`] is a client's
//! address, a socket towards its server, and what is counted; it has neither a task nor a timer nor a buffer.

mod asking;
pub mod ids;
mod relay;
mod session;
mod sessions;
pub mod stats;

use std::num::NonZeroU32;
use std::sync::Arc;

use self::ids::Ids;
pub use self::relay::serve;
use crate::upstream::Endpoint;

/// What a listener of UDP does besides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many answers end a session, to each datagram of its client.
    pub responses: Option<NonZeroU32>,
    /// Where QUIC connections are, if they are looked at.
    pub ids: Option<Arc<Ids<Arc<Endpoint>>>>,
}
