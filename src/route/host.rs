//! The index by host.

use std::fmt;

use super::Map;

/// The longest host that can match, in bytes. DNS names have at most 253.
const LONGEST: usize = 256;

/// A host that a route is for. Case and a trailing dot do not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// This name or address literal, without port.
    Exact(String),
    /// Every name below this one, however deep, but not the name itself: `example.com` stands for `*.example.com`.
    Wildcard(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A `V` for each host, each wildcard, and for any host.
#[derive(Debug, Default)]
pub struct HostMap<V> {
    exact: Map<Box<[u8]>, V>,
    wildcard: Map<Box<[u8]>, V>,
    any: V,
}

impl<V: Default> HostMap<V> {
    /// The value for `host`, made if it is not there yet; `None` is any host.
    pub fn entry(&mut self, host: Option<&Host>) -> &mut V {
        match host {
            Some(Host::Exact(name)) => self.exact.entry(normal(name)).or_default(),
            Some(Host::Wildcard(suffix)) => self.wildcard.entry(normal(suffix)).or_default(),
            None => &mut self.any,
        }
    }
}

impl<V> HostMap<V> {
    /// Offers the values for `host`, the most specific first, until `accept` takes one.
    pub fn find_map<R>(&self, host: Option<&str>, accept: impl Fn(&V) -> Option<R>) -> Option<R> {
        host.and_then(|host| self.find_named(host, &accept))
            .or_else(|| accept(&self.any))
    }

    fn find_named<R>(&self, host: &str, accept: impl Fn(&V) -> Option<R>) -> Option<R> {
        let host = without_dot(host).as_bytes();
        if host.len() > LONGEST {
            return None;
        }
        if !host.iter().any(u8::is_ascii_uppercase) {
            return self.find_lower_case(host, accept);
        }
        let mut buffer = [0; LONGEST];
        let lower = &mut buffer[..host.len()];
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        self.find_lower_case(lower, accept)
    }

    fn find_lower_case<R>(&self, host: &[u8], accept: impl Fn(&V) -> Option<R>) -> Option<R> {
        if let Some(found) = self.exact.get(host).and_then(&accept) {
            return Some(found);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        // Behind the first dot is the longest suffix. A dot in front of everything has no name below it.
        let dots = host.iter().enumerate().skip(1).filter(|(_, b)| **b == b'.');
        dots.filter_map(|(dot, _)| self.wildcard.get(&host[dot + 1..]))
            .find_map(accept)
    }
}

fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn normal(host: &str) -> Box<[u8]> {
    without_dot(host).to_ascii_lowercase().into_bytes().into()
}
