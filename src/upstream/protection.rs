//! An upstream's settings that keep requests from bad servers, and servers from too many requests.

use std::num::NonZeroU32;
use std::time::Duration;

use super::settings::Protocol;
use super::{adaptive, ejection, queue};

/// Requests that one connection of HTTP/2 takes at a time.
const STREAMS: u32 = 100;

/// How requests and servers are kept from each other where that is better for both. The default protects nothing.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// When servers that fail are left out; `None` never.
    pub ejection: Option<ejection::Settings>,
    /// How long the share of a server that has come takes to grow to its whole; zero has it whole at once.
    pub slow_start: Duration,
    /// Requests that each server may have at a time, over all workers.
    pub max_in_flight: Option<NonZeroU32>,
    /// Connections that there may be to each server, over all workers.
    pub max_connections: Option<NonZeroU32>,
    /// Whether the number of requests that each server may have is found out too.
    pub adaptive: Option<adaptive::Settings>,
    /// Requests that wait while every server has as many as it may.
    pub queue: queue::Settings,
}

impl Protection {
    /// How many requests each server may have, as far as that is laid down.
    pub(super) fn most_in_flight(&self, protocol: Protocol) -> Option<u32> {
        let by_connections = self.max_connections.map(|max| match protocol {
            // Each needs one of its own.
            Protocol::Http1 => max.get(),
            Protocol::Http2 | Protocol::Auto => max.get().saturating_mul(STREAMS),
        });
        let laid_down = [self.max_in_flight.map(NonZeroU32::get), by_connections];
        laid_down.into_iter().flatten().min()
    }
}
