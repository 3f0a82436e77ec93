//! A Redis Cluster: one link to each primary, and a map of who owns which slot.
//!
//! The map is asked for at the start, after a node has sent a check elsewhere (MOVED), and again and again while a node
//! is down, so that the replica that takes its place is found. A check that is sent elsewhere follows, within its timeout.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use redis::{ErrorKind, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::StoreError;
use super::link::{Link, Target, Terms};
use super::script::Call;
use super::server::{CONNECT_TIMEOUT, Server};
use super::settings::Role;
use super::slots::{SLOTS, ranges, slot};

/// Nodes that a check is sent to at most.
const MAX_HOPS: usize = 4;
/// Between two questions for the map.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Between two questions while a node is down.
const PAUSE: Duration = Duration::from_millis(250);
/// A slot that nobody owns.
const NOBODY: u16 = u16::MAX;
/// More nodes than any cluster has; what names more is no cluster.
const MAX_NODES: usize = 2000;

/// A worker's connections to a cluster.
pub(super) struct Cluster {
    terms: Rc<Terms>,
    /// The servers of the configuration; the first one's login and TLS are for all.
    seeds: Vec<Server>,
    map: RefCell<Map>,
    /// Whether a task is at the map.
    is_refreshing: Cell<bool>,
    refreshed: Cell<Option<Instant>>,
    /// Who of `nodes` is asked first: not always the same, which may know nothing of late.
    next: Cell<usize>,
    /// Nobody could be asked for the map, and there is none from before.
    is_lost: Cell<bool>,
    /// Wakes the checks that wait for the first map.
    changed: Notify,
}

#[derive(Default)]
struct Map {
    nodes: Vec<Rc<Link>>,
    /// The place in `nodes` of each slot's owner; empty before the first answer.
    owners: Vec<u16>,
    /// The same as it was in the answer; checks that were sent elsewhere have changed `owners` since.
    named: Vec<u16>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Rc<Link>> {
        let node = self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(*node))
    }

    fn place(&self, server: &Server) -> Option<usize> {
        self.nodes.iter().position(|it| it.server().is_at(server))
    }
}

/// Where a node has sent a check.
enum Redirection {
    /// For good.
    Moved(Server),
    /// For this once: the slot is on its way there.
    Ask(Server),
}

