//! What the echo server has done so far.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Default)]
pub struct Counts {
    /// Connections that were taken.
    pub connections: Count,
    /// Connections that ended with an error: a reset, no TLS where TLS was expected, the end in the midst of a record.
    pub broken: Count,
    /// Bytes that were sent back over TCP.
    pub bytes: Count,
    /// Datagrams that were sent back.
    pub datagrams: Count,
    /// Bytes in these.
    pub datagram_bytes: Count,
    /// Datagrams that were not sent back: too many waited, or the system refused.
    pub dropped: Count,
}

/// A number that grows.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `more`.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load(Ordering::Relaxed).fmt(out)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            broken,
            bytes,
            datagrams,
            datagram_bytes,
            dropped,
        } = self;
        write!(
            out,
            "connections {connections}, broken {broken}, bytes {bytes}, datagrams {datagrams}, \
             datagram bytes {datagram_bytes}, dropped {dropped}"
        )
    }
}
