//! Finds a server that answers: picks, tries, and tries another one when that is safe.

use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;

use super::attempt::{self, Attempt, Failure};
use super::download::ResponseBody;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::rewrite::{hash_of, rewrite};
use super::service::Answer;
use super::tunnel::ServerSide;
use crate::balance::Pick;
use crate::message::{RequestBody, Upload, headers};
use crate::proxy::snapshot::Forward;
use crate::upstream::{Connection, LocalEndpoint, LocalUpstream, UpstreamStats};

/// `Retry-After` when nobody probes the servers.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    let mut tries = Tries::default();
    loop {
        let flight = {
            let mut pick = Pick {
                rng: &mut local.rng.borrow_mut(),
                now: exchange.started.into_std(),
                hash,
                retry: !tries.endpoints.is_empty(),
            };
            upstream.pick(&mut pick, &tries.endpoints)
        };
        let Some(flight) = flight else {
            return Err(tries.conclude(upstream, stats));
        };
        if tries.endpoints.len() > policy.retries as usize
            && let Some(error) = tries.last
        {
            return Err(error);
        }
        if !tries.endpoints.is_empty() {
            exchange.retries += 1;
            stats.retries.increment();
        }
        let attempt = Attempt::new(flight, local.worker);
        let endpoint = Rc::clone(attempt.endpoint());
        exchange.tried = Some((Rc::clone(upstream), Rc::clone(&endpoint)));
        let failure = match request.try_on(upstream, attempt).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let server = endpoint.shared.id();
        tracing::debug!(server, request_id = ?exchange.id, %failure, "a server gave no answer");
        if !request.replayable(&failure) {
            return Err(failure.into_error());
        }
        tries.add(endpoint, failure);
    }
}

/// The tries of a request that gave no answer, each on another server.
#[derive(Default)]
struct Tries {
    endpoints: Vec<Rc<LocalEndpoint>>,
    last: Option<ProxyError>,
    /// Whether one of them failed by something else than a server that refuses connections.
    reached: bool,
}

impl Tries {
    fn add(&mut self, endpoint: Rc<LocalEndpoint>, failure: Failure) {
        self.reached |= !failure.is_refusal();
        self.endpoints.push(endpoint);
        self.last = Some(failure.into_error());
    }

    /// What it comes to when no server is left to try.
    fn conclude(self, upstream: &LocalUpstream, stats: &UpstreamStats) -> ProxyError {
        let health = upstream.shared.settings().health.as_ref();
        match self.last {
            // Probed servers that all refuse are as good as none: their probes have only not noticed yet.
            Some(error) if self.reached || health.is_none() => error,
            _ => {
                stats.nobody.increment();
                ProxyError::NoServer {
                    retry_after: health.map_or(RETRY_AFTER, |(_, settings)| settings.interval),
                }
            }
        }
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
