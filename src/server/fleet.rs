//! This load balancer as a node of its fleet: what `[cluster]` says, and what nodes tell each other.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{Start, StartError};
use crate::admin::{self, AdminState, Sharing};
use crate::config::Config;
use crate::config::model::Cluster;
use crate::gossip::{
    self, Driver, FleetKey, MAX_PART, Node, Orders, Part, Phase, Place, Settings, Shared, Telling,
    Topics,
};
use crate::limit::{ClusterStore, cluster};
use crate::net::Moment;
use crate::proxy::snapshot::Snapshot;

/// Parts of limits.
const LIMITS: u8 = 1;
/// Parts of changes to servers.
const SERVERS: u8 = 2;

const _: () = assert!(cluster::MAX_PART <= MAX_PART && admin::MAX_MESSAGE <= MAX_PART);

/// How long saying goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(200);

/// Batches of other nodes' changes that wait to be made. What comes beyond comes again.
const MAX_NEWS: usize = 64;

/// A node that is not running yet.
#[derive(Debug)]
pub struct Fleet {
    node: Node,
    place: Place,
    ordered: watch::Receiver<Orders>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// What it is told while it runs.
    pub handle: Handle,
}

/// What is told to a node while it runs, and what it shows.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: Arc<watch::Sender<Orders>>,
    /// The fleet as this node sees it.
    pub shared: Arc<Shared>,
}

impl Fleet {
    /// The node that the configuration describes.
    ///
    /// # Errors
    /// Its address cannot be bound. One that another process has is bound when that one lets go of it.
    pub fn new(
        config: &Cluster,
        start: Start,
        snapshot: &Arc<ArcSwap<Snapshot>>,
    ) -> Result<Self, StartError> {
        let place = match start {
            Start::Fresh => Place::Bound(bind(config)?),
            Start::Upgrade => Place::Later(config.listen),
        };
        let settings = Settings {
            name: config.name.clone(),
            advertise: config.advertise,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interval: config.interval,
            dead_after: config.dead_after,
        };
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix = unix.unwrap_or_default().as_millis() as u64;
        let key = FleetKey::new(config.key.expose().as_bytes());
        let node = Node::new(settings, key, unix, Instant::now(), fastrand::Rng::new());
        let (orders, ordered) = watch::channel(orders(config, Phase::Serving));
        Ok(Self {
            node,
            place,
            ordered,
            snapshot: Arc::clone(snapshot),
            handle: Handle {
                orders: Arc::new(orders),
                shared: Arc::new(Shared::default()),
            },
        })
    }

    /// Takes part from now on, and makes the others' changes to servers in `admin`. To be called in the control thread's
    /// runtime.
    pub fn start(self, admin: Option<&Arc<AdminState>>) -> Handle {
        let servers = admin.map(|admin| {
            let (news, others) = mpsc::channel(MAX_NEWS);
            tokio::spawn(admin::follow(Arc::clone(admin), others));
            Sharing::new(admin.state.shared(), news, fastrand::Rng::new())
        });
        let told = Told {
            snapshot: self.snapshot,
            servers,
        };
        let shared = Arc::clone(&self.handle.shared);
        let driver = Driver::new(self.node, told, self.ordered, shared);
        tokio::spawn(driver.run(self.place));
        self.handle
    }
}

/// Under which name changes of servers are the fleet's, if they are.
pub fn shares_as(config: &Config) -> Option<&str> {
    let cluster = config.cluster.as_ref().filter(|it| it.share_servers)?;
    Some(&cluster.name)
}

fn bind(config: &Cluster) -> Result<UdpSocket, StartError> {
    let failed = |error: io::Error| StartError::Cluster {
        address: config.listen,
        error,
    };
    let socket = gossip::bind(config.listen).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    tracing::info!(listener = %"cluster", %address, "listening");
    Ok(socket)
}

fn orders(config: &Cluster, phase: Phase) -> Orders {
    Orders {
        seeds: config.seeds.clone(),
        advertise: config.advertise,
        interval: config.interval,
        dead_after: config.dead_after,
        phase,
    }
}

impl Handle {
    /// Goes on under a new configuration, as far as a running node can.
    pub fn reconfigure(&self, config: &Cluster) {
        self.orders.send_if_modified(|known| {
            let new = orders(config, known.phase);
            let differs = *known != new;
            *known = new;
            differs
        });
    }

    /// Tells the others that this one ends, or has been replaced. Returns when it has, but soon.
    pub async fn enter(&self, phase: Phase) {
        self.orders.send_modify(|orders| orders.phase = phase);
        if timeout(GOODBYE_LIMIT, self.shared.told(phase))
            .await
            .is_err()
        {
            tracing::debug!("the cluster could not be told that this node ends");
        }
    }
}

/// What nodes tell each other.
#[derive(Debug)]
struct Told {
    /// With the limits that the fleet agrees on, whichever there are at the time.
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Nothing without an admin API, which changes servers.
    servers: Option<Sharing>,
}

impl Told {
    fn of_limits(&self, work: impl FnMut(&ClusterStore) -> Vec<Vec<u8>>) -> Vec<Telling> {
        let snapshot = self.snapshot.load();
        let parts = snapshot.cluster_limits().flat_map(work);
        parts.map(|it| telling(LIMITS, (None, it))).collect()
    }

    fn of_servers(&mut self, work: impl FnOnce(&mut Sharing) -> Vec<admin::Told>) -> Vec<Telling> {
        let told = self.servers.as_mut().map(work).unwrap_or_default();
        told.into_iter().map(|it| telling(SERVERS, it)).collect()
    }

    fn hear_of_limit(&self, peer: u64, bytes: &[u8], moment: &Moment<'_>) -> Option<()> {
        let head = cluster::Head::read(bytes)?;
        let snapshot = self.snapshot.load();
        let mut limits = snapshot.cluster_limits();
        match limits.find(|it| it.head().limit == head.limit) {
            Some(limit) => limit.hear(peer, bytes, moment).then_some(()),
            None => Some(()),
        }
    }
}

impl Topics for Told {
    fn turn(&mut self, moment: &Moment<'_>) -> Vec<Telling> {
        let mut told = self.of_limits(|it| it.turn(moment));
        told.extend(self.of_servers(Sharing::turn));
        told
    }

    fn round(&mut self, moment: &Moment<'_>) -> Vec<Telling> {
        let mut told = self.of_limits(|it| it.round(moment));
        told.extend(self.of_servers(Sharing::round));
        told
    }

    fn hear(&mut self, peer: u64, part: &Part, moment: &Moment<'_>) -> Vec<Telling> {
        let mut answers = Vec::new();
        let understood = match part.kind {
            LIMITS => self.hear_of_limit(peer, &part.bytes, moment).is_some(),
            SERVERS => {
                let mut understood = true;
                answers = self.of_servers(|servers| {
                    let told = servers.hear(peer, &part.bytes);
                    understood = told.is_some();
                    told.unwrap_or_default()
                });
                understood
            }
            _ => true, // of a newer version
        };
        if !understood {
            tracing::debug!("a node of the cluster has said something that is not understood");
        }
        answers
    }

    fn retire(&mut self) {
        self.snapshot
            .load()
            .cluster_limits()
            .for_each(ClusterStore::retire);
    }
}

fn telling(kind: u8, (to, bytes): admin::Told) -> Telling {
    let part = Part { kind, bytes };
    Telling { to, part }
}
