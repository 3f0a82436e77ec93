//! The PROXY protocol, versions 1 and 2 (haproxy.org, `doc/proxy-protocol.txt`): bytes only.
//!
//! A header stands in front of all else on a connection, and says which connection the sender stands in for. Whoever
//! may say such things is believed in everything that follows, so nothing is accepted that the specification does not
//! allow; whose word counts is decided elsewhere.
//!
//! Addresses are handed out in their plain form: an IPv4 address that was mapped into IPv6 is an IPv4 address, so that
//! one client has one address in rules, limits and logs.

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use thiserror::Error;

/// The header of version 1 that tells of nobody.
pub const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// The header of version 2 that says that the connection is the sender's own.
pub const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

pub use v1::write as write_v1;
pub use v2::write as write_v2;

/// The most bytes that a header can have: version 2 with 4096 bytes of addresses and extensions. The protocol would
/// allow 65535; what senders send is a few hundred at most.
pub const MAX_LENGTH: usize = v2::MAX_LENGTH;

/// What the bytes at the beginning of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header. At least so many bytes are missing, one or more: to read no more than those never
    /// reads past the header.
    Incomplete(usize),
    /// A header.
    Complete {
        /// How many bytes it has. What follows is the connection's own.
        length: usize,
        /// What it says.
        source: Source,
    },
}

/// Between whom a connection really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Between its own two ends: the sender speaks for itself (LOCAL, as in health checks).
    Own,
    /// The sender does not know or say for whom it speaks (UNKNOWN, UNSPEC), or that has no address that counts here (Unix
    /// sockets, datagrams).
    Unknown,
    /// Between these two.
    Proxied {
        /// Who connected to the sender, or to the first of several.
        client: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// Why bytes are no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidHeader {
    /// They begin like none.
    #[error("no PROXY header")]
    Signature,
    /// Version 1: there is no line break within 107 bytes.
    #[error("the PROXY line is too long")]
    LineTooLong,
    /// Version 1: the transport is none of TCP4, TCP6 and UNKNOWN.
    #[error("the PROXY line names an unknown transport")]
    Transport,
    /// Version 1: an address or a port is none, or is not separated or ended as it must be.
    #[error("the PROXY line has no valid addresses and ports")]
    Line,
    /// Version 2: another version.
    #[error("the PROXY header has an unknown version")]
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// Version 2: an address family or transport that is not defined.
    #[error("the PROXY header has an unknown address family or transport")]
    Family,
    /// Version 2: longer than [`MAX_LENGTH`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// Version 2: shorter than its addresses.
    #[error("the PROXY header is shorter than its addresses")]
    TooShort,
    /// Version 2: an extension (TLV) reaches past the end, or is not of the size that it must have.
    #[error("the PROXY header has a malformed extension")]
    Extension,
    /// Version 2: the checksum is not that of the header.
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
}

/// Reads the header at the beginning of `input`, of either version.
///
/// # Errors
/// No header begins like this: known from the first byte on that is wrong, but for an address, of which only the
/// characters are checked before its end, and version 2's addresses and extensions, which are looked at together.
pub fn parse(input: &[u8]) -> Result<Parsed, InvalidHeader> {
    let begins_like = |signature: &[u8]| {
        let length = input.len().min(signature.len());
        input[..length] == signature[..length]
    };
    if input.is_empty() {
        Ok(Parsed::Incomplete(v1::MIN_LENGTH))
    } else if begins_like(v1::SIGNATURE) {
        v1::parse(input)
    } else if begins_like(v2::SIGNATURE) {
        v2::parse(input)
    } else {
        Err(InvalidHeader::Signature)
    }
}

/// Two ends of a connection with addresses of one family, as both versions want them.
enum Pair {
    V4([SocketAddrV4; 2]),
    V6([SocketAddrV6; 2]),
}

impl Pair {
    /// The two in IPv4 if both can be, or else both in IPv6, into which IPv4 addresses are mapped (RFC 4291, section
    /// 2.5.5.2).
    fn new(client: SocketAddr, destination: SocketAddr) -> Self {
        match (plain(client), plain(destination)) {
            (SocketAddr::V4(client), SocketAddr::V4(destination)) => {
                Self::V4([client, destination])
            }
            (client, destination) => Self::V6([client, destination].map(|end| {
                let ip = match end.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                SocketAddrV6::new(ip, end.port(), 0, 0)
            })),
        }
    }
}

/// The source with addresses in their plain form.
fn proxied([client, destination]: [SocketAddr; 2]) -> Source {
    Source::Proxied {
        client: plain(client),
        destination: plain(destination),
    }
}

/// An address without what means something on one machine only, IPv4 as IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
