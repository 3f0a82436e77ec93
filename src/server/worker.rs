//! A worker: one thread with its own runtime, sockets, connections and counters.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::bind::Bound;
use super::memory;
use crate::listener::{self, Acceptor};
use crate::metrics::access_log::AccessLog;
use crate::net::Tcp;
use crate::proxy::http::task::ClientTask;
use crate::proxy::local::Local;
use crate::proxy::roster::Roster;
use crate::proxy::snapshot::{ListenerStats, Snapshot};

/// How often a worker tidies up.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// How many tasks are polled before new events are asked for. One look at the events of all connections gives each that
/// has any its turn, so that under load fewer looks cost less and make nobody wait for longer than a round.
const EVENT_INTERVAL: u32 = 256;

/// All workers.
#[derive(Debug)]
pub struct Crew {
    threads: Vec<JoinHandle<()>>,
    drain: watch::Sender<Option<Drain>>,
    /// Closes when the last worker has ended.
    running: mpsc::Receiver<()>,
}

/// What becomes of connections that nobody has accepted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// They are the last to be served.
    AcceptLast,
    /// Another process has the sockets.
    HandedOver,
}

impl Crew {
    /// Has the workers accept no more, finish what they are doing within the drain limit, and end.
    pub fn drain(&self, drain: Drain) {
        self.drain.send_replace(Some(drain));
    }

    /// Resolves when all workers have ended.
    pub async fn ended(&mut self) {
        _ = self.running.recv().await;
    }

    /// Waits for the threads; true if none of them panicked.
    pub fn join(self) -> bool {
        let panicked = self
            .threads
            .into_iter()
            .filter_map(|thread| thread.join().err());
        panicked.count() == 0
    }
}

/// Starts a worker for each list of sockets, and waits until all accept connections.
///
/// # Errors
/// A thread or its runtime cannot be started.
pub fn start(
    bound: Vec<Vec<Bound>>,
    snapshot: &Arc<Snapshot>,
    access_log: Option<&Arc<AccessLog>>,
    drain_limit: Duration,
) -> io::Result<Crew> {
    let (drain, drained) = watch::channel(None);
    let (alive, running) = mpsc::channel(1);
    let (ready, all_ready) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    for (index, bound) in bound.into_iter().enumerate() {
        let worker = Worker {
            index,
            bound,
            snapshot: Arc::clone(snapshot),
            access_log: access_log.cloned(),
            drain: drained.clone(),
            drain_limit,
            ready: ready.clone(),
        };
        let alive = alive.clone();
        threads.push(
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    worker.run();
                    drop(alive);
                })?,
        );
    }
    drop(ready);
    // Ends with the last worker's sign, or without it should that worker have panicked.
    if let Ok(error) = all_ready.recv() {
        return Err(error);
    }
    Ok(Crew {
        threads,
        drain,
        running,
    })
}

struct Worker {
    index: usize,
    bound: Vec<Bound>,
    snapshot: Arc<Snapshot>,
    access_log: Option<Arc<AccessLog>>,
    drain: watch::Receiver<Option<Drain>>,
    drain_limit: Duration,
    /// Dropped when the worker accepts connections; takes the error if it cannot.
    ready: std::sync::mpsc::Sender<io::Error>,
}

impl Worker {
    fn run(self) {
        match Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build_local(LocalOptions::default())
        {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => _ = self.ready.send(error),
        }
    }

    async fn serve(self) {
        let Self {
            index,
            bound,
            snapshot,
            access_log,
            mut drain,
            drain_limit,
            ready,
        } = self;
        let local = Local::new(index, snapshot, access_log);
        if let Some(redis) = &local.redis {
            redis.warm_up().await;
        }
        for bound in bound {
            spawn_local(listen(bound, Rc::clone(&local)));
        }
        spawn_local(tick(Rc::clone(&local)));
        spawn_local(tidy_up(Rc::clone(&local)));
        drop(ready);

        let drain = drain.wait_for(Option::is_some).await;
        let handed_over = drain.is_ok_and(|drain| *drain == Some(Drain::HandedOver));
        local.drain.begin(handed_over);
        local.roster.wake_all();
        if timeout(drain_limit, local.drain.closed()).await.is_err() {
            let connections = local.drain.count();
            tracing::warn!(
                worker = index,
                connections,
                "the drain limit has passed: closing what is still open"
            );
        }
    }
}

/// Wakes connections whose time is up.
async fn tick(local: Rc<Local>) {
    let timeouts = local.snapshot.listeners.iter().map(|it| &it.timeouts);
    let limits = timeouts.flat_map(|it| [it.headers, it.keep_alive]);
    let shortest = limits.min().unwrap_or(Duration::MAX);
    let mut ticks = interval(Roster::interval(shortest));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        local.roster.tick(Instant::now());
    }
}

/// Closes connections in the pools that are too old or closed, and gives back unused memory.
async fn tidy_up(local: Rc<Local>) {
    let mut ticks = interval(TIDY_INTERVAL);
    loop {
        ticks.tick().await;
        local.upstreams.iter().for_each(|upstream| upstream.prune());
        memory::give_back();
    }
}

/// Accepts connections until the worker drains; the last ones are those that the kernel has accepted by then.
async fn listen(bound: Bound, local: Rc<Local>) {
    let Bound {
        listener,
        socket,
        permits,
    } = bound;
    local.drain.enter();
    let acceptor = Connections {
        listener,
        local: Rc::clone(&local),
    };
    match listener::watch(socket) {
        Ok(socket) => {
            tokio::select! {
                () = listener::accept(&socket, &permits, &acceptor) => {}
                () = local.drain.begun() => {}
            }
            // Else they would be shared with who has taken over, for as long as there are new ones.
            if !local.drain.handed_over() {
                listener::accept_waiting(socket.get_ref(), &permits, &acceptor);
            }
        }
        Err(error) => acceptor.failed(&error),
    }
    local.drain.leave();
}

/// Serves what a listener accepts.
struct Connections {
    listener: usize,
    local: Rc<Local>,
}

impl Connections {
    fn stats(&self) -> &ListenerStats {
        self.local.snapshot.listeners[self.listener]
            .stats
            .shard(self.local.worker)
    }
}

impl Acceptor for Connections {
    fn accepted(&self, tcp: Tcp, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        self.stats().accepted.increment();
        let local = Rc::clone(&self.local);
        let entry = &local.snapshot.listeners[self.listener];
        let mut counted = None;
        if let Some(table) = &entry.per_address
            && !entry.proxy_protocol
        {
            counted = table.admit(peer.ip());
            if counted.is_none() {
                self.stats().over_address_limit.increment();
                return;
            }
        }
        spawn_local(ClientTask::new(
            tcp,
            peer,
            self.listener,
            local,
            permit,
            counted,
        ));
    }

    fn failed(&self, error: &io::Error) {
        let failures = &self.stats().accept_failures;
        failures.increment();
        // The first of each thousand: out of file descriptors it is 20 a second.
        if failures.get() % 1000 == 1 {
            let listener = &self.local.snapshot.listeners[self.listener].name;
            tracing::error!(%listener, %error, "accepting a connection failed; trying again");
        }
    }
}
