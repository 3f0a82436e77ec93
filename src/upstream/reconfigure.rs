//! A new configuration of an upstream that exists: what it does not change stays as it is.
//!
//! Servers are made before they are needed and removed when nobody needs them any more:
//!
//! ```text
//! add_ahead ─▶ proven ─▶ (the workers take over the new routes) ─▶ reconfigure
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::endpoint::{Endpoint, Origin, Spec};
use super::group::{Settings, Upstream};
use crate::config::types::ServerAddress;
use crate::health;

/// Time between two looks at servers that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

impl Upstream {
    /// Adds those servers of a new configuration that are not there yet, and returns them. While others can be used, they
    /// get no request before their first good probe: what was just written down may not run yet.
    ///
    /// Does nothing if the new servers are to be spoken to in another way than those that are there.
    pub fn add_ahead(&self, settings: &Settings, specs: &[Spec]) -> Vec<Arc<Endpoint>> {
        let mut added = Vec::new();
        {
            let mut roster = self.roster();
            if !settings.connects_like(&roster.settings) {
                return added;
            }
            let others = roster.endpoints.iter().any(|it| it.eligible());
            for spec in specs {
                let is_same = |it: &Arc<Endpoint>| *it.address() == spec.address;
                if roster.endpoints.iter().any(is_same) {
                    continue;
                }
                let endpoint = Arc::new(self.endpoint(spec.clone(), &roster.settings));
                if others && roster.settings.health.is_some() {
                    endpoint.set_trusted(false);
                }
                roster.endpoints.push(Arc::clone(&endpoint));
                added.push(endpoint);
            }
        }
        if !added.is_empty() {
            self.publish_roster();
        }
        added
    }

    /// Takes over new settings and servers, the kept ones with their connections, health and counts. Workers see all of
    /// it, or nothing yet. Servers that are gone get no new request; those in flight go on to their end.
    pub fn reconfigure(&self, settings: Settings, specs: Vec<Spec>) {
        let mut former: HashMap<ServerAddress, Arc<Endpoint>> = HashMap::new();
        {
            let mut roster = self.roster();
            let new_checks = settings.health != roster.settings.health;
            roster.settings = Arc::new(settings);
            for endpoint in std::mem::take(&mut roster.endpoints) {
                former.insert(endpoint.address().clone(), endpoint);
            }
            for spec in specs {
                let endpoint = match former.remove(&spec.address) {
                    Some(endpoint) => {
                        endpoint.follow(&spec);
                        endpoint
                    }
                    None => Arc::new(self.endpoint(spec, &roster.settings)),
                };
                if new_checks {
                    endpoint.set_fall(roster.settings.fall());
                }
                roster.endpoints.push(endpoint);
            }
        }
        former.values().for_each(|it| it.set_draining(true));
        self.publish_roster();
    }
}

/// Waits until something is known of the health of servers that were just added, for `limit` at most. Of which nothing is
/// known by then is used like a server at the start.
pub async fn proven(endpoints: &[Arc<Endpoint>], limit: Duration) {
    let end = Instant::now() + limit;
    let is_open = |it: &Arc<Endpoint>| it.is_checked() && it.health() == health::State::Unknown;
    while endpoints.iter().any(is_open) && Instant::now() < end {
        sleep(LOOK_INTERVAL).await;
    }
    let configured = endpoints.iter().filter(|it| it.origin() == Origin::Config);
    configured.for_each(|it| it.set_trusted(true));
}
