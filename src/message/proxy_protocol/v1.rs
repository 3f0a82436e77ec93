//! Version 1: a line of text.
//!
//! ```text
//! PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n
//! PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n
//! PROXY UNKNOWN ...\r\n
//! ```

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{InvalidHeader, Pair, Parsed, Source, proxied};

/// How each line begins.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Length of the shortest line, `PROXY UNKNOWN\r\n`, in bytes.
pub(super) const MIN_LENGTH: usize = 15;

/// Length of the longest line, line break included, in bytes.
const MAX_LENGTH: usize = 107;

/// Reads the line at the beginning of `input`, which agrees with the signature as far as it goes.
pub(super) fn parse(input: &[u8]) -> Result<Parsed, InvalidHeader> {
    let Some(rest) = input.get(SIGNATURE.len()..) else {
        return Ok(Parsed::Incomplete(MIN_LENGTH - input.len()));
    };
    let line = Line {
        rest: &rest[..rest.len().min(MAX_LENGTH - SIGNATURE.len())],
    };
    match line.read()? {
        Read::Missing(bytes) if input.len() + bytes > MAX_LENGTH => Err(InvalidHeader::LineTooLong),
        Read::Missing(bytes) => Ok(Parsed::Incomplete(bytes)),
        Read::Done { left, source } => Ok(Parsed::Complete {
            length: input.len().min(MAX_LENGTH) - left,
            source,
        }),
    }
}

/// What follows the signature.
struct Line<'a> {
    rest: &'a [u8],
}

enum Read {
    /// At least so many bytes are missing.
    Missing(usize),
    /// So many bytes follow the line.
    Done { left: usize, source: Source },
}

impl<'a> Line<'a> {
    fn read(mut self) -> Result<Read, InvalidHeader> {
        let transports: [(&[u8], Option<Family>); 3] = [
            (b"TCP4 ", Some(V4)),
            (b"TCP6 ", Some(V6)),
            (b"UNKNOWN", None),
        ];
        for (name, family) in transports {
            if let Some(rest) = self.rest.strip_prefix(name) {
                self.rest = rest;
                return match family {
                    Some(family) => self.addresses(family),
                    None => self.unknown(),
                };
            }
            if name.starts_with(self.rest) {
                let shortest = MIN_LENGTH - SIGNATURE.len();
                return Ok(Read::Missing(shortest - self.rest.len()));
            }
        }
        Err(InvalidHeader::Transport)
    }

    /// What follows UNKNOWN may be anything.
    fn unknown(self) -> Result<Read, InvalidHeader> {
        match self.rest.first() {
            None => return Ok(Read::Missing(2)),
            Some(b' ' | b'\r') => {}
            Some(_) => return Err(InvalidHeader::Transport),
        }
        let end = self.rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
        match end.map(|end| &self.rest[end..]) {
            None => Ok(Read::Missing(2)),
            Some(b"\r") => Ok(Read::Missing(1)),
            Some([b'\r', b'\n', after @ ..]) => Ok(Read::Done {
                left: after.len(),
                source: Source::Unknown,
            }),
            Some(_) => Err(InvalidHeader::Line),
        }
    }

    /// Reads two addresses of a family, and two ports.
    fn addresses(mut self, family: Family) -> Result<Read, InvalidHeader> {
        let mut ips = [IpAddr::V4(Ipv4Addr::UNSPECIFIED); 2];
        let mut ports = [0; 2];
        // What each of the four may consist of, how long it may be, and what ends it.
        let fields = [
            (family.alphabet, family.lengths, b' '),
            (family.alphabet, family.lengths, b' '),
            (is_digit as fn(u8) -> bool, PORT, b' '),
            (is_digit, PORT, b'\r'),
        ];
        for (index, (alphabet, (shortest, longest), end)) in fields.into_iter().enumerate() {
            let length = self.rest.iter().take_while(|b| alphabet(**b)).count();
            if length > longest {
                return Err(InvalidHeader::Line);
            }
            let (text, rest) = self.rest.split_at(length);
            let Some((after, rest)) = rest.split_first() else {
                let later = fields[index + 1..]
                    .iter()
                    .map(|(_, (least, _), _)| least + 1);
                let line_break = 2;
                let missing = shortest.saturating_sub(length) + later.sum::<usize>() + line_break;
                return Ok(Read::Missing(missing));
            };
            let text = str::from_utf8(text).unwrap_or_default();
            match index {
                0 | 1 => ips[index] = (family.address)(text).ok_or(InvalidHeader::Line)?,
                _ => ports[index - 2] = port(text).ok_or(InvalidHeader::Line)?,
            }
            if *after != end {
                return Err(InvalidHeader::Line);
            }
            self.rest = rest;
        }
        match self.rest {
            [] => Ok(Read::Missing(1)),
            [b'\n', after @ ..] => {
                let ends = [0, 1].map(|end| SocketAddr::new(ips[end], ports[end]));
                Ok(Read::Done {
                    left: after.len(),
                    source: proxied(ends),
                })
            }
            _ => Err(InvalidHeader::Line),
        }
    }
}

/// How a family's addresses are written.
#[derive(Clone, Copy)]
struct Family {
    alphabet: fn(u8) -> bool,
    /// Of the shortest and the longest.
    lengths: (usize, usize),
    address: fn(&str) -> Option<IpAddr>,
}

const V4: Family = Family {
    alphabet: |byte| is_digit(byte) || byte == b'.',
    lengths: (7, 15),
    address: |text| text.parse().ok().map(IpAddr::V4),
};

/// With an IPv4 tail too, which the specification does not know, but `inet_ntop` writes, and with it most senders.
const V6: Family = Family {
    alphabet: |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'),
    lengths: (2, 45),
    address: |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
};

/// Lengths of ports.
const PORT: (usize, usize) = (1, 5);

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// A port without leading zeros.
fn port(digits: &str) -> Option<u16> {
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    digits.parse().ok()
}

/// Appends the header of a connection from `client` to `destination`. Where one is IPv4 and the other is not, both are
/// written as IPv6, into which IPv4 is mapped.
pub fn write(out: &mut Vec<u8>, client: SocketAddr, destination: SocketAddr) {
    let written = match Pair::new(client, destination) {
        Pair::V4([client, destination]) => write!(
            out,
            "PROXY TCP4 {} {} {} {}\r\n",
            client.ip(),
            destination.ip(),
            client.port(),
            destination.port()
        ),
        Pair::V6([client, destination]) => write!(
            out,
            "PROXY TCP6 {} {} {} {}\r\n",
            hexadecimal(*client.ip()),
            hexadecimal(*destination.ip()),
            client.port(),
            destination.port()
        ),
    };
    written.expect("a Vec takes all that is written");
}

/// An address in hexadecimal digits only: the specification has no IPv4 tails.
fn hexadecimal(ip: Ipv6Addr) -> String {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => ip.to_string(),
    }
}
