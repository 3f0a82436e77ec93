//! What a proxy must remove from and add to headers (RFC 9110, section 7.6).

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

/// What this proxy adds to Via: the version in which it got the message, and its name (RFC 9110, section 7.6.3).
pub fn own_via(received: Version) -> &'static str {
    match received {
        Version::HTTP_10 => "1.0 loadbalancer",
        Version::HTTP_2 => "2.0 loadbalancer",
        _ => "1.1 loadbalancer",
    }
}

/// The trailers that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trailers {
    /// Those that were announced.
    Named(Vec<HeaderName>),
    /// All that may be trailers: in HTTP/2 none is announced.
    Any,
}

impl Trailers {
    /// None.
    pub const NONE: Self = Self::Named(Vec::new());

    /// Whether this one does.
    pub fn has(&self, name: &HeaderName) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::Any => true,
        }
    }
}

/// The protocols that a message asks to switch to, or switches to: what all lines of Upgrade name, if Connection names it
/// too.
///
/// Other versions of HTTP do not count: over a tunnel a client could then send requests that nobody routes or limits.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).into_iter();
    let (first, is_one) = (lines.next()?, lines.next().is_none());
    // An empty list asks for nothing.
    tokens(headers, &UPGRADE).next()?;
    let is_http = |token: &[u8]| {
        let name = token.split(|b| *b == b'/').next().unwrap_or_default();
        ["h2c", "h2", "http", "tls"]
            .iter()
            .any(|http| name.eq_ignore_ascii_case(http.as_bytes()))
    };
    let allowed =
        has_token(headers, &CONNECTION, "upgrade") && !tokens(headers, &UPGRADE).any(is_http);
    if !allowed || is_one {
        return allowed.then(|| first.clone());
    }
    let all: Vec<&[u8]> = tokens(headers, &UPGRADE).collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).ok()
}

/// Whether a server may switch to the protocols that `answered` names when it was asked for those in `asked`
/// (RFC 9110, section 7.8). To nothing it may not.
pub fn answers_upgrade(asked: &HeaderValue, answered: &HeaderValue) -> bool {
    let was_asked = |protocol: &[u8]| {
        let mut asked = list(asked).take(MAX_OPTIONS);
        asked.any(|it| it.eq_ignore_ascii_case(protocol))
    };
    let count = list(answered).take(MAX_OPTIONS + 1).count();
    (1..=MAX_OPTIONS).contains(&count) && list(answered).all(was_asked)
}

/// The trailers that a message says it has.
pub fn announced_trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &TRAILER)
        .take(MAX_OPTIONS)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

/// Whether a list field names `wanted`.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The members of a list field.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(list)
}

/// The members of a line of a list field.
fn list(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let members = line.as_bytes().split(|b| *b == b',');
    members
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Whether the connection stays open after a message (RFC 9112, section 9.3).
///
/// # Errors
/// Connection names so much that nobody can mean it, and that it would cost too much to look for all of it.
pub fn keeps_alive(version: Version, headers: &HeaderMap) -> Result<bool, TooManyOptions> {
    let (mut close, mut keep_alive, mut options) = (false, false, 0);
    for option in tokens(headers, &CONNECTION) {
        close |= option.eq_ignore_ascii_case(b"close");
        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        options += 1;
    }
    if options > MAX_OPTIONS {
        return Err(TooManyOptions);
    }
    Ok(!close && (keep_alive || version != Version::HTTP_10))
}

/// How many options Connection may name.
const MAX_OPTIONS: usize = 100;

/// Connection names more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyOptions;

/// The length that Content-Length says, if it is there. It may be said several times, but not differently
/// (RFC 9112, section 6.3).
///
/// # Errors
/// There is no telling which length is meant.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, DoubtfulFraming> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        length = same_length(length, line.as_bytes())?;
    }
    Ok(length)
}

/// The length that a line of Content-Length says, after others said `before`.
///
/// # Errors
/// It says nothing, or something else.
pub fn same_length(before: Option<u64>, line: &[u8]) -> Result<Option<u64>, DoubtfulFraming> {
    let mut length = before;
    for said in line.split(|b| *b == b',') {
        let said = number(said.trim_ascii()).ok_or(DoubtfulFraming)?;
        if length.is_some_and(|length| length != said) {
            return Err(DoubtfulFraming);
        }
        length = Some(said);
    }
    Ok(length)
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    let number = digits.iter().try_fold(0, digit);
    number.filter(|_| !digits.is_empty())
}

