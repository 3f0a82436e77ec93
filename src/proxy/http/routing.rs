//! Which route a request takes, and the path that its server gets.
//!
//! Routes see the path in its normal form, whoever spells it how. The server gets it as it was sent, unless the listener's
//! `normalize_path` says otherwise, or that would let a client around a rule: a server may read a path literally, and
//! if another route is for that path, the path that this route was found by is the one to be sent. So it is if a prefix is
//! stripped, and where careful readers differ about what the normal form is.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::Uri;
use http::header::{HOST, HeaderMap};

use super::error::ProxyError;
use crate::message::Head;
use crate::proxy::snapshot::{Action, ListenerEntry, RouteEntry};
use crate::route::normal_path;

/// Finds a request's route, and makes its target's path the one to be sent.
///
/// # Errors
/// The path has no normal form, or no route matches.
pub fn find(listener: &ListenerEntry, head: &mut Head) -> Result<Arc<RouteEntry>, ProxyError> {
    let normal = normal_path(head.uri.path())?;
    let route = look_up(listener, head, &normal.path).ok_or(ProxyError::NoRoute)?;
    let route = Arc::clone(route);
    if let Cow::Owned(path) = normal.path {
        let as_sent = !normal.disputed
            && !listener.normalize_path
            && !strips_prefix(&route)
            && look_up(listener, head, head.uri.path()).is_some_and(|it| Arc::ptr_eq(it, &route));
        if !as_sent {
            head.set_uri(with_path(&head.uri, path)?);
        }
    }
    Ok(route)
}

fn look_up<'l>(
    listener: &'l ListenerEntry,
    head: &Head,
    path: &str,
) -> Option<&'l Arc<RouteEntry>> {
    let address = OnceCell::new();
    let host = || {
        let host = host_of(&head.headers)?;
        match host.starts_with('[') {
            true => Some(address.get_or_init(|| normal_address(host)).as_str()),
            false => Some(host),
        }
    };
    let routes = &listener.routes;
    routes.find(host, path, &head.method, &head.headers)
}

/// The Host field without its port.
pub fn host_of(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    match host.rfind(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some(colon) if !host[colon..].contains(']') => Some(&host[..colon]),
        _ => Some(host),
    }
}

/// An IPv6 address in brackets as the configuration has it: it too can be spelled in many ways.
fn normal_address(host: &str) -> String {
    let address = host.trim_matches(['[', ']']).parse::<Ipv6Addr>();
    address.map_or_else(|_| host.to_owned(), |address| format!("[{address}]"))
}

fn strips_prefix(route: &RouteEntry) -> bool {
    match &route.action {
        Action::Forward(forward) => forward.strips_prefix(),
        Action::Redirect { .. } | Action::Respond { .. } => false,
    }
}

/// A target with another path.
fn with_path(uri: &Uri, mut path: String) -> Result<Uri, ProxyError> {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    let invalid = ProxyError::BadRequest("the target is invalid");
    let Ok(path) = path.try_into() else {
        return Err(invalid);
    };
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| invalid)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_host_is_found_without_its_port() {
        let cases = [
            ("Example.com:8080", "Example.com"),
            ("example.com:", "example.com"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
        ];
        for (field, host) in cases {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(field))]);
            assert_eq!(host_of(&headers), Some(host));
        }
        assert_eq!(host_of(&HeaderMap::new()), None);
    }

    #[test]
    fn an_address_has_one_spelling() {
        assert_eq!(normal_address("[2001:DB8:0::0:1]"), "[2001:db8::1]");
    }

    #[test]
    fn a_path_is_replaced_and_nothing_else() {
        let replaced = |uri: &str| {
            let uri = with_path(&uri.parse().unwrap(), "/x".to_owned());
            uri.unwrap().to_string()
        };
        assert_eq!(replaced("/a/../x?b=/../c"), "/x?b=/../c");
        assert_eq!(replaced("http://a.example:81//x"), "http://a.example:81/x");
    }
}
