//! `[[upstreams]]`

use std::collections::HashMap;
use std::time::Duration;

use super::{Names, Validation, duration_or, present};
use crate::config::key_path::KeyPath;
use crate::config::model::{
    HashKey, Protocol, ProxyVersion, Server, StrategyKind, Upstream, UpstreamTimeouts,
};
use crate::config::schema;
use crate::config::types::{AnyDuration, ServerAddress};

const MAX_WEIGHT: u32 = 256;

const CONNECT: Duration = Duration::from_secs(3);
const RESPONSE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(60);
const POOL_IDLE: Duration = Duration::from_secs(30);
const SLOW_START: Duration = Duration::from_secs(30);

impl Validation<'_> {
    pub(super) fn upstream_names(&mut self) -> Names {
        let root = self.root;
        let names = present(&root.upstreams)
            .filter_map(|(position, raw)| Some((position, raw.name.as_ref()?.0.clone())));
        self.names("upstream", "upstreams", names)
    }

    pub(super) fn upstreams(&mut self) -> Vec<Upstream> {
        let root = self.root;
        let list = KeyPath::default().key("upstreams");
        present(&root.upstreams)
            .map(|(position, raw)| self.upstream(raw, &list.index(position)))
            .collect()
    }

    fn upstream(&mut self, raw: &schema::Upstream, at: &KeyPath) -> Upstream {
        let expected = "a name by which routes refer to it, for example \"app\"";
        let name = self.problems.required(&raw.name, at.key("name"), expected);
        let strategy = raw.strategy.unwrap_or(StrategyKind::RoundRobin);
        let hash = raw.hash.clone().unwrap_or(HashKey::ClientIp);
        // It would silently not stick. The default is taken with any strategy: it asks for nothing.
        let is_idle = strategy != StrategyKind::ConsistentHash && hash != HashKey::ClientIp;
        if is_idle && !self.problems.contains(&at.key("strategy")) {
            self.problems.add(
                at.key("hash"),
                "is for strategy = \"consistent_hash\"; set that, or leave it out",
            );
        }
        let uses = self.uses_of(raw);
        self.keys_of_uses(raw, uses, at);
        Upstream {
            name: name.map(|name| name.0.clone()).unwrap_or_default(),
            strategy,
            hash,
            servers: self.servers(raw, &at.key("servers")),
            health_check: self.health_check(
                raw.health_check.as_deref(),
                uses,
                &at.key("health_check"),
            ),
            timeouts: timeouts(raw.timeouts.as_deref()),
            protocol: self.protocol(raw, at),
            tls: raw
                .tls
                .as_deref()
                .map(|tls| self.upstream_tls(tls, &at.key("tls"))),
            proxy_protocol: match raw.proxy_protocol {
                None | Some(schema::SendProxy::Off) => None,
                Some(schema::SendProxy::V1) => Some(ProxyVersion::V1),
                Some(schema::SendProxy::V2) => Some(ProxyVersion::V2),
            },
            set_headers: self.set_headers(raw, &at.key("set_headers")),
            max_connections: raw.max_connections,
            max_in_flight: raw.max_in_flight,
            queue: self.queue(raw, at),
            adaptive_concurrency: self.adaptive_concurrency(raw, &at.key("adaptive_concurrency")),
            slow_start: raw.slow_start.map_or(SLOW_START, AnyDuration::get),
            sticky: self.sticky(raw, &at.key("sticky")),
            ejection: self.ejection(raw, &at.key("ejection")),
            bandwidth: raw
                .bandwidth
                .as_deref()
                .map(|it| self.server_bandwidth(it, &at.key("bandwidth"))),
            tcp: self.socket_options(raw.tcp.as_deref(), &at.key("tcp")),
        }
    }

    fn protocol(&mut self, raw: &schema::Upstream, at: &KeyPath) -> Protocol {
        let protocol = raw.protocol.unwrap_or(Protocol::Http1);
        let is_plain = raw.tls.is_none() && !self.problems.contains(&at.key("tls"));
        if protocol == Protocol::Auto && is_plain {
            self.problems.add(
                at.key("protocol"),
                "\"auto\" is what servers choose in the TLS handshake, and there is none; expected \"http1\" or \"http2\", or tls = {}",
            );
        }
        protocol
    }

    fn servers(&mut self, raw: &schema::Upstream, at: &KeyPath) -> Vec<Server> {
        let mut seen: HashMap<&ServerAddress, usize> = HashMap::new();
        let mut servers = Vec::new();
        for (index, raw) in present(&raw.servers) {
            let at = at.index(index);
            let weight = raw.weight.unwrap_or(1);
            if weight > MAX_WEIGHT {
                self.problems.add(
                    at.key("weight"),
                    format!("{weight} is too large; expected 0 to {MAX_WEIGHT}"),
                );
            }
            let expected = "\"host:port\", for example \"127.0.0.1:3000\"";
            let address = self
                .problems
                .required(&raw.address, at.key("address"), expected);
            let Some(address) = address else { continue };
            if let Some(first) = seen.insert(address, index) {
                self.problems.add(
                    at,
                    format!("{address} is server {first} of this upstream already"),
                );
            }
            servers.push(Server {
                address: address.clone(),
                weight,
            });
        }
        servers
    }
}

fn timeouts(raw: Option<&schema::UpstreamTimeouts>) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: duration_or(raw.and_then(|raw| raw.connect), CONNECT),
        response: duration_or(raw.and_then(|raw| raw.response), RESPONSE),
        idle: duration_or(raw.and_then(|raw| raw.idle), IDLE),
        pool_idle: duration_or(raw.and_then(|raw| raw.pool_idle), POOL_IDLE),
    }
}
