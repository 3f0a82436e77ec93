//! A request's target and its forms (RFC 9112, section 3.2).

use bytes::Bytes;
use http::uri::{InvalidUriParts, PathAndQuery, Scheme};
use http::{Method, Uri};
use thiserror::Error;

/// Why a text is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidTarget {
    /// Characters that no URI has.
    #[error("the target has characters that a URI has to escape, or is no URI")]
    Characters,
    /// `#` and what follows.
    #[error("the target has a fragment")]
    Fragment,
    /// A form that is for other methods.
    #[error("the target is not in a form for this method")]
    Form,
    /// A scheme besides http and https.
    #[error("the target has a scheme that is not served here")]
    Scheme,
    /// A user's name in front of the host (RFC 9110, section 4.2.4).
    #[error("the target names a user")]
    User,
}

/// Reads a target: in origin or absolute form, `*` for OPTIONS, host and port for CONNECT.
///
/// An absolute OPTIONS target without path and query becomes `*` at that host (RFC 9112, section 3.2.4). Whether the host
/// is one is not looked at here.
///
/// # Errors
/// It is none of these.
pub fn read(method: &Method, text: Bytes) -> Result<Uri, InvalidTarget> {
    // Both at once, and without branches: many bytes at a time.
    let (fragment, high) = text.iter().fold((false, 0), |(fragment, high), b| {
        (fragment | (*b == b'#'), high | (b & 0x80))
    });
    if fragment {
        return Err(InvalidTarget::Fragment);
    }
    if high != 0 {
        return Err(InvalidTarget::Characters);
    }
    if text.starts_with(b"/") {
        return Uri::from_maybe_shared(text).map_err(|_| InvalidTarget::Characters);
    }
    read_other_form(method, text)
}

fn read_other_form(method: &Method, text: Bytes) -> Result<Uri, InvalidTarget> {
    let uri = Uri::from_maybe_shared(text.clone()).map_err(|_| InvalidTarget::Characters)?;
    let options = *method == Method::OPTIONS;
    let Some(scheme) = uri.scheme() else {
        return match uri.authority() {
            None if options => Ok(uri),
            Some(_) if *method == Method::CONNECT => Ok(uri),
            _ => Err(InvalidTarget::Form),
        };
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(InvalidTarget::Scheme);
    }
    let authority = uri.authority().ok_or(InvalidTarget::Form)?.as_str();
    if authority.contains('@') {
        return Err(InvalidTarget::User);
    }
    let behind_scheme = scheme.as_str().len() + "://".len();
    if options && text.len() == behind_scheme + authority.len() {
        return whole_server(uri).map_err(|_| InvalidTarget::Form);
    }
    Ok(uri)
}

/// `*` at a target's host.
fn whole_server(uri: Uri) -> Result<Uri, InvalidUriParts> {
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(
        method: &str,
        text: &'static [u8],
    ) -> Result<(Option<String>, String), InvalidTarget> {
        let uri = read(&method.parse().unwrap(), Bytes::from_static(text))?;
        let authority = uri.authority().map(ToString::to_string);
        let path = uri.path_and_query().map(ToString::to_string);
        Ok((authority, path.unwrap_or_default()))
    }

    #[test]
    fn each_form_is_read() {
        let cases: &[(&str, &[u8], Option<&str>, &str)] = &[
            ("GET", b"/", None, "/"),
            ("GET", b"/a?b=/?#"[..7].as_ref(), None, "/a?b=/?"),
            ("GET", b"//a//b", None, "//a//b"),
            (
                "GET",
                b"http://a.example:81/x?y",
                Some("a.example:81"),
                "/x?y",
            ),
            ("GET", b"HTTPS://a.example", Some("a.example"), "/"),
            ("GET", b"http://a.example?q", Some("a.example"), "/?q"),
            ("OPTIONS", b"*", None, "*"),
            ("OPTIONS", b"/x", None, "/x"),
            ("OPTIONS", b"http://a.example:81", Some("a.example:81"), "*"),
            ("OPTIONS", b"http://a.example/", Some("a.example"), "/"),
            ("CONNECT", b"a.example:443", Some("a.example:443"), ""),
        ];
        for (method, text, authority, path) in cases {
            let expected = Ok((authority.map(str::to_owned), (*path).to_owned()));
            assert_eq!(read_as(method, text), expected, "{method} {text:?}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        use InvalidTarget::{Characters, Form, Fragment, Scheme, User};
        let cases: &[(&str, &[u8], InvalidTarget)] = &[
            ("GET", b"/a#b", Fragment),
            ("GET", b"/a?b#", Fragment),
            ("GET", b"http://a#b", Fragment),
            ("GET", b"/\xc3\xa9", Characters),
            ("GET", b"/?\xff", Characters),
            ("GET", b"/a<b", Characters),
            ("GET", b"/\x7f", Characters),
            ("GET", b"*", Form),
            ("GET", b"a.example", Form),
            ("GET", b"a.example:80", Form),
            ("OPTIONS", b"a.example:80", Form),
            ("POST", b"x", Form),
            ("GET", b"?q", Characters),
            ("GET", b"http:/a", Characters),
            ("GET", b"http:///a", Characters),
            ("GET", b"ftp://a/", Scheme),
            ("GET", b"ws://a/", Scheme),
            ("GET", b"http://user@a/", User),
            ("GET", b"http://user:secret@a/", User),
            ("OPTIONS", b"http://user@a", User),
        ];
        for (method, text, error) in cases {
            assert_eq!(read_as(method, text), Err(*error), "{method} {text:?}");
        }
    }
}