/// Whether Transfer-Encoding is there.
pub fn is_coded(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
}

/// Whether the body comes in chunks.
///
/// # Errors
/// Transfer-Encoding names anything but `chunked`, and that once: the only coding that can be undone here.
pub fn chunked(headers: &HeaderMap) -> Result<bool, CodingError> {
    if !is_coded(headers) {
        return Ok(false);
    }
    let mut codings = headers
        .get_all(TRANSFER_ENCODING)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    // An empty member is no coding, but who looks for the last one may take it for that.
    let is_other = |coding: &[u8]| !coding.is_empty() && !is_chunked(coding);
    let last = codings.next_back();
    match (last.is_some_and(is_chunked), codings.next()) {
        (true, None) => Ok(true),
        (true, Some(first)) if is_other(first) && codings.all(is_other) => {
            Err(CodingError::Unsupported)
        }
        _ => Err(CodingError::Doubtful),
    }
}

/// Why a Transfer-Encoding cannot be undone (RFC 9112, sections 6.1 and 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodingError {
    /// There are others before the chunked one.
    Unsupported,
    /// The last one is not chunked, so that nothing says where the body ends, or it is not the only chunked one.
    Doubtful,
}

/// The fields say nothing certain about where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoubtfulFraming;

/// Whether a field is meant for one connection only, whatever Connection says.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_for_one_hop(name.as_str())
}

fn is_for_one_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether only a proxy may say it, or nobody.
fn is_a_proxys(name: &str) -> bool {
    matches!(name, "forwarded" | "proxy" | "via" | "x-request-id")
        || is_about_earlier_hops(name)
        || is_identity(name)
}

/// Whether a field of the `X-Forwarded-*` kind says something about a request on its way to a proxy, which servers believe
/// from one.
pub fn is_about_earlier_hops(name: &str) -> bool {
    // Most names begin like none of them.
    match name.as_bytes() {
        [b'x', b'-', b'f', ..] => name.starts_with("x-forwarded-"),
        [b'x', b'-', b'r' | b'o', ..] => {
            matches!(name, "x-original-url" | "x-real-ip" | "x-rewrite-url")
        }
        [b'f', ..] => name == "front-end-https",
        _ => false,
    }
}

/// Whether a field says who a client's certificate says it is (RFC 9440, and our own).
pub fn is_identity(name: &str) -> bool {
    matches!(name, "client-cert" | "client-cert-chain") || name.starts_with("x-client-cert-")
}

/// Whether a client's field has a name that a server may take for that of a field which frames, routes, or is the proxy's
/// to say. Programs that get fields as variables, as in CGI, cannot tell `X_Forwarded_For` from `X-Forwarded-For`.
pub fn is_forged(name: &HeaderName) -> bool {
    let name = name.as_str();
    let usual = |b: u8| b.is_ascii_lowercase() | b.is_ascii_digit() | (b == b'-');
    let unusual = name.bytes().fold(false, |found, b| found | !usual(b));
    unusual && is_taken_for_another(name)
}

/// Whether a server may take a client's field for the one called `other`.
pub fn may_be_taken_for(name: &HeaderName, other: &HeaderName) -> bool {
    let (name, other) = (name.as_str().as_bytes(), other.as_str().as_bytes());
    let plain = |b: u8| if b.is_ascii_alphanumeric() { b } else { b'-' };
    name.len() == other.len() && std::iter::zip(name, other).all(|(a, b)| plain(*a) == plain(*b))
}

#[cold]
fn is_taken_for_another(name: &str) -> bool {
    let other = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(other).collect();
    is_a_proxys(&name) || is_for_one_hop(&name) || name == "content-length"
}

/// The fields that Connection declares to be meant for one connection only. Host is none of them, as no request can do
/// without it.
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &CONNECTION)
        .filter(|token| {
            !["close", "keep-alive"]
                .iter()
                .any(|usual| token.eq_ignore_ascii_case(usual.as_bytes()))
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| name != HOST)
        .collect()
}

/// Removes what may not come after a body.
pub fn keep_trailers(fields: &mut HeaderMap) {
    let unwanted: Vec<HeaderName> = fields
        .keys()
        .filter(|name| !may_be_trailer(name))
        .cloned()
        .collect();
    for name in unwanted {
        fields.remove(name);
    }
}

