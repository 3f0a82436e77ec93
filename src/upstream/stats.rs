//! What an upstream's workers count: requests that no single server answers for.

use super::queue::Priority;
use crate::metrics::{Counter, Durations};

/// Requests that no single server answers for.
#[derive(Debug, Default)]
pub struct UpstreamStats {
    /// Tries after a request's first, by [`RetryReason`].
    pub retries: [Counter; RetryReason::ALL.len()],
    /// Tries that the budget forbade.
    pub retries_denied: Counter,
    /// Second tries beside the first: those of which the first won, then those that won themselves.
    pub hedges: [Counter; 2],
    /// Requests that must not be made twice, lost because the server closed a used connection as they were sent.
    pub lost_on_close: Counter,
    /// Requests for which no server was eligible.
    pub nobody: Counter,
    /// Requests that were to be sent here a second time, by [`MirrorResult`].
    pub mirrored: [Counter; MirrorResult::ALL.len()],
    /// How long those have waited in the queue that have left it.
    pub queued: Durations,
    /// Requests for which there was no room, or no more, in the queue; by priority.
    pub shed: [Counter; Priority::ALL.len()],
    /// Requests that waited in the queue for as long as they may; by priority.
    pub overdue: [Counter; Priority::ALL.len()],
}

/// Why a request was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// No connection.
    Connect,
    /// The connection ended before any of the request was sent, or the server says that it has done nothing about it.
    Unsent,
    /// The connection ended without an answer, or what came was none.
    Reset,
    /// No answer in the time of one try.
    Timeout,
    /// The answer's status.
    Status,
}

impl RetryReason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Unsent,
        Self::Reset,
        Self::Timeout,
        Self::Status,
    ];

    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unsent => "unsent",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

/// What became of the second copy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorResult {
    /// The server answered.
    Answered,
    /// It did not, or not in time.
    Failed,
    /// There was none: too many were under way.
    Busy,
    /// There was none: the request's body was too large, or had not come when the answer did.
    Body,
}

impl MirrorResult {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::Busy, Self::Body];

    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Busy => "skipped_busy",
            Self::Body => "skipped_body",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_all() {
        for (index, reason) in RetryReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, result) in MirrorResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, index);
        }
    }
}
