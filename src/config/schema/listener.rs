//! `[[listeners]]` as they are written.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::limit::{Bandwidth, ConnectionRate};
use crate::config::durations::DurationOrOff;
use crate::config::forms::{List, OneOrMany, Table, TableOrList};
use crate::config::model::{CidrSource, Mode, TlsVersion};
use crate::config::names::{ListenAddress, Name};
use crate::config::types::{ByteRate, PositiveDuration};

/// `[[listeners]]`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Listener {
    pub name: Option<Name>,
    pub listen: Option<OneOrMany<ListenAddress>>,
    pub mode: Option<Mode>,
    pub upstream: Option<Name>,
    pub sni: Option<BTreeMap<String, Name>>,
    pub alpn: Option<BTreeMap<String, Name>>,
    pub allow: Option<List<CidrSource>>,
    pub deny: Option<List<CidrSource>>,
    pub connection_rate: Option<Table<ConnectionRate>>,
    pub bandwidth: Option<TableOrList<Bandwidth>>,
    pub max_connections: Option<NonZeroUsize>,
    pub max_connections_per_ip: Option<NonZeroU32>,
    pub tls: Option<Table<ListenerTls>>,
    pub http2: Option<bool>,
    pub proxy_protocol: Option<AcceptProxy>,
    pub min_body_rate: Option<ByteRate>,
    pub normalize_path: Option<bool>,
    pub timeouts: Option<Table<ListenerTimeouts>>,
    pub tcp: Option<Table<SocketOptions>>,
    pub responses: Option<NonZeroU32>,
    pub quic: Option<bool>,
}

/// `listeners.proxy_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptProxy {
    Off,
    Required,
}

/// `listeners.tls`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ListenerTls {
    pub certificates: Option<List<Table<CertificateFiles>>>,
    pub min_version: Option<TlsVersion>,
    pub session_tickets: Option<bool>,
    pub client_auth: Option<ClientAuth>,
    pub client_ca: Option<PathBuf>,
}

/// `listeners.tls.certificates`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CertificateFiles {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ocsp: Option<PathBuf>,
}

/// `listeners.tls.client_auth`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    None,
    Optional,
    Required,
}

/// `listeners.timeouts`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ListenerTimeouts {
    pub headers: Option<PositiveDuration>,
    pub keep_alive: Option<PositiveDuration>,
    pub idle: Option<PositiveDuration>,
    pub half_closed: Option<PositiveDuration>,
    pub tls_handshake: Option<PositiveDuration>,
}

/// `listeners.tcp` and `upstreams.tcp`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SocketOptions {
    pub keep_alive: Option<DurationOrOff>,
    pub user_timeout: Option<DurationOrOff>,
}
