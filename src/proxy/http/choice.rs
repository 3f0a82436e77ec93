//! What of a request decides where it goes: the hash that `consistent_hash` chooses a server by, and the upstream of a
//! split.

use std::cell::RefCell;
use std::net::IpAddr;

use http::HeaderValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::config::model::SplitKey;
use crate::message::Head;
use crate::message::cookie;
use crate::proxy::policy::{Forward, Target};
use crate::proxy::snapshot::HashKey;
use crate::route::normal_path;

/// Keeps the hash of a split apart from that of a strategy: the clients of one upstream would otherwise all fall on the
/// same few of its servers.
const SPLIT_SEED: u64 = 0x5eed_5917;

/// The upstream that a request goes to. What has no key is decided by lot.
pub fn target<'a>(
    policy: &'a Forward,
    client: IpAddr,
    head: &Head,
    rng: &RefCell<fastrand::Rng>,
) -> &'a Target {
    let Some(split) = &policy.split else {
        return &policy.targets[0];
    };
    let hash = |bytes: &[u8]| xxh3_64_with_seed(bytes, SPLIT_SEED);
    let point = match &split.by {
        SplitKey::Random => None,
        SplitKey::ClientIp => Some(with_octets(client, hash)),
        SplitKey::Header(name) => head.headers.get(name).map(|it| hash(it.as_bytes())),
        SplitKey::Cookie(name) => {
            cookie::find(&head.headers, name).map(|value| hash(value.as_bytes()))
        }
    };
    &policy.targets[split.at(point.unwrap_or_else(|| rng.borrow_mut().u64(..)))]
}

/// The hash that `consistent_hash` chooses by; the same in every process. A request without the header or cookie is
/// hashed by its client's address: all of them on one server would be the worst.
///
/// A path is hashed as routes see it.
pub fn hash_of(key: &HashKey, client: IpAddr, head: &Head) -> u64 {
    let normal;
    let value = match key {
        HashKey::ClientIp => None,
        HashKey::Header(name) => head.headers.get(name).map(HeaderValue::as_bytes),
        HashKey::Cookie(name) => cookie::find(&head.headers, name).map(str::as_bytes),
        HashKey::Path => {
            normal = normal_path(head.uri.path()).ok();
            normal.as_ref().map(|normal| normal.path.as_bytes())
        }
    };
    value.map_or_else(|| hash_of_address(client), xxh3_64)
}

/// The same where there is nothing but the client's address.
pub fn hash_of_address(client: IpAddr) -> u64 {
    with_octets(client, xxh3_64)
}

fn with_octets(address: IpAddr, hash: impl Fn(&[u8]) -> u64) -> u64 {
    match address {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()),
    }
}
