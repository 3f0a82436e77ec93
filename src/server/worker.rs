//! A worker: one thread with its own runtime, sockets, connections and counters.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, interval, sleep, timeout};

use super::accepting::Accepting;
use super::bind::Assignment;
use super::memory;
use crate::metrics::access_log::AccessLog;
use crate::proxy::local::Local;
use crate::proxy::roster::Roster;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::view::View;

/// How often a worker tidies up.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// How many tasks are polled before new events are asked for. One look at the events of all connections gives each that
/// has any its turn, so that under load fewer looks cost less and make nobody wait for longer than a round.
const EVENT_INTERVAL: u32 = 256;

/// All workers.
#[derive(Debug)]
pub struct Crew {
    threads: Vec<JoinHandle<()>>,
    orders: Orders,
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

/// Tells all workers of new configurations.
#[derive(Debug, Clone)]
pub struct Orders(Vec<mpsc::UnboundedSender<Change>>);

/// A new configuration, for one worker.
#[derive(Debug)]
struct Change {
    snapshot: Arc<Snapshot>,
    assignment: Assignment,
    /// Told when the worker uses it.
    done: oneshot::Sender<()>,
}

impl Orders {
    /// Has each worker use `snapshot` and the sockets that it is assigned. When this returns all of them do, or are ending.
    pub async fn give(&self, snapshot: &Arc<Snapshot>, assignments: Vec<Assignment>) {
        let mut all_done = Vec::new();
        for (worker, assignment) in self.0.iter().zip(assignments) {
            let (done, is_done) = oneshot::channel();
            let change = Change {
                snapshot: Arc::clone(snapshot),
                assignment,
                done,
            };
            if worker.send(change).is_ok() {
                all_done.push(is_done);
            }
        }
        for is_done in all_done {
            _ = is_done.await; // without a word from a worker that has ended
        }
    }
}

impl Crew {
    /// What tells the workers of new configurations.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

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

/// Starts a worker for each assignment of sockets, and waits until all accept connections.
///
/// # Errors
/// A thread or its runtime cannot be started.
pub fn start(
    assignments: Vec<Assignment>,
    snapshot: &Arc<Snapshot>,
    access_log: Option<&Arc<AccessLog>>,
) -> io::Result<Crew> {
    let (drain, drained) = watch::channel(None);
    let (alive, running) = mpsc::channel(1);
    let (ready, all_ready) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    let mut orders = Vec::new();
    for (index, assignment) in assignments.into_iter().enumerate() {
        let (order, changes) = mpsc::unbounded_channel();
        orders.push(order);
        let worker = Worker {
            index,
            assignment,
            changes,
            snapshot: Arc::clone(snapshot),
            access_log: access_log.cloned(),
            drain: drained.clone(),
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
        orders: Orders(orders),
        drain,
        running,
    })
}

struct Worker {
    index: usize,
    assignment: Assignment,
    changes: mpsc::UnboundedReceiver<Change>,
    snapshot: Arc<Snapshot>,
    access_log: Option<Arc<AccessLog>>,
    drain: watch::Receiver<Option<Drain>>,
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
            Ok(runtime) => {
                runtime.block_on(self.serve());
                // A name server that was asked where Redis is must not hold up the end. Nothing else here blocks.
                runtime.shutdown_background();
            }
            Err(error) => _ = self.ready.send(error),
        }
    }

    async fn serve(self) {
        let Self {
            index,
            assignment,
            mut changes,
            snapshot,
            access_log,
            mut drain,
            ready,
        } = self;
        let local = Local::new(index, snapshot, access_log);
        local.view().warm_up().await;
        let mut accepting = Accepting::new(&local);
        accepting.assign(assignment);
        spawn_local(tick(Rc::clone(&local)));
        spawn_local(tidy_up(Rc::clone(&local)));
        drop(ready);

        let handed_over = loop {
            tokio::select! {
                drain = drain.wait_for(Option::is_some) => {
                    break drain.is_ok_and(|drain| *drain == Some(Drain::HandedOver));
                }
                Some(change) = changes.recv() => {
                    let Change { snapshot, assignment, done } = change;
                    let view = View::new(snapshot, index, Some(&local.view()));
                    view.warm_up().await;
                    local.replace(view);
                    accepting.assign(assignment);
                    _ = done.send(()); // or nobody waits any more
                }
            }
        };
        drop(changes); // whoever waits for a change to be made waits in vain
        local.drain.begin(handed_over);
        local.roster.wake_all();
        let drain_limit = local.view().snapshot.drain_timeout;
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
    loop {
        let view = local.view();
        let limits = view.snapshot.listeners.iter().flat_map(|it| it.waits());
        let shortest = limits.min().unwrap_or(Duration::MAX);
        drop(view);
        sleep(Roster::interval(shortest)).await;
        local.roster.tick(Instant::now());
    }
}

/// Closes connections in the pools that are too old or closed, and gives back unused memory.
async fn tidy_up(local: Rc<Local>) {
    let mut ticks = interval(TIDY_INTERVAL);
    loop {
        ticks.tick().await;
        local.tidy_up();
        memory::give_back();
    }
}
