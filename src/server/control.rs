//! The control thread: everything that is not on a request's way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

use super::worker::Crew;
use crate::admin::{self, AdminState};
use crate::proxy::snapshot::Snapshot;
use crate::upstream::supervisor::supervise;

/// Time between two looks for limiter keys that have expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

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

/// Runs until a signal ends it, and the workers with it.
///
/// # Errors
/// The runtime or the signal handlers cannot be set up.
pub fn run(
    snapshot: &Arc<Snapshot>,
    admin: Option<(admin::Socket, Arc<AdminState>)>,
    crew: Crew,
) -> io::Result<End> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        for upstream in &snapshot.upstreams {
            tokio::spawn(supervise(Arc::clone(&upstream.shared)));
        }
        tokio::spawn(sweep(Arc::clone(snapshot)));
        let state = admin.map(|(socket, state)| {
            tokio::spawn(serve_admin(socket, Arc::clone(&state)));
            state
        });
        Ok(until_ended(&mut signals, state, crew).await)
    })
}

/// Waits for the signal to end, drains, and waits for the workers. A second signal ends at once.
async fn until_ended(signals: &mut Signals, admin: Option<Arc<AdminState>>, mut crew: Crew) -> End {
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "draining: no new connections, finishing what is under way"),
        () = crew.ended() => {
            tracing::error!("all workers have ended");
            return End::Failed;
        }
    }
    if let Some(admin) = admin {
        admin.draining.store(true, Relaxed);
    }
    crew.drain();
    tokio::select! {
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once");
            End::AtOnce
        }
        () = crew.ended() => {
            tracing::info!("ended");
            if crew.join() { End::Drained } else { End::Failed }
        }
    }
}

async fn serve_admin(socket: admin::Socket, state: Arc<AdminState>) {
    if let Err(error) = admin::serve(socket, state).await {
        tracing::error!(%error, "the admin API has ended");
    }
}

async fn sweep(snapshot: Arc<Snapshot>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        for limit in &snapshot.limits {
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

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
