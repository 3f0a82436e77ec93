//! What can be wrong with what was sent and what came back.

use std::io;

/// Why a connection, or a datagram, did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side ended too early.
    #[error("the end after {got} of {of} bytes")]
    Short { got: u64, of: u64 },
    /// The server's receipt did not come, or not all of it.
    #[error("the end in the midst of the server's receipt: bytes are missing")]
    NoReceipt,
    /// The other side sent more than it said.
    #[error("more than the {of} bytes that were sent")]
    Long { of: u64 },
    /// The server has counted other bytes than were sent to it.
    #[error("{arrived} of {sent} bytes arrived at the server")]
    Lost { arrived: u64, sent: u64 },
    /// The bytes of a stream are not those that were sent.
    #[error("the bytes {direction} are not those that were sent")]
    Changed { direction: &'static str },
    /// An answer is not what its request was.
    #[error("the answer to request {number} is not what was sent")]
    Wrong { number: u64 },
    /// A datagram was not answered in time.
    #[error("no answer to datagram {number}")]
    NoAnswer { number: u64 },
}
