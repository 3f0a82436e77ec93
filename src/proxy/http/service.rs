//! A request's way, from its headers to its answer, in visible steps.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{
    ALLOW, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, MAX_FORWARDS,
    STRICT_TRANSPORT_SECURITY,
};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Uri, Version};

use super::client::Client;
use super::download::ResponseBody;
use super::error::{Form, METHODS, ProxyError};
use super::exchange::Exchange;
use super::forward;
use super::interim::Interim;
use super::reply::Reply;
use super::request_id::X_REQUEST_ID;
use super::routing::{self, host_of};
use super::tunnel::{ServerSide, Tunnel};
use crate::limit;
use crate::message::Head;
use crate::message::{Upload, UploadError, host};
use crate::proxy::snapshot::{Action, LimitKey, RedirectTarget, RouteEntry};

/// Answers a request. If that switches protocols, there is also what the connection becomes. The client gets interim
/// answers of servers as they come, if it knows such.
pub async fn serve(
    client: &Rc<Client>,
    head: &mut Head,
    upload: Option<Rc<Upload>>,
    interim: Option<&Interim<'_>>,
) -> (Reply, Option<Box<Tunnel>>) {
    let mut exchange = Exchange::open(client, head, upload);
    let (mut reply, server) = match handle(client, &mut exchange, head, interim).await {
        Ok(Answered::Reply(reply)) => (reply, None),
        Ok(Answered::Switched(reply, server)) => (reply, Some(server)),
        Err(error) => {
            exchange.error = error.code();
            // What gRPC calls 200 is none to whoever looks at logs and metrics.
            exchange.status = error.status().as_u16();
            let form = Form::of(&head.headers);
            (error.into_reply(form, &exchange.id), None)
        }
    };
    if exchange.error.is_empty() {
        exchange.status = reply.status.as_u16();
    }
    // A stream of HTTP/2 adds it as its own kind of field.
    if head.version != Version::HTTP_2 {
        let id = exchange.id.as_bytes();
        reply.fields.add(X_REQUEST_ID.as_str(), id);
    }
    let hsts = exchange
        .route
        .as_ref()
        .and_then(|route| route.hsts.as_ref());
    if let Some(hsts) = hsts
        && client.hop.is_encrypted()
    {
        let name = STRICT_TRANSPORT_SECURITY.as_str();
        reply.fields.remove(name);
        reply.fields.add(name, hsts.as_bytes());
    }
    match server {
        Some(server) => {
            exchange.release_upload(); // it holds the client's connection, which becomes the tunnel's
            (reply, Some(Box::new(Tunnel { server, exchange })))
        }
        None => {
            let to_head = head.method == Method::HEAD;
            reply.body.attach(exchange, to_head);
            (reply, None)
        }
    }
}

/// What a request comes to.
pub enum Answered {
    /// An answer, ours or a server's.
    Reply(Reply),
    /// The server's 101: the exchange goes on in a tunnel.
    Switched(Reply, Box<ServerSide>),
}

async fn handle(
    client: &Rc<Client>,
    exchange: &mut Exchange,
    head: &mut Head,
    interim: Option<&Interim<'_>>,
) -> Result<Answered, ProxyError> {
    check_method(&head.method)?;
    settle_host(head)?;
    if head.expects_more() {
        return Err(ProxyError::Expectation);
    }

    let route = routing::find(exchange.listener(), head)?;
    exchange.route = Some(Arc::clone(&route));
    if let Some(access) = &route.access
        && !access.admits(exchange.address, client.local.worker)
    {
        return Err(ProxyError::Forbidden);
    }

    let limit_headers = admit(client, exchange, &route, &head.headers).await?;
    bound_body(exchange, &route)?;

    let mut answer = match &route.action {
        Action::Forward(forward) => match counts_off_last_hop(head) {
            false => forward::forward(exchange, forward, head, interim).await?,
            true => Answered::Reply(
                Reply::new(StatusCode::OK, ResponseBody::empty()).with(&ALLOW, METHODS.as_bytes()),
            ),
        },
        Action::Redirect { status, to } => Answered::Reply(redirect(
            client.hop.scheme(),
            *status,
            to,
            host_of(&head.headers),
            &head.uri,
        )?),
        Action::Respond { status, body } => Answered::Reply(
            Reply::new(*status, ResponseBody::full(body.clone()))
                .with(&CONTENT_TYPE, b"text/plain; charset=utf-8"),
        ),
    };
    if let (Some(fields), Answered::Reply(reply)) = (limit_headers, &mut answer) {
        reply.replace(&fields);
    }
    Ok(answer)
}

