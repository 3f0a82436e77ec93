//! Where a request came from: X-Forwarded-* and Forwarded (RFC 7239), and whom to believe.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::h1::RequestHead;
use super::h1::write_request::decimal;
use super::headers::is_identity;

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
        if headers.contains_key(X_FORWARDED_FOR) {
            _ = members(headers, X_FORWARDED_FOR).all(|member| believe(node_address(member)));
        } else {
            _ = members(headers, FORWARDED).all(|member| believe(forwarded_for(member)));
        }
        client
    }

    /// Whether a client's field of this name does not pass as it is: what an untrusted peer says of earlier hops, or what
    /// it could have a server believe that this proxy said, and the lists that [`write`](Self::write) continues.
    pub fn replaces(&self, name: &HeaderName) -> bool {
        match name.as_str() {
            "forwarded" | "x-forwarded-for" => true,
            name if is_identity(name) => !self.trusted,
            "x-forwarded-host" | "x-forwarded-port" | "x-forwarded-prefix"
            | "x-forwarded-proto" | "x-forwarded-server" | "x-real-ip" => !self.trusted,
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

/// A list field's members, from the last to the first.
fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).into_iter().collect();
    lines
        .into_iter()
        .rev()
        .flat_map(|line| line.to_str().unwrap_or("?").rsplit(','))
        .map(str::trim)
}

/// The address in one member of Forwarded.
fn forwarded_for(member: &str) -> Option<IpAddr> {
    let mut pairs = member
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    node_address(node.trim_matches('"'))
}

/// An address with or without port, IPv6 with or without brackets.
fn node_address(node: &str) -> Option<IpAddr> {
    let bare = node
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or(node, |(address, _)| address);
    bare.parse()
        .ok()
        .or_else(|| node.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn an_address_is_written_as_usual() {
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "10.20.3.100",
            "2001:db8::1",
        ] {
            let (text, length) = text_of(address.parse().unwrap());
            assert_eq!(&text[..length], address.as_bytes());
        }
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(text_of(longest).1, 39);
    }

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(vec![
            "10.0.0.0/8".parse().unwrap(),
            "fd00::/8".parse().unwrap(),
        ])
    }

    fn client_of(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let trusted = trusted();
        Hop::new(peer.parse().unwrap(), &trusted, false)
            .client(&headers(lines), &trusted)
            .to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(
            client_of("192.0.2.1:5", &[("x-forwarded-for", "198.51.100.7")]),
            "192.0.2.1"
        );
    }

    #[test]
    fn trusted_hops_are_walked_from_the_right() {
        let cases: &[(&[(&'static str, &'static str)], &str)] = &[
            (&[], "10.0.0.1"),
            (&[("x-forwarded-for", "198.51.100.7")], "198.51.100.7"),
            (
                &[("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.2.3.4")],
                "198.51.100.7",
            ),
            (
                &[
                    ("x-forwarded-for", "198.51.100.7"),
                    ("x-forwarded-for", "10.2.3.4"),
                ],
                "198.51.100.7",
            ),
            (
                &[("x-forwarded-for", "198.51.100.7, nonsense, 10.2.3.4")],
                "10.2.3.4",
            ),
            (&[("x-forwarded-for", "10.9.9.9")], "10.9.9.9"),
            (&[("x-forwarded-for", "198.51.100.7:4711")], "198.51.100.7"),
            (
                &[(
                    "forwarded",
                    "for=198.51.100.7;proto=https, for=\"[fd00::1]:80\"",
                )],
                "198.51.100.7",
            ),
            (
                &[("forwarded", "For=\"[2001:db8::1]:4711\"")],
                "2001:db8::1",
            ),
        ];
        for (lines, client) in cases {
            assert_eq!(client_of("10.0.0.1:5", lines), *client, "{lines:?}");
        }
    }

    /// The forwarding fields that a server gets of what `peer` sent, in lines.
    fn sent(peer: &str, lines: &[(&'static str, &'static str)], host: Option<&str>) -> Vec<String> {
        let hop = Hop::new(peer.parse().unwrap(), &trusted(), false);
        let fields = headers(lines);
        let mut out = Vec::new();
        let mut head = RequestHead::begin(&mut out, &http::Method::GET, ["/", ""]);
        for (name, value) in fields.iter().filter(|(name, _)| !hop.replaces(name)) {
            head.field(name, value);
        }
        let host = host.map(|host| HeaderValue::from_str(host).unwrap());
        hop.write(&mut head, &fields, host.as_ref(), |_| false);
        let text = String::from_utf8(out).unwrap();
        let mut lines: Vec<_> = text.lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn an_untrusted_peers_fields_are_replaced() {
        let evil = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        assert_eq!(
            sent("[2001:db8::1]:5", &evil, Some("a:80")),
            [
                "forwarded: for=\"[2001:db8::1]\";proto=http;host=\"a:80\"",
                "x-forwarded-for: 2001:db8::1",
                "x-forwarded-host: a:80",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_host_that_would_need_escapes_stays_out_of_forwarded() {
        assert_eq!(
            sent("192.0.2.1:5", &[], Some("a\"b")),
            [
                "forwarded: for=192.0.2.1;proto=http",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: a\"b",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_trusted_peers_fields_are_continued() {
        let outer = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        assert_eq!(
            sent("10.0.0.1:5", &outer, None),
            [
                "forwarded: for=1.1.1.1, for=10.0.0.1;proto=http",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: outer",
                "x-forwarded-proto: https",
                "x-real-ip: 1.1.1.1",
            ]
        );
    }

    #[test]
    fn a_trusted_peer_is_continued_in_the_form_that_it_speaks() {
        let x = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(
            sent("10.0.0.1:5", &x, None),
            [
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-proto: https"
            ]
        );
        let standard = [("forwarded", "for=1.1.1.1;proto=https")];
        assert_eq!(
            sent("10.0.0.1:5", &standard, None),
            ["forwarded: for=1.1.1.1;proto=https, for=10.0.0.1;proto=http"]
        );
    }
}
