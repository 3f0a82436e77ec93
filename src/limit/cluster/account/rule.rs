//! What a limit gives, what a node counts, and the circumstances of a turn.

use crate::limit::{Algorithm, Quota};

/// The debt that a bucket may have, in what it gives in a window and at once: what is beyond can only be nonsense.
const MAX_DEBT: f64 = 4.0;

/// What a limit gives, in the units of this module.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit::cluster) struct Rule {
    pub(in crate::limit::cluster) algorithm: Algorithm,
    /// Requests in a window.
    pub(in crate::limit::cluster) limit: f64,
    /// Requests that a full bucket has.
    pub(in crate::limit::cluster) burst: f64,
    /// In milliseconds.
    pub(in crate::limit::cluster) window: u64,
}

/// The counts of a node: of the window and the one before, or of all time and what is missing in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::limit::cluster) struct Counts {
    /// The window's number; 0 for a bucket.
    pub(in crate::limit::cluster) index: u64,
    /// Admitted by the node in this window, or ever.
    pub(in crate::limit::cluster) current: u64,
    /// Admitted by the node in the window before.
    pub(in crate::limit::cluster) previous: u64,
    /// Admitted by all in this window as far as it knows, or missing in the bucket.
    pub(in crate::limit::cluster) total: u64,
    /// Admitted by all in the window before.
    pub(in crate::limit::cluster) total_previous: u64,
    /// Since when the node counts for a bucket.
    pub(in crate::limit::cluster) opened: u64,
}

/// The circumstances of a turn.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit::cluster) struct Fleet<'a> {
    /// The time.
    pub(in crate::limit::cluster) clock: u64,
    /// Time between two rounds.
    pub(in crate::limit::cluster) interval: u64,
    /// Nodes that have the limit, besides this one, in order.
    pub(in crate::limit::cluster) peers: &'a [u64],
    /// Nodes that are likely to be there, besides those.
    pub(in crate::limit::cluster) expected: usize,
    /// Whether others have not had the time yet to tell what they know.
    pub(in crate::limit::cluster) knows_little: bool,
}

impl Fleet<'_> {
    /// Whether a node is there that has the limit.
    pub(super) fn has(&self, peer: u64) -> bool {
        self.peers.binary_search(&peer).is_ok()
    }

    /// How many nodes divide a key of which nothing is known.
    pub(in crate::limit::cluster) fn size(&self) -> usize {
        1 + self.peers.len() + self.expected
    }
}

/// This node's side of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit::cluster) struct Own {
    /// Requests asked for in a round, as far as the others know by now.
    pub(in crate::limit::cluster) asked: u32,
    /// Whether others that use the key have had the time to say so.
    pub(in crate::limit::cluster) settled: bool,
}

impl Rule {
    pub(in crate::limit::cluster) fn of(quota: &Quota) -> Self {
        Self {
            algorithm: quota.algorithm,
            limit: quota.requests.get().into(),
            burst: quota.burst.get().into(),
            window: quota.window_millis(),
        }
    }

    pub(super) fn is_bucket(&self) -> bool {
        self.algorithm == Algorithm::TokenBucket
    }

    /// The window that a time is in.
    pub(in crate::limit::cluster) fn index(&self, clock: u64) -> u64 {
        if self.is_bucket() {
            0
        } else {
            clock / self.window
        }
    }

    /// How much of the window before is still in view.
    pub(super) fn in_view(&self, clock: u64) -> f64 {
        match self.algorithm {
            Algorithm::SlidingWindow => 1.0 - (clock % self.window) as f64 / self.window as f64,
            Algorithm::FixedWindow | Algorithm::TokenBucket => 0.0,
        }
    }

    /// What a bucket has at least.
    pub(super) fn least_tokens(&self) -> f64 {
        -MAX_DEBT * (self.limit + self.burst)
    }

    /// Tokens that come in so many milliseconds.
    pub(super) fn refill(&self, millis: u64) -> f64 {
        self.limit * millis as f64 / self.window as f64
    }
}
