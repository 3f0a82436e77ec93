//! Accepting connections, up to a limit that all workers share.

mod per_address;
mod station;

use std::io::{
    self,
    ErrorKind::{ConnectionAborted, WouldBlock},
};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::consume_budget;
use tokio::time::sleep;

pub use self::per_address::{Counted, PerAddress};
pub use self::station::Station;
use crate::net::Tcp;

/// Pause after an error that is about this process and not about one connection: no file descriptors left, mostly.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What is done with connections.
pub trait Acceptor {
    /// Serves a connection. The permit counts it as open until it is dropped.
    fn accepted(&self, tcp: Tcp, peer: SocketAddr, permit: OwnedSemaphorePermit);

    /// Accepting failed; it is tried again.
    fn failed(&self, error: &io::Error);
}

/// Has the runtime watch a socket that listens and does not block.
///
/// Not a `tokio::net::TcpListener`: that has the runtime watch what it accepts at once (see [`Tcp`]). Shared, because a
/// process that takes over gets it too.
///
/// # Errors
/// There is no memory for it.
#[expect(unsafe_code, reason = "the runtime cannot know what it is given")]
pub fn watch(socket: Arc<TcpListener>) -> io::Result<AsyncFd<Arc<TcpListener>>> {
    // SAFETY: a `TcpListener` has the same open descriptor until it is dropped, and it is not before the `Arc`.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}

/// Accepts connections for ever.
///
/// At the limit one connection more is accepted, and waits until another one ends; those behind it wait in the kernel.
pub async fn accept(
    listener: &AsyncFd<Arc<TcpListener>>,
    permits: &Arc<Semaphore>,
    acceptor: &impl Acceptor,
) {
    loop {
        // While there is always one more to accept, nothing else here lets others have their turn.
        consume_budget().await;
        let result = listener.readable().await.and_then(|mut ready| {
            let accepted = accept_one(listener.get_ref());
            // What comes after this look makes it ready again.
            if !has_waiting(listener.get_ref()) {
                ready.clear_ready();
            }
            accepted
        });
        match result {
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
            Err(error) if matches!(error.kind(), ConnectionAborted | WouldBlock) => {}
            Err(error) => {
                acceptor.failed(&error);
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Accepts what the kernel holds ready now, so that nobody who got through is turned away when the listener closes.
pub fn accept_waiting(listener: &TcpListener, permits: &Arc<Semaphore>, acceptor: &impl Acceptor) {
    loop {
        let (tcp, peer) = match accept_one(listener) {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ConnectionAborted => continue,
            Err(_) => return,
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            return;
        };
        acceptor.accepted(tcp, peer, permit);
    }
}

/// Whether there is a connection to accept. Costs much less than to try, for which the kernel makes a socket first.
fn has_waiting(listener: &TcpListener) -> bool {
    let mut listener = [PollFd::new(listener, PollFlags::IN)];
    // Should it fail, accepting tells.
    poll(&mut listener, Some(&Timespec::default())) != Ok(0)
}

/// Accepts a connection with one system call.
fn accept_one(listener: &TcpListener) -> io::Result<(Tcp, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (tcp, peer) = acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    // The kernel gives an address of the listener's family.
    let peer = peer.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((Tcp::accepted(tcp.into()), peer))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::TcpStream;

    use socket2::{Domain, Socket, Type};
    use tokio::task::yield_now;

    use super::*;

    /// Counts what it is given.
    #[derive(Default)]
    struct Tally(Cell<usize>);

    impl Acceptor for Tally {
        fn accepted(&self, _: Tcp, _: SocketAddr, _: OwnedSemaphorePermit) {
            self.0.set(self.0.get() + 1);
        }

        fn failed(&self, error: &io::Error) {
            panic!("{error}");
        }
    }

    #[tokio::test]
    async fn others_have_their_turn_while_there_is_always_one_more() {
        const MANY: usize = 300;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any_port.into()).unwrap();
        socket.listen(1024).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..MANY)
            .map(|_| TcpStream::connect(addr).unwrap())
            .collect();
        let listener = watch(Arc::new(listener)).unwrap();
        let (permits, tally) = (Arc::new(Semaphore::new(MANY)), Tally::default());
        let others = async {
            while tally.0.get() == 0 {
                yield_now().await;
            }
            tally.0.get()
        };
        let accepted = tokio::select! {
            biased;
            () = accept(&listener, &permits, &tally) => unreachable!("it goes on for ever"),
            accepted = others => accepted,
        };
        assert!(accepted < MANY, "all {accepted} at once");
    }
}
