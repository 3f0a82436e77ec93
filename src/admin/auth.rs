//! Who may use the admin API.
//!
//! With a token: who has it. Without one the listener is a loopback address, or a Unix socket of the operator's own.
//! A loopback address can be reached by every web page that a browser on the same machine shows, in two ways that are
//! refused here: a name that resolves to the loopback address (DNS rebinding) shows in Host, and a request that a page of
//! another origin makes carries Origin, unless it only reads, and then the page cannot see the answer.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::error::ApiError;
use crate::config::types::Secret;

/// Who is let in.
#[derive(Debug)]
pub(super) enum Access {
    /// Who has the token; health can be asked for without.
    Token(Secret),
    /// Everybody on this machine, except web pages.
    Loopback,
    /// Everybody whom the file system lets connect to the socket.
    Socket,
}

/// Lets a request through or refuses it.
pub(super) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    access.check(request.method(), request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

impl Access {
    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        match self {
            Self::Token(token) => {
                let open = matches!(uri.path(), "/healthz" | "/readyz");
                if open || bearer(headers).is_some_and(|given| same(given, token)) {
                    Ok(())
                } else {
                    Err(ApiError::Unauthorized)
                }
            }
            Self::Loopback if !host_is_local(uri, headers) => Err(ApiError::Forbidden(
                "without a token Host must be an IP address or localhost",
            )),
            Self::Loopback if !method.is_safe() && headers.contains_key(ORIGIN) => {
                Err(ApiError::Forbidden(
                    "without a token a request with Origin may not change anything",
                ))
            }
            Self::Loopback | Self::Socket => Ok(()),
        }
    }
}

/// The token of an Authorization field (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// Compares in a time that tells nothing but the token's length.
fn same(given: &[u8], token: &Secret) -> bool {
    given.ct_eq(token.expose().as_bytes()).into()
}

/// Whether the request names this machine in a way that no name server decides.
fn host_is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    // An absolute target wins over Host (RFC 9112, 3.2.2).
    let from_field = || {
        headers
            .get(HOST)
            .and_then(|it| Authority::try_from(it.as_bytes()).ok())
    };
    let Some(authority) = uri.authority().cloned().or_else(from_field) else {
        return false;
    };
    let host = authority.host();
    let in_brackets = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        access: &Access,
        method: &Method,
        target: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<(), String> {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = fields.collect();
        let checked = access.check(method, &target.parse().unwrap(), &headers);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_needed_for_all_but_health() {
        let access = Access::Token(Secret::from("hush".to_owned()));
        let with = |value| {
            check(
                &access,
                &Method::GET,
                "/servers",
                &[("authorization", value)],
            )
        };
        assert!(with("Bearer hush").is_ok());
        assert!(
            with("bearer  hush").is_ok(),
            "the scheme's case does not matter"
        );
        for value in [
            "",
            "hush",
            "Bearer",
            "Bearer ",
            "Bearer hus",
            "Bearer hush2",
            "Basic hush",
            "Bearerxhush",
        ] {
            assert!(with(value).is_err(), "{value}");
        }
        let without = |target| check(&access, &Method::GET, target, &[("host", "lb.example")]);
        assert!(without("/healthz").is_ok());
        assert!(without("/readyz").is_ok());
        for target in [
            "/",
            "/servers",
            "/metrics",
            "/config",
            "/openapi.json",
            "/healthz/x",
            "//healthz",
        ] {
            assert!(without(target).is_err(), "{target}");
        }
    }

    #[test]
    fn without_a_token_a_name_that_could_be_rebound_is_refused() {
        let get = |target, host| check(&Access::Loopback, &Method::GET, target, &[("host", host)]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9901",
            "localhost:9901",
            "LocalHost",
            "[::1]:9901",
            "[::1]",
        ] {
            assert!(get("/servers", host).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[x]",
        ] {
            assert!(get("/servers", host).is_err(), "{host}");
            assert!(get("/healthz", host).is_err(), "{host}");
        }
        assert!(get("http://evil.example/servers", "localhost").is_err());
        assert!(get("http://localhost/servers", "evil.example").is_ok());
        assert!(check(&Access::Loopback, &Method::GET, "/servers", &[]).is_err());
    }

    #[test]
    fn without_a_token_a_page_of_another_origin_changes_nothing() {
        let with = |method| {
            let fields = [("host", "localhost:9901"), ("origin", "null")];
            check(&Access::Loopback, &method, "/servers", &fields)
        };
        for method in [Method::POST, Method::PATCH, Method::DELETE] {
            assert!(with(method).unwrap_err().contains("Origin"));
        }
        assert!(with(Method::GET).is_ok());
    }

    #[test]
    fn a_unix_socket_is_guarded_by_the_file_system() {
        let fields = [("host", "lb.example"), ("origin", "null")];
        assert!(check(&Access::Socket, &Method::POST, "/servers", &fields).is_ok());
    }
}
