//! Messages between the two processes: JSON behind its length, and descriptors.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::net::pass;

/// The longest message: thousands of sockets.
const MAX_LENGTH: u32 = 4 << 20;

/// The connection between them.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Speaks over this stream, which blocks from now on. Nothing is waited for longer than `limit`.
    pub fn new(stream: UnixStream, limit: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_read_timeout(Some(limit))?;
        Ok(Self(stream))
    }

    /// Waits at most `limit` for each message from now on.
    pub fn wait_at_most(&self, limit: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(limit))
    }

    /// Sends a message.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len())
            .ok()
            .filter(|it| *it <= MAX_LENGTH);
        let length = length.ok_or(ErrorKind::InvalidInput)?;
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(&text)
    }

    /// Waits for a message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(in_words)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_LENGTH {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut text = vec![0; length as usize];
        self.0.read_exact(&mut text).map_err(in_words)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Sends descriptors.
    pub fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        pass::send(&self.0, descriptors)
    }

    /// Waits for as many descriptors.
    pub fn receive_descriptors(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        pass::receive(&self.0, count).map_err(in_words)
    }
}

/// What the system's words mean here.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the other process has ended"),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            io::Error::new(ErrorKind::TimedOut, "the other process does not answer")
        }
        _ => error,
    }
}
