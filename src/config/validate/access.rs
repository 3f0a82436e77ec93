//! `allow`, `deny`, `connection_rate`, `bandwidth` and `tcp` of listeners, routes and upstreams.

use std::time::Duration;

use super::Validation;
use crate::config::durations::DurationOrOff;
use crate::config::forms::{List, TableOrList};
use crate::config::key_path::KeyPath;
use crate::config::model::{
    Access, Algorithm, Bandwidth, BandwidthKey, CidrSource, ConnectionRate, OnStoreFailure,
    ServerBandwidth, SocketOptions, Store,
};
use crate::config::schema;
use crate::config::types::{ByteRate, PositiveDuration};

const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// What TCP_KEEPIDLE takes (tcp(7)).
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(32_767);

/// TCP_USER_TIMEOUT is a number of milliseconds of 31 bits.
const LONGEST_USER_TIMEOUT: Duration = Duration::from_secs(24 * 24 * 3600);

impl Validation<'_> {
    pub(super) fn connection_rate(
        &mut self,
        raw: &schema::ConnectionRate,
        at: &KeyPath,
    ) -> Option<ConnectionRate> {
        let algorithm = raw.algorithm.unwrap_or(Algorithm::TokenBucket);
        let store = raw.store.unwrap_or(Store::Memory);
        self.store(store, at.key("store"));
        let expected = "the number of new connections for each window";
        let connections = self
            .problems
            .required(&raw.connections, at.key("connections"), expected);
        let expected = "the time that the connections are for, for example \"10s\"";
        let window = self
            .problems
            .required(&raw.window, at.key("window"), expected);
        let (connections, window) = (*connections?, *window?);
        Some(ConnectionRate {
            algorithm,
            connections,
            window: window.get(),
            burst: self.burst(raw.burst, algorithm, connections, at.key("burst")),
            store,
            lease: self.lease(raw.lease, store, connections, at.key("lease")),
            on_store_failure: raw.on_store_failure.unwrap_or(OnStoreFailure::Local),
        })
    }

    pub(super) fn bandwidth(
        &mut self,
        raw: &Option<TableOrList<schema::Bandwidth>>,
        at: &KeyPath,
    ) -> Vec<Bandwidth> {
        let mut limits: Vec<Bandwidth> = Vec::new();
        for (position, raw) in raw.iter().flat_map(TableOrList::tables) {
            let at = position.map_or_else(|| at.clone(), |position| at.index(position));
            let key = raw.key.unwrap_or(BandwidthKey::ClientIp);
            let is_known = !self.problems.contains(&at.key("key"));
            if is_known && limits.iter().any(|it| it.key == key) {
                let word = match key {
                    BandwidthKey::ClientIp => "client_ip",
                    BandwidthKey::Total => "total",
                };
                self.problems.add(
                    at.clone(),
                    format!("is the second one with key = {word:?}; expected one of each key"),
                );
            }
            let (upload, download) = self.rates(raw.upload, raw.download, &at);
            limits.push(Bandwidth {
                upload,
                download,
                key,
            });
        }
        limits
    }

    pub(super) fn server_bandwidth(
        &mut self,
        raw: &schema::ServerBandwidth,
        at: &KeyPath,
    ) -> ServerBandwidth {
        let (upload, download) = self.rates(raw.upload, raw.download, at);
        ServerBandwidth { upload, download }
    }

    fn rates(
        &mut self,
        upload: Option<ByteRate>,
        download: Option<ByteRate>,
        at: &KeyPath,
    ) -> (Option<u64>, Option<u64>) {
        if upload.is_none() && download.is_none() && !self.problems.concern(at) {
            self.problems.add(
                at.clone(),
                "limits nothing; expected \"upload\" or \"download\" or both, for example { download = \"10MB/s\" }",
            );
        }
        let bytes = ByteRate::bytes_a_second;
        (upload.map(bytes), download.map(bytes))
    }

    pub(super) fn socket_options(
        &mut self,
        raw: Option<&schema::SocketOptions>,
        at: &KeyPath,
    ) -> SocketOptions {
        let keep_alive = raw.and_then(|raw| raw.keep_alive);
        let keep_alive = keep_alive.map_or(Some(KEEP_ALIVE), |DurationOrOff(given)| given);
        if keep_alive.is_some_and(|it| it.subsec_nanos() > 0 || it > LONGEST_KEEP_ALIVE) {
            let longest = PositiveDuration::from(LONGEST_KEEP_ALIVE);
            self.problems.add(
                at.key("keep_alive"),
                format!("is not in whole seconds up to {longest}"),
            );
        }
        let user_timeout = raw.and_then(|raw| raw.user_timeout);
        let user_timeout = user_timeout.and_then(|DurationOrOff(given)| given);
        if user_timeout.is_some_and(|it| it > LONGEST_USER_TIMEOUT) {
            let longest = PositiveDuration::from(LONGEST_USER_TIMEOUT);
            self.problems.add(
                at.key("user_timeout"),
                format!("is longer than {longest}, the most that the system takes"),
            );
        }
        SocketOptions {
            keep_alive,
            user_timeout,
        }
    }
}

/// Who may come.
pub(super) fn access(allow: &Option<List<CidrSource>>, deny: &Option<List<CidrSource>>) -> Access {
    let sources = |list| super::present(list).map(|(_, source): (_, &CidrSource)| source.clone());
    Access {
        allow: sources(allow).collect(),
        deny: sources(deny).collect(),
    }
}
