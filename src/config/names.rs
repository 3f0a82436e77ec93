//! The textual forms of what the schema names: things, addresses to listen on, what limits and hashes key by.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use http::{HeaderName, Method};

use super::model::{AdminListen, HashKey, LimitKey};
use super::types::{Invalid, serde_as_text};

/// A listener's, route's or upstream's name: one or more of `A-Z a-z 0-9 _ . -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

/// An address to bind, `127.0.0.1:8080`; port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// `admin.listen`: `None` is `"off"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminListenOrOff(pub Option<AdminListen>);

/// A path in the file system; `None` is `"off"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathOrOff(pub Option<PathBuf>);

/// A cookie's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieName(pub String);

/// A request method, in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodName(pub Method);

serde_as_text!(Name, "a name of letters, digits, \"_\", \".\" and \"-\"");
serde_as_text!(
    ListenAddress,
    r#"an address to listen on, for example "127.0.0.1:8080""#
);
serde_as_text!(
    AdminListenOrOff,
    r#"an address such as "127.0.0.1:9901", "unix:/path" or "off""#
);
serde_as_text!(PathOrOff, r#"a path or "off""#);
serde_as_text!(CookieName, r#"a cookie's name, for example "lb""#);
serde_as_text!(MethodName, r#"a method such as "GET""#);
serde_as_text!(LimitKey, r#""client_ip", "header:NAME" or "route""#);
serde_as_text!(
    HashKey,
    r#""client_ip", "header:NAME", "cookie:NAME" or "path""#
);

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if text.is_empty() || !text.bytes().all(is_allowed) {
            return Err(Invalid::new(format!(
                "{text:?} is not a name; expected letters, digits, \"_\", \".\" and \"-\""
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for ListenAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        socket_addr(text).map(Self).ok_or_else(|| {
            Invalid::new(format!(
                r#"{text:?} is not an IP address and port; expected for example "127.0.0.1:8080", "0.0.0.0:8080" or "[::]:8080""#
            ))
        })
    }
}

/// The standard library's parser takes IPv6 zones, which cannot be written back.
fn socket_addr(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|_| !text.contains('%'))
}

impl FromStr for AdminListenOrOff {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "off" {
            return Ok(Self(None));
        }
        let listen = match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Some(AdminListen::Unix(PathBuf::from(path))),
            Some(_) => None,
            None => socket_addr(text).map(AdminListen::Tcp),
        };
        listen.map(|listen| Self(Some(listen))).ok_or_else(|| {
            Invalid::new(format!(
                r#"{text:?} is not an address to listen on; expected for example "127.0.0.1:9901", "unix:/run/lb/admin.sock" or "off""#
            ))
        })
    }
}

impl FromStr for PathOrOff {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "off" => Ok(Self(None)),
            "" => Err(Invalid::new(r#""" is not a path; expected one, or "off""#)),
            path => Ok(Self(Some(PathBuf::from(path)))),
        }
    }
}

impl FromStr for CookieName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        cookie_name(text).map(Self)
    }
}

impl FromStr for MethodName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.to_ascii_uppercase();
        if upper != text {
            return Err(Invalid::new(format!(
                "{text:?} is in lower case; expected {upper:?}, which matches in any case"
            )));
        }
        Method::from_bytes(text.as_bytes()).map(Self).map_err(|_| {
            Invalid::new(format!(
                r#"{text:?} is not a method; expected for example "GET""#
            ))
        })
    }
}

impl FromStr for LimitKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "route" => Ok(Self::Route),
            Some(("header", name)) => header_name(name).map(Self::Header),
            _ => Err(Invalid::new(format!(
                r#"{text:?} is not what a limit counts by; expected "client_ip", "header:NAME" or "route""#
            ))),
        }
    }
}

impl FromStr for HashKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) => header_name(name).map(Self::Header),
            Some(("cookie", name)) => cookie_name(name).map(Self::Cookie),
            _ => Err(Invalid::new(format!(
                r#"{text:?} is not what can be hashed; expected "client_ip", "header:NAME", "cookie:NAME" or "path""#
            ))),
        }
    }
}

/// A header's name, which is put in lower case.
pub fn header_name(name: &str) -> Result<HeaderName, Invalid> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Invalid::new(format!("{name:?} is not a header's name")))
}

/// A cookie's name: a token, as a method and a header's name are (RFC 6265, 4.1.1).
pub fn cookie_name(name: &str) -> Result<String, Invalid> {
    match Method::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(Invalid::new(format!("{name:?} is not a cookie's name"))),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AdminListenOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("off"),
            Some(AdminListen::Tcp(address)) => address.fmt(f),
            Some(AdminListen::Unix(path)) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for PathOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("off"),
            Some(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Route => f.write_str("route"),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Path => f.write_str("path"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each text is written back as, or a part of its error.
    fn check<T: FromStr<Err = Invalid> + fmt::Display>(cases: &[(&str, Result<&str, &str>)]) {
        for (text, expected) in cases {
            match (text.parse::<T>(), expected) {
                (Ok(value), Ok(written)) => assert_eq!(value.to_string(), *written),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text:?}: {error}");
                }
                (Ok(value), Err(_)) => panic!("{text:?} was taken for {value}"),
                (Err(error), Ok(_)) => panic!("{text:?}: {error}"),
            }
        }
    }

    #[test]
    fn names() {
        check::<Name>(&[
            ("a.B-c_9", Ok("a.B-c_9")),
            ("", Err("is not a name")),
            ("a b", Err("is not a name")),
            ("ä", Err("is not a name")),
        ]);
    }

    #[test]
    fn addresses() {
        check::<ListenAddress>(&[
            ("127.0.0.1:0", Ok("127.0.0.1:0")),
            ("[::0]:80", Ok("[::]:80")),
            ("localhost:80", Err("is not an IP address and port")),
            (":80", Err("is not an IP address and port")),
            ("[fe80::1%1]:80", Err("is not an IP address and port")),
        ]);
        check::<AdminListenOrOff>(&[
            ("off", Ok("off")),
            ("unix:/run/lb.sock", Ok("unix:/run/lb.sock")),
            ("127.0.0.1:9901", Ok("127.0.0.1:9901")),
            ("unix:", Err("is not an address")),
            ("on", Err("is not an address")),
        ]);
        check::<PathOrOff>(&[
            ("off", Ok("off")),
            ("run/lb.upgrade", Ok("run/lb.upgrade")),
            ("", Err("is not a path")),
        ]);
    }

    #[test]
    fn methods_and_keys() {
        check::<MethodName>(&[
            ("GET", Ok("GET")),
            ("M-SEARCH", Ok("M-SEARCH")),
            ("get", Err("expected \"GET\"")),
            ("", Err("is not a method")),
            ("GET ", Err("is not a method")),
        ]);
        check::<LimitKey>(&[
            ("client_ip", Ok("client_ip")),
            ("route", Ok("route")),
            ("header:X-Key", Ok("header:x-key")),
            ("header:", Err("is not a header's name")),
            ("header", Err("counts by")),
            ("cookie:a", Err("counts by")),
        ]);
        check::<HashKey>(&[
            ("path", Ok("path")),
            ("header:X-Key", Ok("header:x-key")),
            ("cookie:Lb", Ok("cookie:Lb")),
            ("cookie:a b", Err("is not a cookie's name")),
            ("route", Err("can be hashed")),
        ]);
    }
}
