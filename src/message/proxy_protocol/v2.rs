//! Version 2: binary.
//!
//! ```text
//!  0                        12           13        14       16                       16 + length
//!  +------------------------+------------+---------+--------+-----------+------------+
//!  | signature              | version 2, | family, | length | addresses | extensions |
//!  |                        | command    | transp. |        |           |    (TLVs)  |
//!  +------------------------+------------+---------+--------+-----------+------------+
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::checksum;
use super::{InvalidHeader, Pair, Parsed, Source, proxied};

/// How each header begins.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Length of what every header has, in bytes.
const FIXED: usize = 16;

/// Length of the longest header that is accepted, in bytes.
pub(super) const MAX_LENGTH: usize = FIXED + 4096;

/// The version, in the upper half of a byte with the command.
const VERSION: u8 = 2;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// Families, in the upper half of a byte with the transport.
const UNSPEC: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;

/// Transports.
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// The type of the extension that is a checksum, and its size in bytes.
const CRC32C: u8 = 3;
const CRC32C_SIZE: usize = 4;

/// Reads the header at the beginning of `input`, which agrees with the signature as far as it goes.
pub(super) fn parse(input: &[u8]) -> Result<Parsed, InvalidHeader> {
    let byte = |at: usize| input.get(at).map(|byte| (byte >> 4, byte & 15));
    let (version, command) = byte(12).unwrap_or((VERSION, LOCAL));
    let (family, transport) = byte(13).unwrap_or((UNSPEC, UNSPEC));
    if version != VERSION {
        return Err(InvalidHeader::Version);
    }
    if !matches!(command, LOCAL | PROXY) {
        return Err(InvalidHeader::Command);
    }
    // A sender that speaks for itself says nothing with the rest.
    let speaks = command == PROXY;
    if speaks && (family > UNIX || transport > DATAGRAM) {
        return Err(InvalidHeader::Family);
    }
    let Some(fixed) = input.get(..FIXED) else {
        return Ok(Parsed::Incomplete(FIXED - input.len()));
    };
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_LENGTH {
        return Err(InvalidHeader::TooLong);
    }
    let addresses = if speaks { size(family, transport) } else { 0 };
    if length < FIXED + addresses {
        return Err(InvalidHeader::TooShort);
    }
    let Some(header) = input.get(..length) else {
        return Ok(Parsed::Incomplete(length - input.len()));
    };
    if addresses > 0 {
        check_extensions(header, FIXED + addresses)?;
    }
    let source = match (family, transport) {
        _ if !speaks => Source::Own,
        (INET | INET6, STREAM) => ends(&header[FIXED..FIXED + addresses]),
        _ => Source::Unknown,
    };
    Ok(Parsed::Complete { length, source })
}

/// How many bytes the addresses have. Nobody knows that of those that are not specified.
fn size(family: u8, transport: u8) -> usize {
    match family {
        _ if transport == UNSPEC => 0,
        INET => 12,
        INET6 => 36,
        UNIX => 216,
        _ => 0,
    }
}

/// The two ends in a block of addresses, IPv4 or IPv6 by its size.
fn ends(block: &[u8]) -> Source {
    let (ips, ports) = block.split_at(block.len() - 4);
    let (client, destination) = ips.split_at(ips.len() / 2);
    let ip = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => {
            let v6 = <[u8; 16]>::try_from(bytes).expect("there are two sizes of addresses");
            IpAddr::V6(Ipv6Addr::from(v6))
        }
    };
    proxied([
        SocketAddr::new(ip(client), u16::from_be_bytes([ports[0], ports[1]])),
        SocketAddr::new(ip(destination), u16::from_be_bytes([ports[2], ports[3]])),
    ])
}

/// Walks the extensions of `header` from `at` on: each must end before it does, and a checksum must be right.
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), InvalidHeader> {
    let mut sum = None;
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3) else {
            return Err(InvalidHeader::Extension);
        };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([*high, *low]));
        if end > header.len() {
            return Err(InvalidHeader::Extension);
        }
        if *kind == CRC32C {
            // Of two, each would have to be zero while the other is computed.
            if end - value != CRC32C_SIZE || sum.replace(value).is_some() {
                return Err(InvalidHeader::Extension);
            }
        }
        at = end;
    }
    let Some(at) = sum else {
        return Ok(());
    };
    let (before, rest) = header.split_at(at);
    let (said, after) = rest.split_at(CRC32C_SIZE);
    let computed = checksum([before, &[0; CRC32C_SIZE], after]);
    if said == computed.to_be_bytes() {
        Ok(())
    } else {
        Err(InvalidHeader::Checksum)
    }
}

/// Appends the header of a connection from `client` to `destination`, without extensions. Where one is IPv4 and the
/// other is not, both are written as IPv6, into which IPv4 is mapped.
pub fn write(out: &mut Vec<u8>, client: SocketAddr, destination: SocketAddr) {
    out.extend_from_slice(SIGNATURE);
    out.push(VERSION << 4 | PROXY);
    let mut add = |family: u8, client: &[u8], destination: &[u8]| {
        let length = (client.len() + destination.len() + 4) as u16;
        out.push(family << 4 | STREAM);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(client);
        out.extend_from_slice(destination);
    };
    match Pair::new(client, destination) {
        Pair::V4([client, destination]) => {
            add(INET, &client.ip().octets(), &destination.ip().octets());
        }
        Pair::V6([client, destination]) => {
            add(INET6, &client.ip().octets(), &destination.ip().octets());
        }
    }
    for port in [client.port(), destination.port()] {
        out.extend_from_slice(&port.to_be_bytes());
    }
}
