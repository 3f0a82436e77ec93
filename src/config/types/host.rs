//! Host names, and the patterns that match them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::{Invalid, serde_as_text};

/// What a request's host is compared with: lower case, without port and without trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host: `api.example.com`, `192.0.2.1`, `[2001:db8::1]`.
    Exact(String),
    /// From `*.example.com`, kept as `example.com`: every host with one or more labels in front of it, not itself.
    Wildcard(String),
}

serde_as_text!(
    HostPattern,
    r#"a host such as "api.example.com" or "*.example.com""#
);

impl FromStr for HostPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "*" {
            return Err(Invalid::new(
                r#""*" is not a host; leave "hosts" out to match every host"#,
            ));
        }
        let invalid = |why| {
            Invalid::new(format!(
                r#"{text:?} {why}; expected a host such as "api.example.com" or "*.example.com""#
            ))
        };
        match text.strip_prefix("*.") {
            Some(suffix) if suffix.starts_with('[') => Err(invalid("is not a host")),
            Some(suffix) => parse_host(suffix).map(Self::Wildcard).map_err(invalid),
            None => parse_host(text).map(Self::Exact).map_err(invalid),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A name, an IPv4 address or an IPv6 address in brackets, in lower case; an error completes "`text` ...".
pub(in crate::config) fn parse_host(text: &str) -> Result<String, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .and_then(|address| address.parse::<Ipv6Addr>().ok())
            .map(|address| format!("[{address}]"))
            .ok_or("is not an IPv6 address in brackets");
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("is an IPv6 address without brackets");
    }
    if text.contains("://") {
        return Err("is a URL");
    }
    if text.contains(':') {
        return Err("has a port");
    }
    if !text.is_ascii() {
        return Err("is not ASCII (write international names in their xn-- form)");
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    // RFC 1035, 2.3.4. Underscores are no part of host names there, but of names that are in use.
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("is not a host name");
    }
    let ends_in_number = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if ends_in_number && name.parse::<std::net::Ipv4Addr>().is_err() {
        return Err("is not an IPv4 address");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, pattern) in [
            (
                "API.Example.com",
                HostPattern::Exact("api.example.com".into()),
            ),
            ("example.com.", HostPattern::Exact("example.com".into())),
            ("localhost", HostPattern::Exact("localhost".into())),
            ("192.0.2.1", HostPattern::Exact("192.0.2.1".into())),
            (
                "[2001:DB8:0::1]",
                HostPattern::Exact("[2001:db8::1]".into()),
            ),
            ("*.Example.com", HostPattern::Wildcard("example.com".into())),
        ] {
            assert_eq!(text.parse(), Ok(pattern.clone()), "{text}");
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }

    #[test]
    fn refuses_what_is_no_host() {
        for (text, why) in [
            ("", "is not a host name"),
            ("*", "leave \"hosts\" out"),
            ("a b", "is not a host name"),
            ("a..b", "is not a host name"),
            ("a.*.b", "is not a host name"),
            ("*", "every host"),
            ("*.", "is not a host name"),
            ("*.[::1]", "is not a host"),
            ("example.com:80", "has a port"),
            ("http://example.com", "is a URL"),
            ("::1", "without brackets"),
            ("[::1", "in brackets"),
            ("1.2.3.400", "is not an IPv4 address"),
            ("bücher.example", "xn--"),
        ] {
            let error = text.parse::<HostPattern>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!(
            format!("{}.com", "a".repeat(64))
                .parse::<HostPattern>()
                .is_err()
        );
        assert!("a.".repeat(127).parse::<HostPattern>().is_ok());
        assert!("a.".repeat(128).parse::<HostPattern>().is_err());
    }
}
