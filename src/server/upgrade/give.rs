//! The serving process' side.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::channel::Channel;
use super::registry::Registry;
use super::{PROTOCOL, Reply, Request};
use crate::admin::{AdminState, HeldState};
use crate::net::unix::{self, SocketFile};
use crate::upstream::sticky::Key;

/// How long a new process may take to say what it wants.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// How long a new process may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Pause after an error that is about this process and not about a connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Where new processes ask for the sockets of this one. The file is removed on drop, unless a new one has replaced it.
#[derive(Debug)]
pub struct Gate {
    _file: SocketFile,
    listener: StdListener,
}

impl Gate {
    /// Opens the gate at `path`, in the place of the one of the process that this one has taken over from, if
    /// `succeeds`.
    ///
    /// # Errors
    /// The path cannot be used, or another process serves there.
    pub fn open(path: &Path, succeeds: bool) -> io::Result<Self> {
        if !succeeds && path.try_exists()? && !unix::is_stale(path) {
            return Err(io::Error::new(
                ErrorKind::AddrInUse,
                "another load balancer serves there, or it is no socket; give this one its own upgrade_socket",
            ));
        }
        // Made under another name, so that there is a gate at any moment.
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(name);
        if unix::is_stale(&temporary) {
            fs::remove_file(&temporary)?;
        }
        let (mut file, listener) = unix::bind(&temporary)?;
        file.rename(path)?;
        Ok(Self {
            _file: file,
            listener,
        })
    }

    /// Hands the sockets of `registry` to the first process that asks for them and starts. Resolves with its number when
    /// it serves; from then on this process is to accept nothing. `admin` may make no changes then either.
    pub async fn hand_over(&self, registry: &Arc<Registry>, admin: Option<&AdminState>) -> u32 {
        loop {
            match self.attempt(registry, admin).await {
                Ok(Some(successor)) => return successor,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "handing over has failed; serving on");
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        registry: &Arc<Registry>,
        admin: Option<&AdminState>,
    ) -> io::Result<Option<u32>> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let (stream, _) = listener.accept().await?;
        if !may_ask(&stream)? {
            return Ok(None);
        }
        let mut channel = Channel::new(stream.into_std()?, HELLO_LIMIT)?;
        let greeting = spawn_blocking(move || greet(&mut channel).map(|pid| (channel, pid)));
        let (channel, successor) = match blocking(greeting).await {
            Ok((channel, Some(pid))) => (channel, pid),
            // Somebody looked whether this process is there.
            Ok((_, None)) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        tracing::info!(successor, "a new process asks for the sockets");
        // What the new process reads of the state file is what is in force until it serves.
        let state = match admin {
            Some(admin) => Some(admin.state.hold().await),
            None => None,
        };
        let registry = Arc::clone(registry);
        let offering = spawn_blocking(move || offer(channel, &registry));
        let ready = blocking(offering).await;
        match ready {
            Ok(channel) => {
                let_go(channel, state).await;
                Ok(Some(successor))
            }
            Err(error) => {
                tracing::error!(successor, %error, "the new process did not start; serving on");
                Ok(None)
            }
        }
    }
}

/// Only processes of the same user, and the administrator's, which could reach its descriptors anyway.
fn may_ask(stream: &UnixStream) -> io::Result<bool> {
    let peer = stream.peer_cred()?.uid();
    Ok(peer == 0 || peer == rustix::process::geteuid().as_raw())
}

async fn blocking<T>(task: tokio::task::JoinHandle<io::Result<T>>) -> io::Result<T> {
    task.await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Whom it is to hand over to; nobody, if that one speaks another version.
fn greet(channel: &mut Channel) -> io::Result<Option<u32>> {
    match channel.receive()? {
        Request::Hello { protocol, pid, .. } if protocol == PROTOCOL => Ok(Some(pid)),
        Request::Hello { version, .. } => {
            let own = env!("CARGO_PKG_VERSION");
            channel.send(&Reply::Refused {
                reason: format!(
                    "the process that serves is version {own} and cannot hand over to version {version}: restart it"
                ),
            })?;
            Ok(None)
        }
        Request::Ready => Err(ErrorKind::InvalidData.into()),
    }
}

/// Gives the sockets, and waits until the new process serves.
fn offer(mut channel: Channel, registry: &Registry) -> io::Result<Channel> {
    let held = registry.hold();
    channel.send(&Reply::Offer {
        pid: std::process::id(),
        sockets: held.places(),
        sticky_key: Key::of_process().expose(),
    })?;
    channel.send_descriptors(&held.descriptors())?;
    channel.wait_at_most(START_LIMIT)?;
    match channel.receive()? {
        Request::Ready => {
            held.handed_over();
            Ok(channel)
        }
        Request::Hello { .. } => Err(ErrorKind::InvalidData.into()),
    }
}

/// Gives the state file up, and then says so.
async fn let_go(mut channel: Channel, state: Option<HeldState<'_>>) {
    if let Some(mut state) = state {
        state.release();
    }
    let told = blocking(spawn_blocking(move || channel.send(&Reply::Go))).await;
    if let Err(error) = told {
        // It serves all the same.
        tracing::warn!(%error, "the new process could not be told that this one drains");
    }
}

/// Starts this process' program anew, with the same arguments and `--upgrade`, and says so if it fails.
///
/// # Errors
/// It cannot be started.
pub fn spawn_successor(program: &Path) -> io::Result<()> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|it| it == "--upgrade") {
        arguments.push("--upgrade".into());
    }
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        // It is the one to be watched as soon as it has taken over.
        .env_remove("WATCHDOG_PID")
        .spawn()?;
    tracing::info!(program = %program.display(), successor = child.id(), "upgrading: started a new process");
    tokio::spawn(async move {
        // One that takes over outlives this process.
        match child.wait().await {
            Ok(status) if status.success() => tracing::info!("the new process has ended as well"),
            Ok(status) => {
                tracing::error!(%status, "the new process has ended; its last lines say why");
            }
            Err(error) => tracing::error!(%error, "the new process cannot be watched"),
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;

    #[test]
    fn a_gate_is_opened_once_and_replaced_by_a_successor() {
        let directory = std::env::temp_dir().join(format!("lb-gate-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("gate");
        let first = Gate::open(&path, false).unwrap();
        let error = Gate::open(&path, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let second = Gate::open(&path, true).unwrap();
        drop(first);
        assert!(StdStream::connect(&path).is_ok(), "it is the second's");
        drop(second);
        assert!(!path.exists());
        // A file that a killed process has left.
        drop(StdListener::bind(&path).unwrap());
        let third = Gate::open(&path, false).unwrap();
        drop(third);
        fs::remove_dir_all(&directory).unwrap();
    }
}
