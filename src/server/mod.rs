//! Composition: from a configuration to a running load balancer, and to its end.
//!
//! The main thread becomes the control thread. It binds everything, starts the workers, and then runs what is not on a
//! request's way: health checks, the admin API, new configurations, expiry of limiter keys, signals.

mod accepting;
mod bind;
mod capacity;
mod certificates;
mod control;
mod faults;
mod fleet;
mod inherit;
mod listening;
mod lists;
mod memory;
mod reload;
mod systemd;
mod upgrade;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::access::Lists;
use crate::admin::{self, AdminState, Overlay, Reloads, StateFile};
use crate::config::model::{AccessLogFormat, Config};
use crate::config::{self, Faults};
use crate::limit::StoreError;
use crate::metrics::access_log::{AccessLog, Format, LogWriter};
use crate::proxy::build::{Built, TlsMaterial};
use crate::proxy::snapshot::Snapshot;
use crate::route;
use bind::Sockets;
use certificates::Certificates;
use control::{Duties, End, Upgrades};
use fleet::Fleet;
use inherit::Inherited;
pub use memory::Allocator;
pub use reload::source::{Edition, Source};
use reload::{Installation, Reloader};
use upgrade::{Registry, Succession};

/// Why the load balancer does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error(
        "cannot listen on {address} (listener \"{listener}\"): {error}{}",
        hint(error)
    )]
    Listen {
        /// The listener's name.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// The admin API's address cannot be bound.
    #[error("cannot listen on {address} (admin.listen): {error}{}", hint(error))]
    Admin {
        /// The address.
        address: String,
        /// What the kernel says.
        error: io::Error,
    },
    /// The address for the other load balancers cannot be bound.
    #[error("cannot listen on {address} (cluster.listen): {error}{}", hint(error))]
    Cluster {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {path:?}: {error}")]
    AccessLog {
        /// Its path; standard output if empty.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// The file of run-time changes cannot be used.
    #[error(transparent)]
    State(#[from] admin::StateError),
    /// The routes contradict each other.
    #[error("routes: {0}")]
    Routes(#[from] route::BuildError),
    /// A Redis URL cannot be used.
    #[error("redis: {0}")]
    Redis(#[from] StoreError),
    /// Certificates, keys, or lists of networks cannot be used.
    #[error("files that the configuration names cannot be used:\n{0}")]
    Files(config::Errors),
    /// There is nobody to take over from, or he does not let go.
    #[error("cannot take over from the load balancer at {path:?} (upgrade_socket): {error}")]
    Upgrade {
        /// Its socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Whoever serves at `upgrade_socket` has nothing in common with this configuration.
    #[error(
        "cannot take over: the load balancer at upgrade_socket listens on {addresses}, and no listener of this \
         configuration does; give this one its own upgrade_socket, or restart the other one"
    )]
    Stranger {
        /// Where the other one listens.
        addresses: String,
    },
    /// `--upgrade` without a place to ask.
    #[error("cannot take over: upgrade_socket is \"off\" in this configuration")]
    NoUpgrades,
    /// The sockets of systemd cannot be used.
    #[error("the sockets that systemd gives cannot be used: {0}")]
    Activation(io::Error),
    /// A thread or runtime cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// What to do about an address that cannot be bound.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; `ss -lntup` shows who has it",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
        _ => "",
    }
}

/// Reads what the configuration names files for without starting anything, and returns what is odd about it.
///
/// # Errors
/// All that are in certificates, keys, and lists of networks, where `source` names them.
pub fn check(config: &Config, source: &Source) -> Result<Vec<String>, config::Errors> {
    let files = read_files(config).map_err(|faults| source.place(faults));
    files.map(|(certificates, _)| certificates.warnings())
}

/// Reads the files that the configuration names.
fn read_files(config: &Config) -> Result<(Certificates, Lists), Faults> {
    let certificates = certificates::load(config);
    match (certificates, lists::load(config, &Lists::default())) {
        (Ok(certificates), Ok(lists)) => Ok((certificates, lists)),
        (certificates, lists) => {
            let wrong = [certificates.err(), lists.err()].into_iter().flatten();
            Err(Faults(wrong.flat_map(|it| it.0).collect()))
        }
    }
}

/// Where the sockets that listen come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// They are bound, but for those that systemd gives.
    Fresh,
    /// Another load balancer has them, and hands them over.
    Upgrade,
}

/// Runs the load balancer until it is told to end. `config` is what `source` gave in this `edition`.
///
/// # Errors
/// It could not start; nothing is left running, and a load balancer that was to hand over serves on.
pub fn run(
    config: Config,
    source: Source,
    edition: Edition,
    start: Start,
) -> Result<ExitCode, StartError> {
    let program = std::env::current_exe();
    let files = read_files(&config).map_err(|faults| StartError::Files(source.place(faults)));
    let (certificates, lists) = files?;
    let (succession, mut inherited) = inherit(&config, start)?;
    let mut overlay = match &config.admin {
        Some(admin) => StateFile::load(&admin.state_file)?,
        None => Overlay::default(),
    };
    if fleet::shares_as(&config).is_some() {
        overlay.recall();
    }
    let built = build_snapshot(&config, &certificates.material, &lists, None, &mut overlay)?;
    let Built {
        snapshot, places, ..
    } = built;
    let admin_socket = bind::admin(&config, &mut inherited)?;
    let registry = match (&config.admin, &admin_socket) {
        (Some(admin), Some(socket)) => {
            Registry::of_admin(bind::shown(&admin.listen), socket.share()?)
        }
        _ => Registry::default(),
    };
    let registry = Arc::new(registry);
    let mut sockets = Sockets::new(Arc::clone(&registry));
    let offered = inherited.of_listeners();
    let plan = sockets.plan(&config, &places, &mut inherited)?;
    if offered > 0 && inherited.of_listeners() == offered {
        let addresses = inherited.rest().join(", ");
        return Err(StartError::Stranger { addresses });
    }
    for address in inherited.rest() {
        tracing::warn!(%address, "a socket was handed over that no listener uses: closing it");
    }
    drop(inherited);
    let (access_log, log_writer) = open_access_log(&config)?;
    let assignments = sockets.commit(plan, config.workers.get());
    check_redis(&snapshot)?;

    let snapshot = Arc::new(snapshot);
    let current = Arc::new(ArcSwap::new(Arc::clone(&snapshot)));
    let (reloads, requests) = Reloads::new();
    let fleet = config.cluster.as_ref();
    let fleet = fleet
        .map(|it| Fleet::new(it, start, &current))
        .transpose()?;
    let settings = config.admin.as_ref().zip(admin_socket);
    let admin = settings.map(|(admin, socket)| {
        let state = match succession {
            Some(_) => StateFile::waiting(admin.state_file.clone(), overlay),
            None => StateFile::new(admin.state_file.clone(), overlay),
        };
        let state = AdminState {
            configured: ArcSwap::from_pointee(admin::configured(&config)),
            snapshot: Arc::clone(&current),
            config: ArcSwap::from_pointee(config::effective(&config)),
            reloads: Arc::clone(&reloads),
            token: admin.token.clone(),
            state: state.sharing_as(fleet::shares_as(&config)),
            cluster: fleet.as_ref().map(|it| Arc::clone(&it.handle.shared)),
            access_log: access_log.clone(),
            draining: AtomicBool::new(false),
        };
        (socket, Arc::new(state))
    });
    control::resolve_names(&snapshot)?;
    snapshot.enforce();
    let crew = worker::start(assignments, &snapshot, access_log.as_ref())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = config.workers.get(),
        "started"
    );
    let gate = config.upgrade_socket.clone();
    let installation = Installation::new(
        config,
        certificates,
        Arc::clone(&current),
        sockets,
        crew.orders(),
        admin.as_ref().map(|(_, state)| Arc::clone(state)),
        fleet.as_ref().map(|it| it.handle.clone()),
    );
    let duties = Duties {
        reloader: Reloader::new(source, edition, installation, reloads),
        requests,
        snapshot: current,
        admin,
        access_log: access_log.clone(),
        fleet,
        upgrades: Upgrades {
            succession,
            gate,
            program,
            registry,
        },
    };
    let end = control::run(duties, crew)?;
    if let (End::Drained, Some(writer)) = (end, log_writer) {
        // The last handle to the log, now that the workers and the admin API are gone.
        drop(access_log);
        writer.finish();
    }
    Ok(match end {
        End::Drained => ExitCode::SUCCESS,
        End::AtOnce | End::Failed => ExitCode::FAILURE,
    })
}

/// The sockets that listen already, and whom they are to be taken over from.
fn inherit(config: &Config, start: Start) -> Result<(Option<Succession>, Inherited), StartError> {
    if start == Start::Fresh {
        let inherited = Inherited::from_systemd().map_err(StartError::Activation)?;
        return Ok((None, inherited));
    }
    let path = config.upgrade_socket.as_ref();
    let path = path.ok_or(StartError::NoUpgrades)?;
    let (succession, inherited) = Succession::begin(path).map_err(|error| StartError::Upgrade {
        path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        error,
    })?;
    Ok((Some(succession), inherited))
}

fn build_snapshot(
    config: &Config,
    tls: &TlsMaterial,
    lists: &Lists,
    former: Option<&Snapshot>,
    overlay: &mut Overlay,
) -> Result<Built, StartError> {
    let built = Snapshot::build(config, tls, lists, former, |index| {
        let upstream = &config.upstreams[index];
        let configured = upstream
            .servers
            .iter()
            .map(|server| (server.address.clone(), server.weight))
            .collect();
        overlay.apply(&upstream.name, configured)
    });
    Ok(built?)
}

/// Whether the Redis of limits can be connected to, as far as that can be told without trying.
fn check_redis(snapshot: &Snapshot) -> Result<(), StartError> {
    if let Some(redis) = &snapshot.redis {
        redis.check()?;
    }
    Ok(())
}

fn open_access_log(
    config: &Config,
) -> Result<(Option<Arc<AccessLog>>, Option<LogWriter>), StartError> {
    let Some(settings) = &config.access_log else {
        return Ok((None, None));
    };
    let format = match settings.format {
        AccessLogFormat::Json => Format::Json,
        AccessLogFormat::Combined => Format::Combined,
    };
    let (log, writer) = AccessLog::open(format, settings.path.as_deref()).map_err(|error| {
        StartError::AccessLog {
            path: settings.path.clone().unwrap_or_default(),
            error,
        }
    })?;
    Ok((Some(Arc::new(log)), Some(writer)))
}
