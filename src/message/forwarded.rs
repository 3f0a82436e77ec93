//! Where a request came from: X-Forwarded-* and Forwarded (RFC 7239), and whom to believe.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::headers::append_to_list;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that servers believe of a proxy, and that this one does not set.
const UNSET: [HeaderName; 4] = [
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
];

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

/// The hop from which a connection's requests come, with the field values that it adds to each of them.
#[derive(Debug)]
pub struct Hop {
    peer: IpAddr,
    trusted: bool,
    address: HeaderValue,
    forwarded: String,
}

impl Hop {
    /// The hop over a connection from `peer`.
    pub fn new(peer: SocketAddr, trusted: &TrustedProxies) -> Self {
        let peer = peer.ip().to_canonical();
        let node = match peer {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        Self {
            peer,
            trusted: trusted.contains(peer),
            address: HeaderValue::try_from(peer.to_string())
                .expect("an IP address is a valid field value"),
            forwarded: format!("for={node};proto=http"),
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

    /// Writes the forwarding fields of a request whose Host is `host`. What an untrusted peer sent of them is replaced.
    /// A trusted peer that speaks only one of the two forms is continued in that form, so that they never contradict
    /// each other.
    pub fn set(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        if !self.trusted {
            headers.remove(X_FORWARDED_FOR);
            headers.remove(FORWARDED);
            for name in UNSET {
                headers.remove(name);
            }
        }
        let x_forwarded = headers.contains_key(X_FORWARDED_FOR);
        let forwarded = headers.contains_key(FORWARDED);
        if forwarded || !x_forwarded {
            append_to_list(headers, FORWARDED, self.forwarded(host));
        }
        if x_forwarded || !forwarded {
            self.set_x_forwarded(headers, host);
        }
    }

    fn set_x_forwarded(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        append_to_list(headers, X_FORWARDED_FOR, self.address.clone());
        if !self.trusted || !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        }
        if !self.trusted || !headers.contains_key(X_FORWARDED_HOST) {
            match host {
                Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
                None => headers.remove(X_FORWARDED_HOST),
            };
        }
    }

    fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let mut value = String::with_capacity(self.forwarded.len() + 40);
        value.push_str(&self.forwarded);
        // Only what needs no escape within quotes: a Host with anything else is not worth passing on.
        let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_:[]%".contains(&c);
        if let Some(host) = host
            .and_then(|host| host.to_str().ok())
            .filter(|host| host.bytes().all(plain))
        {
            _ = write!(value, ";host=\"{host}\"");
        }
        HeaderValue::try_from(value)
            .expect("an address and plain characters are a valid field value")
    }
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

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(vec![
            "10.0.0.0/8".parse().unwrap(),
            "fd00::/8".parse().unwrap(),
        ])
    }

    fn client_of(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let trusted = trusted();
        Hop::new(peer.parse().unwrap(), &trusted)
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

    #[test]
    fn an_untrusted_peers_fields_are_replaced() {
        let mut fields = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ]);
        Hop::new("[2001:db8::1]:5".parse().unwrap(), &trusted())
            .set(&mut fields, Some(&HeaderValue::from_static("a:80")));
        assert_eq!(
            fields,
            headers(&[
                ("x-forwarded-for", "2001:db8::1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "a:80"),
                (
                    "forwarded",
                    "for=\"[2001:db8::1]\";proto=http;host=\"a:80\""
                ),
            ])
        );
    }

    #[test]
    fn a_trusted_peers_fields_are_continued() {
        let mut fields = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
            ("forwarded", "for=1.1.1.1"),
        ]);
        Hop::new("10.0.0.1:5".parse().unwrap(), &trusted()).set(&mut fields, None);
        assert_eq!(
            fields,
            headers(&[
                ("x-forwarded-for", "1.1.1.1, 10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "outer"),
                ("forwarded", "for=1.1.1.1, for=10.0.0.1;proto=http"),
            ])
        );
    }

    #[test]
    fn a_trusted_peer_is_continued_in_the_form_that_it_speaks() {
        let hop = Hop::new("10.0.0.1:5".parse().unwrap(), &trusted());
        let mut fields = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
        ]);
        hop.set(&mut fields, None);
        assert_eq!(
            fields,
            headers(&[
                ("x-forwarded-for", "1.1.1.1, 10.0.0.1"),
                ("x-forwarded-proto", "https")
            ])
        );
        let mut fields = headers(&[("forwarded", "for=1.1.1.1;proto=https")]);
        hop.set(&mut fields, None);
        assert_eq!(
            fields,
            headers(&[(
                "forwarded",
                "for=1.1.1.1;proto=https, for=10.0.0.1;proto=http"
            )])
        );
    }
}
