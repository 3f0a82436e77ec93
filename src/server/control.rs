//! The control thread: everything that is not on a request's way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

use super::reload::Reloader;
use super::worker::Crew;
use crate::admin::{self, AdminState};
use crate::metrics::access_log::AccessLog;
use crate::proxy::snapshot::Snapshot;
use crate::upstream::supervisor::resolve_names as resolve_names_within;

/// Time between two looks for limiter keys that have expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Signals that come within this time of the first are the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// How long the names of servers are waited for at the start.
const NAMES_LIMIT: Duration = Duration::from_secs(2);

/// How long work that blocks may go on after the end.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How the load balancer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The workers have ended as they were told.
    Drained,
    /// A second signal came, and the workers still run.
    AtOnce,
    /// A worker panicked.
    Failed,
}

/// Waits until the names of the servers are known, but not for long.
///
/// # Errors
/// There can be no runtime.
pub fn resolve_names(snapshot: &Snapshot) -> io::Result<()> {
    let upstreams = snapshot.upstreams.iter();
    let endpoints: Vec<_> = upstreams.flat_map(|it| it.shared.endpoints()).collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(resolve_names_within(&endpoints, NAMES_LIMIT));
    runtime.shutdown_background(); // a name server may still be asked
    Ok(())
}

/// What the control thread has to do with.
#[derive(Debug)]
pub struct Control {
    /// Puts new configurations into force.
    pub reloader: Reloader,
    /// Where the admin API asks for them.
    pub requests: mpsc::Receiver<admin::Request>,
    /// What the workers use.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The admin API.
    pub admin: Option<(admin::Socket, Arc<AdminState>)>,
    /// What is to be reopened.
    pub access_log: Option<Arc<AccessLog>>,
}

/// Runs until a signal ends it, and the workers with it.
///
/// # Errors
/// The runtime or the signal handlers cannot be set up.
pub fn run(control: Control, crew: Crew) -> io::Result<End> {
    let Control {
        reloader,
        requests,
        snapshot,
        admin,
        access_log,
    } = control;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        let mut signals = Signals::new()?;
        tokio::spawn(sweep(snapshot));
        let hangup = signal(SignalKind::hangup())?;
        let reloads = tokio::spawn(reloader.run(hangup, requests));
        let user1 = signal(SignalKind::user_defined1())?;
        tokio::spawn(reopen(user1, access_log));
        let state = admin.map(|(socket, state)| {
            tokio::spawn(serve_admin(socket, Arc::clone(&state)));
            state
        });
        Ok(until_ended(&mut signals, state, &reloads, crew).await)
    });
    // A name server that does not answer must not hold up the end; the state file may be written to its end.
    runtime.shutdown_timeout(match end {
        Ok(End::AtOnce) => Duration::ZERO,
        _ => LAST_WRITES,
    });
    end
}

/// Waits for the signal to end, drains, and waits for the workers. A second signal ends at once.
async fn until_ended(
    signals: &mut Signals,
    admin: Option<Arc<AdminState>>,
    reloads: &JoinHandle<()>,
    mut crew: Crew,
) -> End {
    tokio::select! {
        name = signals.end() => {
            tracing::info!(signal = name, "draining: no new connections, finishing what is under way");
        }
        () = crew.ended() => {
            tracing::error!("all workers have ended");
            return End::Failed;
        }
    }
    if let Some(admin) = admin {
        admin.draining.store(true, Relaxed);
    }
    reloads.abort();
    crew.drain();
    let second = async {
        // A terminal or supervisor may signal the process and its group: that is one signal, twice.
        sleep(SAME_SIGNAL).await;
        signals.forget().await;
        signals.end().await
    };
    tokio::select! {
        name = second => {
            tracing::warn!(signal = name, "ending at once");
            End::AtOnce
        }
        () = crew.ended() => {
            tracing::info!("ended");
            if crew.join() { End::Drained } else { End::Failed }
        }
    }
}

/// SIGUSR1 reopens the access log, for log rotation.
async fn reopen(mut user1: Signal, access_log: Option<Arc<AccessLog>>) {
    while user1.recv().await.is_some() {
        if let Some(log) = &access_log {
            log.reopen();
        }
    }
}

async fn serve_admin(socket: admin::Socket, state: Arc<AdminState>) {
    if let Err(error) = admin::serve(socket, state).await {
        tracing::error!(%error, "the admin API has ended");
    }
}

async fn sweep(snapshot: Arc<ArcSwap<Snapshot>>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        for limit in &snapshot.load_full().limits {
            if let Some(store) = limit.shared.memory() {
                store.sweep(Instant::now());
            }
        }
    }
}

/// The signals that ask for an end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Drops the signals that have come.
    async fn forget(&mut self) {
        while timeout(Duration::ZERO, self.end()).await.is_ok() {}
    }
}
