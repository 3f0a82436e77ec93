//! Limits of bytes a second, out of the configuration.

use std::sync::Arc;

use crate::config::model::{self, BandwidthKey, Config, Upstream};
use crate::limit::{Bandwidth, Rates};
use crate::proxy::former::Former;
use crate::proxy::snapshot::BandwidthEntry;

/// The limits of listeners and routes, in the configuration's order.
pub(super) struct Bandwidths {
    listeners: Vec<Vec<Arc<Bandwidth>>>,
    routes: Vec<Vec<Arc<Bandwidth>>>,
}

/// Makes the limits, or takes them over.
pub(super) fn of(
    config: &Config,
    former: &Former<'_>,
    entries: &mut Vec<BandwidthEntry>,
) -> Bandwidths {
    let mut make = |kind: &str, name: &str, limits: &[model::Bandwidth]| {
        let name = format!("{kind}:{name}");
        let made = limits.iter().map(|it| entry(&name, it, former));
        let made: Vec<BandwidthEntry> = made.collect();
        let shared = made.iter().map(|it| Arc::clone(&it.shared)).collect();
        entries.extend(made);
        shared
    };
    let listeners = config.listeners.iter();
    let listeners = listeners.map(|it| make("listener", &it.name, &it.bandwidth));
    let listeners = listeners.collect();
    let routes = config.routes.iter();
    let routes = routes.map(|it| make("route", &it.name, &it.bandwidth));
    Bandwidths {
        listeners,
        routes: routes.collect(),
    }
}

fn entry(name: &str, limit: &model::Bandwidth, former: &Former<'_>) -> BandwidthEntry {
    let new = match limit.key {
        BandwidthKey::ClientIp => Bandwidth::of_clients,
        BandwidthKey::Total => Bandwidth::total,
    };
    let key = match limit.key {
        BandwidthKey::ClientIp => Bandwidth::OF_CLIENTS,
        BandwidthKey::Total => Bandwidth::TOTAL,
    };
    let known = former.bandwidth(name, key);
    BandwidthEntry {
        shared: known.unwrap_or_else(|| Arc::new(new(name))),
        rates: rates(limit.upload, limit.download),
    }
}

/// Bytes a second of each of an upstream's servers.
pub(super) fn of_servers(upstream: &Upstream) -> Rates {
    let limit = upstream.bandwidth.as_ref();
    limit.map_or_else(Rates::default, |it| rates(it.upload, it.download))
}

fn rates(upload: Option<u64>, download: Option<u64>) -> Rates {
    Rates {
        upload: upload.unwrap_or(0),
        download: download.unwrap_or(0),
    }
}

impl Bandwidths {
    /// Those of a listener.
    pub(super) fn of_listener(&self, listener: usize) -> Vec<Arc<Bandwidth>> {
        clients_first(self.listeners[listener].clone())
    }

    /// Those of a route at a listener, which both hold.
    pub(super) fn of_route(&self, listener: usize, route: usize) -> Vec<Arc<Bandwidth>> {
        let both = [&self.routes[route][..], &self.listeners[listener]];
        clients_first(both.concat())
    }
}

/// Who waits for its own turn should not hold a place that others wait for.
fn clients_first(mut limits: Vec<Arc<Bandwidth>>) -> Vec<Arc<Bandwidth>> {
    limits.sort_by_key(|it| it.key() == Bandwidth::TOTAL);
    limits
}
