//! Finds a server that answers: picks, tries, and tries another one when that is safe.

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{StatusCode, Version};

use super::attempt::{self, Attempt, Failure};
use super::download::ResponseBody;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::reply::Reply;
use super::rewrite::{Rewrite, hash_of};
use super::service::Answered;
use super::tunnel::ServerSide;
use crate::balance::Pick;
use crate::message::h1::Invalid;
use crate::message::h1::{Answer, Framing};
use crate::message::headers;
use crate::proxy::snapshot::Forward;
use crate::upstream::connection::SendError;
use crate::upstream::{
    Connection, LocalEndpoint, LocalUpstream, Picked, Refusal, UpstreamStats, Waiter, Wish,
};

/// `Retry-After` when nobody probes the servers.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Sends a request to a server of the route's upstream and gives its answer.
///
/// # Errors
/// No server is eligible, or the last one tried gave no answer.
pub async fn forward(
    exchange: &mut Exchange,
    policy: &Forward,
    head: &Parts,
) -> Result<Answered, ProxyError> {
    let client = Rc::clone(&exchange.client);
    let local = &client.local;
    let view = Rc::clone(&exchange.view);
    let upstream = &view.upstreams[policy.upstream];
    let hash = match &view.snapshot.upstreams[policy.upstream].hash {
        Some(key) => hash_of(key, exchange.address, head),
        None => 0,
    };
    let upgrade = match head.version {
        Version::HTTP_11 | Version::HTTP_2 => headers::upgrade(&head.headers),
        _ => None, // HTTP/1.0 has no such thing (RFC 9110, section 7.8)
    };
    let stats = upstream.shared.stats.shard(local.worker);
    let mut tries = Tries::default();
    loop {
        let picked = {
            let mut pick = Pick {
                rng: &mut local.rng.borrow_mut(),
                now: exchange.started.into_std(),
                hash,
                retry: !tries.endpoints.is_empty(),
            };
            upstream.pick(&mut pick, &tries.endpoints)
        };
        let flight = match picked {
            Picked::Flight(flight) => flight,
            Picked::Full if tries.endpoints.is_empty() => {
                let waiter = Waiter {
                    client: exchange.address,
                    priority: policy.priority.of(&head.headers),
                };
                // Boxed: most requests need no room for this.
                let waiting = Box::pin(upstream.wait(&local.rng, hash, waiter));
                match waiting.await {
                    Ok(flight) => flight,
                    Err(Refusal::Shed) => return Err(ProxyError::Overloaded),
                    Err(Refusal::Overdue) => return Err(ProxyError::QueueTimeout),
                    Err(Refusal::Nobody) => return Err(tries.conclude(upstream, stats)),
                }
            }
            Picked::Full | Picked::Nobody => return Err(tries.conclude(upstream, stats)),
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
        let request = Outgoing(Rewrite {
            exchange,
            policy,
            head,
            upgrade: upgrade.clone(),
        });
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
        let settings = upstream.settings();
        let health = settings.health.as_ref();
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

/// A request on its way to a server.
struct Outgoing<'a>(Rewrite<'a>);

impl Outgoing<'_> {
    /// Tries one server. A pooled connection that turns out to be closed costs no try: a fresh one takes its place.
    async fn try_on(
        &self,
        upstream: &LocalUpstream,
        mut attempt: Attempt,
    ) -> Result<Answered, Failure> {
        let endpoint = Rc::clone(attempt.endpoint());
        let mut wish = Wish {
            announced: self.0.exchange.announced(),
            fresh: false,
            upgrade: self.0.upgrade.is_some(),
        };
        // What is awaited in an arm of a match keeps what is matched: so the answer is taken out of it first.
        let (connection, answer) = loop {
            let connection = match upstream.connect(&endpoint, wish).await {
                Ok(connection) => connection,
                Err(error) => return Err(attempt.failed(Failure::Connect(error))),
            };
            match attempt::send(&connection, &self.0, endpoint.shared.host()).await {
                Ok(answer) if self.accepts(&answer) => break (connection, answer),
                Ok(_) => return Err(attempt.failed(Failure::BadAnswer(Invalid::Syntax))),
                Err(failure)
                    if connection.may_be_stale() && !wish.fresh && self.replayable(&failure) =>
                {
                    wish.fresh = true;
                }
                Err(failure) => return Err(attempt.failed(failure)),
            }
        };
        attempt.answered(answer.status.as_u16());
        let idle = upstream.settings().idle;
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            // Boxed: most answers need no room for this.
            return Box::pin(self.switch(connection, attempt, answer, idle)).await;
        }
        let body = connection.body(&answer);
        let is_empty = answer.framing == Framing::Empty;
        let mut reply = reply_of(answer);
        if !connection.all_sent() {
            connection.send_rest();
        }
        if is_empty {
            endpoint.release_now(connection).await;
        } else {
            reply.body = ResponseBody::download(body, connection, attempt, idle);
        }
        Ok(Answered::Reply(reply))
    }

    /// Whether the request may be sent again after this failure: never when part of its body is gone, always when the
    /// server cannot have seen it, otherwise only if doing it twice is like doing it once (RFC 9110, section 9.2.2).
    fn replayable(&self, failure: &Failure) -> bool {
        let upload = &self.0.exchange.upload;
        let body_begun = upload.as_ref().is_some_and(|upload| upload.begun());
        match failure {
            Failure::Connect(_) | Failure::Unsent => !body_begun,
            Failure::Reset => !body_begun && self.0.head.method.is_idempotent(),
            Failure::BadAnswer(_) | Failure::Timeout | Failure::Upload(_) => false,
        }
    }

    /// Whether this can be an answer: protocols are switched only to what was asked for.
    fn accepts(&self, answer: &Answer) -> bool {
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            return true;
        }
        let both = self.0.upgrade.as_ref().zip(answer.upgrade.as_ref());
        both.is_some_and(|(asked, answered)| headers::answers_upgrade(asked, answered))
    }

    /// Takes the connection over for a tunnel.
    async fn switch(
        &self,
        connection: Connection,
        attempt: Attempt,
        answer: Answer,
        idle: Duration,
    ) -> Result<Answered, Failure> {
        let taken = connection.into_stream().await;
        let (stream, early) = taken.map_err(|error| match error {
            SendError::Upload => Failure::upload(self.0.exchange.upload.as_deref()),
            SendError::Lost(_) => Failure::Reset,
        })?;
        let side = Box::new(ServerSide {
            stream,
            early,
            attempt,
            idle,
        });
        let protocol = answer.upgrade.clone();
        let mut reply = reply_of(answer);
        reply.fields.add("connection", b"upgrade");
        let protocol = protocol.as_ref().map(|it| it.as_bytes());
        reply.fields.add("upgrade", protocol.unwrap_or_default());
        Ok(Answered::Switched(reply, side))
    }
}

/// A server's answer, without its body.
fn reply_of(answer: Answer) -> Reply {
    Reply {
        status: answer.status,
        fields: answer.fields,
        length: answer.length,
        trailers: answer.trailers,
        closes: false,
        body: ResponseBody::empty(),
    }
}
