//! The specification again, without an index: every route is looked at.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use http::{HeaderMap, Method};

use crate::route::{Host, Path, RouteSpec};

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_lowercase()
}

fn host_rank(condition: &Host, host: &str) -> Option<(u8, Reverse<usize>)> {
    let host = normal(host);
    match condition {
        Host::Exact(name) => (host == normal(name)).then_some((0, Reverse(0))),
        Host::Wildcard(suffix) => {
            let suffix = normal(suffix);
            let below = host.ends_with(&format!(".{suffix}"));
            below.then_some((1, Reverse(suffix.len())))
        }
    }
}

type SegmentRank = (u8, Reverse<usize>, Reverse<usize>);
type PathRank = (u8, Vec<SegmentRank>, Reverse<usize>);

fn template_rank(template: &str, path: &str) -> Option<Vec<SegmentRank>> {
    let mut segments = path.split('/');
    let mut ranks = Vec::new();
    for part in template.split('/') {
        let segment = segments.next()?;
        let Some((prefix, rest)) = part.split_once('{') else {
            if part != segment {
                return None;
            }
            ranks.push((0, Reverse(0), Reverse(0)));
            continue;
        };
        let (name, suffix) = rest.split_once('}').unwrap();
        let inner = segment.strip_prefix(prefix)?;
        let literal = Reverse(prefix.len() + suffix.len());
        if name.starts_with('*') {
            ranks.push((2, literal, Reverse(prefix.len())));
            let is_empty = inner.is_empty() && segments.next().is_none();
            return (!is_empty).then_some(ranks);
        }
        if inner.strip_suffix(suffix)?.is_empty() {
            return None;
        }
        ranks.push((1, literal, Reverse(prefix.len())));
    }
    segments.next().is_none().then_some(ranks)
}

fn path_rank(condition: &Path, path: &str) -> Option<PathRank> {
    let none = Reverse(0);
    match condition {
        Path::Exact(exact) => (path == exact).then_some((0, Vec::new(), none)),
        Path::Template(template) => Some((1, template_rank(template, path)?, none)),
        Path::Prefix(prefix) => {
            let below = path == prefix || path.starts_with(&format!("{prefix}/"));
            below.then_some((2, Vec::new(), Reverse(prefix.len())))
        }
    }
}

fn best<C, R: Ord>(
    conditions: &[C],
    any: R,
    rank: impl Fn(&C) -> Option<R>,
) -> impl Iterator<Item = R> {
    let any = conditions.is_empty().then_some(any);
    conditions
        .iter()
        .filter_map(rank)
        .chain(any)
        .min()
        .into_iter()
}

fn header_set(spec: &RouteSpec) -> BTreeSet<(&str, &[u8])> {
    let pairs = spec.headers.iter();
    pairs.map(|(n, v)| (n.as_str(), v.as_bytes())).collect()
}

pub(super) fn find(
    routes: &[RouteSpec],
    host: Option<&str>,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Option<usize> {
    let ranked = routes.iter().enumerate().filter(|(_, spec)| {
        let has = |name, value| headers.get_all(name).iter().any(|v| v == value);
        (spec.methods.is_empty() || spec.methods.contains(method))
            && spec.headers.iter().all(|(name, value)| has(name, value))
    });
    let ranked = ranked.filter_map(|(position, spec)| {
        let host = best(&spec.hosts, (2, Reverse(0)), |c| host_rank(c, host?)).next()?;
        let any_path = (3, Vec::new(), Reverse(0));
        let path = best(&spec.paths, any_path, |c| path_rank(c, path)).next()?;
        let headers = Reverse(header_set(spec).len());
        Some((host, path, spec.methods.is_empty(), headers, position))
    });
    ranked.min().map(|(.., position)| position)
}

/// Whether no request could ever tell the two apart at some host and path.
pub(super) fn are_equal_somewhere(a: &RouteSpec, b: &RouteSpec) -> bool {
    fn overlap<C>(a: &[C], b: &[C], equal: impl Fn(&C, &C) -> bool) -> bool {
        a.is_empty() && b.is_empty() || a.iter().any(|x| b.iter().any(|y| equal(x, y)))
    }
    fn methods(spec: &RouteSpec) -> BTreeSet<&str> {
        spec.methods.iter().map(Method::as_str).collect()
    }
    let same_host = |a: &Host, b: &Host| normal(&a.to_string()) == normal(&b.to_string());
    // The only two names in use below.
    let same_path = |a: &Path, b: &Path| {
        let text = |path: &Path| path.to_string().replace("{name}", "{id}");
        text(a) == text(b) && std::mem::discriminant(a) == std::mem::discriminant(b)
    };
    methods(a) == methods(b)
        && header_set(a) == header_set(b)
        && overlap(&a.hosts, &b.hosts, same_host)
        && overlap(&a.paths, &b.paths, same_path)
}
