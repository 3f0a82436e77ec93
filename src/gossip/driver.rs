//! What gives a [`Node`] its socket and its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{self, Interval, MissedTickBehavior, interval, sleep};

use super::alarm::{Company, Loneliness};
use super::message::{Part, Telling};
use super::node::Node;
use super::place::{Place, bind_later, usable};
use super::seal::MAX_DATAGRAM;
use super::seeds;
use super::status::{Shared, Status};
use crate::config::types::ServerAddress;
use crate::net::moment::{Moment, TURN};

/// Datagrams that are taken before something else gets its turn.
const BATCH: usize = 256;

/// State that nodes tell each other, each its own.
pub trait Topics {
    /// A turn, of which there are some each round. Gives what the others should know at once.
    fn turn(&mut self, moment: &Moment<'_>) -> Vec<Telling>;

    /// A round. Gives what the others are told.
    fn round(&mut self, moment: &Moment<'_>) -> Vec<Telling>;

    /// Another node has told something. Gives what is to be answered.
    fn hear(&mut self, peer: u64, part: &Part, moment: &Moment<'_>) -> Vec<Telling>;

    /// Another process has the node's place: nobody is told or heard any more, and there will be no other turn.
    fn retire(&mut self);
}

/// Whether a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Serving,
    /// It ends, and has said so. It still tells what it uses.
    Leaving,
    /// It has finished what was under way, and says goodbye once more, with all that it has used.
    Ended,
    /// Another process has its place and its address.
    Replaced,
}

/// What may change while a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// Where others are looked for.
    pub seeds: Vec<ServerAddress>,
    /// Where others reach this one.
    pub advertise: Option<SocketAddr>,
    /// Time between two rounds.
    pub interval: Duration,
    /// How long a node may be silent.
    pub dead_after: Duration,
    /// Whether it takes part.
    pub phase: Phase,
}

/// A node with all that it needs to run.
#[derive(Debug)]
pub struct Driver<T> {
    node: Node,
    topics: T,
    orders: watch::Receiver<Orders>,
    shared: Arc<Shared>,
    received: u64,
    sent: u64,
    unsent: u64,
    peers: Vec<u64>,
    /// Whether seeds have become addresses.
    looked_up: bool,
    /// How many addresses.
    seeds: usize,
    loneliness: Loneliness,
}

impl<T: Topics> Driver<T> {
    /// A driver of `node` that publishes what it sees in `shared`.
    pub fn new(
        node: Node,
        topics: T,
        orders: watch::Receiver<Orders>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            node,
            topics,
            orders,
            shared,
            received: 0,
            sent: 0,
            unsent: 0,
            peers: Vec::new(),
            looked_up: false,
            seeds: 0,
            loneliness: Loneliness::default(),
        }
    }

    /// Runs until another process has this one's place. To be run on the control thread.
    pub async fn run(mut self, place: Place) {
        let (mut socket, later) = match place {
            Place::Bound(socket) => (usable(socket), None),
            Place::Later(address) => (None, Some(address)),
        };
        let bound = bind_later(later);
        tokio::pin!(bound);
        let (found, mut seeds) = watch::channel(Vec::new());
        tokio::spawn(seeds::look_up(self.orders.clone(), found));
        let mut turns = ticks(TURN);
        let mut rounds = self.obey();
        if self.orders.borrow().phase != Phase::Serving {
            self.orders.mark_changed(); // that is still to be told
        }
        let mut buffer = [0; MAX_DATAGRAM + 1];
        loop {
            tokio::select! {
                _ = turns.tick() => self.turn(),
                _ = rounds.tick() => self.round(),
                bound = &mut bound, if socket.is_none() => socket = Some(bound),
                taken = receive(socket.as_ref(), &mut buffer) => {
                    self.take(&buffer[..taken.0], taken.1);
                    self.take_more(socket.as_ref(), &mut buffer);
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    rounds = self.obey();
                    self.round(); // a goodbye should be heard at once
                    self.send(socket.as_ref());
                    let phase = self.orders.borrow().phase;
                    if phase == Phase::Replaced {
                        drop(socket); // the other one waits for its address
                        self.topics.retire();
                        self.shared.has_told(phase);
                        return;
                    }
                    self.shared.has_told(phase);
                }
                Ok(()) = seeds.changed() => {
                    let seeds = seeds.borrow_and_update().clone();
                    self.looked_up = true;
                    self.seeds = seeds.len();
                    self.node.set_seeds(seeds);
                    self.node.call_missing(Instant::now());
                }
            }
            self.send(socket.as_ref());
        }
    }

