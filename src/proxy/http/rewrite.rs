//! Turning a client's request into the proxy's own.

use std::rc::Rc;
use std::time::Duration;

use http::header::{COOKIE, HOST, HeaderName, HeaderValue, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use tokio::time::Instant;

use super::client::Client;
use super::interim::Interim;
use super::request_id::X_REQUEST_ID;
use crate::message::h1::RequestHead;
use crate::message::headers::{self, Trailers};
use crate::message::{Field, Head};
use crate::message::{Upload, cookie};
use crate::proxy::policy::Target;
use crate::proxy::view::View;
use crate::upstream::connection::Sending;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A client's request, to be written as the proxy's own for one server or another.
#[derive(Debug)]
pub struct Rewrite<'a> {
    /// Who sent it.
    pub client: &'a Client,
    /// The configuration that it began under.
    pub view: &'a View,
    /// X-Request-Id.
    pub id: &'a HeaderValue,
    /// Its head, as the client sent it.
    pub head: &'a Head,
    /// Its body, if it has one.
    pub upload: Option<&'a Rc<Upload>>,
    /// What its route says.
    pub target: &'a Target,
    /// The cookie that is for the load balancer alone.
    pub own_cookie: Option<&'a str>,
    /// Whether a copy of it is to be sent once its body is there.
    pub is_mirrored: bool,
    /// The protocol that it asks to switch to.
    pub upgrade: Option<HeaderValue>,
    /// Where answers before the answer go; `None` if nobody wants them.
    pub interim: Option<&'a Interim<'a>>,
}

impl Rewrite<'_> {
    /// Writes the head for a server whose own name is `server` (RFC 9110, section 7.6; RFC 9112, section 3.2.1).
    pub fn write(&self, out: &mut Vec<u8>, server: &HeaderValue) {
        let Self {
            client,
            head: received,
            target: policy,
            own_cookie,
            upgrade,
            ..
        } = self;
        let fields = &received.headers;
        let hop = &client.hop;
        let target = target(&received.uri, policy.strip_prefix.as_deref());
        let mut head = RequestHead::begin(out, &received.method, target);

        let asked = fields.get(HOST);
        let host = asked.filter(|_| policy.preserve_host).unwrap_or(server);
        head.field(&HOST, host);
        let nominated = self.head.nominated();
        let named = client.identity.is_some();
        let is_set = |name: &HeaderName| policy.set_headers.iter().any(|(set, _)| set == name);
        let is_replaced = |name: &HeaderName| {
            hop.replaces(name)
                || nominated.contains(name)
                || (named && headers::is_identity(name.as_str()))
                || (own_cookie.is_some() && *name == COOKIE)
                || policy
                    .set_headers
                    .iter()
                    .any(|(set, _)| headers::may_be_taken_for(name, set))
        };
        for (name, value) in fields {
            if passes(name) && !is_replaced(name) {
                head.field(name, value);
            }
        }
        for (name, value) in &policy.set_headers {
            head.field(name, value);
        }
        if let Some(own) = own_cookie
            && !nominated.contains(&COOKIE)
            && !is_set(&COOKIE)
        {
            let lines = received.lines(Field::Cookie);
            for rest in lines.filter_map(|line| cookie::without(line, own)) {
                head.parts(COOKIE.as_str(), &[&rest]);
            }
        }
        if let Some(protocol) = upgrade {
            head.parts("connection", &[b"upgrade"]);
            head.field(&UPGRADE, protocol);
        } else if received.takes_trailers() {
            head.parts("connection", &[b"te"]);
            head.parts("te", &[b"trailers"]);
        }
        match self.upload {
            Some(upload) => match upload.announced() {
                Some(length) => head.length(length),
                None => head.parts("transfer-encoding", &[b"chunked"]),
            },
            None if received.has(Field::ContentLength) || means_content(&received.method) => {
                head.length(0);
            }
            None => {}
        }
        hop.write(&mut head, fields, asked, is_set);
        if !is_set(&VIA) {
            let via = received.lines(Field::Via);
            let own = headers::own_via(received.version);
            head.list("via", via, &[own.as_bytes()]);
        }
        if let Some(identity) = &client.identity {
            let fields = identity.fields().iter().filter(|(name, _)| !is_set(name));
            for (name, value) in fields {
                head.field(name, value);
            }
        }
        if !is_set(&X_REQUEST_ID) {
            head.field(&X_REQUEST_ID, self.id);
        }
        head.end();
    }

    /// The request's body, to be sent behind the head.
    pub fn body(&self) -> Option<Sending> {
        let upload = self.upload?;
        let chunked = upload.announced().is_none();
        Some(Sending {
            upload: Rc::clone(upload),
            chunked,
            trailers: match chunked {
                true if upload.has_free_trailers() => Trailers::Any,
                true => Trailers::Named(self.trailers()),
                false => Trailers::NONE,
            },
        })
    }

    /// The trailers that the client announced and did not nominate in Connection.
    fn trailers(&self) -> Vec<HeaderName> {
        let mut trailers = self.head.announced_trailers();
        if !trailers.is_empty() {
            let nominated = self.head.nominated();
            trailers.retain(|name| !nominated.contains(name));
        }
        trailers
    }
}

/// Whether a client's field is one that may be passed on as it is. The client is told to continue by us, when a server's
/// connection begins to take the body; the others are written anew.
fn passes(name: &HeaderName) -> bool {
    let written = matches!(
        name.as_str(),
        "content-length" | "expect" | "host" | "via" | "x-request-id"
    );
    !written && !headers::is_hop_by_hop(name) && !headers::is_forged(name)
}

/// When the client of a request that came at `started` has no use for an answer any more, by its own word
/// (`grpc-timeout`).
pub fn grpc_deadline(head: &Head, started: Instant) -> Option<Instant> {
    if head.version != Version::HTTP_2 {
        return None; // gRPC has no other
    }
    // Most requests have no body, and are told from gRPC's by a look that costs less than that for an odd name.
    if !head.has(Field::ContentType) {
        return None;
    }
    let said = head.headers.get(GRPC_TIMEOUT)?;
    Some(started + grpc_timeout(said.as_bytes())?)
}

/// A time as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    let is_number = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether an empty body should be announced (RFC 9110, section 8.6).
fn means_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// The target in origin form without the prefix, in two parts.
fn target<'a>(uri: &'a Uri, prefix: Option<&str>) -> [&'a str; 2] {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = prefix
        .map(|prefix| prefix.trim_end_matches('/'))
        .and_then(|prefix| target.strip_prefix(prefix))
        .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        .unwrap_or(target);
    match rest {
        "*" => ["", "*"],
        _ if rest.starts_with('/') => ["", rest],
        _ => ["/", rest],
    }
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
            ("http://a.example?q=1", None, "/?q=1"),
            ("*", None, "*"),
        ];
        for (uri, prefix, expected) in cases {
            assert_eq!(
                target(&uri.parse().unwrap(), prefix).concat(),
                expected,
                "{uri} {prefix:?}"
            );
        }
    }

    #[test]
    fn a_timeout_of_grpc_is_digits_and_a_unit() {
        let millis = |text: &str| grpc_timeout(text.as_bytes()).map(|time| time.as_millis());
        let cases = [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3000),
            ("99999999m", 99_999_999),
            ("5000u", 5),
            ("7000000n", 7),
        ];
        for (text, expected) in cases {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1 S", "123456789S", "1SS"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
