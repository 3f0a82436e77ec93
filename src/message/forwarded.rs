//! Where a request came from: X-Forwarded-* and Forwarded (RFC 7239), and whom to believe.

mod members;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::h1::RequestHead;
use super::h1::write_request::decimal;
use super::headers::{is_about_earlier_hops, is_identity};
use members::{forwarded, list};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The proxies whose word on earlier hops is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts every address in `networks`.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The hop from which a connection's requests come, with what it adds to each of them.
#[derive(Debug)]
pub struct Hop {
    peer: IpAddr,
    trusted: bool,
    encrypted: bool,
    /// The peer's address in text.
    address: [u8; LONGEST],
    length: u8,
}

/// Length of the longest address, an IPv6 one with an IPv4 tail.
const LONGEST: usize = 45;

/// An address as text, and its length.
fn text_of(address: IpAddr) -> ([u8; LONGEST], usize) {
    let mut text = [0; LONGEST];
    let length = match address {
        // There is one for each connection, which `Display` would make a good part of.
        IpAddr::V4(address) => {
            let mut length = 0;
            for octet in address.octets() {
                let digits = &mut [0; 20];
                let digits = decimal(octet.into(), digits);
                text[length..][..digits.len()].copy_from_slice(digits);
                text[length + digits.len()] = b'.';
                length += digits.len() + 1;
            }
            length - 1
        }
        IpAddr::V6(address) => {
            let mut rest = &mut text[..];
            write!(rest, "{address}").expect("no address is longer");
            LONGEST - rest.len()
        }
    };
    (text, length)
}

impl Hop {
    /// The hop over a connection from `peer`, `encrypted` or not.
    pub fn new(peer: SocketAddr, trusted: &TrustedProxies, encrypted: bool) -> Self {
        let peer = peer.ip().to_canonical();
        let (address, length) = text_of(peer);
        Self {
            peer,
            trusted: trusted.contains(peer),
            encrypted,
            address,
            length: length as u8,
        }
    }

    /// Has nothing believed that comes over it, as the peer does not say who is behind it.
    pub fn distrust(&mut self) {
        self.trusted = false;
    }

    /// Who is at the other end.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether the peer's word on earlier hops is believed.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The scheme of its requests' URLs.
    pub fn scheme(&self) -> &'static str {
        match self.encrypted {
            true => "https",
            false => "http",
        }
    }

    /// The address that the request comes from: the peer's, or, when that is a trusted proxy, the last address in
    /// X-Forwarded-For (or else Forwarded) that is not one.
    pub fn client(&self, headers: &HeaderMap, trusted: &TrustedProxies) -> IpAddr {
        if !self.trusted {
            return self.peer;
        }
        let mut client = self.peer;
        let mut believe = |address: Option<IpAddr>| match address {
            Some(address) => {
                client = address;
                trusted.contains(address)
            }
            None => false, // what stands before something unreadable was said by nobody we know
        };
        let lines = |name| headers.get_all(name).into_iter().rev();
        if headers.contains_key(X_FORWARDED_FOR) {
            let mut members = lines(X_FORWARDED_FOR).flat_map(|line| list(line.as_bytes()));
            _ = members.all(&mut believe);
        } else {
            let mut members = lines(FORWARDED).flat_map(|line| forwarded(line.as_bytes()));
            _ = members.all(&mut believe);
        }
        client
    }

    /// Whether a client's field of this name does not pass as it is: what an untrusted peer says of earlier hops, or what
    /// it could have a server believe that this proxy said, the lists that [`write`](Self::write) continues, and `Proxy`,
    /// which programs that get fields as variables take for the setting `HTTP_PROXY` (CVE-2016-5385).
    pub fn replaces(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        // Most names begin with another letter.
        match name.as_bytes() {
            [b'f', ..] if name == "forwarded" => true,
            [b'p', ..] => name == "proxy",
            [b'x', ..] if name == "x-forwarded-for" => true,
            [b'c' | b'f' | b'x', ..] => {
                !self.trusted && (is_about_earlier_hops(name) || is_identity(name))
            }
            _ => false,
        }
    }

    /// Writes the forwarding fields of a request whose Host is `host`, and whose client sent `headers`.
    ///
    /// A trusted peer that speaks only one of the two forms is continued in that form, so that they never contradict
    /// each other. Fields that somebody has set otherwise stay as they were set.
    pub fn write(
        &self,
        head: &mut RequestHead<'_>,
        headers: &HeaderMap,
        host: Option<&HeaderValue>,
        is_set: impl Fn(&HeaderName) -> bool,
    ) {
        let said = |name| self.trusted && headers.contains_key(name);
        let lines = |name| {
            let lines = self.trusted.then(|| headers.get_all(name).into_iter());
            lines.into_iter().flatten()
        };
        let address = &self.address[..usize::from(self.length)];
        let (x_forwarded, forwarded) = (said(X_FORWARDED_FOR), said(FORWARDED));
        if (forwarded || !x_forwarded) && !is_set(&FORWARDED) {
            let (before, after): (&[u8], &[u8]) = match self.peer {
                IpAddr::V4(_) => (b"for=", b";proto="),
                IpAddr::V6(_) => (b"for=\"[", b"]\";proto="),
            };
            let scheme = self.scheme().as_bytes();
            let member: &[&[u8]] = match host.filter(|host| plain(host)) {
                Some(host) => {
                    let host = host.as_bytes();
                    &[before, address, after, scheme, b";host=\"", host, b"\""]
                }
                None => &[before, address, after, scheme],
            };
            head.list("forwarded", lines(FORWARDED), member);
        }
        if x_forwarded || !forwarded {
            if !is_set(&X_FORWARDED_FOR) {
                head.list("x-forwarded-for", lines(X_FORWARDED_FOR), &[address]);
            }
            if !said(X_FORWARDED_PROTO) && !is_set(&X_FORWARDED_PROTO) {
                head.parts("x-forwarded-proto", &[self.scheme().as_bytes()]);
            }
            if let Some(host) = host
                && !said(X_FORWARDED_HOST)
                && !is_set(&X_FORWARDED_HOST)
            {
                head.field(&X_FORWARDED_HOST, host);
            }
        }
    }
}

/// Whether a Host needs no escape within quotes; with anything else it is not worth passing on.
fn plain(host: &HeaderValue) -> bool {
    host.as_bytes()
        .iter()
        .all(|c| c.is_ascii_alphanumeric() || b".-_:[]%".contains(c))
}