    /// Takes over what has been ordered. Gives the rounds to come.
    fn obey(&mut self) -> Interval {
        let orders = self.orders.borrow_and_update().clone();
        let every = orders.interval;
        if orders.phase != Phase::Serving {
            self.node.leave();
        }
        self.node
            .change(orders.advertise, orders.interval, orders.dead_after);
        ticks(every)
    }

    fn turn(&mut self) {
        let now = time::Instant::now().into_std();
        let parts = self.at(now, |topics, moment| topics.turn(moment));
        self.node.tell(&parts, now);
    }

    fn round(&mut self) {
        let now = time::Instant::now().into_std();
        let mut parts = self.at(now, |topics, moment| topics.turn(moment));
        parts.extend(self.at(now, |topics, moment| topics.round(moment)));
        self.node.round(&parts, now);
        self.tell_of_company(now);
        self.shared.publish(Status {
            received: self.received,
            sent: self.sent,
            unsent: self.unsent,
            ..Status::of(&self.node, now)
        });
    }

    /// Nobody else would notice: a node that finds no other admits the whole of each limit.
    fn tell_of_company(&mut self, now: Instant) {
        let orders = self.orders.borrow();
        let mut missing = self.node.missing_seeds().peekable();
        // Names that have not become addresses are missing too; a seed that is this very node is not.
        let is_missing = missing.peek().is_some() || (self.seeds == 0 && !orders.seeds.is_empty());
        let alone = is_missing && self.node.members().live().next().is_none();
        let alone = alone && orders.phase == Phase::Serving;
        match self.loneliness.look(alone, orders.dead_after, now) {
            Some(Company::Nobody(lasted)) => {
                let seeds: Vec<_> = orders.seeds.iter().map(ToString::to_string).collect();
                let seeds = seeds.join(" ");
                tracing::warn!(%seeds, ?lasted, "no other node of the cluster answers: limits hold for this node alone. Are the seeds' addresses right, is cluster.key the same everywhere, and does UDP pass the firewalls?");
            }
            Some(Company::Somebody) => {
                tracing::info!("the cluster was found: this node is no longer alone");
            }
            None => {}
        }
    }

    fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        let now = time::Instant::now().into_std();
        let Ok(told) = self.node.receive(datagram, from, now) else {
            return; // it has been counted
        };
        self.received += 1;
        for (peer, part) in told {
            let answers = self.at(now, |topics, moment| topics.hear(peer, &part, moment));
            self.node.tell(&answers, now);
        }
    }

    /// Takes what else is there.
    fn take_more(&mut self, socket: Option<&UdpSocket>, buffer: &mut [u8]) {
        let Some(socket) = socket else {
            return;
        };
        for _ in 0..BATCH {
            let Ok((length, from)) = socket.try_recv_from(buffer) else {
                return;
            };
            self.take(&buffer[..length], from);
        }
    }

    /// Sends what there is to be sent. What the kernel does not take at once is lost, as it might be anywhere.
    fn send(&mut self, socket: Option<&UdpSocket>) {
        for (address, datagram) in self.node.take_outgoing() {
            let sent = socket.is_some_and(|it| it.try_send_to(&datagram, address).is_ok());
            match sent {
                true => self.sent += 1,
                false => self.unsent += 1,
            }
        }
    }

    fn at<R>(&mut self, now: Instant, work: impl FnOnce(&mut T, &Moment<'_>) -> R) -> R {
        self.peers.clear();
        let interval = self.node.settings().interval;
        let heard = self.node.members().heard(interval, now);
        self.peers.extend(heard.map(|it| it.session.short()));
        let moment = Moment {
            now,
            clock: self.node.clock(now),
            interval,
            peers: &self.peers,
            expected: self.expected(now),
        };
        work(&mut self.topics, &moment)
    }

    /// How many nodes are likely to be there that have not been met. Until names have become addresses each is one.
    fn expected(&self, now: Instant) -> usize {
        if self.looked_up || !self.node.is_new(now) {
            return self.node.expected(now);
        }
        let seeds = self.orders.borrow().seeds.len();
        seeds.saturating_sub(self.peers.len())
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The next datagram and where it comes from; one that is too long is cut.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        match socket.recv_from(buffer).await {
            Ok(taken) => return taken,
            // Somebody could not be reached. It costs no more than a turn if it does not end.
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as StdSocket;

    use tokio::time::timeout;

    use super::*;
    use crate::gossip::node::Settings;
    use crate::gossip::place::bind;
    use crate::gossip::seal::FleetKey;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Topics of which is seen what was asked of them: how many turns, and whether they have retired.
    struct Seen(watch::Sender<(usize, bool)>);

    impl Topics for Seen {
        fn turn(&mut self, _: &Moment<'_>) -> Vec<Telling> {
            self.0.send_modify(|it| it.0 += 1);
            Vec::new()
        }

        fn round(&mut self, _: &Moment<'_>) -> Vec<Telling> {
            Vec::new()
        }

        fn hear(&mut self, _: u64, _: &Part, _: &Moment<'_>) -> Vec<Telling> {
            Vec::new()
        }

        fn retire(&mut self) {
            self.0.send_modify(|it| it.1 = true);
        }
    }

    struct Running {
        orders: watch::Sender<Orders>,
        shared: Arc<Shared>,
        seen: watch::Receiver<(usize, bool)>,
        driver: tokio::task::JoinHandle<()>,
    }

    fn start(place: Place) -> Running {
        let (interval, dead_after) = (Duration::from_millis(20), Duration::from_secs(4));
        let settings = Settings {
            name: "a".to_owned(),
            advertise: None,
            version: "0.1.0".to_owned(),
            interval,
            dead_after,
        };
        let key = FleetKey::new(b"a secret of a node that is alone");
        let random = fastrand::Rng::with_seed(1);
        let node = Node::new(settings, key, 1_763_000_000_000, Instant::now(), random);
        let (orders, ordered) = watch::channel(Orders {
            seeds: Vec::new(),
            advertise: None,
            interval,
            dead_after,
            phase: Phase::Serving,
        });
        let (sender, seen) = watch::channel((0, false));
        let shared = Arc::new(Shared::default());
        let driver = Driver::new(node, Seen(sender), ordered, Arc::clone(&shared));
        Running {
            orders,
            shared,
            seen,
            driver: tokio::spawn(driver.run(place)),
        }
    }

    fn socket() -> StdSocket {
        bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[tokio::test]
    async fn who_is_replaced_retires_and_lets_go_of_the_address() {
        let socket = socket();
        let address = socket.local_addr().unwrap();
        let running = start(Place::Bound(socket));
        running.orders.send_modify(|it| it.phase = Phase::Replaced);
        let told = running.shared.told(Phase::Replaced);
        timeout(LIMIT, told).await.unwrap();
        timeout(LIMIT, running.driver).await.unwrap().unwrap();
        assert!(running.seen.borrow().1);
        bind(address).unwrap();
        // There is nobody left who could tell, and nothing to be waited for.
        let told = running.shared.told(Phase::Ended);
        timeout(LIMIT, told).await.unwrap();
    }

    #[tokio::test]
    async fn turns_go_on_while_another_process_has_the_address() {
        let other = socket();
        let address = other.local_addr().unwrap();
        let mut running = start(Place::Later(address));
        let turns = running.seen.wait_for(|it| it.0 > 2);
        timeout(LIMIT, turns).await.unwrap().unwrap();
        drop(other);
        let taken = async {
            while bind(address).is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, taken).await.unwrap();
        running.driver.abort();
    }
}
