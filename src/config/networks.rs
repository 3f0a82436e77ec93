//! Networks, and where lists of them come from.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use super::model::CidrSource;
use super::types::{Invalid, serde_as_text};

/// A network, `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

serde_as_text!(Network, r#"a network such as "10.0.0.0/8""#);
serde_as_text!(
    CidrSource,
    r#"a network such as "10.0.0.0/8", or "file:PATH""#
);

impl FromStr for Network {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(|network| Self(network.trunc()))
            .map_err(|_| {
                Invalid::new(format!(
                    r#"{text:?} is not a network; expected for example "10.0.0.0/8", "fd00::/8" or "192.0.2.1""#
                ))
            })
    }
}

impl FromStr for CidrSource {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("file:") {
            Some("") => Err(Invalid::new(r#""file:" names no file"#)),
            Some(path) => Ok(Self::File(PathBuf::from(path))),
            None => match text.parse() {
                Ok(Network(network)) => Ok(Self::Net(network)),
                Err(error) => Err(Invalid::new(format!(r#"{error}, or "file:PATH""#))),
            },
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CidrSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(network) => network.fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("fd00::/8", "fd00::/8"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), written);
            let source: CidrSource = text.parse().unwrap();
            assert_eq!(source, CidrSource::Net(network.0));
            assert_eq!(source.to_string(), written);
        }
        for text in ["10.0.0.0/33", "all", ""] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains("is not a network"), "{error}");
            let error = text.parse::<CidrSource>().unwrap_err().to_string();
            assert!(error.ends_with("or \"file:PATH\""), "{error}");
        }
    }

    #[test]
    fn files_of_networks() {
        let source: CidrSource = "file:/etc/lb/deny.txt".parse().unwrap();
        assert_eq!(source, CidrSource::File("/etc/lb/deny.txt".into()));
        assert_eq!(source.to_string(), "file:/etc/lb/deny.txt");
        let error = "file:".parse::<CidrSource>().unwrap_err().to_string();
        assert!(error.contains("names no file"), "{error}");
    }
}
