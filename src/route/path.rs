//! The index by path.

use std::cmp::Reverse;
use std::fmt;

use super::Map;
use super::template::{TemplateError, TemplateMap};

/// A path that a route is for, in its normal form. Paths are compared byte by byte as given: case matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Path {
    /// This path.
    Exact(String),
    /// This path and everything below it, at a segment boundary: `/x` stands for `/x/*` and matches `/x`, `/x/` and
    /// `/x/y`, not `/xy`. The empty string stands for `/*`.
    Prefix(String),
    /// With parameters, each for a part of one segment that is not empty: `/users/{id}`, `/img-{n}.png`. A last
    /// `{*name}` takes the rest of the path. Braces are doubled to stand for themselves.
    Template(String),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) | Self::Template(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/*"),
        }
    }
}

/// A `V` for each exact path, template and prefix, and for any path.
#[derive(Debug, Default)]
pub(super) struct PathMap<V> {
    exact: Map<Box<str>, V>,
    /// Boxed and absent as a rule: it is large, and there may be a map for each of 100,000 hosts.
    templates: Option<Box<TemplateMap<V>>>,
    prefixes: PrefixMap<V>,
    any: V,
}

impl<V: Default> PathMap<V> {
    /// The value for `path`, made if it is not there yet; `None` is any path.
    pub(super) fn entry(&mut self, path: Option<&Path>) -> Result<&mut V, TemplateError> {
        match path {
            Some(Path::Exact(path)) => Ok(self.exact.entry(path.as_str().into()).or_default()),
            Some(Path::Template(path)) => self.templates.get_or_insert_default().entry(path),
            Some(Path::Prefix(path)) => Ok(self.prefixes.entry(path)),
            None => Ok(&mut self.any),
        }
    }
}

impl<V> PathMap<V> {
    /// Offers the values for `path`, the most specific first, until `accept` takes one.
    pub(super) fn find_map<R>(&self, path: &str, accept: impl Fn(&V) -> Option<R>) -> Option<R> {
        let template = || self.templates.as_ref()?.find_map(path, &accept);
        (self.exact.get(path).and_then(&accept))
            .or_else(template)
            .or_else(|| self.prefixes.find_map(path, &accept))
            .or_else(|| accept(&self.any))
    }
}

/// Prefixes that end at segment boundaries.
#[derive(Debug, Default)]
struct PrefixMap<V> {
    values: Map<Box<str>, V>,
    /// The lengths that occur among the keys, longest first. Trying these, not the boundaries of the path, bounds the
    /// cost by the configuration: a client may send thousands of slashes.
    lengths: Vec<usize>,
    /// For the empty prefix, `/*`, which needs no look-up.
    root: Option<V>,
}

impl<V: Default> PrefixMap<V> {
    fn entry(&mut self, prefix: &str) -> &mut V {
        if prefix.is_empty() {
            return self.root.get_or_insert_default();
        }
        let place = self
            .lengths
            .binary_search_by_key(&Reverse(prefix.len()), |&length| Reverse(length));
        if let Err(place) = place {
            self.lengths.insert(place, prefix.len());
        }
        self.values.entry(prefix.into()).or_default()
    }
}

impl<V> PrefixMap<V> {
    fn find_map<R>(&self, path: &str, accept: impl Fn(&V) -> Option<R>) -> Option<R> {
        let is_boundary = |length| match path.as_bytes().get(length) {
            Some(byte) => *byte == b'/',
            None => path.len() == length,
        };
        let lengths = self.lengths.iter().copied();
        lengths
            .filter(|&length| is_boundary(length))
            .filter_map(|length| self.values.get(&path[..length]))
            .find_map(&accept)
            .or_else(|| {
                self.root
                    .as_ref()
                    .filter(|_| is_boundary(0))
                    .and_then(accept)
            })
    }
}
