//! Everything that a request needs from the configuration, immutable and shared by all workers.
//!
//! `build.rs` makes it from a [`Config`](crate::config::model::Config).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::policy::Forward;
use super::tcp::{Names, Reason};
use super::udp;
use crate::access::{AccessList, Lists};
pub use crate::config::model::{HashKey, LimitKey, ListenerTimeouts, RedirectTarget};
use crate::limit::{Bandwidth, ClusterStore, Decision, LimiterShared, Rates, RedisSettings};
use crate::listener::PerAddress;
use crate::message::forwarded::TrustedProxies;
use crate::message::h2::Flood;
use crate::metrics::{Counter, Outcomes, Sharded};
use crate::net::stream::ByteStats;
use crate::route::RouteTable;
use crate::tls::ServerTls;
use crate::upstream::{Priority, Sticky, Upstream};

/// What requests need from the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// A listener keeps its index for as long as there is one of its name, since its connections know it by that. Listeners
    /// that are gone keep theirs too: they may still have connections, and may come back.
    pub listeners: Vec<ListenerEntry>,
    /// In the configuration's order.
    pub upstreams: Vec<UpstreamEntry>,
    /// The global limit, if there is one, then the routes' own.
    pub limits: Vec<LimitEntry>,
    /// Who may come in, and take which route.
    pub access: Lists,
    /// Limits of bytes a second of listeners and routes.
    pub bandwidths: Vec<BandwidthEntry>,
    /// Whose forwarding fields are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether any upstream's servers take PROXY headers.
    pub announces: bool,
    /// The Redis of limits that count there.
    pub redis: Option<RedisSettings>,
    /// How long connections may go on once the load balancer ends.
    pub drain_timeout: Duration,
}

impl Snapshot {
    /// The limits that a fleet agrees on.
    pub fn cluster_limits(&self) -> impl Iterator<Item = &ClusterStore> {
        self.limits.iter().filter_map(|it| it.shared.cluster())
    }

    /// Has limits of bytes a second be as this snapshot says, also for connections that are open. To be called before it is
    /// used: what begins without limits keeps none.
    pub fn enforce(&self) {
        for entry in &self.bandwidths {
            entry.shared.limits().set(entry.rates);
        }
    }

    /// Lifts the limits that only the snapshot before has, also for connections that are open. To be called when nobody uses
    /// that one for anything new.
    pub fn lift_former(&self, former: &Self) {
        let is_kept = |gone: &BandwidthEntry| {
            let mut kept = self.bandwidths.iter();
            kept.any(|it| Arc::ptr_eq(&it.shared, &gone.shared))
        };
        for gone in former.bandwidths.iter().filter(|it| !is_kept(it)) {
            gone.shared.limits().set(Rates::default());
        }
    }

    /// What all requests came to, by listener and route.
    pub fn outcomes(&self) -> impl Iterator<Item = &Arc<Sharded<Outcomes>>> {
        self.listeners.iter().flat_map(|listener| {
            let routes = listener.entries.iter().map(|route| &route.stats);
            routes.chain([&listener.unrouted])
        })
    }
}

/// A listener, as its connections see it.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it is gone: nothing is accepted, and its connections finish what they are doing. It has no routes then.
    pub closed: bool,
    /// Client-side timeouts.
    pub timeouts: ListenerTimeouts,
    /// Its certificates, if it speaks TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Whether HTTP/2 is spoken too.
    pub http2: bool,
    /// Whose connections are served, if not everybody's.
    pub access: Option<Arc<AccessList>>,
    /// How many new connections a client address may have: index into `Snapshot::limits`.
    pub connection_rate: Option<usize>,
    /// Bytes a second of connections that are passed on: clients' limits first.
    pub bandwidth: Vec<Arc<Bandwidth>>,
    /// How many connections a client address may have.
    pub per_address: Option<Arc<PerAddress>>,
    /// Bytes a second that a request's body must make.
    pub min_body_rate: Option<u64>,
    /// Whether servers get paths in their normal form.
    pub normalize_path: bool,
    /// Whether bytes are passed on as they are, and HTTP is not spoken.
    pub is_tcp: bool,
    /// Where they go that no name says something else of; `None` refuses those.
    pub upstream: Option<usize>,
    /// TLS connections that are passed through.
    pub names: Option<Names>,
    /// Whether it has no connections but datagrams, and what is particular to them.
    pub udp: Option<udp::Settings>,
    /// Its routes.
    pub routes: RouteTable<Arc<RouteEntry>>,
    /// The same routes, for metrics.
    pub entries: Vec<Arc<RouteEntry>>,
    /// Requests that matched no route.
    pub unrouted: Arc<Sharded<Outcomes>>,
    /// Connections.
    pub stats: Arc<Sharded<ListenerStats>>,
    /// Bytes on the wire.
    pub bytes: Arc<Sharded<ByteStats>>,
}

