//! Reads a client's ClientHello off its socket.

use std::io;

use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use crate::message::client_hello::{ClientHello, Incoming, Invalid};
use crate::net::Tcp;

/// Read at a time: most hellos in one piece, and not much of what comes behind one.
const PIECE: usize = 4096;

/// What a client has said first, and the bytes of it, which have been taken off the socket.
#[derive(Debug)]
pub struct Said {
    /// What they mean.
    pub hello: ClientHello,
    /// For whoever is to answer.
    pub bytes: Vec<u8>,
}

/// Why there is no hello.
#[derive(Debug, Error)]
pub enum HelloError {
    /// What came, and has been taken off the socket, is none.
    #[error("{0}")]
    Invalid(Invalid, Vec<u8>),
    /// It took too long.
    #[error("no ClientHello in time")]
    Timeout,
    /// As somebody does who only looks whether a port is open.
    #[error("the client has left without a word")]
    Gone,
    /// The connection ended within it, or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a hello, until `deadline`.
///
/// # Errors
/// There is none.
pub async fn read(tcp: &mut Tcp, deadline: Instant) -> Result<Said, HelloError> {
    let mut incoming = Incoming::default();
    let read = async {
        let mut piece = [0; PIECE];
        loop {
            let length = tcp.read(&mut piece).await?;
            if length == 0 && incoming.bytes().is_empty() {
                return Err(HelloError::Gone);
            }
            if length == 0 {
                return Err(HelloError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            match incoming.read(&piece[..length]) {
                Ok(Some(hello)) => return Ok(hello),
                Ok(None) => {}
                Err(invalid) => {
                    return Err(HelloError::Invalid(invalid, incoming.bytes().to_vec()));
                }
            }
        }
    };
    let hello = timeout_at(deadline, read)
        .await
        .unwrap_or(Err(HelloError::Timeout))?;
    Ok(Said {
        hello,
        bytes: incoming.into_bytes(),
    })
}

/// The name that the hello in `bytes` asks for, which has been read before.
pub fn name_in(bytes: &[u8]) -> Option<String> {
    let hello = Incoming::default().read(bytes).ok().flatten()?;
    hello.name
}