/// CONNECT would make this an open relay, TRACE would show a client what proxies add to its requests.
fn check_method(method: &Method) -> Result<(), ProxyError> {
    match method.as_str() {
        "GET" | "POST" => Ok(()),
        // A server may not tell upper case from lower.
        name if ["CONNECT", "TRACE"]
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name)) =>
        {
            Err(ProxyError::Method)
        }
        _ => Ok(()),
    }
}

/// Counts a hop off Max-Forwards of OPTIONS, and tells whether this was the last (RFC 9110, section 7.6.2). Of what is no
/// number nothing can be counted off.
fn counts_off_last_hop(head: &mut Head) -> bool {
    if head.method != Method::OPTIONS {
        return false;
    }
    head.edit(|it| it.headers.get_mut(MAX_FORWARDS).is_some_and(is_last_hop))
}

/// Counts a hop off, and tells whether there was none left.
fn is_last_hop(value: &mut HeaderValue) -> bool {
    let left = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match left.map(str::parse::<u64>) {
        Some(Ok(0)) => true,
        Some(Ok(left)) => {
            *value = HeaderValue::from(left - 1);
            false
        }
        _ => false,
    }
}

/// Makes Host say whom the request is for (RFC 9112, section 3.2): an absolute target wins over Host, HTTP/1.1 needs
/// exactly one Host, HTTP/1.0 may have none. In HTTP/2 Host is what the target says already (`http::stream`).
fn settle_host(head: &mut Head) -> Result<(), ProxyError> {
    let version = head.version;
    let authority = head.uri.authority().filter(|_| version != Version::HTTP_2);
    let authority = authority.map(Authority::as_str);
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (host, None) => host.map(HeaderValue::as_bytes),
        (_, Some(_)) => return Err(ProxyError::BadRequest("there are several Host fields")),
    };
    match host {
        None if version == Version::HTTP_11 => {
            return Err(ProxyError::BadRequest("the Host field is missing"));
        }
        // Who has nothing to say may say nothing, if the target does.
        Some(b"") if authority.is_some() => {}
        Some(host) if !host::is_valid(host) => {
            return Err(ProxyError::BadRequest("the Host field is invalid"));
        }
        _ => {}
    }
    if let Some(authority) = authority {
        let invalid = ProxyError::BadRequest("the target's host is invalid");
        match HeaderValue::from_str(authority) {
            Ok(value) if host::is_valid(authority.as_bytes()) => {
                head.set_host(value);
            }
            _ => return Err(invalid),
        }
    }
    Ok(())
}

/// Counts the request against its limit. Gives the fields that an admitted answer should carry.
async fn admit(
    client: &Client,
    exchange: &Exchange,
    route: &RouteEntry,
    headers: &HeaderMap,
) -> Result<Option<HeaderMap>, ProxyError> {
    let Some(index) = route.limit else {
        return Ok(None);
    };
    let entry = &exchange.view.snapshot.limits[index];
    let limiter = &exchange.view.limiters[index];
    let key = match &entry.key {
        LimitKey::ClientIp => limit::LimitKey::address(exchange.address),
        LimitKey::Header(name) => limit::LimitKey::bytes(only_value(headers, name)),
        LimitKey::Route => limit::LimitKey::ALL,
    };
    let now = exchange.started.into_std();
    let decision = match limiter.check_local(&key, now) {
        Some(decision) => decision,
        // Boxed: the way of most requests is short, and should not carry the room for long ones.
        None => Box::pin(limiter.check(&key, now)).await,
    };
    entry.count(client.local.worker, &decision);
    let fields = |always: bool| {
        always.then(|| {
            let mut fields = HeaderMap::new();
            entry.shared.headers().apply(&decision.verdict, &mut fields);
            fields
        })
    };
    if decision.verdict.is_allowed() {
        Ok(fields(entry.always))
    } else {
        let fields = fields(true).unwrap_or_default();
        Err(ProxyError::RateLimited(Box::new(fields)))
    }
}

/// A field's value; nothing if there are several, since nobody knows which of them a server goes by.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a [u8] {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes(),
        _ => b"",
    }
}

