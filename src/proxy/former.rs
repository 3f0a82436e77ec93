//! What the snapshot to be takes over from the one before: places, counts and whatever has a memory, each by its name.

use std::collections::HashMap;
use std::sync::Arc;

use super::snapshot::{LimitEntry, ListenerEntry, RouteEntry, Snapshot};
use crate::config::model::{Config, LimitKey};
use crate::limit::{Bandwidth, ClusterStore, LimiterShared, Quota, RedisStats, Store};
use crate::route::RouteTable;
use crate::upstream::Upstream;

/// The snapshot before, if there is one.
pub(super) struct Former<'a> {
    snapshot: Option<&'a Snapshot>,
    upstreams: HashMap<&'a str, &'a Arc<Upstream>>,
    limits: HashMap<&'a str, &'a LimitEntry>,
}

impl<'a> Former<'a> {
    pub(super) fn new(snapshot: Option<&'a Snapshot>) -> Self {
        let upstreams = snapshot.iter().flat_map(|it| &it.upstreams);
        let limits = snapshot.iter().flat_map(|it| &it.limits);
        Self {
            snapshot,
            upstreams: upstreams.map(|it| (it.shared.name(), &it.shared)).collect(),
            limits: limits.map(|it| (it.shared.name(), it)).collect(),
        }
    }

    fn listeners(&self) -> &'a [ListenerEntry] {
        self.snapshot.map_or(&[], |it| &it.listeners)
    }

    /// The listeners' places in the snapshot to be, by their places in the configuration.
    pub(super) fn places(&self, config: &Config) -> Vec<usize> {
        let former = self.listeners();
        let names = former.iter().enumerate();
        let known: HashMap<&str, usize> = names.map(|(at, it)| (it.name.as_str(), at)).collect();
        let mut next = former.len();
        let place = |name: &str| {
            known.get(name).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        };
        let listeners = config.listeners.iter().map(|it| it.name.as_str());
        listeners.map(place).collect()
    }

    /// All listeners in their places: those of the configuration, and the others as closed ones.
    pub(super) fn arrange(
        &self,
        listeners: Vec<ListenerEntry>,
        places: &[usize],
    ) -> Vec<ListenerEntry> {
        let former = self.listeners();
        let last = places.iter().map(|place| place + 1).max();
        let count = former.len().max(last.unwrap_or(0));
        let mut arranged: Vec<Option<ListenerEntry>> = (0..count).map(|_| None).collect();
        for (listener, place) in listeners.into_iter().zip(places) {
            arranged[*place] = Some(listener);
        }
        let arranged = arranged.into_iter().enumerate();
        arranged
            .map(|(place, listener)| listener.unwrap_or_else(|| former[place].closed()))
            .collect()
    }

    /// The listener of this name, even if it was closed.
    pub(super) fn listener(&self, name: &str) -> Option<&'a ListenerEntry> {
        self.listeners().iter().find(|it| it.name == name)
    }

    /// The upstream of this name.
    pub(super) fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.upstreams.get(name).map(|it| Arc::clone(it))
    }

    /// What connections to Redis came to.
    pub(super) fn redis_stats(&self) -> Arc<RedisStats> {
        let redis = self.snapshot.and_then(|it| it.redis.as_ref());
        redis.map_or_else(Arc::default, |it| Arc::clone(&it.stats))
    }

    /// A limit with its counts, and a count of its decisions, as far as there were such.
    pub(super) fn limit(
        &self,
        name: &str,
        quota: &Quota,
        store: Store,
        key: &LimitKey,
    ) -> (Option<Arc<LimiterShared>>, Option<&'a LimitEntry>) {
        let former = self.limits.get(name).copied();
        let counts = former.filter(|it| {
            it.shared.quota() == quota && it.shared.store() == store && it.key == *key
        });
        (counts.map(|it| Arc::clone(&it.shared)), former)
    }

    /// How many nodes have shared limits, as far as any of them knew.
    pub(super) fn fleet_size(&self) -> Option<u32> {
        let limits = self.snapshot.iter().flat_map(|it| it.cluster_limits());
        limits.map(ClusterStore::nodes).max()
    }
}

impl Former<'_> {
    /// A limit of bytes a second, with those who are under it.
    pub(super) fn bandwidth(&self, name: &str, key: &str) -> Option<Arc<Bandwidth>> {
        let all = self.snapshot.iter().flat_map(|it| &it.bandwidths);
        let mut all = all.map(|it| &it.shared);
        let found = all.find(|it| it.name() == name && it.key() == key);
        found.map(Arc::clone)
    }
}

impl ListenerEntry {
    /// Its routes, by their names: they have counts.
    pub(super) fn routes_by_name(&self) -> HashMap<&str, &RouteEntry> {
        let entries = self.entries.iter();
        entries.map(|it| (it.name.as_str(), &**it)).collect()
    }

    /// The same listener, gone.
    fn closed(&self) -> Self {
        Self {
            name: self.name.clone(),
            closed: true,
            timeouts: self.timeouts,
            access: self.access.clone(),
            connection_rate: None,
            bandwidth: Vec::new(),
            tls: self.tls.clone(),
            proxy_protocol: self.proxy_protocol,
            http2: self.http2,
            per_address: self.per_address.clone(),
            min_body_rate: self.min_body_rate,
            normalize_path: self.normalize_path,
            is_tcp: self.is_tcp,
            upstream: None,
            names: None,
            udp: self.udp.clone(),
            routes: RouteTable::build(Vec::new()).expect("no routes do not contradict each other"),
            entries: self.entries.clone(),
            unrouted: Arc::clone(&self.unrouted),
            stats: Arc::clone(&self.stats),
            bytes: Arc::clone(&self.bytes),
        }
    }
}
