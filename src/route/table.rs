//! The table of all routes.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use thiserror::Error;

use super::host::{Host, HostMap};
use super::matcher::Matcher;
use super::path::{Path, PathMap};
use super::template::TemplateError;

/// The conditions of a route. It takes a request when all four are met; an empty list is a condition that always is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSpec {
    /// One of these hosts.
    pub hosts: Vec<Host>,
    /// One of these paths.
    pub paths: Vec<Path>,
    /// One of these methods, in any case. `GET` does not include `HEAD`.
    pub methods: Vec<Method>,
    /// All of these headers, with exactly this value; of a header that occurs several times one value suffices.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why there is no table. Routes are named by their position in the list that was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// Two routes have a host and a path in common, and the same methods and headers: one would never be taken.
    #[error("routes {first} and {second} have the same conditions for {place}")]
    Duplicate {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
        /// The host and path in common, as the later one writes them.
        place: String,
    },
    /// A template is not one.
    #[error("route {route}: path {template:?}: {source}")]
    Template {
        /// The route.
        route: usize,
        /// What it has for a template.
        template: String,
        /// What is wrong with it.
        source: TemplateError,
    },
}

/// Finds the target (`T`) of a request's route. Immutable.
#[derive(Debug)]
pub struct RouteTable<T> {
    hosts: HostMap<PathMap<Vec<Candidate>>>,
    /// Distinct: most routes of a large table share a few, which stay in the processor's cache.
    matchers: Vec<Matcher>,
    /// By the route's position.
    targets: Vec<T>,
    /// The only route has no conditions.
    is_catch_all: bool,
}

/// A route at one of its hosts and paths.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Index into `RouteTable::matchers`.
    matcher: u32,
    /// Index into `RouteTable::targets`.
    route: u32,
}

impl<T> RouteTable<T> {
    /// A table of `routes`. Their order matters only between routes with the same host and path, both or neither with
    /// methods, and with equally many headers, of which a request meets several: the earlier is taken.
    ///
    /// # Errors
    /// [`BuildError`] on the first template that is not one, or the first two routes that are equal at some host and
    /// path.
    ///
    /// # Panics
    /// With more than 2³² routes.
    pub fn build(routes: Vec<(RouteSpec, T)>) -> Result<Self, BuildError> {
        let (specs, targets): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
        let mut hosts = HostMap::default();
        let (matchers, matcher_of) = distinct_matchers(&specs);

        let mut by_precedence: Vec<usize> = (0..specs.len()).collect();
        by_precedence.sort_by_cached_key(|&route| matchers[matcher_of[route]].precedence());
        for route in by_precedence {
            let candidate = Candidate {
                matcher: index(matcher_of[route]),
                route: index(route),
            };
            enter(&mut hosts, &specs[route], candidate)?;
        }

        let is_catch_all = match specs.as_slice() {
            [only] => {
                only.hosts.is_empty() && only.paths.is_empty() && matchers[0].is_unconditional()
            }
            _ => false,
        };
        Ok(Self {
            hosts,
            matchers,
            targets,
            is_catch_all,
        })
    }

    /// The target of the most specific route whose conditions the request meets.
    ///
    /// `host` gives the host without port, if there is one; in any case, with or without a trailing dot. `path` comes
    /// without query and is taken as it is: [`normal_path`](super::normal_path()) makes it what routes should see.
    pub fn find<'h>(
        &self,
        host: impl FnOnce() -> Option<&'h str>,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<&T> {
        if self.is_catch_all {
            return self.targets.first();
        }
        let matches = |candidate: &&Candidate| {
            self.matchers[candidate.matcher as usize].matches(method, headers)
        };
        let accept = |candidates: &Vec<Candidate>| candidates.iter().find(matches).copied();
        let found = self
            .hosts
            .find_map(host(), |paths| paths.find_map(path, accept))?;
        self.targets.get(found.route as usize)
    }
}

/// The matchers that occur, and for each route which of them is its own.
fn distinct_matchers(specs: &[RouteSpec]) -> (Vec<Matcher>, Vec<usize>) {
    let mut matchers = Vec::new();
    let mut known = HashMap::new();
    let matcher_of = specs.iter().map(|spec| {
        let matcher = Matcher::new(spec.methods.clone(), spec.headers.clone());
        *known.entry(matcher).or_insert_with_key(|matcher| {
            matchers.push(matcher.clone());
            matchers.len() - 1
        })
    });
    let matcher_of = matcher_of.collect();
    (matchers, matcher_of)
}

/// Puts `candidate` behind those of the same precedence or a higher one at each host and path of `spec`, provided
/// that candidates come in this order.
fn enter(
    hosts: &mut HostMap<PathMap<Vec<Candidate>>>,
    spec: &RouteSpec,
    candidate: Candidate,
) -> Result<(), BuildError> {
    for host in some_or_any(&spec.hosts) {
        let paths = hosts.entry(host);
        for path in some_or_any(&spec.paths) {
            let candidates = paths.entry(path).map_err(|source| BuildError::Template {
                route: candidate.route as usize,
                template: path.map(Path::to_string).unwrap_or_default(),
                source,
            })?;
            let equal = |other: &&Candidate| other.matcher == candidate.matcher;
            match candidates.iter().find(equal) {
                None => candidates.push(candidate),
                // The route names this host and path twice.
                Some(same) if same.route == candidate.route => {}
                Some(other) => {
                    // Equal matchers have the same precedence, and sorting kept the order among them.
                    return Err(BuildError::Duplicate {
                        first: other.route as usize,
                        second: candidate.route as usize,
                        place: place(host, path),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Each of `conditions`, or `None` once if there are none.
fn some_or_any<C>(conditions: &[C]) -> impl Iterator<Item = Option<&C>> {
    let any = conditions.is_empty().then_some(None);
    conditions.iter().map(Some).chain(any)
}

fn place(host: Option<&Host>, path: Option<&Path>) -> String {
    let host = host.map_or("any host".to_owned(), |host| format!("host {host}"));
    let path = path.map_or("any path".to_owned(), |path| format!("path {path}"));
    format!("{host} and {path}")
}

fn index(position: usize) -> u32 {
    u32::try_from(position).expect("nobody has more than 2^32 routes")
}
