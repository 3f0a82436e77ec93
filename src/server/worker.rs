//! A worker: one thread with its own runtime, sockets, connections and counters.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{interval, timeout};

use super::bind::Bound;
use super::memory;
use crate::listener::{self, Acceptor};
use crate::metrics::Counter;
use crate::metrics::access_log::AccessLog;
use crate::proxy::http::connection;
use crate::proxy::local::Local;
use crate::proxy::snapshot::{ListenerStats, Snapshot};

/// How often a worker tidies up.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// All workers.
#[derive(Debug)]
pub struct Crew {
    threads: Vec<JoinHandle<()>>,
    drain: watch::Sender<bool>,
    /// Closes when the last worker has ended.
    running: mpsc::Receiver<()>,
}

impl Crew {
    /// Has the workers accept no more, finish what they are doing within the drain limit, and end.
    pub fn drain(&self) {
        self.drain.send_replace(true);
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
    let (drain, drained) = watch::channel(false);
    let (alive, running) = mpsc::channel(1);
    let (ready, all_ready) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    for (index, bound) in bound.into_iter().enumerate() {
        let runtime = Builder::new_current_thread().enable_all().build()?;
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
                    worker.run(&runtime);
                    drop(alive);
                })?,
        );
    }
    drop(ready);
    // Ends with the last worker's sign, or without it should that worker have panicked.
    all_ready.iter().for_each(drop);
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
    drain: watch::Receiver<bool>,
    drain_limit: Duration,
    /// Dropped when the worker accepts connections.
    ready: std::sync::mpsc::Sender<()>,
}

impl Worker {
    fn run(self, runtime: &Runtime) {
        LocalSet::new().block_on(runtime, self.serve());
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
        spawn_local(tidy_up(Rc::clone(&local)));
        drop(ready);

        _ = drain.wait_for(|drain| *drain).await;
        local.drain.begin();
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
    let _open = local.drain.open();
    let acceptor = Connections {
        listener,
        local: Rc::clone(&local),
    };
    match TcpListener::from_std(socket) {
        Ok(socket) => {
            tokio::select! {
                () = listener::accept(&socket, &permits, &acceptor) => {}
                () = local.drain.begun() => {}
            }
            if let Ok(socket) = socket.into_std() {
                listener::accept_waiting(&socket, &permits, &acceptor);
                tokio::task::yield_now().await; // until those just accepted count as open
            }
        }
        Err(error) => acceptor.failed(&error),
    }
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
    fn accepted(&self, tcp: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        self.stats().accepted.increment();
        let (listener, local) = (self.listener, Rc::clone(&self.local));
        let serving = connection::serve(tcp, peer, listener, Rc::clone(&local));
        spawn_local(async move {
            let _permit = permit;
            let _open = local.drain.open();
            let _counted = Counted::new(
                &local.snapshot.listeners[listener]
                    .stats
                    .shard(local.worker)
                    .open,
            );
            serving.await;
        });
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

/// Counts something as open until it is dropped, be it by a panic.
struct Counted<'a>(&'a Counter);

impl<'a> Counted<'a> {
    fn new(counter: &'a Counter) -> Self {
        counter.increment();
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement();
    }
}
