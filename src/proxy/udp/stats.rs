//! What becomes of datagrams and sessions, counted.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::metrics::Counter;

/// What a worker counts of a listener's datagrams.
#[derive(Debug, Default)]
pub struct Stats {
    /// From clients.
    pub received: Counter,
    /// To clients.
    pub sent: Counter,
    /// Of either side, by why.
    pub dropped: [Counter; Dropped::ALL.len()],
    /// Sessions that have ended, by why.
    pub ended: [Counter; End::ALL.len()],
    /// Sessions that have moved to another server.
    pub moved: Counter,
}

impl Stats {
    /// Counts datagrams that were not passed on.
    pub fn drop(&self, reason: Dropped, datagrams: usize) {
        self.dropped[reason as usize].add(datagrams as u64);
    }
}

/// Why datagrams are not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// New clients', while there are as many sessions as there may be.
    Sessions,
    /// Those of clients that may not come in.
    Refused,
    /// New clients', while it is asked elsewhere whether they may come in, but for the first.
    Asking,
    /// There are more bytes than `bandwidth` allows.
    Bandwidth,
    /// New clients' while the load balancer ends.
    Draining,
    /// No server is eligible.
    NoServer,
    /// All servers have as many sessions as they may.
    ServersFull,
    /// There are no descriptors or ports left.
    Resources,
    /// It is longer than the way to the other side takes.
    TooLong,
    /// The kernel has no room for it.
    BufferFull,
    /// It could not be sent for another reason.
    Unsendable,
}

impl Dropped {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 11] = [
        Self::Sessions,
        Self::Refused,
        Self::Asking,
        Self::Bandwidth,
        Self::Draining,
        Self::NoServer,
        Self::ServersFull,
        Self::Resources,
        Self::TooLong,
        Self::BufferFull,
        Self::Unsendable,
    ];

    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Refused => "refused",
            Self::Asking => "asking",
            Self::Bandwidth => "bandwidth",
            Self::Draining => "draining",
            Self::NoServer => "no_server",
            Self::ServersFull => "servers_full",
            Self::Resources => "resources",
            Self::TooLong => "too_long",
            Self::BufferFull => "buffer_full",
            Self::Unsendable => "unsendable",
        }
    }

    /// Why a datagram could not be sent.
    pub fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::MSGSIZE) => Self::TooLong,
            Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Self::BufferFull,
            _ => Self::Unsendable,
        }
    }
}

/// Whether sending failed because the other side is not there, so that another may be.
pub fn is_refused(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Neither side has sent anything for too long.
    Idle,
    /// The server has sent as many datagrams as were expected.
    Answered,
    /// Nothing of what its client has sent first could be sent.
    Unsent,
    /// The listener is gone.
    Closed,
    /// The load balancer has ended.
    Shutdown,
}

impl End {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::Answered,
        Self::Unsent,
        Self::Closed,
        Self::Shutdown,
    ];

    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Answered => "answered",
            Self::Unsent => "unsent",
            Self::Closed => "closed",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_all() {
        for (index, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let of = |errno: Errno| Dropped::of(&errno.into());
        assert_eq!(of(Errno::MSGSIZE), Dropped::TooLong);
        assert_eq!(of(Errno::AGAIN), Dropped::BufferFull);
        assert_eq!(of(Errno::PERM), Dropped::Unsendable);
        assert!(is_refused(&Errno::CONNREFUSED.into()));
        assert!(!is_refused(&Errno::MSGSIZE.into()));
    }
}
