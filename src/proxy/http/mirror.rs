//! Copies of requests to another upstream, whose answers nobody gets.
//!
//! A copy is a task of its own. Nothing waits for it, and it fails in silence but for a counter.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::attempt::{Attempt, Patience};
use super::choice::hash_of;
use super::client::Client;
use super::exchange::Exchange;
use super::outgoing::{Outgoing, drain};
use super::rewrite::Rewrite;
use super::tries;
use crate::message::Head;
use crate::message::Upload;
use crate::net::clock;
use crate::proxy::local::Local;
use crate::proxy::policy::{Forward, Mirror};
use crate::proxy::view::View;
use crate::upstream::{LocalUpstream, MirrorResult, Picked};

/// Copies of a worker that may be under way.
const MAX_COPIES: usize = 256;

/// So much of an answer is read, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// Where a copy of a request is to go, if it is one of those that are copied. Without a body it goes there at once;
/// otherwise its body is kept as it passes, to be [sent](send) when it has come.
pub fn begin<'a>(
    policy: &'a Forward,
    exchange: &Exchange,
    head: &Head,
    own_cookie: Option<&str>,
) -> Option<&'a Arc<Mirror>> {
    let mirror = policy.mirror.as_ref()?;
    let lot = exchange.client.local.rng.borrow_mut().u32(..1000);
    if lot >= mirror.share {
        return None;
    }
    let Some(upload) = &exchange.upload else {
        send(mirror, exchange, head, own_cookie);
        return None;
    };
    upload.keep(mirror.max_body.max(policy.retry.rules.max_body));
    Some(mirror)
}

/// Sends a copy of a request, if its body is there and there is room.
pub fn send(mirror: &Arc<Mirror>, exchange: &Exchange, head: &Head, own_cookie: Option<&str>) {
    let local = &exchange.client.local;
    let upstream = Rc::clone(&exchange.view.upstreams[mirror.target.upstream]);
    let stats = upstream.shared.stats.shard(local.worker);
    let count = |result: MirrorResult| stats.mirrored[result as usize].increment();
    let upload = match &exchange.upload {
        None => None,
        Some(upload) if upload.received() > mirror.max_body => {
            return count(MirrorResult::Body);
        }
        Some(upload) => match upload.copy() {
            Some(copy) => Some(copy),
            None => return count(MirrorResult::Body),
        },
    };
    if local.mirrors.get() >= MAX_COPIES {
        return count(MirrorResult::Busy);
    }
    let copy = Copy {
        _slot: Slot::new(Rc::clone(local)),
        client: Rc::clone(&exchange.client),
        view: Rc::clone(&exchange.view),
        id: exchange.id.clone(),
        address: exchange.address,
        head: head.clone(),
        upload,
        own_cookie: own_cookie.map(str::to_owned),
        mirror: Arc::clone(mirror),
        upstream,
    };
    spawn_local(Box::pin(copy.run()));
}

/// A copy of a request.
struct Copy {
    _slot: Slot,
    client: Rc<Client>,
    view: Rc<View>,
    id: HeaderValue,
    address: IpAddr,
    head: Head,
    upload: Option<Rc<Upload>>,
    own_cookie: Option<String>,
    mirror: Arc<Mirror>,
    upstream: Rc<LocalUpstream>,
}

impl Copy {
    async fn run(self) {
        let limit = self.upstream.settings().connect + self.mirror.target.timeout;
        let result = match timeout(limit, self.ask()).await {
            Ok(true) => MirrorResult::Answered,
            Ok(false) | Err(_) => MirrorResult::Failed,
        };
        let stats = self.upstream.shared.stats.shard(self.client.local.worker);
        stats.mirrored[result as usize].increment();
    }

    /// Whether a server answered. More of an answer than is read makes it no failure.
    async fn ask(&self) -> bool {
        let local = &self.client.local;
        let target = &self.mirror.target;
        let hash = match &self.view.snapshot.upstreams[target.upstream].hash {
            Some(key) => hash_of(key, self.address, &self.head),
            None => 0,
        };
        let now = clock::now();
        let picked = tries::pick(local, &self.upstream, now, hash, &[]);
        let Picked::Flight(flight) = picked else {
            return false;
        };
        let outgoing = Outgoing {
            rewrite: Rewrite {
                client: &self.client,
                view: &self.view,
                id: &self.id,
                head: &self.head,
                upload: self.upload.as_ref(),
                target,
                own_cookie: self.own_cookie.as_deref(),
                is_mirrored: false,
                upgrade: None,
                interim: None,
            },
            upstream: &self.upstream,
            patience: Patience {
                since: now,
                connect: target.timeout,
                limit: target.timeout,
                until: None,
            },
        };
        let mut attempt = Attempt::new(flight, local.worker);
        match outgoing.try_on(&mut attempt).await {
            Ok((connection, answer)) => {
                drain(attempt.endpoint(), connection, &answer, MAX_ANSWER).await;
                true
            }
            Err(failure) => {
                let server = attempt.endpoint().shared.id();
                tracing::debug!(server, request_id = ?self.id, %failure, "a copy of a request got no answer");
                false
            }
        }
    }
}

/// A place among the copies that may be under way.
struct Slot(Rc<Local>);

impl Slot {
    fn new(local: Rc<Local>) -> Self {
        local.mirrors.set(local.mirrors.get() + 1);
        Self(local)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get() - 1);
    }
}
