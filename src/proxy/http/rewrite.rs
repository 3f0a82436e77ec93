//! Turning a client's request into the proxy's own, and what `consistent_hash` sees of it.

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Uri, Version};
use xxhash_rust::xxh3::xxh3_64;

use super::error::ProxyError;
use super::exchange::Exchange;
use super::request_id::X_REQUEST_ID;
use crate::message::headers;
use crate::proxy::snapshot::{Forward, HashKey};

/// Turns the client's request into the proxy's own (RFC 9110, section 7.6; RFC 9112, section 3.2.1).
pub fn rewrite(
    exchange: &Exchange,
    policy: &Forward,
    head: &mut Parts,
    upgrade: Option<&HeaderValue>,
) -> Result<(), ProxyError> {
    head.uri = target(&head.uri, policy.strip_prefix.as_deref())?;
    head.version = Version::HTTP_11;
    head.extensions.clear();

    let fields = &mut head.headers;
    let trailers = headers::takes_trailers(fields);
    headers::strip_hop_by_hop(fields);
    if let Some(protocol) = upgrade {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, protocol.clone());
    } else if trailers {
        fields.insert(CONNECTION, HeaderValue::from_static("te"));
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    if exchange
        .upload
        .as_ref()
        .is_some_and(|upload| upload.announced().is_none())
    {
        // hyper takes a body of unknown length for none with methods that usually have none, unless told.
        fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // The client is told to continue by us, when a server's connection begins to take the body.
    fields.remove(EXPECT);
    let host = fields.get(HOST).cloned();
    exchange.client.hop.set(fields, host.as_ref());
    headers::add_via(fields);
    fields.insert(X_REQUEST_ID, exchange.id.clone());
    Ok(())
}

/// The target in origin form, without the prefix.
fn target(uri: &Uri, prefix: Option<&str>) -> Result<Uri, ProxyError> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = prefix
        .map(|prefix| prefix.trim_end_matches('/'))
        .and_then(|prefix| target.strip_prefix(prefix));
    let stripped = match rest {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) if rest.is_empty() || rest.starts_with('?') => format!("/{rest}"),
        _ if uri.authority().is_none() => return Ok(uri.clone()),
        _ => target.to_owned(),
    };
    let target = PathAndQuery::try_from(stripped)
        .map_err(|_| ProxyError::BadRequest("the target is invalid"))?;
    Ok(Uri::from(target))
}

/// The hash that `consistent_hash` chooses by; the same in every process. A request without the header or cookie is
/// hashed by its client's address: all of them on one server would be the worst.
pub fn hash_of(key: &HashKey, client: IpAddr, head: &Parts) -> u64 {
    let value = match key {
        HashKey::ClientIp => None,
        HashKey::Header(name) => head.headers.get(name).map(HeaderValue::as_bytes),
        HashKey::Cookie(name) => cookie(&head.headers, name).map(str::as_bytes),
        HashKey::Path => Some(head.uri.path().as_bytes()),
    };
    match (value, client) {
        (Some(value), _) => xxh3_64(value),
        (None, IpAddr::V4(v4)) => xxh3_64(&v4.octets()),
        (None, IpAddr::V6(v6)) => xxh3_64(&v6.octets()),
    }
}

fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lines = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|line| line.to_str().ok());
    let mut pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_removed_at_a_segment_boundary_only() {
        let cases = [
            ("/v1/x?q=1", Some("/v1"), "/x?q=1"),
            ("/v1", Some("/v1"), "/"),
            ("/v1?q=1", Some("/v1/"), "/?q=1"),
            ("/v1/", Some("/v1"), "/"),
            ("/v10/x", Some("/v1"), "/v10/x"),
            ("/x", None, "/x"),
            ("http://a.example/v1/x", Some("/v1"), "/x"),
            ("http://a.example", None, "/"),
        ];
        for (uri, prefix, expected) in cases {
            assert_eq!(
                target(&uri.parse().unwrap(), prefix).unwrap().to_string(),
                expected,
                "{uri} {prefix:?}"
            );
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers =
            HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("a=1; session=x=y; b=2"))]);
        assert_eq!(cookie(&headers, "session"), Some("x=y"));
        assert_eq!(cookie(&headers, "sess"), None);
    }
}
