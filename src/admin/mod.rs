//! The admin API: what an operator sees and changes while the load balancer runs, on a listener of its own.
//!
//! ```text
//! listen ─▶ api: panic, deadline ─▶ auth ─▶ servers ─▶ state file, then the upstream's roster
//!                                      ├──▶ metrics, cluster
//!                                      ├──▶ reload ─▶ the control thread's reloads
//!                                      └──▶ health, configuration, OpenAPI document
//! ```
//!
//! It runs on the control thread: no request through the load balancer waits for it. Servers that it adds, removes or
//! changes are a difference to the configuration file, an [`Overlay`], which the [`StateFile`] keeps over restarts.

mod access;
mod api;
mod auth;
mod bandwidth;
mod cluster;
mod error;
mod following;
mod listen;
mod metrics;
mod openapi;
mod overlay;
mod process;
mod register;
mod reload;
mod servers;
mod sharing;
mod state;
mod weight;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use following::follow;
pub use listen::{SharedSocket, Socket, bind, serve};
pub use metrics::render;
pub use overlay::Overlay;
pub use register::Register;
pub use reload::{Applied, Outcome, Problem, Reloads, Request, Trigger, Try};
pub use sharing::{MAX_MESSAGE, News, Sharing, Told};
pub use state::{HeldState, StateError, StateFile, Transaction};

use arc_swap::ArcSwap;

use crate::config::model::{Config, Upstream};
use crate::config::types::{Secret, ServerAddress};
use crate::gossip;
use crate::metrics::access_log::AccessLog;
use crate::proxy::snapshot::Snapshot;

/// The servers of a configuration, with their weights, by upstream.
pub type Configured = BTreeMap<String, Vec<(ServerAddress, u32)>>;

/// The servers of a configuration.
pub fn configured(config: &Config) -> Configured {
    let of = |upstream: &Upstream| {
        let servers = upstream.servers.iter();
        let servers = servers.map(|it| (it.address.clone(), it.weight)).collect();
        (upstream.name.clone(), servers)
    };
    config.upstreams.iter().map(of).collect()
}

/// What the admin API shows and changes.
#[derive(Debug)]
pub struct AdminState {
    /// What the workers use.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The effective configuration, its secrets hidden.
    pub config: ArcSwap<serde_json::Value>,
    /// How configurations are changed.
    pub reloads: Arc<Reloads>,
    /// The bearer token; without one only what cannot come from a web page of elsewhere is answered.
    pub token: Option<Secret>,
    /// Where changes are kept.
    pub state: StateFile,
    /// What the configuration says.
    pub configured: ArcSwap<Configured>,
    /// The fleet, if this is one of one.
    pub cluster: Option<Arc<gossip::Shared>>,
    /// Whose dropped lines are counted.
    pub access_log: Option<Arc<AccessLog>>,
    /// Whether the load balancer is ending, and no longer ready.
    pub draining: AtomicBool,
}

impl AdminState {
    /// What the workers use now. A change of servers should look only once it holds the state file: a new configuration
    /// may be about to come.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}