/// Refuses a body that says it is too large, and has one that turns out to be stopped on the way.
fn bound_body(exchange: &Exchange, route: &RouteEntry) -> Result<(), ProxyError> {
    if let (Some(max), Some(upload)) = (route.max_body, &exchange.upload) {
        upload.limit(max);
        if upload.announced().is_some_and(|length| length > max) {
            return Err(UploadError::TooLarge.into());
        }
    }
    Ok(())
}

fn redirect(
    scheme: &str,
    status: StatusCode,
    to: &RedirectTarget,
    host: Option<&str>,
    uri: &Uri,
) -> Result<Reply, ProxyError> {
    let location = match to {
        RedirectTarget::Location(location) => location.to_string(),
        RedirectTarget::Parts {
            scheme: new_scheme,
            host: new_host,
            port,
        } => {
            let scheme = new_scheme.as_deref().unwrap_or(scheme);
            let host = new_host.as_deref().or(host);
            let host = host.ok_or(ProxyError::BadRequest("a redirect needs a Host field"))?;
            let default_port = if scheme == "https" { 443 } else { 80 };
            let port = port
                .filter(|port| *port != default_port)
                .map_or(String::new(), |port| format!(":{port}"));
            let target = match uri.path_and_query().map(PathAndQuery::as_str) {
                None | Some("*") => "/",
                Some(target) => target,
            };
            format!("{scheme}://{host}{port}{target}")
        }
    };
    let location = HeaderValue::try_from(location)
        .map_err(|_| ProxyError::BadRequest("the target is invalid"))?;
    let reply = Reply::new(status, ResponseBody::empty());
    Ok(reply.with(&LOCATION, location.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(uri: &str, version: Version, hosts: &[&'static str]) -> Result<Option<String>, String> {
        let request = http::Request::builder().uri(uri).version(version);
        let request = hosts
            .iter()
            .fold(request, |it, host| it.header(HOST, *host));
        let mut head = Head::from(request.body(()).unwrap().into_parts().0);
        settle_host(&mut head).map_err(|error| error.to_string())?;
        let host = head.headers.get(HOST).map(|host| host.to_str().unwrap());
        Ok(host.map(str::to_owned))
    }

    #[test]
    fn a_target_wins_over_host() {
        let h11 = Version::HTTP_11;
        let said = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(host("/", h11, &["a.example:8080"]), said("a.example:8080"));
        let absolute = "http://a.example:81/x";
        assert_eq!(host(absolute, h11, &["b.example"]), said("a.example:81"));
        assert_eq!(host(absolute, h11, &[""]), said("a.example:81"));
        assert_eq!(host(absolute, Version::HTTP_10, &[]), said("a.example:81"));
        assert_eq!(host("/", Version::HTTP_10, &[]), Ok(None));
    }

    #[test]
    fn a_missing_second_or_invalid_host_is_refused() {
        let (h10, h11) = (Version::HTTP_10, Version::HTTP_11);
        let cases: &[(&str, Version, &[&'static str], &str)] = &[
            ("/", h11, &[], "the Host field is missing"),
            ("http://a/", h11, &[], "the Host field is missing"),
            ("/", h10, &["a", "b"], "there are several Host fields"),
            ("/", h11, &[""], "the Host field is invalid"),
            ("/", h10, &["a/b"], "the Host field is invalid"),
            ("http://a/", h11, &["a b"], "the Host field is invalid"),
            ("http://a..b/", h11, &["a"], "the target's host is invalid"),
        ];
        for (uri, version, hosts, error) in cases {
            assert_eq!(
                host(uri, *version, hosts),
                Err((*error).to_owned()),
                "{uri}"
            );
        }
    }

    #[test]
    fn hops_are_counted_off_options_only() {
        let counted = |method: &str, value: &'static str| {
            let request = http::Request::builder()
                .method(method)
                .header(MAX_FORWARDS, value);
            let mut head = Head::from(request.body(()).unwrap().into_parts().0);
            let last = counts_off_last_hop(&mut head);
            (
                last,
                head.headers[MAX_FORWARDS].to_str().unwrap().to_owned(),
            )
        };
        assert_eq!(counted("OPTIONS", "0"), (true, "0".to_owned()));
        assert_eq!(counted("OPTIONS", "1"), (false, "0".to_owned()));
        assert_eq!(counted("OPTIONS", "010"), (false, "9".to_owned()));
        assert_eq!(counted("GET", "0"), (false, "0".to_owned()));
        for odd in ["", "-1", "+1", "x", "99999999999999999999"] {
            assert_eq!(counted("OPTIONS", odd), (false, odd.to_owned()));
        }
    }
}
