//! Which of many sockets there is something to read from.
//!
//! The runtime watches one descriptor for all of them: an epoll instance of their own (epoll(7)). A session then needs no
//! task, and its socket no entry in the runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::socket::watch;

/// Sockets that one look tells of at most.
const LOOK: usize = 64;

/// Sockets that are watched, each with a number.
#[derive(Debug)]
pub struct Ready {
    epoll: AsyncFd<Arc<OwnedFd>>,
    events: Vec<Event>,
}

impl Ready {
    /// None yet. To be called in a runtime.
    ///
    /// # Errors
    /// There is no descriptor left, or no memory.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll: watch(Arc::new(epoll))?,
            events: Vec::with_capacity(LOOK),
        })
    }

    /// Watches a socket, until it is closed.
    ///
    /// # Errors
    /// The kernel watches as many as it may.
    pub fn add(&self, socket: impl AsFd, number: u32) -> io::Result<()> {
        let data = EventData::new_u64(number.into());
        Ok(epoll::add(
            self.epoll.get_ref(),
            socket,
            data,
            EventFlags::IN,
        )?)
    }

    /// Resolves when there is something to read from any of them.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, Arc<OwnedFd>>> {
        self.epoll.readable().await
    }

    /// The numbers of those that there is something to read from, or whose peers have said something of them. A socket is
    /// told of again for as long as there is.
    pub fn look(&mut self) -> impl ExactSizeIterator<Item = u32> + use<'_> {
        self.events.clear();
        let now = Timespec::default();
        // It can be interrupted by a signal only: then it tells of them the next time.
        _ = epoll::wait(
            self.epoll.get_ref(),
            spare_capacity(&mut self.events),
            Some(&now),
        );
        self.events.iter().map(|event| event.data.u64() as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn those_are_told_of_that_have_something() {
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut ready = Ready::new().unwrap();
        for (socket, number) in sockets.iter().zip(0..) {
            socket.set_nonblocking(true).unwrap();
            ready.add(socket, number).unwrap();
        }
        assert_eq!(ready.look().len(), 0);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for round in 0..3 {
            let to = sockets[2].local_addr().unwrap();
            client.send_to(&[round], to).unwrap();
            let readable = timeout(Duration::from_secs(10), ready.readable());
            readable.await.unwrap().unwrap().clear_ready();
            assert_eq!(ready.look().collect::<Vec<_>>(), [2]);
            assert_eq!(ready.look().collect::<Vec<_>>(), [2], "it is still there");
            sockets[2].recv(&mut [0; 8]).unwrap();
            assert_eq!(ready.look().len(), 0);
        }
        drop(sockets);
        let waiting = timeout(Duration::from_millis(10), ready.readable()).await;
        assert!(waiting.is_err());
    }
}
