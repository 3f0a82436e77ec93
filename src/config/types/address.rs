//! Addresses of servers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::host::parse_host;
use super::{Invalid, serde_as_text};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddress {
    /// An address: `127.0.0.1:3000`, `[::1]:3000`.
    Ip(SocketAddr),
    /// A name that is resolved while the program runs: `app.internal:3000`.
    Name {
        /// In lower case.
        host: String,
        /// Not 0.
        port: u16,
    },
}

impl ServerAddress {
    /// The name or address, without brackets.
    pub fn host(&self) -> String {
        match self {
            Self::Ip(address) => address.ip().to_string(),
            Self::Name { host, .. } => host.clone(),
        }
    }
}

serde_as_text!(
    ServerAddress,
    r#"an address "host:port", for example "127.0.0.1:3000""#
);

impl FromStr for ServerAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| {
            Invalid::new(format!(
                r#"{text:?} {why}; expected "host:port", for example "127.0.0.1:3000""#
            ))
        };
        if text.contains("://") {
            return Err(invalid("is a URL"));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(invalid("is an IPv6 address without brackets and port"));
        }
        let (host, port) = text
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .ok_or_else(|| invalid("has no port"))?;
        // `parse` alone would take "+80".
        let port = match port.parse::<u16>() {
            Ok(port) if port != 0 && !text.contains('+') => port,
            _ => return Err(invalid("has no port from 1 to 65535")),
        };
        let host = parse_host(host).map_err(|why| invalid(&format!("has a host that {why}")))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(SocketAddr::new(ip, port)),
            Err(_) => Self::Name { host, port },
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, written) in [
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("[2001:DB8::0:1]:80", "[2001:db8::1]:80"),
            ("App.Internal:80", "app.internal:80"),
        ] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(
                matches!(address, ServerAddress::Name { .. }),
                text.starts_with("App")
            );
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (text, why) in [
            ("", "has no port"),
            ("127.0.0.1", "has no port;"),
            ("[::1]", "has no port;"),
            ("::1", "without brackets"),
            ("a:0", "has no port from 1"),
            ("a:65536", "has no port from 1"),
            ("a:+80", "has no port from 1"),
            ("a:", "has no port from 1"),
            (":80", "is not a host name"),
            ("http://a:80", "is a URL"),
            ("1.2.3:80", "is not an IPv4 address"),
            ("a b:80", "is not a host name"),
            ("::1:80x", "has no port from 1"),
        ] {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
