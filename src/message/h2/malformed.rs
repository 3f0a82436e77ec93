//! What makes a request, or trailers of anybody, malformed (RFC 9113, section 8.1.1) and is not refused by the h2 crate.

use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri};
use thiserror::Error;

use crate::message::Head;

/// Why a request is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A value begins or ends with white space (section 8.2.1).
    #[error("a field begins or ends with white space")]
    Space,
    /// Content-Length is no number (section 8.1.1).
    #[error("the length is no number")]
    Length,
    /// There is neither `:authority` nor Host (section 8.3.1).
    #[error("the host is missing")]
    Host,
    /// `:scheme` is not one that is served here.
    #[error("the scheme is not http or https")]
    Scheme,
    /// `:path` does not begin with a slash, is missing, or has characters that no URI has (section 8.3.1).
    #[error("the path is missing or none")]
    Path,
}

/// Looks at a request as the h2 crate gives it.
///
/// # Errors
/// It is malformed: its stream should be reset with PROTOCOL_ERROR.
pub fn check(head: &Head) -> Result<(), Malformed> {
    if has_space(&head.headers) {
        return Err(Malformed::Space);
    }
    if head.content_length().is_err() {
        return Err(Malformed::Length);
    }
    let uri = &head.uri;
    if uri.authority().is_none() && !head.headers.contains_key(HOST) {
        return Err(Malformed::Host);
    }
    match uri.scheme() {
        Some(scheme) if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS => {
            Err(Malformed::Scheme)
        }
        None if uri.authority().is_some() => Ok(()), // CONNECT, which has no path
        _ if has_path(uri, &head.method) => Ok(()),
        _ => Err(Malformed::Path),
    }
}

/// Whether the value of a field, of a head or among trailers, begins or ends with white space, which the h2 crate passes on.
pub fn has_space(fields: &HeaderMap) -> bool {
    let is_space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let mut values = fields.values().map(HeaderValue::as_bytes);
    values.any(|value| is_space(value.first()) || is_space(value.last()))
}

fn has_path(uri: &Uri, method: &Method) -> bool {
    // Without a scheme a missing path looks like a slash.
    let is_there = || uri.clone().into_parts().path_and_query.is_some();
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    path.is_ascii()
        && (path.starts_with('/') || (path == "*" && *method == Method::OPTIONS))
        && (uri.scheme().is_some() || is_there())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::uri;

    use super::*;

    fn head(method: &str, parts: uri::Parts, fields: &[(&str, &str)]) -> Head {
        let mut request = Request::builder().method(method);
        request = request.uri(Uri::from_parts(parts).unwrap());
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Head::from(request.body(()).unwrap().into_parts().0)
    }

    fn target(scheme: Option<&str>, authority: Option<&str>, path: Option<&str>) -> uri::Parts {
        let mut parts = uri::Parts::default();
        parts.scheme = scheme.map(|it| it.parse().unwrap());
        parts.authority = authority.map(|it| it.parse().unwrap());
        parts.path_and_query = path.map(|it| it.parse().unwrap());
        parts
    }

    #[test]
    fn requests_as_they_should_be_pass() {
        let usual = || target(Some("https"), Some("a"), Some("/x?y"));
        let length = [("content-length", "5"), ("x-empty", "")];
        assert_eq!(check(&head("GET", usual(), &length)), Ok(()));
        let any = target(Some("http"), Some("a"), Some("*"));
        assert_eq!(check(&head("OPTIONS", any, &[])), Ok(()));
        let hosted = target(None, None, Some("/"));
        assert_eq!(check(&head("GET", hosted, &[("host", "a")])), Ok(()));
        let tunnel = target(None, Some("a:443"), None);
        assert_eq!(check(&head("CONNECT", tunnel, &[])), Ok(()));
    }

    #[test]
    fn space_is_around_a_value_or_in_it() {
        for (value, expected) in [
            ("", false),
            ("a b\tc", false),
            (" ", true),
            ("\t", true),
            (" a", true),
            ("a ", true),
            ("\ta", true),
            ("a\t", true),
        ] {
            let name = |name: &'static str| http::HeaderName::from_static(name);
            let value = HeaderValue::from_static(value);
            let fields = [
                (name("x"), HeaderValue::from_static("y")),
                (name("z"), value),
            ];
            let fields = HeaderMap::from_iter(fields);
            assert_eq!(has_space(&fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_found() {
        let usual = || target(Some("https"), Some("a"), Some("/x?y"));
        for (method, parts, field, error) in [
            ("GET", usual(), ("x", " a"), Malformed::Space),
            ("GET", usual(), ("x", "a\t"), Malformed::Space),
            ("GET", usual(), ("content-length", ""), Malformed::Length),
            (
                "GET",
                target(None, None, Some("/")),
                ("x", "a"),
                Malformed::Host,
            ),
            (
                "GET",
                target(None, None, None),
                ("host", "a"),
                Malformed::Path,
            ),
            (
                "GET",
                target(Some("ftp"), Some("a"), Some("/")),
                ("x", "a"),
                Malformed::Scheme,
            ),
            (
                "GET",
                target(Some("http"), Some("a"), Some("*")),
                ("x", "a"),
                Malformed::Path,
            ),
            (
                "GET",
                target(Some("http"), Some("a"), Some("/é")),
                ("x", "a"),
                Malformed::Path,
            ),
        ] {
            let head = head(method, parts, &[field]);
            assert_eq!(check(&head), Err(error), "{} {field:?}", head.uri);
        }
    }
}
