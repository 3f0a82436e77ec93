//! The record of one request and its answer, from the request's headers to the answer's last byte.
//!
//! It is opened when the headers are there, rides in the answer's body, and writes metrics and the access log line when it
//! is dropped: at the answer's end, or when either side has gone away.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{HOST, HeaderValue, REFERER, USER_AGENT};
use http::{Method, StatusCode, Uri, Version};
use jiff::Timestamp;
use tokio::time::Instant;

use super::client::Client;
use crate::message::Head;
use crate::message::{Upload, UploadError};
use crate::metrics::access_log::Record;
use crate::net::bandwidth::Direction;
use crate::net::{Throttle, clock};
use crate::proxy::bandwidth;
use crate::proxy::snapshot::{ListenerEntry, RouteEntry};
use crate::proxy::view::View;
use crate::upstream::{Announced, LocalEndpoint, LocalUpstream};

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// The connection that it came over.
    pub client: Rc<Client>,
    /// The configuration that it began under, which it uses to its end.
    pub view: Rc<View>,
    /// When its headers were complete.
    pub started: Instant,
    /// Where it comes from, by the word of trusted proxies.
    pub address: IpAddr,
    /// X-Request-Id.
    pub id: HeaderValue,
    /// The route that it took.
    pub route: Option<Arc<RouteEntry>>,
    /// Its body, if it has one.
    pub upload: Option<Rc<Upload>>,
    /// The upstream and the server that were tried last.
    pub tried: Option<(Rc<LocalUpstream>, Rc<LocalEndpoint>)>,
    /// Tries after the first.
    pub retries: u32,
    /// Why the last of them was made; empty without one.
    pub retried: &'static str,
    /// Whether two servers were asked at a time.
    pub hedged: bool,
    /// The answer's status; 0 before there is one.
    pub status: u16,
    /// Body bytes received, once there is no `upload` any more.
    received: u64,
    /// Body bytes of the answer handed to the connection.
    pub sent: u64,
    /// Whether the answer reached its end.
    pub complete: bool,
    /// A word for why the answer is ours or broke off; empty otherwise.
    pub error: &'static str,
    line: Option<Box<Line>>,
}

/// What only the access log needs.
#[derive(Debug)]
struct Line {
    time: Timestamp,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Exchange {
    /// Opens the record of a request. It is boxed, as it is handed from one to the next on its way.
    pub fn open(client: &Rc<Client>, request: &Head, upload: Option<Rc<Upload>>) -> Box<Self> {
        let headers = &request.headers;
        let local = &client.local;
        let view = local.view_for(client.listener);
        let line = local.access_log.is_some().then(|| {
            Box::new(Line {
                time: Timestamp::now(),
                method: request.method.clone(),
                uri: request.uri.clone(),
                version: request.version,
                host: headers.get(HOST).cloned(),
                referer: headers.get(REFERER).cloned(),
                user_agent: headers.get(USER_AGENT).cloned(),
            })
        });
        Box::new(Self {
            client: Rc::clone(client),
            started: clock::now(),
            address: client.hop.client(headers, &view.snapshot.trusted_proxies),
            view,
            id: local.request_ids.id_of(headers),
            route: None,
            upload,
            tried: None,
            retries: 0,
            retried: "",
            hedged: false,
            status: 0,
            received: 0,
            sent: 0,
            complete: false,
            error: "",
            line,
        })
    }

    /// The listener that it came to.
    pub fn listener(&self) -> &ListenerEntry {
        &self.view.snapshot.listeners[self.client.listener]
    }

    /// Takes note of a server that is tried, and has the request's body be under its limits.
    pub fn tries(&mut self, upstream: &Rc<LocalUpstream>, endpoint: &Rc<LocalEndpoint>) {
        if let Some(upload) = &self.upload {
            upload.throttle(self.throttle(upstream, endpoint, Direction::Upload));
        }
        self.tried = Some((Rc::clone(upstream), Rc::clone(endpoint)));
    }

    /// What has bytes between the client and a server wait for their turn, if anything.
    pub fn throttle(
        &self,
        upstream: &LocalUpstream,
        endpoint: &LocalEndpoint,
        direction: Direction,
    ) -> Option<Box<Throttle>> {
        let limits = &self.route.as_ref()?.bandwidth;
        bandwidth::throttle(
            limits,
            &upstream.shared,
            &endpoint.shared,
            self.address,
            direction,
        )
    }

    /// What a server that takes PROXY headers is to be told of the client's connection.
    pub fn announced(&self) -> Option<Announced> {
        self.client.announced(&self.view)
    }

    /// Lets the request's body go, which has ended.
    pub fn release_upload(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.received = upload.received();
        }
    }

    fn log(&self, line: &Line) {
        let Some(log) = &self.client.local.access_log else {
            return;
        };
        let (upstream, server) = match &self.tried {
            Some((upstream, endpoint)) => (
                upstream.shared.name(),
                endpoint.shared.address().to_string(),
            ),
            None => ("", String::new()),
        };
        log.write(&Record {
            time: line.time,
            client: self.address,
            method: line.method.as_str(),
            host: text(&line.host),
            target: line
                .uri
                .path_and_query()
                .map_or("", |target| target.as_str()),
            protocol: match line.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            status: self.status,
            received: match &self.upload {
                Some(upload) => upload.received(),
                None => self.received,
            },
            sent: self.sent,
            duration: clock::now() - self.started,
            referer: text(&line.referer),
            user_agent: text(&line.user_agent),
            request_id: self.id.to_str().unwrap_or_default(),
            route: self.route.as_ref().map_or("", |route| &route.name),
            upstream,
            server: &server,
            retries: self.retries,
            retried: self.retried,
            hedged: self.hedged,
            complete: self.complete,
            error: self.error,
        });
    }
}

/// Records the answer to what came since `since` and was no request.
pub fn record_refusal(
    client: &Client,
    status: StatusCode,
    error: &'static str,
    id: &HeaderValue,
    sent: usize,
    since: Instant,
) {
    let local = &client.local;
    let duration = clock::now() - since;
    let listener = client.listener();
    let stats = listener.unrouted.shard(local.worker);
    stats.record(status.as_u16(), duration);
    if let Some(log) = &local.access_log {
        log.write(&Record {
            time: Timestamp::now(),
            client: client.hop.peer(),
            method: "",
            host: "",
            target: "",
            protocol: "",
            status: status.as_u16(),
            received: 0,
            sent: sent as u64,
            duration,
            referer: "",
            user_agent: "",
            request_id: id.to_str().unwrap_or_default(),
            route: "",
            upstream: "",
            server: "",
            retries: 0,
            retried: "",
            hedged: false,
            complete: true,
            error,
        });
    }
}

fn text(value: &Option<HeaderValue>) -> &str {
    value
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let client = &self.client;
        let stats = match &self.route {
            Some(route) => &route.stats,
            None => &self.listener().unrouted,
        };
        stats
            .shard(client.local.worker)
            .record(self.status, clock::now() - self.started);
        let failure = self.upload.as_ref().and_then(|upload| upload.error());
        if failure == Some(UploadError::Stalled) {
            let stats = self.listener().stats.shard(client.local.worker);
            stats.stalled_bodies.increment();
        }
        if let Some(line) = &self.line {
            self.log(line);
        }
    }
}
