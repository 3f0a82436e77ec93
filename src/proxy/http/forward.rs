//! Finds a server that answers: picks, tries, and tries another one when that is safe.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Version};
use tokio::time::sleep;

use super::attempt::{Attempt, Failure};
use super::choice;
use super::connection::Client;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::outgoing::{Outgoing, deliver, discard, may_repeat, rewind};
use super::rewrite::Rewrite;
use super::service::Answered;
use super::tries::Tries;
use super::{hedge, mirror, sticky};
use crate::message::headers;
use crate::proxy::policy::{Forward, Hedge, Target};
use crate::proxy::snapshot::UpstreamEntry;
use crate::upstream::sticky::Session;
use crate::upstream::{RetryReason, Sticky};

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
    let target = choice::target(policy, exchange.address, head, &local.rng);
    let entry = &local.snapshot.upstreams[target.upstream];
    let own_cookie = entry.sticky.as_ref().map(Sticky::cookie);
    let upgrade = match head.version {
        Version::HTTP_11 | Version::HTTP_2 => headers::upgrade(&head.headers),
        _ => None, // HTTP/1.0 has no such thing (RFC 9110, section 7.8)
    };
    if policy.retry.attempts > 0
        && let Some(upload) = &exchange.upload
    {
        upload.keep(policy.retry.max_body);
    }
    let mirror = match upgrade {
        None => mirror::begin(policy, exchange, head, own_cookie),
        Some(_) => None,
    };
    let request = Request {
        client: &client,
        policy,
        target,
        entry,
        head,
        own_cookie,
        is_mirrored: mirror.is_some(),
        upgrade,
    };
    let answered = request.find_answer(exchange).await;
    if let Some(mirror) = mirror {
        mirror::send(mirror, exchange, head, own_cookie);
    }
    if let Some(upload) = &exchange.upload {
        upload.forget();
    }
    answered
}

/// A request to an upstream: what is the same for all its tries.
struct Request<'a> {
    client: &'a Client,
    policy: &'a Forward,
    target: &'a Target,
    entry: &'a UpstreamEntry,
    head: &'a Parts,
    own_cookie: Option<&'a str>,
    is_mirrored: bool,
    upgrade: Option<HeaderValue>,
}

impl Request<'_> {
    async fn find_answer(&self, exchange: &mut Exchange) -> Result<Answered, ProxyError> {
        let local = &self.client.local;
        let upstream = &local.upstreams[self.target.upstream];
        let retry = &self.policy.retry;
        let route = (self.target, retry);
        let mut tries = Tries::new(local, upstream, route, (exchange, self.head));
        let session = self.session();
        let had = session.and_then(|session| upstream.pick_identity(session.identity));
        let mut flight = match had.or_else(|| tries.pick()) {
            Some(flight) => flight,
            None => return Err(tries.conclude(None)),
        };
        // What is awaited in an arm of a match keeps what is matched: so the answer is taken out of it first.
        let (attempt, connection, answer) = loop {
            let mut attempt = Attempt::new(flight, local.worker);
            exchange.tried = Some((Rc::clone(upstream), Rc::clone(attempt.endpoint())));
            let outgoing = Outgoing {
                rewrite: self.rewrite(exchange),
                upstream,
                patience: tries.patience(),
            };
            let outcome = match self.hedge(exchange) {
                // Boxed: most requests need no room for this.
                Some(hedge) => {
                    let both = (hedge, retry);
                    Box::pin(hedge::try_on(&outgoing, &mut tries, both, &mut attempt)).await
                }
                None => outgoing.try_on(&mut attempt).await,
            };
            let endpoint = Rc::clone(attempt.endpoint());
            let repeats = |reason| may_repeat(&outgoing.rewrite, reason);
            let (next, wait) = match outcome {
                Ok((connection, answer)) => {
                    let is_bad = retry.statuses.contains(&answer.status);
                    let repeats = is_bad && repeats(RetryReason::Status);
                    tries.note_hedge(exchange, &endpoint);
                    let next = match repeats {
                        true => tries.after_answer(&endpoint, exchange),
                        false => None,
                    };
                    let Some(next) = next else {
                        break (attempt, connection, answer);
                    };
                    drop(attempt);
                    discard(endpoint, connection, answer);
                    next
                }
                Err(failure) => {
                    drop(attempt);
                    let reason = failure.reason().filter(|reason| repeats(*reason));
                    tries.after_failure(endpoint, failure, reason, exchange)?
                }
            };
            if !wait.is_zero() {
                Box::pin(sleep(wait)).await;
            }
            rewind(exchange.upload.as_ref());
            flight = next;
        };
        let identity = attempt.endpoint().shared.identity();
        let upload = exchange.upload.as_deref();
        let answered = deliver(upstream, upload, connection, attempt, answer).await;
        let mut answered = answered.map_err(Failure::into_error)?;
        self.settle(&mut answered, identity, session);
        Ok(answered)
    }

    /// The session that the request belongs to.
    fn session(&self) -> Option<Session> {
        let sticky = self.entry.sticky.as_ref()?;
        sticky::session(sticky, &self.head.headers)
    }

    /// The request, as it goes to a server.
    fn rewrite<'b>(&'b self, exchange: &'b Exchange) -> Rewrite<'b> {
        Rewrite {
            client: self.client,
            id: &exchange.id,
            head: self.head,
            upload: exchange.upload.as_ref(),
            target: self.target,
            own_cookie: self.own_cookie,
            is_mirrored: self.is_mirrored,
            upgrade: self.upgrade.clone(),
        }
    }

    /// Whether its next try may get another one beside it: only the first may, of what may be done twice.
    fn hedge(&self, exchange: &Exchange) -> Option<&Hedge> {
        let hedge = self.policy.hedge.as_ref()?;
        let may =
            exchange.retries == 0 && self.upgrade.is_none() && self.head.method.is_idempotent();
        may.then_some(hedge)
    }

    /// Tells the client which server it has, if it is to come back to it.
    fn settle(&self, answered: &mut Answered, identity: u64, session: Option<Session>) {
        if let Some(sticky) = &self.entry.sticky {
            let fields = match answered {
                Answered::Reply(reply) | Answered::Switched(reply, _) => &mut reply.fields,
            };
            let is_encrypted = self.client.hop.is_encrypted();
            sticky::tell(sticky, session, identity, is_encrypted, fields);
        }
    }
}
