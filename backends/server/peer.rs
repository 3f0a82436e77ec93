//! A connection's socket, beside the one that HTTP is spoken on: for what HTTP has no words for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// The first bytes of an answer that is none.
const GARBAGE: &[u8] = b"HTTP/1.1 \x00\xff\xfe OK\r\ncontent-length: 0\r\n\r\n";

/// Time between two looks whether the client has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A second handle of a connection's socket.
pub struct Peer(OwnedFd);

impl Peer {
    /// # Errors
    /// When file descriptors ran out.
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        stream.as_fd().try_clone_to_owned().map(Self)
    }

    /// Has the connection end with a reset when it is closed.
    pub fn reset(&self) {
        // What fails here shows as a connection that ends in the ordinary way.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }

    /// Resolves when the client has closed the connection, or soon after. Nothing is read for that: what it has sent may
    /// well stay where it is.
    pub async fn gone(&self) {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        loop {
            let mut polled = [PollFd::new(&self.0, PollFlags::RDHUP)];
            let result = poll(&mut polled, Some(&Timespec::default()));
            if result.is_err() || polled[0].revents().intersects(gone) {
                return;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Says what no HTTP server would say.
    pub fn garble(&self) {
        let _ = SockRef::from(&self.0).send(GARBAGE);
    }
}
