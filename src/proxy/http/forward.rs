//! Finds a server that answers: picks, tries, and tries another one when that is safe.

use std::net::IpAddr;
use std::rc::Rc;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use xxhash_rust::xxh3::xxh3_64;

use super::attempt::{self, Attempt, Failure};
use super::download::ResponseBody;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::request_id::X_REQUEST_ID;
use super::service::Answer;
use super::tunnel::ServerSide;
use crate::balance::Pick;
use crate::message::{RequestBody, Upload, headers};
use crate::proxy::snapshot::{Forward, HashKey};
use crate::upstream::{Connection, LocalEndpoint, LocalUpstream};

/// `Retry-After` when nobody probes the servers.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Sends a request to a server of the route's upstream and gives its answer.
///
/// # Errors
/// No server is eligible, or the last one tried gave no answer.
pub async fn forward(
    exchange: &mut Exchange,
    policy: &Forward,
    mut head: Parts,
) -> Result<Answer, ProxyError> {
    let client = Rc::clone(&exchange.client);
    let local = &client.local;
    let upstream = &local.upstreams[policy.upstream];
    let hash = match &local.snapshot.upstreams[policy.upstream].hash {
        Some(key) => hash_of(key, exchange.address, &head),
        None => 0,
    };
    let upgrade = match head.version {
        Version::HTTP_11 => headers::upgrade(&head.headers),
        _ => None, // HTTP/1.0 has no such thing (RFC 9110, section 7.8)
    };
    rewrite(exchange, policy, &mut head, upgrade.as_ref())?;
    let request = Outgoing {
        upload: exchange.upload.clone(),
        policy,
        head,
        upgrade,
    };

    let stats = upstream.shared.stats.shard(local.worker);
    let mut tried: Vec<Rc<LocalEndpoint>> = Vec::new();
    let mut last = None;
    loop {
        let flight = {
            let rng = &mut *local.rng.borrow_mut();
            upstream.pick(
                &mut Pick {
                    rng,
                    now: exchange.started.into_std(),
                    hash,
                    retry: !tried.is_empty(),
                },
                &tried,
            )
        };
        let Some(flight) = flight else {
            return Err(last.unwrap_or_else(|| {
                stats.nobody.increment();
                no_server(upstream)
            }));
        };
        if !tried.is_empty() {
            exchange.retries += 1;
            stats.retries.increment();
        }
        let attempt = Attempt::new(flight, local.worker);
        let endpoint = Rc::clone(attempt.endpoint());
        exchange.tried = Some((Rc::clone(upstream), Rc::clone(&endpoint)));
        match request.try_on(upstream, attempt).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => {
                tracing::debug!(
                    server = endpoint.shared.id(),
                    request_id = ?exchange.id,
                    %failure,
                    "a server gave no answer"
                );
                let again = request.replayable(&failure) && tried.len() < policy.retries as usize;
                let error = failure.into_error();
                if !again {
                    return Err(error);
                }
                tried.push(endpoint);
                last = Some(error);
            }
        }
    }
}

fn no_server(upstream: &LocalUpstream) -> ProxyError {
    let health = upstream.shared.settings().health.as_ref();
    ProxyError::NoServer {
        retry_after: health.map_or(RETRY_AFTER, |(_, settings)| settings.interval),
    }
}

/// A request that is ready for any server.
struct Outgoing<'a> {
    policy: &'a Forward,
    head: Parts,
    upload: Option<Rc<Upload>>,
    upgrade: Option<HeaderValue>,
}

impl Outgoing<'_> {
    /// Tries one server. A pooled connection that turns out to be closed costs no try: a fresh one takes its place.
    async fn try_on(
        &self,
        upstream: &LocalUpstream,
        mut attempt: Attempt,
    ) -> Result<Answer, Failure> {
        let endpoint = Rc::clone(attempt.endpoint());
        let mut fresh = false;
        loop {
            let mut connection = upstream
                .connect(&endpoint, fresh)
                .await
                .map_err(Failure::Connect)?;
            let request = self.request_for(&endpoint);
            match attempt::send(
                &mut connection,
                request,
                self.upload.as_deref(),
                self.policy.timeout,
            )
            .await
            {
                Ok(response) if self.accepts(&response) => {
                    attempt.answered(response.status().as_u16());
                    return self.answer(upstream, connection, attempt, response).await;
                }
                Ok(_) => return Err(Failure::BadAnswer),
                Err(failure) if connection.reused() && self.replayable(&failure) => fresh = true,
                Err(failure) => return Err(failure),
            }
        }
    }

    fn request_for(&self, endpoint: &LocalEndpoint) -> Request<RequestBody> {
        let mut head = self.head.clone();
        if !self.policy.preserve_host || !head.headers.contains_key(HOST) {
            head.headers.insert(HOST, endpoint.shared.host().clone());
        }
        let body = match &self.upload {
            Some(upload) => RequestBody::Upload(Rc::clone(upload)),
            None => RequestBody::Empty,
        };
        Request::from_parts(head, body)
    }

    /// Whether the request may be sent again after this failure: never when part of its body is gone, always when the
    /// server cannot have seen it, otherwise only if doing it twice is like doing it once (RFC 9110, section 9.2.2).
    fn replayable(&self, failure: &Failure) -> bool {
        let body_begun = self.upload.as_ref().is_some_and(|upload| upload.begun());
        match failure {
            Failure::Connect(_) | Failure::Unsent => !body_begun,
            Failure::Reset => !body_begun && self.head.method.is_idempotent(),
            Failure::BadAnswer | Failure::Timeout | Failure::Upload(_) => false,
        }
    }

    /// Whether this can be an answer: framed in a way that can be undone, and a switch of protocols only if one was
    /// asked for.
    fn accepts(&self, response: &Response<Incoming>) -> bool {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let asked = self.upgrade.is_some() && headers::upgrade(response.headers()).is_some();
        headers::only_chunked(response.headers()) && (asked || !switches)
    }

    async fn answer(
        &self,
        upstream: &LocalUpstream,
        connection: Connection,
        attempt: Attempt,
        response: Response<Incoming>,
    ) -> Result<Answer, Failure> {
        let idle = upstream.shared.settings().idle;
        let (mut head, incoming) = response.into_parts();
        let switched_to = headers::upgrade(&head.headers);
        headers::strip_hop_by_hop(&mut head.headers);
        headers::add_via(&mut head.headers);
        head.version = Version::HTTP_11;
        head.extensions.clear();

        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.extend(switched_to.map(|to| (UPGRADE, to)));
            let (stream, early) = connection.into_stream().await.map_err(|_| Failure::Reset)?;
            let response = Response::from_parts(head, ResponseBody::empty());
            return Ok(Answer::Switched(
                response,
                ServerSide {
                    stream,
                    early,
                    attempt,
                    idle,
                },
            ));
        }

        let sent = self.upload.as_ref().is_none_or(|upload| upload.finished());
        let body = if incoming.is_end_stream() {
            if sent {
                attempt.endpoint().pool.put_now(connection).await;
            } else {
                connection.detach();
            }
            ResponseBody::empty()
        } else if sent {
            ResponseBody::download(incoming, Some(connection), attempt, idle)
        } else {
            connection.detach();
            ResponseBody::download(incoming, None, attempt, idle)
        };
        Ok(Answer::Response(Response::from_parts(head, body)))
    }
}

/// Turns the client's request into the proxy's own (RFC 9110, section 7.6; RFC 9112, section 3.2.1).
fn rewrite(
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
fn hash_of(key: &HashKey, client: IpAddr, head: &Parts) -> u64 {
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
