//! The API as its users see it: through the router, or a real socket.

mod access;
mod changes;
mod connections;
mod document;
mod following;
mod metrics;
mod reload;
mod servers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::api::router;
use super::auth::Access;
use super::{AdminState, Overlay, Reloads, Request, StateFile};
use crate::balance::Kind;
use crate::config::types::ServerAddress;
use crate::message::forwarded::TrustedProxies;
use crate::metrics::Sharded;
use crate::proxy::snapshot::{
    Action, LimitEntry, LimitKey, ListenerEntry, ListenerTimeouts, RouteEntry, Snapshot,
    UpstreamEntry,
};
use crate::route::RouteTable;
use crate::upstream::{Protocol, Settings, Upstream};

/// A directory of a test's own, removed on drop.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let path = env::temp_dir().join(format!("loadbalancer-admin-{}-{number}", process::id()));
        // Left behind by a process that was killed and had the same id.
        _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// What the configuration says: upstreams, their servers and the servers' weights.
type Upstreams<'a> = &'a [(&'a str, &'a [(&'a str, u32)])];

const ONE: Upstreams<'_> = &[("app", &[("127.0.0.1:3000", 1), ("127.0.0.1:3001", 2)])];

const TWO: Upstreams<'_> = &[
    ("app", &[("127.0.0.1:3000", 1), ("[::1]:3001", 1)]),
    ("other", &[("127.0.0.1:3000", 1)]),
];

/// The admin API of a load balancer that was just started.
struct Admin {
    state: Arc<AdminState>,
    router: Router,
    /// Who asks for reloads.
    requests: Option<mpsc::Receiver<Request>>,
}

/// What the API answered.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Admin {
    /// Starts with this configuration and what `state_file` holds.
    fn start(upstreams: Upstreams<'_>, state_file: &Path) -> Self {
        let mut overlay = StateFile::load(state_file).unwrap();
        let snapshot = snapshot(upstreams, &mut overlay);
        let (reloads, requests) = Reloads::new();
        let state = Arc::new(AdminState {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            config: ArcSwap::from_pointee(json!({"workers": 2})),
            reloads,
            token: None,
            state: StateFile::new(state_file.to_owned(), overlay),
            configured: ArcSwap::default(),
            cluster: None,
            access_log: None,
            draining: AtomicBool::new(false),
        });
        Self {
            router: router(Arc::clone(&state), Access::Loopback),
            state,
            requests: Some(requests),
        }
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{body:?} is not JSON"));
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, Body::empty())).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(request(Method::POST, path, Body::from(body.to_string())))
            .await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(request(Method::PATCH, path, Body::from(body.to_string())))
            .await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path, Body::empty()))
            .await
    }

    /// The servers' ids, weights and whether they drain.
    async fn servers(&self) -> Vec<(String, u64, bool)> {
        let body = self.get("/servers").await.body;
        let servers = body["servers"].as_array().unwrap().iter();
        servers
            .map(|server| {
                let id = server["id"].as_str().unwrap().to_owned();
                (
                    id,
                    server["weight"].as_u64().unwrap(),
                    server["draining"].as_bool().unwrap(),
                )
            })
            .collect()
    }
}

impl Answer {
    /// The status and the word for programs of an error; checks that there is a message.
    fn error(&self) -> (u16, &str) {
        let error = self.body["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no error: {}", self.body));
        assert!(!self.message().is_empty());
        (self.status.as_u16(), error)
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap()
    }
}

fn request(method: Method, path: &str, body: Body) -> http::Request<Body> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:9901")
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn address(text: &str) -> ServerAddress {
    text.parse().unwrap()
}

fn upstream(name: &str, servers: &[(&str, u32)], overlay: &mut Overlay) -> UpstreamEntry {
    let settings = Settings {
        protocol: Protocol::Http1,
        tls: None,
        announces: None,
        tcp: crate::net::TcpOptions::default(),
        bandwidth: crate::limit::Rates::default(),
        strategy: Kind::RoundRobin,
        health: None,
        health_port: None,
        connect: Duration::from_secs(3),
        response: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        pool_idle: Duration::from_secs(30),
        protection: crate::upstream::Protection::default(),
    };
    let servers = servers
        .iter()
        .map(|(text, weight)| (address(text), *weight))
        .collect();
    let servers = overlay.apply(name, servers);
    UpstreamEntry {
        shared: Upstream::new(name.to_owned(), settings, servers, 2),
        hash: None,
        sticky: None,
    }
}

fn snapshot(upstreams: Upstreams<'_>, overlay: &mut Overlay) -> Snapshot {
    let timeouts = ListenerTimeouts {
        headers: Duration::from_secs(10),
        keep_alive: Duration::from_secs(75),
        idle: Duration::from_secs(60),
        half_closed: Duration::from_secs(300),
        tls_handshake: Duration::from_secs(10),
    };
    let route = |name: &str| {
        Arc::new(RouteEntry {
            name: name.to_owned(),
            access: None,
            action: Action::Respond {
                status: StatusCode::OK,
                body: bytes::Bytes::new(),
            },
            limit: Some(0),
            bandwidth: Vec::new(),
            max_body: None,
            hsts: None,
            stats: Arc::new(Sharded::new(2)),
        })
    };
    let listener = |name: &str| ListenerEntry {
        name: name.to_owned(),
        closed: false,
        timeouts,
        access: None,
        connection_rate: None,
        bandwidth: Vec::new(),
        tls: None,
        proxy_protocol: false,
        http2: true,
        per_address: None,
        min_body_rate: None,
        normalize_path: false,
        is_tcp: false,
        upstream: None,
        names: None,
        udp: None,
        routes: RouteTable::build(Vec::new()).unwrap(),
        entries: vec![route("one"), route("two")],
        unrouted: Arc::new(Sharded::new(2)),
        stats: Arc::new(Sharded::new(2)),
        bytes: Arc::new(Sharded::new(2)),
    };
    Snapshot {
        listeners: vec![listener("web"), listener("internal")],
        upstreams: upstreams
            .iter()
            .map(|(name, servers)| upstream(name, servers, overlay))
            .collect(),
        limits: vec![limit("global"), limit("route:one")],
        access: crate::access::Lists::default(),
        bandwidths: Vec::new(),
        announces: false,
        trusted_proxies: TrustedProxies::new(Vec::new()),
        redis: None,
        drain_timeout: Duration::from_secs(30),
    }
}

fn limit(name: &str) -> LimitEntry {
    let five = 5.try_into().unwrap();
    let quota = crate::limit::Quota {
        algorithm: crate::limit::Algorithm::FixedWindow,
        requests: five,
        window: Duration::from_secs(60),
        burst: five,
    };
    let shared =
        crate::limit::LimiterShared::new(name, quota, crate::limit::Store::Memory, Instant::now());
    LimitEntry {
        shared: Arc::new(shared),
        key: LimitKey::ClientIp,
        always: false,
        stats: Arc::new(Sharded::new(2)),
    }
}
