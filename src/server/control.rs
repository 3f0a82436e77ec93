//! The control thread: everything that is not on a request's way.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use super::fleet::{Fleet, Handle};
use super::reload::Reloader;
use super::systemd;
use super::upgrade::{self, Gate, Registry, Succession};
use super::worker::{Crew, Drain};
use crate::admin::{self, AdminState};
use crate::gossip::Phase;
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

/// How this process came to serve, and how another one is to take over from it.
#[derive(Debug)]
pub struct Upgrades {
    /// The process to take over from.
    pub succession: Option<Succession>,
    /// Where the next one asks.
    pub gate: Option<PathBuf>,
    /// This program, as it was called at the start: by then there may be another file of this name.
    pub program: io::Result<PathBuf>,
    /// What there is to be handed over.
    pub registry: Arc<Registry>,
}

/// What the control thread has to do with.
#[derive(Debug)]
pub struct Duties {
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
    /// The other load balancers.
    pub fleet: Option<Fleet>,
    /// How processes follow each other.
    pub upgrades: Upgrades,
}

/// Runs until a signal ends it or another process takes over, and the workers with it.
///
/// # Errors
/// The runtime or the signal handlers cannot be set up.
pub fn run(duties: Duties, crew: Crew) -> io::Result<End> {
    let Duties {
        reloader,
        requests,
        snapshot,
        admin,
        access_log,
        fleet,
        upgrades,
    } = duties;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        let Upgrades {
            succession,
            gate,
            program,
            registry,
        } = upgrades;
        let mut signals = Signals::new()?;
        tokio::spawn(sweep(snapshot));
        let hangup = signal(SignalKind::hangup())?;
        let reloads = tokio::spawn(reloader.run(hangup, requests));
        let user1 = signal(SignalKind::user_defined1())?;
        tokio::spawn(reopen(user1, access_log));
        let user2 = signal(SignalKind::user_defined2())?;
        let (handed_over, closing) = oneshot::channel::<()>();
        let state = admin.map(|(socket, state)| {
            tokio::spawn(serve_admin(socket, Arc::clone(&state), closing));
            state
        });
        let succeeds = succession.is_some();
        if let Some(succession) = succession {
            let finished = spawn_blocking(|| succession.finish()).await;
            if let Ok(Err(error)) = finished {
                tracing::error!(%error, "the process that serves goes on by itself: ending");
                let mut crew = crew;
                crew.drain(Drain::HandedOver);
                crew.ended().await;
                return Ok(End::Failed);
            }
            if let Some(admin) = &state {
                admin.state.claim().await;
            }
        }
        let fleet = fleet.map(|it| it.start(state.as_ref()));
        let gate = gate.and_then(|path| open_gate(&path, succeeds));
        tokio::spawn(upgrade(user2, program, gate.is_some()));
        systemd::ready();
        tokio::spawn(systemd::watchdog());
        let successor = async {
            match &gate {
                Some(gate) => gate.hand_over(&registry, state.as_deref()).await,
                None => pending().await,
            }
        };
        let control = Control {
            admin: state.clone(),
            crew,
            reloads,
            fleet,
            handed_over,
        };
        Ok(control.until_ended(&mut signals, successor).await)
    });
    // A name server that does not answer must not hold up the end; the state file may be written to its end.
    runtime.shutdown_timeout(match end {
        Ok(End::AtOnce) => Duration::ZERO,
        _ => LAST_WRITES,
    });
    end
}

/// The gate, if it can be opened: without it there are only no upgrades.
fn open_gate(path: &Path, succeeds: bool) -> Option<Gate> {
    match Gate::open(path, succeeds) {
        Ok(gate) => Some(gate),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "no other process can take over from this one (upgrade_socket)");
            None
        }
    }
}

/// What is told of the end.
struct Control {
    admin: Option<Arc<AdminState>>,
    crew: Crew,
    /// Puts new configurations into force, until the end begins.
    reloads: JoinHandle<()>,
    fleet: Option<Handle>,
    /// Has the admin API accept no more connections when it is dropped.
    handed_over: oneshot::Sender<()>,
}

impl Control {
    /// Waits for the signal to end or a successor, drains, and waits for the workers. A second signal ends at once.
    async fn until_ended(
        mut self,
        signals: &mut Signals,
        successor: impl Future<Output = u32>,
    ) -> End {
        tokio::select! {
            name = signals.end() => {
                tracing::info!(signal = name, "draining: no new connections, finishing what is under way");
                systemd::stopping();
                if let Some(admin) = &self.admin {
                    admin.draining.store(true, Relaxed);
                }
                self.reloads.abort();
                self.crew.drain(Drain::AcceptLast);
                self.enter(Phase::Leaving).await;
                self.until_drained(signals).await
            }
            successor = successor => {
                tracing::info!(successor, "another process has taken over: finishing what is under way");
                self.reloads.abort();
                drop(std::mem::replace(&mut self.handed_over, oneshot::channel().0));
                self.crew.drain(Drain::HandedOver);
                self.enter(Phase::Replaced).await;
                // Whoever ends the service signals both processes. This one is ending already.
                tokio::select! {
                    name = signals.end() => {
                        tracing::info!(signal = name, "already finishing what is under way");
                        self.until_drained(signals).await
                    }
                    () = self.crew.ended() => self.drained(),
                }
            }
            () = self.crew.ended() => {
                tracing::error!("all workers have ended");
                End::Failed
            }
        }
    }

    async fn until_drained(mut self, signals: &mut Signals) -> End {
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
            () = self.crew.ended() => {
                self.enter(Phase::Ended).await;
                self.drained()
            }
        }
    }

    /// Tells the rest of the fleet.
    async fn enter(&self, phase: Phase) {
        if let Some(fleet) = &self.fleet {
            fleet.enter(phase).await;
        }
    }

    fn drained(self) -> End {
        tracing::info!("ended");
        if self.crew.join() {
            End::Drained
        } else {
            End::Failed
        }
    }
}

/// SIGUSR2 starts this program anew, to take over.
async fn upgrade(mut user2: Signal, program: io::Result<PathBuf>, has_gate: bool) {
    while user2.recv().await.is_some() {
        let started = match &program {
            Ok(program) if has_gate => upgrade::spawn_successor(program),
            Ok(_) => Err(io::Error::other(
                "this process has no upgrade_socket: it is \"off\", or another load balancer has it",
            )),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        if let Err(error) = started {
            tracing::error!(%error, "SIGUSR2: no new process can be started");
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

async fn serve_admin(
    socket: admin::Socket,
    state: Arc<AdminState>,
    handed_over: oneshot::Receiver<()>,
) {
    let closing = async { _ = handed_over.await };
    if let Err(error) = admin::serve(socket, state, closing).await {
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
