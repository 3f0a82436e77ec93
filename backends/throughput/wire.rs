//! What client and server say to each other over TCP.
//!
//! The client begins with 32 bytes that say what it wants. A transfer: both send what was agreed, at the same time; the
//! client closes its sending side; the server then adds 24 bytes, what has arrived and the digests of both streams, and
//! closes. Requests: each is as many bytes as was agreed, and so is its answer, which is the same bytes.

use std::io::{self, Read, Write};

use fastrand::Rng;
use xxhash_rust::xxh3::Xxh3Default;

use super::fault::Fault;

/// What is written and read at once.
const PIECE: usize = 256 * 1024;

/// The longest request.
pub const LONGEST: u32 = 16 * 1024 * 1024;

const TRANSFER: u64 = u64::from_le_bytes(*b"transfer");
const REQUESTS: u64 = u64::from_le_bytes(*b"requests");

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// So many bytes to the server and from it, made from `seed`.
    Transfer { up: u64, down: u64, seed: u64 },
    /// Requests and answers of this size in bytes.
    Requests { size: u32 },
}

impl Work {
    /// Tells the server.
    pub fn send(self, mut stream: impl Write) -> io::Result<()> {
        let words = match self {
            Self::Transfer { up, down, seed } => [TRANSFER, up, down, seed],
            Self::Requests { size } => [REQUESTS, size.into(), 0, 0],
        };
        stream.write_all(words.map(u64::to_le_bytes).as_flattened())
    }

    /// What the client says.
    ///
    /// # Errors
    /// When it says something else, or nothing.
    pub fn receive(stream: impl Read) -> io::Result<Self> {
        match receive_words(stream)? {
            [TRANSFER, up, down, seed] => Ok(Self::Transfer { up, down, seed }),
            [REQUESTS, size, 0, 0] if (1..=LONGEST.into()).contains(&size) => {
                Ok(Self::Requests { size: size as u32 })
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What the server says at the end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Receipt {
    /// Bytes that have arrived.
    pub arrived: u64,
    /// Their digest.
    pub up: u64,
    /// The digest of what the server has sent.
    pub down: u64,
}

impl Receipt {
    /// Tells the client.
    pub fn send(self, mut stream: impl Write) -> io::Result<()> {
        let words = [self.arrived, self.up, self.down];
        stream.write_all(words.map(u64::to_le_bytes).as_flattened())
    }

    /// What the server says.
    pub fn receive(stream: impl Read) -> io::Result<Self> {
        receive_words(stream).map(|[arrived, up, down]| Self { arrived, up, down })
    }
}

fn receive_words<const N: usize>(mut stream: impl Read) -> io::Result<[u64; N]> {
    let mut words = [[0; 8]; N];
    stream.read_exact(words.as_flattened_mut())?;
    Ok(words.map(u64::from_le_bytes))
}

/// Sends `length` bytes, no two pieces of which are alike, and gives their digest.
pub fn send(mut stream: impl Write, length: u64, seed: u64) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    Rng::with_seed(seed).fill(&mut piece);
    let mut digest = Xxh3Default::new();
    let mut left = length;
    while left > 0 {
        piece[..8].copy_from_slice(&left.to_le_bytes());
        let now = &piece[..left.min(PIECE as u64) as usize];
        stream.write_all(now)?;
        digest.update(now);
        left -= now.len() as u64;
    }
    Ok(digest.digest())
}

/// Reads up to `limit` bytes, fewer only at the end of the stream, and gives their number and digest.
pub fn receive(mut stream: impl Read, limit: u64) -> io::Result<(u64, u64)> {
    let mut piece = vec![0; PIECE];
    let mut digest = Xxh3Default::new();
    let mut left = limit;
    while left > 0 {
        let room = left.min(PIECE as u64) as usize;
        let length = match stream.read(&mut piece[..room]) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&piece[..length]);
        left -= length as u64;
    }
    Ok((limit - left, digest.digest()))
}

/// Fails unless the stream is at its end.
pub fn expect_end(mut stream: impl Read, sent: u64) -> Result<(), Fault> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(Fault::Long { of: sent }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let transfer = Work::Transfer {
            up: 1,
            down: 2,
            seed: 3,
        };
        for work in [transfer, Work::Requests { size: 128 }] {
            let mut said = Vec::new();
            work.send(&mut said).unwrap();
            assert_eq!(said.len(), 32);
            assert_eq!(Work::receive(said.as_slice()).unwrap(), work);
        }
        let mut too_long = Vec::new();
        let size = LONGEST + 1;
        Work::Requests { size }.send(&mut too_long).unwrap();
        for other in [too_long.as_slice(), &[b'x'; 32], b"GET / HTTP/1.1\r\n"] {
            assert!(Work::receive(other).is_err());
        }
    }

    #[test]
    fn a_digest_tells_bytes_that_changed_or_changed_places() {
        let length = 3 * PIECE as u64 + 5;
        let mut sent = Vec::new();
        let digest = send(&mut sent, length, 7).unwrap();
        assert_eq!(receive(sent.as_slice(), length).unwrap(), (length, digest));
        let (got, other) = receive(&sent[1..], length).unwrap();
        assert_eq!(got, length - 1);
        assert_ne!(other, digest);
        let (first, rest) = sent.split_at(PIECE);
        let (second, rest) = rest.split_at(PIECE);
        let swapped = [second, first, rest].concat();
        let (got, other) = receive(swapped.as_slice(), length).unwrap();
        assert_eq!(got, length);
        assert_ne!(other, digest);
    }
}
