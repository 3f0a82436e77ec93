//! This load balancer as a node of its fleet: what `[cluster]` says, and what nodes tell each other of limits.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Start, StartError};
use crate::config::model::Cluster;
use crate::gossip::{
    self, Driver, FleetKey, MAX_PART, Moment, Node, Orders, Part, Phase, Place, Settings, Shared,
    Topics,
};
use crate::limit::{ClusterStore, cluster};
use crate::proxy::snapshot::Snapshot;

/// Parts of limits.
const LIMITS: u8 = 1;

const _: () = assert!(
    cluster::MAX_PART <= MAX_PART,
    "lists of limits fit into parts"
);

/// A node that is not running yet.
#[derive(Debug)]
pub struct Fleet {
    driver: Driver<Limits>,
    place: Place,
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
        let shared = Arc::new(Shared::default());
        let limits = Limits(Arc::clone(snapshot));
        Ok(Self {
            driver: Driver::new(node, limits, ordered, Arc::clone(&shared)),
            place,
            handle: Handle {
                orders: Arc::new(orders),
                shared,
            },
        })
    }

    /// Takes part from now on. To be called in the control thread's runtime.
    pub fn start(self) -> Handle {
        tokio::spawn(self.driver.run(self.place));
        self.handle
    }
}

fn bind(config: &Cluster) -> Result<std::net::UdpSocket, StartError> {
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

    /// Tells the others that this one ends, or has been replaced.
    pub fn enter(&self, phase: Phase) {
        self.orders.send_modify(|orders| orders.phase = phase);
    }
}

/// The limits that the fleet agrees on, whichever there are at the time.
#[derive(Debug)]
struct Limits(Arc<ArcSwap<Snapshot>>);

impl Limits {
    fn each(&self, work: impl FnMut(&ClusterStore) -> Vec<Vec<u8>>) -> Vec<Part> {
        let snapshot = self.0.load();
        let parts = snapshot.cluster_limits().flat_map(work);
        let part = |bytes| Part {
            kind: LIMITS,
            bytes,
        };
        parts.map(part).collect()
    }
}

impl Topics for Limits {
    fn turn(&mut self, moment: &Moment<'_>) -> Vec<Part> {
        self.each(|it| it.turn(&of_limits(moment)))
    }

    fn round(&mut self, moment: &Moment<'_>) -> Vec<Part> {
        self.each(|it| it.round(&of_limits(moment)))
    }

    fn hear(&mut self, peer: u64, part: &Part, moment: &Moment<'_>) {
        let Some(head) = cluster::Head::read(&part.bytes).filter(|_| part.kind == LIMITS) else {
            return; // of another version
        };
        let snapshot = self.0.load();
        let limit = snapshot
            .cluster_limits()
            .find(|it| it.head().limit == head.limit);
        if let Some(limit) = limit
            && !limit.hear(peer, &part.bytes, &of_limits(moment))
        {
            tracing::debug!("a node of the cluster told of a limit what cannot be read");
        }
    }
}

fn of_limits<'a>(moment: &Moment<'a>) -> cluster::Moment<'a> {
    cluster::Moment {
        now: moment.now,
        clock: moment.clock,
        interval: moment.interval,
        peers: moment.peers,
        expected: moment.expected,
    }
}
