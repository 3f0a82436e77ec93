//! What load balancers share their limits with: a Redis, or each other.

use std::net::SocketAddr;
use std::time::Duration;

use super::UpstreamTls;
use crate::config::types::{RedisServers, Secret, ServerAddress};

/// The Redis of the limiter.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Where it is.
    pub servers: RedisServers,
    /// `Some` exactly where the URLs begin with `rediss://`.
    pub tls: Option<UpstreamTls>,
    /// How long one check may take before `on_store_failure` decides; default 50 ms.
    pub timeout: Duration,
}

/// A fleet of load balancers that tell each other what they have admitted.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The UDP address where the others' datagrams come in.
    pub listen: SocketAddr,
    /// Where the others reach this one; default `listen`, or the address that its datagrams come from. Its port is not 0.
    pub advertise: Option<SocketAddr>,
    /// Some of the others, who say who else is there; may be empty, and may name this one.
    pub seeds: Vec<ServerAddress>,
    /// What all of the fleet share and nobody else knows; at least 16 bytes.
    pub key: Secret,
    /// Unique in the fleet; default the host's name and the port of `listen`.
    pub name: String,
    /// Between two rounds of gossip; default 500 ms.
    pub interval: Duration,
    /// Silence after which another one is taken for dead; at least twice the interval, default 4 s.
    pub dead_after: Duration,
    /// Whether changes of servers at run time are the fleet's; default false.
    pub share_servers: bool,
}

impl Cluster {
    /// How many nodes it names, this one included.
    pub fn nodes(&self) -> u32 {
        let is_own = |seed: &&ServerAddress| match seed {
            ServerAddress::Ip(it) => *it == self.listen || Some(*it) == self.advertise,
            ServerAddress::Name { .. } => false,
        };
        let others = self.seeds.iter().filter(|it| !is_own(it)).count();
        u32::try_from(1 + others).unwrap_or(u32::MAX)
    }
}
