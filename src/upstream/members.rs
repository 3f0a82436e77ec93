//! Who of an upstream is used, as it is published to workers.

use std::sync::Arc;

use super::endpoint::Endpoint;
use super::settings::Settings;
use crate::balance::Balancer;

/// The eligible servers, in the order that their balancer knows, and the policy that holds for them: published as one.
#[derive(Debug)]
pub struct Members {
    /// The upstream's policy.
    pub settings: Arc<Settings>,
    /// Healthy, not draining, weight above 0, not ejected (or all are needed).
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Ejected, but otherwise like those: for requests that none of those could be reached with.
    pub spare: Vec<Arc<Endpoint>>,
    /// Chooses among the eligible ones.
    pub balancer: Balancer,
    /// Their identities and indices, in order.
    by_identity: Vec<(u64, u32)>,
}

impl Members {
    pub(super) fn new(
        settings: Arc<Settings>,
        endpoints: Vec<Arc<Endpoint>>,
        spare: Vec<Arc<Endpoint>>,
        balancer: Balancer,
    ) -> Self {
        let identities = endpoints.iter().map(|endpoint| endpoint.identity());
        let mut by_identity: Vec<_> = identities.zip(0..).collect();
        by_identity.sort_unstable();
        Self {
            settings,
            endpoints,
            spare,
            balancer,
            by_identity,
        }
    }

    /// The index of the server of this identity, if it is eligible.
    pub fn find(&self, identity: u64) -> Option<usize> {
        let found = self
            .by_identity
            .binary_search_by_key(&identity, |(it, _)| *it);
        found.ok().map(|index| self.by_identity[index].1 as usize)
    }

    /// How many requests the servers have room for, counted up to `most`; without servers nothing is in the way.
    pub(super) fn room(&self, most: usize) -> usize {
        if self.endpoints.is_empty() {
            return most;
        }
        let mut room = 0;
        for endpoint in &self.endpoints {
            room += endpoint.load().room() as usize;
            if room >= most {
                break;
            }
        }
        room.min(most)
    }
}
