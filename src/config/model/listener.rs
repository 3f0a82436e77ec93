//! `[[listeners]]`: where clients come in, what is spoken there and what they may.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Access, Bandwidth, ConnectionRate, ListenerTls};
use crate::config::types::HostPattern;

/// A bound address, or several, and what is spoken there.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique; default `listener0`, `listener1`, ... by position.
    pub name: String,
    /// At least one; no address occurs in two listeners, but for one of UDP and one of TCP.
    pub addresses: Vec<SocketAddr>,
    /// Default HTTP.
    pub mode: Mode,
    /// Index into `Config::upstreams`: where connections and sessions go; `None` for HTTP, and where `sni` and `alpn` of a
    /// TCP listener without `tls` are all that it takes.
    pub upstream: Option<usize>,
    /// Names that TLS clients ask for (RFC 6066, section 3) and the upstreams, as indices, that their connections are passed
    /// to as they are. No pattern twice; empty by default, and for UDP and HTTP without `tls`.
    pub sni: Vec<(HostPattern, usize)>,
    /// The same by protocols that clients offer (RFC 7301); looked at before `sni`.
    pub alpn: Vec<(String, usize)>,
    /// Which clients are served; default all.
    pub access: Access,
    /// New connections of one client's address, of UDP: new sessions; default no limit.
    pub connection_rate: Option<ConnectionRate>,
    /// What connections may carry; at most one of each key, none by default.
    pub bandwidth: Vec<Bandwidth>,
    /// Connections, of UDP: sessions, over all workers; default 100,000.
    pub max_connections: NonZeroUsize,
    /// Of one address (IPv6: of one /64) at a time, over all workers; default no limit.
    pub max_connections_per_ip: Option<NonZeroU32>,
    /// `None` (the default, and always for UDP) ends no TLS.
    pub tls: Option<ListenerTls>,
    /// HTTP/2, by ALPN where there is TLS and by prior knowledge where there is none; default true.
    pub http2: bool,
    /// `true` (`"required"`): each connection begins with a PROXY header. `false` (`"off"`, the default): none may.
    pub proxy_protocol: bool,
    /// Bytes a second that a request's body must make after its first 10 s; default no such rate.
    pub min_body_rate: Option<u64>,
    /// Forwards the path in the form in which routes are matched; default false, as it was sent.
    pub normalize_path: bool,
    /// See the fields.
    pub timeouts: ListenerTimeouts,
    /// Of clients' connections.
    pub tcp: SocketOptions,
    /// UDP: a session ends after so many datagrams from the server; default none.
    pub responses: Option<NonZeroU32>,
    /// UDP: sessions go by QUIC's connection ids where one can be told; default false.
    pub quic: bool,
}

/// What is spoken with clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP/1.1 and HTTP/2, by routes.
    Http,
    /// Any protocol over TCP.
    Tcp,
    /// Any protocol over UDP.
    Udp,
}

/// Client-side timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// HTTP: from a request's first byte to the end of its headers; default 10 s.
    pub headers: Duration,
    /// HTTP: between requests; default 75 s.
    pub keep_alive: Duration,
    /// HTTP: without progress of a body or tunnel; default 60 s. TCP: nothing moves either way; default 1 h. UDP: the end of
    /// a session, after neither side has sent anything; default 60 s.
    pub idle: Duration,
    /// TCP: nothing moves after one side has ended its sending; default 5 m.
    pub half_closed: Duration,
    /// From the connection to the end of the PROXY header, of the TLS handshake and of the ClientHello that `sni` and `alpn`
    /// look at; default 10 s.
    pub tls_handshake: Duration,
}

/// What the kernel does about connections whose other side is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Silence after which it is asked whether it is there still (RFC 9293, section 3.8.4), in whole seconds from 1 to
    /// 32,767; default 60 s, `None` for `"off"`.
    pub keep_alive: Option<Duration>,
    /// How long what was sent may go unacknowledged (RFC 5482), at most 24 days; `None` (the default) leaves it to the
    /// kernel's retransmissions.
    pub user_timeout: Option<Duration>,
}