/// Whether a field may come after the body: none that frames, routes, authenticates or belongs to one connection
/// (RFC 9110, section 6.5.1), and none that only a proxy may say.
pub fn may_be_trailer(name: &HeaderName) -> bool {
    !is_hop_by_hop(name)
        && !is_a_proxys(name.as_str())
        && !is_forged(name)
        && !matches!(
            name.as_str(),
            "authorization"
                | "cache-control"
                | "content-encoding"
                | "content-length"
                | "content-range"
                | "content-type"
                | "cookie"
                | "expect"
                | "host"
                | "max-forwards"
                | "set-cookie"
                | "trailer"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::IDENTITY_FIELDS;

    #[test]
    fn what_servers_are_told_of_a_certificate_no_client_can_say() {
        for field in IDENTITY_FIELDS {
            assert!(
                is_identity(field.as_str()) && !may_be_trailer(&field),
                "{field}"
            );
        }
        assert!(is_forged(&HeaderName::from_static("client_cert")));
    }

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(n, v)| {
            (
                n.parse::<HeaderName>().unwrap(),
                v.parse::<HeaderValue>().unwrap(),
            )
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn nominated_fields_are_found_in_all_lines() {
        let headers = map(&[
            ("connection", "Close, X-Secret"),
            ("connection", "x-other, host,, not a name"),
        ]);
        assert_eq!(nominated(&headers), ["x-secret", "x-other"]);
    }

    #[test]
    fn a_length_is_digits_that_all_lines_agree_on() {
        let length = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| ("content-length", *line));
            content_length(&map(&lines.collect::<Vec<_>>()))
        };
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["5"]), Ok(Some(5)));
        assert_eq!(length(&["5 , 05", "5"]), Ok(Some(5)));
        assert_eq!(length(&["18446744073709551615"]), Ok(Some(u64::MAX)));
        for doubtful in [
            &["18446744073709551616"][..],
            &["5", "6"],
            &["+5"],
            &["-5"],
            &[""],
            &["5,"],
            &["0x5"],
            &["5 5"],
        ] {
            assert_eq!(length(doubtful), Err(DoubtfulFraming), "{doubtful:?}");
        }
    }

    #[test]
    fn a_name_that_programs_take_for_another_is_forged() {
        for name in [
            "x_forwarded_for",
            "x-forwarded_anything",
            "x.forwarded.proto",
            "x_real-ip",
            "x_request_id",
            "x_forwarded_ssl",
            "front_end_https",
            "front-end_https",
            "x_original_url",
            "x-rewrite_url",
            "content_length",
            "transfer_encoding",
            "proxy_connection",
        ] {
            let name = HeaderName::from_static(name);
            assert!(is_forged(&name) && !may_be_trailer(&name), "{name}");
        }
        for name in [
            "x_forwarded",
            "x_original",
            "x-forwarded-for",
            "proxy",
            "content-length",
            "my_field",
            "x-sum",
        ] {
            assert!(!is_forged(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn a_server_switches_only_to_what_was_asked_for() {
        let answers = |asked: &'static str, answered: &'static str| {
            answers_upgrade(
                &HeaderValue::from_static(asked),
                &HeaderValue::from_static(answered),
            )
        };
        assert!(answers("websocket", "WebSocket"));
        assert!(answers("a, b", "b"));
        assert!(!answers("websocket", "b"));
        assert!(!answers("a", "a, b"));
        for nothing in ["", ",", " , ,"] {
            assert!(!answers("a", nothing) && !answers(nothing, nothing));
        }
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let websocket = map(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(upgrade(&websocket).unwrap(), "websocket");
        assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None);
        assert_eq!(upgrade(&map(&[("connection", "upgrade")])), None);
        let lines = |lines: [&'static str; 2]| {
            let [first, second] = lines.map(|line| ("upgrade", line));
            upgrade(&map(&[first, ("connection", "upgrade"), second]))
        };
        assert_eq!(lines(["a", "b, c"]).unwrap(), "a, b, c");
        assert_eq!(lines(["a", ","]).unwrap(), "a");
        assert_eq!(lines([",", "a"]).unwrap(), "a");
        assert_eq!(lines(["a", "h2c"]), None);
        assert_eq!(lines([",", ""]), None);
        for nothing in ["", ",", ", ,"] {
            let fields = [("connection", "upgrade"), ("upgrade", nothing)];
            assert_eq!(upgrade(&map(&fields)), None, "{nothing:?}");
        }
        for http in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.2"] {
            assert_eq!(
                upgrade(&map(&[("connection", "upgrade"), ("upgrade", http)])),
                None,
                "{http}"
            );
        }
    }
}