impl ListenerEntry {
    /// Whether something comes before HTTP on a connection.
    pub fn has_preamble(&self) -> bool {
        self.tls.is_some() || self.proxy_protocol
    }

    /// Whether it may have connections that are passed on as they are.
    pub fn passes_on(&self) -> bool {
        self.is_tcp || self.names.is_some()
    }

    /// What its connections wait for in the roster.
    pub fn waits(&self) -> [Duration; 2] {
        match self.is_tcp {
            false => [self.timeouts.headers, self.timeouts.keep_alive],
            true => [self.timeouts.idle, self.timeouts.half_closed],
        }
    }

    /// How long a new connection may be silent.
    pub fn first_wait(&self) -> Duration {
        match self.has_preamble() {
            true => self.timeouts.tls_handshake,
            false => self.timeouts.keep_alive,
        }
    }
}

/// A listener's connections.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Accepted so far.
    pub accepted: Counter,
    /// Open now.
    pub open: Counter,
    /// Of those, waiting for a request without buffers.
    pub parked: Counter,
    /// Closed because a request's headers did not arrive in time.
    pub header_timeouts: Counter,
    /// Closed because what arrived was not HTTP or too large; in HTTP/2, malformed requests too.
    pub malformed: Counter,
    /// Answers given up because the client did not take them.
    pub stalled_answers: Counter,
    /// Bodies of requests given up because they did not come, or too slowly.
    pub stalled_bodies: Counter,
    /// TLS handshakes that came to their end.
    pub tls_handshakes: Counter,
    /// Of those, the ones that resumed an earlier session.
    pub tls_resumed: Counter,
    /// TLS handshakes that failed or took too long.
    pub tls_failures: Counter,
    /// Closed for a flood of HTTP/2 frames, by its place among all floods.
    pub floods: [Counter; Flood::ALL.len()],
    /// Closed for want of a PROXY header from a trusted peer.
    pub proxy_header_failures: Counter,
    /// Closed because their address may not come in.
    pub denied: Counter,
    /// Closed because their address had too many.
    pub over_address_limit: Counter,
    /// Closed because their address had too many new ones.
    pub over_rate: Counter,
    /// Connections that were passed on, or were to be, by why that has ended.
    pub ends: [Counter; Reason::ALL.len()],
    /// Datagrams and the sessions that they belong to.
    pub udp: udp::stats::Stats,
    /// Times that accepting failed, for want of file descriptors mostly.
    pub accept_failures: Counter,
}

/// A route of a listener.
#[derive(Debug)]
pub struct RouteEntry {
    /// Its name in the configuration.
    pub name: String,
    /// Whose requests take it, if not everybody's.
    pub access: Option<RouteAccess>,
    /// What to do.
    pub action: Action,
    /// Index into `Snapshot::limits`.
    pub limit: Option<usize>,
    /// Bytes a second of bodies, by the route's and the listener's limits, clients' first.
    pub bandwidth: Vec<Arc<Bandwidth>>,
    /// Largest request body in bytes.
    pub max_body: Option<u64>,
    /// Strict-Transport-Security of answers over TLS (RFC 6797).
    pub hsts: Option<HeaderValue>,
    /// Requests at this listener that took the route.
    pub stats: Arc<Sharded<Outcomes>>,
}

/// Whose requests take a route.
#[derive(Debug)]
pub struct RouteAccess {
    /// By address.
    pub list: Arc<AccessList>,
    /// Requests answered 403.
    pub denied: Arc<Sharded<Counter>>,
}

impl RouteAccess {
    /// Whether a request from this address may take it; if not, that is counted.
    pub fn admits(&self, address: IpAddr, worker: usize) -> bool {
        let allowed = self.list.allows(address);
        if !allowed {
            self.denied.shard(worker).increment();
        }
        allowed
    }
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends the request to an upstream.
    Forward(Forward),
    /// Answers with a redirect.
    Redirect {
        /// 3xx.
        status: StatusCode,
        /// Where to.
        to: RedirectTarget,
    },
    /// Answers by itself.
    Respond {
        /// Any.
        status: StatusCode,
        /// Sent as text/plain.
        body: bytes::Bytes,
    },
}

