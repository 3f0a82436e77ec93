//! PROXY headers towards servers: what a connection to a server says of the client that it is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::message::proxy_protocol::{LOCAL, UNKNOWN, write_v1, write_v2};

/// The version of the PROXY protocol that an upstream's servers take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announces {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Announces {
    /// The header of a connection that is for no client.
    pub fn for_own(self) -> &'static [u8] {
        match self {
            Self::V1 => UNKNOWN,
            Self::V2 => LOCAL,
        }
    }
}

/// A client's connection. One to a server that says this serves no other client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    client: SocketAddr,
    destination: SocketAddr,
}

impl Announced {
    /// The connection of `client` to `destination`, if that is known.
    pub fn new(client: SocketAddr, destination: Option<SocketAddr>) -> Self {
        let unknown: IpAddr = match client {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self {
            client,
            destination: destination.unwrap_or(SocketAddr::new(unknown, 0)),
        }
    }

    /// Whether it is a connection of this client.
    pub fn is_of(&self, client: SocketAddr) -> bool {
        self.client == client
    }

    /// The header.
    pub fn header(&self, version: Announces) -> Vec<u8> {
        let mut header = Vec::new();
        match version {
            Announces::V1 => write_v1(&mut header, self.client, self.destination),
            Announces::V2 => write_v2(&mut header, self.client, self.destination),
        }
        header
    }
}
