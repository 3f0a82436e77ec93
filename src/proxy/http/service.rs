//! A request's way, from its headers to its answer, in visible steps.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, StatusCode, Uri, Version};

use super::connection::Client;
use super::download::ResponseBody;
use super::error::{ProxyError, wants_json};
use super::exchange::Exchange;
use super::forward;
use super::reply::Reply;
use super::request_id::X_REQUEST_ID;
use super::tunnel::{ServerSide, Tunnel};
use crate::limit;
use crate::message::{Upload, UploadError};
use crate::proxy::snapshot::{Action, LimitKey, RedirectTarget, RouteEntry};

/// Answers a request. If that switches protocols, there is also what the connection becomes.
pub async fn serve(
    client: &Rc<Client>,
    mut head: Parts,
    upload: Option<Rc<Upload>>,
) -> (Reply, Option<Box<Tunnel>>) {
    let mut exchange = Exchange::open(client, &head, upload);
    let (mut reply, server) = match handle(client, &mut exchange, &mut head).await {
        Ok(Answered::Reply(reply)) => (reply, None),
        Ok(Answered::Switched(reply, server)) => (reply, Some(server)),
        Err(error) => {
            exchange.error = error.code();
            let json = wants_json(&head.headers);
            (error.into_reply(json, &exchange.id), None)
        }
    };
    exchange.status = reply.status.as_u16();
    let id = exchange.id.as_bytes();
    reply.fields.add(X_REQUEST_ID.as_str(), id);
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
    head: &mut Parts,
) -> Result<Answered, ProxyError> {
    check_method(&head.method)?;
    settle_host(&head.uri, head.version, &mut head.headers)?;

    let routes = &client.listener().routes;
    let route = routes.find(
        || host_of(&head.headers),
        head.uri.path(),
        &head.method,
        &head.headers,
    );
    let route = Arc::clone(route.ok_or(ProxyError::NoRoute)?);
    exchange.route = Some(Arc::clone(&route));

    let limit_headers = admit(client, exchange, &route, &head.headers).await?;
    bound_body(exchange, &route)?;

    let mut answer = match &route.action {
        Action::Forward(forward) => forward::forward(exchange, forward, head).await?,
        Action::Redirect { status, to } => {
            Answered::Reply(redirect(*status, to, host_of(&head.headers), &head.uri)?)
        }
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
    match *method {
        Method::CONNECT | Method::TRACE => Err(ProxyError::Method),
        _ => Ok(()),
    }
}

/// Makes Host say whom the request is for (RFC 9112, section 3.2): an absolute target wins over Host, HTTP/1.1 needs
/// exactly one Host, HTTP/1.0 may have none.
fn settle_host(uri: &Uri, version: Version, headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.to_str().is_ok() => {}
        (Some(_), None) => return Err(ProxyError::BadRequest("the Host field is invalid")),
        (None, _) if version == Version::HTTP_10 => {}
        (None, _) => return Err(ProxyError::BadRequest("the Host field is missing")),
        (Some(_), Some(_)) => {
            return Err(ProxyError::BadRequest("there are several Host fields"));
        }
    }
    if let Some(authority) = uri.authority() {
        let authority = authority.as_str();
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let host = HeaderValue::from_str(host)
            .map_err(|_| ProxyError::BadRequest("the target's host is invalid"))?;
        headers.insert(HOST, host);
    }
    Ok(())
}

/// The Host field without its port.
fn host_of(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    match host.rfind(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some(colon) if !host[colon..].contains(']') => Some(&host[..colon]),
        _ => Some(host),
    }
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
    let entry = &client.local.snapshot.limits[index];
    let limiter = &client.local.limiters[index];
    let key = match &entry.key {
        LimitKey::ClientIp => limit::LimitKey::address(exchange.address),
        LimitKey::Header(name) => {
            limit::LimitKey::bytes(headers.get(name).map_or(b"", HeaderValue::as_bytes))
        }
        LimitKey::Route => limit::LimitKey::ALL,
    };
    let now = exchange.started.into_std();
    let decision = match limiter.check_local(&key, now) {
        Some(decision) => decision,
        // Boxed: the way of most requests is short, and should not carry the room for long ones.
        None => Box::pin(limiter.check(&key, now)).await,
    };
    let stats = entry.stats.shard(client.local.worker);
    if decision.degraded {
        stats.store_failures.increment();
    }
    let fields = |always: bool| {
        always.then(|| {
            let mut fields = HeaderMap::new();
            entry.shared.headers().apply(&decision.verdict, &mut fields);
            fields
        })
    };
    if decision.verdict.is_allowed() {
        stats.allowed.increment();
        Ok(fields(entry.always))
    } else {
        stats.denied.increment();
        let fields = fields(true).unwrap_or_default();
        Err(ProxyError::RateLimited(Box::new(fields)))
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
    status: StatusCode,
    to: &RedirectTarget,
    host: Option<&str>,
    uri: &Uri,
) -> Result<Reply, ProxyError> {
    let location = match to {
        RedirectTarget::Location(location) => location.to_string(),
        RedirectTarget::Parts {
            scheme,
            host: new_host,
            port,
        } => {
            let scheme = scheme.as_deref().unwrap_or("http");
            let host = new_host.as_deref().or(host);
            let host = host.ok_or(ProxyError::BadRequest("a redirect needs a Host field"))?;
            let default_port = if scheme == "https" { 443 } else { 80 };
            let port = port
                .filter(|port| *port != default_port)
                .map_or(String::new(), |port| format!(":{port}"));
            let target = uri.path_and_query().map_or("/", |target| target.as_str());
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
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        settle_host(&uri.parse().unwrap(), version, &mut headers)
            .map_err(|error| error.to_string())?;
        Ok(host_of(&headers).map(str::to_owned))
    }

    #[test]
    fn a_host_is_found_without_its_port() {
        let h11 = Version::HTTP_11;
        assert_eq!(
            host("/", h11, &["Example.com:8080"]),
            Ok(Some("Example.com".to_owned()))
        );
        assert_eq!(
            host("/", h11, &["[2001:db8::1]"]),
            Ok(Some("[2001:db8::1]".to_owned()))
        );
        assert_eq!(
            host("/", h11, &["[2001:db8::1]:80"]),
            Ok(Some("[2001:db8::1]".to_owned()))
        );
        assert_eq!(
            host("http://a.example:81/x", h11, &["b.example"]),
            Ok(Some("a.example".to_owned()))
        );
        assert_eq!(host("/", Version::HTTP_10, &[]), Ok(None));
    }

    #[test]
    fn a_missing_or_second_host_is_refused() {
        assert_eq!(
            host("/", Version::HTTP_11, &[]),
            Err("the Host field is missing".to_owned())
        );
        assert_eq!(
            host("/", Version::HTTP_10, &["a", "b"]),
            Err("there are several Host fields".to_owned())
        );
    }
}