/// How much a route's requests matter when servers are full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutePriority {
    /// All the same.
    Fixed(Priority),
    /// As this field says; normal if it says something else.
    Header(HeaderName),
}

impl RoutePriority {
    /// The priority of a request with these fields.
    pub fn of(&self, headers: &HeaderMap) -> Priority {
        match self {
            Self::Fixed(priority) => *priority,
            Self::Header(name) => {
                let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
                let mut all = Priority::ALL.into_iter();
                let named = |it: &Priority| value.eq_ignore_ascii_case(it.name().as_bytes());
                all.find(named).unwrap_or_default()
            }
        }
    }
}

/// An upstream, and what of requests decides on their server.
#[derive(Debug)]
pub struct UpstreamEntry {
    /// Shared by all threads.
    pub shared: Arc<Upstream>,
    /// What `consistent_hash` hashes; `None` for the other strategies.
    pub hash: Option<HashKey>,
    /// Whether clients come back to the server that they had, and how it is known.
    pub sticky: Option<Sticky>,
}

/// A limit of requests, or of new connections.
#[derive(Debug)]
pub struct LimitEntry {
    /// The counts that all workers share.
    pub shared: Arc<LimiterShared>,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Whether admitted answers carry them too.
    pub always: bool,
    /// What it decided.
    pub stats: Arc<Sharded<LimitStats>>,
}

impl LimitEntry {
    /// Counts a decision of the limit's.
    pub fn count(&self, worker: usize, decision: &Decision) {
        let stats = self.stats.shard(worker);
        if decision.degraded {
            stats.store_failures.increment();
        }
        match decision.verdict.is_allowed() {
            true => stats.allowed.increment(),
            false => stats.denied.increment(),
        }
    }
}

/// A limit of bytes a second, and what it is to be once the snapshot is in force.
#[derive(Debug)]
pub struct BandwidthEntry {
    /// What all workers share, and all connections under it.
    pub shared: Arc<Bandwidth>,
    /// What the configuration says.
    pub rates: Rates,
}

/// What a limit decided.
#[derive(Debug, Default)]
pub struct LimitStats {
    /// Requests or connections admitted.
    pub allowed: Counter,
    /// Requests answered 429, and connections closed.
    pub denied: Counter,
    /// Those of them that `on_store_failure` decided.
    pub store_failures: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Format};
    use crate::net::bandwidth::Direction;
    use crate::proxy::build::TlsMaterial;

    /// What a listener `web` with these limits is, after `former`.
    fn after(former: Option<&Snapshot>, listener: &str) -> Snapshot {
        let text = format!(
            "[[listeners]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n{listener}\n\
             [[routes]]\nrespond = {{ status = 204 }}"
        );
        let config = config::parse(&text, Format::Toml, "test", std::iter::empty());
        let config = config.unwrap();
        let tls = TlsMaterial {
            listeners: vec![None],
            ..TlsMaterial::default()
        };
        let lists = Lists::default();
        let built = Snapshot::build(&config, &tls, &lists, former, |_| Vec::new());
        built.unwrap().snapshot
    }

    fn download(snapshot: &Snapshot) -> Vec<u64> {
        let limits = snapshot.bandwidths.iter();
        let limits = limits.map(|it| it.shared.limits().of(Direction::Download).rate());
        limits.collect()
    }

    #[test]
    fn limits_are_in_force_before_their_snapshot_and_only_those_that_are_gone_are_lifted() {
        let first = after(None, "bandwidth = { download = \"1MB/s\" }");
        first.enforce();
        assert_eq!(download(&first), [1_000_000]);
        let both =
            "bandwidth = [{ download = \"2MB/s\" }, { download = \"3MB/s\", key = \"total\" }]";
        let second = after(Some(&first), both);
        assert_eq!(download(&first), [1_000_000], "nothing has changed yet");
        second.enforce();
        assert_eq!(download(&second), [2_000_000, 3_000_000]);
        second.lift_former(&first);
        assert_eq!(download(&second), [2_000_000, 3_000_000], "it is kept");
        let third = after(
            Some(&second),
            "bandwidth = { download = \"4MB/s\", key = \"total\" }",
        );
        third.enforce();
        assert_eq!(download(&second), [2_000_000, 4_000_000], "still in use");
        third.lift_former(&second);
        assert_eq!(download(&second), [0, 4_000_000]);
    }
}
