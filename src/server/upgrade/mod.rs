//! A new process takes over from the one that serves, without a connection being lost.
//!
//! The serving process listens on a Unix socket that only its user can reach. A new one, started with `--upgrade`, asks
//! there for the sockets that listen, gets them as descriptors (SCM_RIGHTS), and starts as usual but for binding those
//! again. Connections wait in the kernel's queues, which both processes hold: none is turned away at any moment.
//!
//! ```text
//!     new                                  serving
//!      │  Hello {version, pid}                │
//!      ├─────────────────────────────────────▶│  changes of servers wait from here on
//!      │  Offer {which sockets}, descriptors  │
//!      │◀─────────────────────────────────────┤  serves on
//!      │   binds what is new, starts workers  │
//!      │  Ready                               │
//!      ├─────────────────────────────────────▶│  gives up the state file
//!      │  Go                                  │
//!      │◀─────────────────────────────────────┤  drains, ends
//! ```
//!
//! Whatever goes wrong before `Ready`, the new process ends and the serving one goes on as if nothing had been.

mod channel;
mod give;
mod registry;
mod take;

pub use give::{Gate, spawn_successor};
pub use registry::Registry;
pub use take::Succession;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The version of what is said here. Both sides must have the same.
const PROTOCOL: u32 = 1;

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// It wants to take over.
    Hello {
        protocol: u32,
        version: String,
        pid: u32,
    },
    /// It serves.
    Ready,
}

/// What the serving process says. Not to be shown, for its secret.
#[derive(Serialize, Deserialize)]
enum Reply {
    /// Its sockets, whose descriptors follow in this order, and the key of its sticky sessions.
    Offer {
        pid: u32,
        sockets: Vec<Place>,
        sticky_key: [u8; 32],
    },
    /// It will not.
    Refused { reason: String },
    /// It accepts no more connections.
    Go,
}

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// A listener, at an address as its configuration gives it.
    Listener { name: String, address: SocketAddr },
    /// The admin API, where its configuration says.
    Admin { listen: String },
}
