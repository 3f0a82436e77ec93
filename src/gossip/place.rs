//! A node's address: its socket, or the wait for another process to let go of it.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{self, sleep};

/// Pause between two tries to bind.
const BIND_PAUSE: Duration = Duration::from_millis(50);
/// How long another process may keep the address before that is worth a line in the log.
const BIND_PATIENCE: Duration = Duration::from_secs(5);

/// A node's socket.
#[derive(Debug)]
pub enum Place {
    /// Ready to be used.
    Bound(StdSocket),
    /// To be bound as soon as another process lets go of it.
    Later(SocketAddr),
}

pub(super) fn usable(socket: StdSocket) -> Option<UdpSocket> {
    UdpSocket::from_std(socket)
        .inspect_err(|error| tracing::error!(%error, "the cluster's socket cannot be used"))
        .ok()
}

/// Binds as soon as that is possible; never, if there is nothing to be bound.
pub(super) async fn bind_later(address: Option<SocketAddr>) -> UdpSocket {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let start = time::Instant::now();
    let mut told = false;
    loop {
        let error = match bind(address).and_then(UdpSocket::from_std) {
            Ok(socket) => return socket,
            Err(error) => error,
        };
        // The process before this one lets go of it when this one is ready.
        let is_soon = error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < BIND_PATIENCE;
        if !is_soon && !std::mem::replace(&mut told, true) {
            tracing::error!(%address, %error, "cannot listen for the cluster (cluster.listen), and goes on trying");
        }
        sleep(BIND_PAUSE).await;
    }
}

/// A socket at this address.
///
/// # Errors
/// It cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<StdSocket> {
    let socket = StdSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
