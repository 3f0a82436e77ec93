//! Pipes through which the kernel moves bytes from one socket to another without showing them to us (splice(2)).
//!
//! A pipe is two file descriptors, so that one a direction would double what a connection costs. Here a thread keeps a few,
//! and lends them out only while there are bytes in them: a connection that waits has none.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What a pipe is asked to hold. The kernel counts pieces of what it has received, of which each takes a page's place
/// however short it is: with its own 64 KiB a pipe would be full of sixteen packets.
const CAPACITY: usize = 256 * 1024;

/// The most that is moved at a time, and so the most that a slow reader has waiting for it in a pipe.
pub(super) const MOST: usize = 256 * 1024;

/// Unused pipes that a thread keeps.
const KEPT: usize = 32;

thread_local! {
    static UNUSED: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of the thread, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe, to be given back by [`give_back`](Self::give_back).
    ///
    /// # Errors
    /// There are no file descriptors left, or no memory.
    pub(super) fn take() -> io::Result<Self> {
        if let Some(pipe) = UNUSED.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user who has many gets no more than the kernel gives by itself, which is slower and no harm.
        _ = fcntl_setpipe_size(&write, CAPACITY);
        Ok(Self {
            read,
            write,
            held: 0,
        })
    }

    /// Lets others have it. One that is not empty is closed, and what is in it is lost.
    pub(super) fn give_back(self) {
        UNUSED.with_borrow_mut(|unused| {
            if self.held == 0 && unused.len() < KEPT {
                unused.push(self);
            }
        });
    }

    /// How many bytes are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes at most `limit` bytes from a socket into the pipe, which is empty; none at the end.
    ///
    /// # Errors
    /// `WouldBlock` if the socket has none; the socket's.
    pub(super) fn fill(&mut self, socket: impl AsFd, limit: usize) -> io::Result<usize> {
        debug_assert!(
            self.held == 0,
            "a full pipe would look like an empty socket"
        );
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(socket, None, &self.write, None, limit.min(MOST), flags)?;
        self.held += moved;
        Ok(moved)
    }

    /// Gives what is in it to a socket, as far as there is room.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; the socket's.
    pub(super) fn drain(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(&self.read, None, socket, None, self.held, flags)?;
        self.held -= moved;
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    fn unused() -> usize {
        UNUSED.with_borrow(Vec::len)
    }

    #[test]
    fn bytes_pass_from_socket_to_socket() {
        let ((mut client, from), (to, mut server)) = (pair(), pair());
        client.write_all(b"through a pipe").unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&from, 9).unwrap(), 9);
        assert_eq!(pipe.drain(&to).unwrap(), 9);
        assert_eq!(pipe.fill(&from, MOST).unwrap(), 5);
        assert_eq!(pipe.drain(&to).unwrap(), 5);
        let mut arrived = [0; 14];
        server.read_exact(&mut arrived).unwrap();
        assert_eq!(&arrived, b"through a pipe");
        drop(client);
        assert_eq!(pipe.fill(&from, MOST).unwrap(), 0, "the end");
        pipe.give_back();
        assert_eq!(unused(), 1);
        Pipe::take().unwrap().give_back();
        assert_eq!(unused(), 1, "the same again");
    }

    #[test]
    fn what_is_left_in_a_pipe_reaches_nobody_else() {
        let (mut client, from) = pair();
        client.write_all(b"secret").unwrap();
        let mut pipe = Pipe::take().unwrap();
        pipe.fill(&from, MOST).unwrap();
        pipe.give_back();
        assert_eq!(unused(), 0);
    }

    #[test]
    fn a_crowd_of_pipes_is_not_kept() {
        let many: Vec<_> = (0..KEPT + 5).map(|_| Pipe::take().unwrap()).collect();
        many.into_iter().for_each(Pipe::give_back);
        assert_eq!(unused(), KEPT);
    }
}
