//! Accepting connections, up to a limit that all workers share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// Pause after an error that is about this process and not about one connection: no file descriptors left, mostly.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What is done with connections.
pub trait Acceptor {
    /// Serves a connection. The permit counts it as open until it is dropped.
    fn accepted(&self, tcp: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit);

    /// Accepting failed; it is tried again.
    fn failed(&self, error: &io::Error);
}

/// Accepts connections for ever.
///
/// At the limit one connection more is accepted, and waits until another one ends; those behind it wait in the kernel.
pub async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>, acceptor: &impl Acceptor) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                let permit = match Arc::clone(permits).try_acquire_owned() {
                    Ok(permit) => permit,
                    Err(_) => match Arc::clone(permits).acquire_owned().await {
                        Ok(permit) => permit,
                        Err(_) => return, // the semaphore is never closed
                    },
                };
                acceptor.accepted(tcp, peer, permit);
            }
            // The client was gone before its connection was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                acceptor.failed(&error);
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Accepts what the kernel holds ready now, so that nobody who got through is turned away when the listener closes.
pub fn accept_waiting(
    listener: &std::net::TcpListener,
    permits: &Arc<Semaphore>,
    acceptor: &impl Acceptor,
) {
    loop {
        let (tcp, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => return,
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            return;
        };
        if let Ok(tcp) = tcp
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(tcp))
        {
            acceptor.accepted(tcp, peer, permit);
        }
    }
}
