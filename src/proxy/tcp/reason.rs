//! How connections end that are passed on.

use crate::net::relay::{End, Side};

/// Why a connection was passed on no more, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Both directions have ended, the client's first.
    Client,
    /// Both have, the server's first.
    Server,
    /// The client's connection has broken.
    ClientReset,
    /// The server's has.
    ServerReset,
    /// Nothing has moved for too long.
    Idle,
    /// No server could be reached.
    ConnectFailure,
    /// None was eligible, or none had room.
    NoServer,
    /// What came first was not TLS, or not in time.
    BadHello,
    /// It asked for a name that is nobody's.
    NoRoute,
    /// The load balancer has ended before the connection did.
    Shutdown,
}

impl Reason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Client,
        Self::Server,
        Self::ClientReset,
        Self::ServerReset,
        Self::Idle,
        Self::ConnectFailure,
        Self::NoServer,
        Self::BadHello,
        Self::NoRoute,
        Self::Shutdown,
    ];

    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::Idle => "idle",
            Self::ConnectFailure => "connect_failure",
            Self::NoServer => "no_server",
            Self::BadHello => "bad_hello",
            Self::NoRoute => "no_route",
            Self::Shutdown => "shutdown",
        }
    }
}

impl From<End> for Reason {
    fn from(end: End) -> Self {
        match end {
            End::Closed(Side::Client) => Self::Client,
            End::Closed(Side::Server) => Self::Server,
            End::Reset(Side::Client) => Self::ClientReset,
            End::Reset(Side::Server) => Self::ServerReset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_all() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
