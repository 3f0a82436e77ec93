//! Which of many sockets there is something to read from.
//!
//! The runtime watches one descriptor for all of them: an epoll instance of their own (epoll(7)). A socket then needs no
//! task, and no entry in the runtime.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tokio::io::unix::AsyncFd;

use super::socket::watch;

/// Sockets that one look tells of at most.
const LOOK: usize = 64;

/// Sockets that are watched, each with a number.
#[derive(Debug)]
pub struct Ready {
    epoll: Arc<OwnedFd>,
}

impl Ready {
    /// None yet.
    ///
    /// # Errors
    /// There is no descriptor left, or no memory.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll: Arc::new(epoll),
        })
    }

    /// What is readable when there is something to read from any of them. To be called in a runtime.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn watch(&self) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        watch(Arc::clone(&self.epoll))
    }

    /// Watches a socket, until it is closed.
    ///
    /// # Errors
    /// The kernel watches as many as it may.
    pub fn add(&self, socket: impl AsFd, number: u32) -> io::Result<()> {
        let data = EventData::new_u64(number.into());
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Adds the numbers of those that there is something to read from, or that an error has come for. One is told of again
    /// as long as there is. Whether there may be more of them.
    pub fn look(&self, numbers: &mut Vec<u32>) -> bool {
        let mut events = [MaybeUninit::<Event>::uninit(); LOOK];
        let now = Timespec::default();
        // It does not wait, so that nothing can interrupt it.
        let Ok((found, _)) = epoll::wait(&self.epoll, &mut events, Some(&now)) else {
            return false;
        };
        numbers.extend(found.iter().map(|event| event.data.u64() as u32));
        found.len() == LOOK
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn look(ready: &Ready) -> Vec<u32> {
        let mut numbers = Vec::new();
        assert!(!ready.look(&mut numbers));
        numbers
    }

    #[tokio::test]
    async fn those_are_told_of_that_have_something() {
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let ready = Ready::new().unwrap();
        let watched = ready.watch().unwrap();
        for (socket, number) in sockets.iter().zip(0..) {
            socket.set_nonblocking(true).unwrap();
            ready.add(socket, number).unwrap();
        }
        assert_eq!(look(&ready), [0; 0]);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for round in 0..3 {
            let to = sockets[2].local_addr().unwrap();
            client.send_to(&[round], to).unwrap();
            let readable = timeout(Duration::from_secs(10), watched.readable());
            readable.await.unwrap().unwrap().clear_ready();
            assert_eq!(look(&ready), [2]);
            assert_eq!(look(&ready), [2], "it is still there");
            sockets[2].recv(&mut [0; 8]).unwrap();
            assert_eq!(look(&ready), [0; 0]);
        }
        drop(sockets);
        let waiting = timeout(Duration::from_millis(10), watched.readable()).await;
        assert!(waiting.is_err());
    }
}
