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
mod listen;
mod metrics;
mod openapi;
mod overlay;
mod process;
mod reload;
mod servers;
mod state;
mod weight;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use listen::{SharedSocket, Socket, bind, serve};
pub use metrics::render;
pub use overlay::Overlay;
pub use reload::{Applied, Outcome, Problem, Reloads, Request, Trigger, Try};
pub use state::{HeldState, StateError, StateFile, Transaction};

use arc_swap::ArcSwap;

use crate::config::types::Secret;
use crate::gossip;
use crate::metrics::access_log::AccessLog;
use crate::proxy::snapshot::Snapshot;

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
