//! What a proxy must remove from and add to headers (RFC 9110, section 7.6).

use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The name that this proxy gives itself in Via.
const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 loadbalancer");

/// The protocol that a message asks to switch to, or switches to: its Upgrade field, if Connection names it too.
///
/// Other versions of HTTP do not count: over a tunnel a client could then send requests that nobody routes or limits.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let is_http = |token: &str| {
        let name = token.split('/').next().unwrap_or_default();
        ["h2c", "h2", "http", "tls"]
            .iter()
            .any(|http| name.eq_ignore_ascii_case(http))
    };
    let allowed =
        has_token(headers, &CONNECTION, "upgrade") && !tokens(headers, &UPGRADE).any(is_http);
    allowed.then(|| protocol.clone())
}

/// Whether the client takes trailers (`TE: trailers`).
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(TE) && has_token(headers, &TE, "trailers")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Whether Transfer-Encoding, if it is there, names nothing but `chunked`, and that once: the only coding that can be undone here
/// (RFC 9112, section 6.1).
pub fn only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = tokens(headers, &TRANSFER_ENCODING);
    codings
        .next()
        .is_none_or(|coding| coding.eq_ignore_ascii_case("chunked"))
        && codings.next().is_none()
}

/// Removes the fields that are meant for one connection only: the known ones, and those that Connection nominates.
///
/// Host stays even when nominated, as no request can do without it. With Transfer-Encoding a Content-Length goes too
/// (RFC 9112, section 6.3): hyper frames the message by its body.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| token.parse().ok())
            .filter(|name| name != HOST)
            .collect();
        for name in nominated {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if headers.remove(TRANSFER_ENCODING).is_some() {
        headers.remove(CONTENT_LENGTH);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        TE,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
}

/// Adds this proxy to Via (RFC 9110, section 7.6.3).
pub fn add_via(headers: &mut HeaderMap) {
    append_to_list(headers, VIA, VIA_1_1);
}

/// Adds a member at the end of a list field, which becomes a single line.
pub fn append_to_list(headers: &mut HeaderMap, name: HeaderName, member: HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(member);
        }
        Entry::Occupied(mut entry) => {
            let mut line = Vec::new();
            for value in entry.iter().chain([&member]) {
                if !line.is_empty() {
                    line.extend_from_slice(b", ");
                }
                line.extend_from_slice(value.as_bytes());
            }
            // Joining valid values with a comma gives a valid value.
            if let Ok(line) = HeaderValue::from_bytes(&line) {
                entry.insert(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn nominated_and_known_hop_by_hop_fields_go() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other, host"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("host", "example.com"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "x"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "example.com"), ("accept", "*/*")]));
    }

    #[test]
    fn a_content_length_alone_stays() {
        let mut headers = map(&[("content-length", "5")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("content-length", "5")]));
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
        for http in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.2"] {
            assert_eq!(
                upgrade(&map(&[("connection", "upgrade"), ("upgrade", http)])),
                None,
                "{http}"
            );
        }
    }

    #[test]
    fn via_keeps_what_was_there() {
        let mut headers = map(&[("via", "1.0 a"), ("via", "1.1 b")]);
        add_via(&mut headers);
        assert_eq!(headers, map(&[("via", "1.0 a, 1.1 b, 1.1 loadbalancer")]));
    }
}