impl Cluster {
    /// The cluster that `seeds` belong to; there is at least one.
    pub(super) fn new(terms: Rc<Terms>, seeds: Vec<Server>) -> Rc<Self> {
        Rc::new(Self {
            terms,
            seeds,
            map: RefCell::default(),
            is_refreshing: Cell::new(false),
            refreshed: Cell::new(None),
            next: Cell::new(0),
            is_lost: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Connects to all primaries, as far as they can be reached.
    pub(super) async fn warm_up(self: &Rc<Self>) {
        _ = timeout(CONNECT_TIMEOUT, async {
            _ = self.known().await;
            let nodes = self.map.borrow().nodes.clone();
            for node in nodes {
                node.warm_up().await; // all of them have begun to connect
            }
        })
        .await;
    }

    /// The addresses of the nodes that are known.
    pub(super) fn servers(&self) -> Vec<String> {
        let map = self.map.borrow();
        map.nodes.iter().map(|it| it.server().to_string()).collect()
    }

    /// Whether who owns the key's slot is known to be down. Such a check goes no further, so this is where somebody looks
    /// for who has taken its place.
    pub(super) fn is_down(self: &Rc<Self>, key: &str) -> bool {
        let is_owner_down = self.map.borrow().owner(slot(key)).map(|it| it.is_down());
        if is_owner_down == Some(true) {
            self.refresh();
        }
        is_owner_down.unwrap_or(self.is_lost.get())
    }

    /// Runs a script on the key until `deadline`.
    pub(super) async fn call(
        self: &Rc<Self>,
        key: &str,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Value, StoreError> {
        let slot = slot(key);
        let mut link = self.owner(slot, deadline).await?;
        let mut asking = false;
        for _ in 0..MAX_HOPS {
            let error = match link.call(call, deadline, asking).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match redirection(&error, &link.server()) {
                Some(Redirection::Moved(to)) => {
                    self.terms.stats.redirections.increment();
                    link = self.assign(slot, &to)?;
                    asking = false;
                    self.refresh();
                }
                Some(Redirection::Ask(to)) => {
                    self.terms.stats.redirections.increment();
                    link = self.node(&to)?;
                    asking = true;
                }
                None => {
                    if link.is_down() || error.is_of_cluster() {
                        self.refresh();
                    }
                    return Err(error);
                }
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Who owns the slot. Waits for the first map.
    async fn owner(self: &Rc<Self>, slot: u16, deadline: Instant) -> Result<Rc<Link>, StoreError> {
        if self.map.borrow().owners.is_empty() {
            match timeout_at(deadline, self.known()).await {
                Ok(known) => known?,
                Err(_) => return Err(StoreError::Timeout(self.terms.timeout)),
            }
        }
        let owner = self.map.borrow().owner(slot).cloned();
        owner.ok_or_else(|| {
            self.refresh();
            StoreError::Unavailable
        })
    }

    /// Waits until there is a map, or nobody to ask for it.
    async fn known(self: &Rc<Self>) -> Result<(), StoreError> {
        loop {
            let changed = self.changed.notified();
            if !self.map.borrow().owners.is_empty() {
                return Ok(());
            }
            if self.is_lost.get() {
                return Err(StoreError::Unavailable);
            }
            self.refresh();
            changed.await;
        }
    }

    /// Makes `server` the owner of the slot.
    fn assign(&self, slot: u16, server: &Server) -> Result<Rc<Link>, StoreError> {
        let link = self.node(server)?;
        let mut map = self.map.borrow_mut();
        let place = map
            .place(server)
            .and_then(|place| u16::try_from(place).ok());
        if let (Some(place), Some(owner)) = (place, map.owners.get_mut(usize::from(slot))) {
            *owner = place;
        }
        Ok(link)
    }

    /// The link to a node, which may be new.
    fn node(&self, server: &Server) -> Result<Rc<Link>, StoreError> {
        let mut map = self.map.borrow_mut();
        if let Some(place) = map.place(server) {
            return Ok(Rc::clone(&map.nodes[place]));
        }
        if map.nodes.len() >= MAX_NODES {
            return Err(StoreError::Unavailable);
        }
        let link = Link::new(Rc::clone(&self.terms), Target::Node(server.clone()));
        map.nodes.push(Rc::clone(&link));
        Ok(link)
    }

    /// Has the map asked for, soon.
    fn refresh(self: &Rc<Self>) {
        if !self.is_refreshing.replace(true) {
            tokio::task::spawn_local(refresh(Rc::downgrade(self)));
        }
    }

    /// Asks whoever can be asked for the map.
    async fn fetch(&self) -> Result<(), StoreError> {
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let mut nodes = self.map.borrow().nodes.clone();
        self.next.set(self.next.get().wrapping_add(1));
        let first = self.next.get() % nodes.len().max(1);
        nodes.rotate_left(first);
        for node in nodes {
            if let Ok(answer) = node.command(&question).await
                && self.install(&answer, &node.server())
            {
                return Ok(());
            }
        }
        let mut last = StoreError::Unavailable;
        for seed in &self.seeds {
            self.terms.stats.dials.increment();
            let asking = async {
                let mut session = seed.session(self.terms.tls.as_deref()).await?;
                session.command(&question).await
            };
            match timeout(CONNECT_TIMEOUT, asking).await {
                Ok(Ok(answer)) if self.install(&answer, seed) => return Ok(()),
                Ok(Ok(_)) => last = StoreError::Unavailable,
                Ok(Err(error)) => last = error.into(),
                Err(_) => last = StoreError::Timeout(CONNECT_TIMEOUT),
            }
        }
        Err(last)
    }

    /// Takes over the map that `asked` has answered with; `false` if it is none.
    fn install(&self, answer: &Value, asked: &Server) -> bool {
        let Some(ranges) = ranges(answer).filter(|ranges| !ranges.is_empty()) else {
            return false;
        };
        let mut map = Map {
            nodes: Vec::new(),
            owners: vec![NOBODY; usize::from(SLOTS)],
            named: Vec::new(),
        };
        for range in &ranges {
            let host = range.host.as_deref().or(asked.host()).unwrap_or_default();
            let server = self.seeds[0].at(host, range.port);
            let place = map.place(&server).unwrap_or_else(|| {
                let known = self.map.borrow();
                let link = known
                    .place(&server)
                    .map(|place| Rc::clone(&known.nodes[place]));
                let terms = || Rc::clone(&self.terms);
                map.nodes
                    .push(link.unwrap_or_else(|| Link::new(terms(), Target::Node(server))));
                map.nodes.len() - 1
            });
            if place >= MAX_NODES {
                return false;
            }
            map.owners[usize::from(range.first)..=usize::from(range.last)].fill(place as u16);
        }
        map.named = map.owners.clone();
        self.report(&map);
        for (node, key) in map.nodes.iter().zip(probe_keys(&map)) {
            node.probe_with(key);
            node.start();
        }
        self.map.replace(map);
        true
    }

    /// Counts the nodes that own slots no more, each of which had its place taken by another one: after a failover, or
    /// because its slots were moved.
    fn report(&self, new: &Map) {
        let old = self.map.borrow();
        let mut reported: Vec<u16> = Vec::new();
        for (&before, &now) in old.named.iter().zip(&new.named) {
            if reported.contains(&before) {
                continue;
            }
            let (Some(from), Some(to)) = (
                old.nodes.get(usize::from(before)),
                new.nodes.get(usize::from(now)),
            ) else {
                continue;
            };
            reported.push(before);
            let (from, to) = (from.server(), to.server());
            if new.place(&from).is_none() {
                self.terms.stats.failover(Role::Primary, &from, &to);
            }
        }
    }

    /// Whether there is a map, and none of its nodes is known to be down. Slots that nobody owns are asked for when a check
    /// needs them.
    fn is_settled(&self) -> bool {
        let map = self.map.borrow();
        !map.owners.is_empty() && !map.nodes.iter().any(|node| node.is_down())
    }

    fn found(&self) {
        if self.is_lost.replace(false) {
            tracing::info!("the Redis cluster is back");
        }
        self.changed.notify_waiters();
    }

    fn lose(&self, error: &StoreError) {
        if self.map.borrow().owners.is_empty() && !self.is_lost.replace(true) {
            let error: &dyn std::error::Error = error;
            let server = &self.seeds[0];
            tracing::warn!(%server, error, "no node of the Redis cluster answers, limits are decided without it");
            self.changed.notify_waiters();
        }
    }
}

/// Asks for the map until all is well.
async fn refresh(cluster: Weak<Cluster>) {
    if let Some(last) = cluster.upgrade().and_then(|it| it.refreshed.get()) {
        sleep_until(last + MIN_PAUSE).await;
    }
    loop {
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        let fetched = cluster.fetch().await;
        let pause = if fetched.is_ok() { PAUSE } else { 2 * PAUSE };
        match fetched {
            Ok(()) => cluster.found(),
            Err(error) => cluster.lose(&error),
        }
        cluster.refreshed.set(Some(Instant::now()));
        if cluster.is_settled() {
            cluster.is_refreshing.set(false);
            return;
        }
        drop(cluster);
        sleep(pause).await;
    }
}

/// For each node a key whose slot it owns. A node that owns too few to find one soon goes without.
fn probe_keys(map: &Map) -> Vec<Option<String>> {
    let mut keys = vec![None; map.nodes.len()];
    let mut missing = keys.len();
    for number in 0..SLOTS {
        if missing == 0 {
            break;
        }
        let key = format!("lb:{{probe:{number}}}");
        let owner = map.owners[usize::from(slot(&key))];
        if let Some(place @ None) = keys.get_mut(usize::from(owner)) {
            *place = Some(key);
            missing -= 1;
        }
    }
    keys
}

/// Where the answer of `from` sends a check, if it does.
fn redirection(error: &StoreError, from: &Server) -> Option<Redirection> {
    let StoreError::Redis(error) = error else {
        return None;
    };
    let (address, _) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let host = if host.is_empty() { from.host()? } else { host };
    let to = from.at(host, port.parse().ok()?);
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Ask) => Some(Redirection::Ask(to)),
        _ => Some(Redirection::Moved(to)),
    }
}

#[cfg(test)]
mod tests;
