//! The limits of bytes a second on one way: the client's, those of all at a route or listener, and the server's.

use std::net::IpAddr;
use std::sync::Arc;

use crate::limit::Bandwidth;
use crate::net::bandwidth::{Bucket, Direction};
use crate::net::{Policer, Throttle, clock};
use crate::upstream::{Endpoint, Upstream};

/// What has the bytes of a client wait for their turn on their way to a server of `upstream`, or back. None without limits.
pub fn throttle(
    limits: &[Arc<Bandwidth>],
    upstream: &Upstream,
    endpoint: &Endpoint,
    client: IpAddr,
    direction: Direction,
) -> Option<Box<Throttle>> {
    Throttle::new(buckets(limits, upstream, endpoint, client, direction))
}

/// The same for datagrams, which cannot wait.
pub fn policer(
    limits: &[Arc<Bandwidth>],
    upstream: &Upstream,
    endpoint: &Endpoint,
    client: IpAddr,
    direction: Direction,
) -> Option<Policer> {
    Policer::new(buckets(limits, upstream, endpoint, client, direction))
}

/// Whether a client's datagram of so many bytes is over the limits, whatever its server is.
pub fn is_over(
    limits: &[Arc<Bandwidth>],
    client: IpAddr,
    direction: Direction,
    bytes: usize,
) -> bool {
    let now = clock::now();
    let mut buckets = limits.iter().filter_map(|it| it.bucket(client, direction));
    buckets.any(|it| !it.has_room(bytes as u64, now))
}

fn buckets(
    limits: &[Arc<Bandwidth>],
    upstream: &Upstream,
    endpoint: &Endpoint,
    client: IpAddr,
    direction: Direction,
) -> Vec<Bucket> {
    if limits.is_empty() && upstream.bandwidth.of(direction).rate() == 0 {
        return Vec::new();
    }
    let of_clients = limits.iter().filter_map(|it| it.bucket(client, direction));
    let of_server = upstream.bandwidth.bucket(&endpoint.lines, direction);
    of_clients.chain(of_server).collect()
}
