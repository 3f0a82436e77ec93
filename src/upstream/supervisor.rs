//! What the control thread does for an upstream while it exists: resolves its servers' names, probes each server,
//! regulates their load, and publishes who is eligible.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::announce::Announces;
use super::endpoint::Endpoint;
use super::group::Upstream;
use super::regulator::regulate;
use super::settings::Protocol;
use crate::config::types::ServerAddress;
use crate::health;

/// Time between two resolutions of a name.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);

/// Looks the names of these servers up for the first time, as far as that takes no longer than `limit`, so that the first
/// requests know where to go.
pub async fn resolve_names(endpoints: &[Arc<Endpoint>], limit: Duration) {
    let mut look_ups = JoinSet::new();
    for endpoint in endpoints {
        if let ServerAddress::Name { .. } = endpoint.address() {
            let endpoint = Arc::clone(endpoint);
            // Whoever supervises it says what is wrong.
            look_ups.spawn(async move { resolve(&endpoint, false).await });
        }
    }
    _ = timeout(limit, look_ups.join_all()).await;
}

/// Supervises an upstream for ever. To be run on the control thread; dropping it ends everything that it started.
pub async fn supervise(upstream: Arc<Upstream>) {
    tokio::join!(
        watch_roster(&upstream),
        publish_changes(&upstream),
        regulate(&upstream)
    );
}

/// Publishes after changes of health. Changes that come while a large upstream is being published wait for each other.
async fn publish_changes(upstream: &Upstream) {
    loop {
        upstream.eligibility_changed().await;
        upstream.publish();
        tokio::task::yield_now().await;
    }
}

/// Runs a task for each server that is there, and ends it when the server is removed.
async fn watch_roster(upstream: &Arc<Upstream>) {
    let mut tasks = JoinSet::new();
    let mut running = HashMap::new();
    let mut checks = upstream.settings().health.clone();
    loop {
        let mut gone = std::mem::take(&mut running);
        let now = upstream.settings();
        if now.health != checks {
            // New checks go on from what the former ones have found out.
            checks.clone_from(&now.health);
            gone.drain().for_each(|(_, task)| stop(&task));
        }
        for endpoint in upstream.endpoints() {
            let key = Arc::as_ptr(&endpoint) as usize;
            let task = gone
                .remove(&key)
                .unwrap_or_else(|| tasks.spawn(watch(Arc::clone(upstream), endpoint)));
            running.insert(key, task);
        }
        gone.values().for_each(stop);
        while tasks.try_join_next().is_some() {}
        upstream.roster_changed().await;
    }
}

fn stop(task: &AbortHandle) {
    task.abort();
}

async fn watch(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>) {
    let mut known = resolve(&endpoint, true).await;
    let names = async {
        if let ServerAddress::Name { .. } = endpoint.address() {
            loop {
                sleep(RESOLVE_INTERVAL).await;
                known = resolve(&endpoint, known).await;
            }
        }
    };
    let probes = async {
        if let Some((probe, settings)) = upstream.settings().health.clone() {
            let subject = Watched {
                upstream: Arc::clone(&upstream),
                endpoint: Arc::clone(&endpoint),
            };
            health::watch(subject, probe, settings, fastrand::Rng::new()).await;
        }
    };
    tokio::join!(names, probes);
}

/// Looks a server's name up; the addresses stay as they were when that fails. Returns whether the name is known.
async fn resolve(endpoint: &Endpoint, known: bool) -> bool {
    let ServerAddress::Name { host, port } = endpoint.address() else {
        return true;
    };
    let error = match lookup_host((host.as_str(), *port)).await {
        Ok(addresses) => {
            let addresses: Vec<SocketAddr> = addresses.collect();
            if !addresses.is_empty() {
                endpoint.set_resolved(addresses);
                return true;
            }
            "it has no address".to_owned()
        }
        Err(error) => error.to_string(),
    };
    if known {
        tracing::warn!(server = endpoint.id(), %error, "the server's name cannot be resolved");
    }
    false
}

/// A server as its health checks see it.
struct Watched {
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
}

impl health::Subject for Watched {
    fn upstream(&self) -> &str {
        self.upstream.name()
    }

    fn target(&self) -> health::Target {
        let mut addrs = self.endpoint.resolved().as_ref().clone();
        let mut address = self.endpoint.address().clone();
        if let Some(own_port) = self.upstream.settings().health_port {
            addrs.iter_mut().for_each(|addr| addr.set_port(own_port));
            match &mut address {
                ServerAddress::Ip(ip) => ip.set_port(own_port),
                ServerAddress::Name { port, .. } => *port = own_port,
            }
        }
        let settings = self.upstream.settings();
        health::Target {
            secure: settings.tls.as_ref().map(|tls| health::Secure {
                tls: Arc::clone(tls),
                host: address.host(),
            }),
            address: address.to_string(),
            addrs,
            speaks: match settings.protocol {
                Protocol::Http1 => health::Speaks::Http1,
                Protocol::Http2 => health::Speaks::Http2,
                Protocol::Auto => health::Speaks::Either,
            },
            header: settings.announces.map_or(&[], Announces::for_own),
        }
    }

    fn state(&self) -> health::State {
        self.endpoint.health()
    }

    async fn live_failures(&self) {
        self.endpoint.trouble().await;
    }

    fn publish(&self, state: health::State, _reason: &str) {
        self.upstream.set_health(&self.endpoint, state);
    }
}
