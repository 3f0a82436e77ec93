//! `[[listeners]]`

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::access::access;
use super::uses::mode_of;
use super::{Names, Validation, duration_or, name_or_position, present};
use crate::config::key_path::KeyPath;
use crate::config::model::{AdminListen, Listener, ListenerTimeouts, Mode};
use crate::config::schema;
use crate::config::types::ByteRate;

const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(100_000).expect("it is not zero");
const HEADERS: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const IDLE: Duration = Duration::from_secs(60);
const TCP_IDLE: Duration = Duration::from_secs(3600);
const HALF_CLOSED: Duration = Duration::from_secs(300);
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

impl Validation<'_> {
    pub(super) fn listener_names(&mut self) -> Names {
        let root = self.root;
        let names = present(&root.listeners)
            .map(|(position, raw)| (position, name_or_position(&raw.name, "listener", position)));
        self.names("listener", "listeners", names)
    }

    pub(super) fn listeners(&mut self, upstreams: &Names) -> Vec<Listener> {
        let root = self.root;
        let list = KeyPath::default().key("listeners");
        if root.listeners.as_ref().is_none_or(Vec::is_empty) {
            self.problems.add(
                list.clone(),
                "there are none; expected at least one, for example: [[listeners]] listen = \"127.0.0.1:8080\"",
            );
        }
        present(&root.listeners)
            .map(|(position, raw)| self.listener(raw, position, upstreams, &list.index(position)))
            .collect()
    }

    fn listener(
        &mut self,
        raw: &schema::Listener,
        position: usize,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Listener {
        self.keys_of_mode(raw, at);
        let expected = "an address such as \"127.0.0.1:8080\"";
        let listen = self
            .problems
            .required(&raw.listen, at.key("listen"), expected);
        if listen.is_some_and(|listen| listen.0.is_empty()) {
            self.problems.add(
                at.key("listen"),
                format!("is empty; expected {expected}, or several"),
            );
        }
        Listener {
            name: name_or_position(&raw.name, "listener", position),
            addresses: addresses(raw).map(|(_, address)| address).collect(),
            mode: mode_of(raw),
            upstream: self.listener_upstream(raw, upstreams, at),
            sni: self.sni(raw, upstreams, &at.key("sni")),
            alpn: self.alpn(raw, upstreams, &at.key("alpn")),
            access: access(&raw.allow, &raw.deny),
            connection_rate: raw
                .connection_rate
                .as_deref()
                .and_then(|it| self.connection_rate(it, &at.key("connection_rate"))),
            bandwidth: self.bandwidth(&raw.bandwidth, &at.key("bandwidth")),
            max_connections: raw.max_connections.unwrap_or(MAX_CONNECTIONS),
            max_connections_per_ip: raw.max_connections_per_ip,
            tls: raw
                .tls
                .as_deref()
                .map(|tls| self.listener_tls(tls, &at.key("tls"))),
            http2: raw.http2.unwrap_or(true),
            proxy_protocol: self.accept_proxy(raw, at.key("proxy_protocol")),
            min_body_rate: raw.min_body_rate.map(ByteRate::bytes_a_second),
            normalize_path: raw.normalize_path.unwrap_or(false),
            timeouts: timeouts(raw),
            tcp: self.socket_options(raw.tcp.as_deref(), &at.key("tcp")),
            responses: raw.responses,
            quic: raw.quic.unwrap_or(false),
        }
    }

    /// Whether connections begin with a PROXY header; then someone must be allowed to send it.
    fn accept_proxy(&mut self, raw: &schema::Listener, at: KeyPath) -> bool {
        let is_required = raw.proxy_protocol == Some(schema::AcceptProxy::Required);
        let trusted = KeyPath::default().key("trusted_proxies");
        let nobody = self.root.trusted_proxies.as_ref().is_none_or(Vec::is_empty);
        if is_required && nobody && !self.problems.contains(&trusted) {
            self.problems.add(
                at,
                "\"required\" takes PROXY headers from trusted proxies, and there are none; set for example trusted_proxies = [\"10.0.0.0/8\"] at the top level",
            );
        }
        is_required
    }

    /// Two listeners cannot have the same address, but for one of UDP and one of TCP. Port 0 is a new port each time.
    pub(super) fn no_address_twice(&mut self) {
        let root = self.root;
        let list = KeyPath::default().key("listeners");
        let mut seen: HashMap<(bool, SocketAddr), KeyPath> = HashMap::new();
        if let Some(AdminListen::Tcp(address)) = self.admin_listen() {
            let at = KeyPath::default().key("admin").key("listen");
            seen.insert((false, address), at);
        }
        let cluster = root.cluster.as_deref().and_then(|it| it.listen);
        if let Some(address) = cluster {
            let at = KeyPath::default().key("cluster").key("listen");
            seen.insert((true, address.0), at);
        }
        for (position, raw) in present(&root.listeners) {
            for (index, address) in addresses(raw) {
                let at = list.index(position).key("listen").index(index);
                let is_udp = mode_of(raw) == Mode::Udp;
                match seen.get(&(is_udp, address)) {
                    Some(first) if address.port() != 0 => {
                        let message = format!("{address} is taken by {first} already");
                        self.problems.add(at, message);
                    }
                    _ => {
                        seen.insert((is_udp, address), at);
                    }
                }
            }
        }
    }
}

fn addresses(raw: &schema::Listener) -> impl Iterator<Item = (usize, SocketAddr)> + '_ {
    let list = raw
        .listen
        .iter()
        .flat_map(|listen| listen.0.iter().enumerate());
    list.filter_map(|(index, address)| Some((index, address.as_ref()?.0)))
}

fn timeouts(listener: &schema::Listener) -> ListenerTimeouts {
    let raw = listener.timeouts.as_deref();
    let idle = match mode_of(listener) {
        Mode::Http | Mode::Udp => IDLE,
        Mode::Tcp => TCP_IDLE,
    };
    ListenerTimeouts {
        headers: duration_or(raw.and_then(|raw| raw.headers), HEADERS),
        keep_alive: duration_or(raw.and_then(|raw| raw.keep_alive), KEEP_ALIVE),
        idle: duration_or(raw.and_then(|raw| raw.idle), idle),
        half_closed: duration_or(raw.and_then(|raw| raw.half_closed), HALF_CLOSED),
        tls_handshake: duration_or(raw.and_then(|raw| raw.tls_handshake), TLS_HANDSHAKE),
    }
}
