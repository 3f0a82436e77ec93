//! Path patterns: what is accepted is written and read as the same, and a route for it takes what it should.
//!
//! The input's first line is the pattern, the second a path.
#![no_main]

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use loadbalancer::config::types::PathPattern;
use loadbalancer::route::{Path, RouteSpec, RouteTable};

fuzz_target!(|input: &str| {
    let (pattern, path) = input.split_once('\n').unwrap_or((input, "/a"));
    let Ok(pattern) = pattern.parse::<PathPattern>() else {
        return;
    };
    assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
    let route_path = match &pattern {
        PathPattern::Exact(path) => Path::Exact(path.clone()),
        PathPattern::Prefix(path) => Path::Prefix(path.clone()),
        PathPattern::Template(template) => Path::Template(template.clone()),
    };
    let spec = RouteSpec {
        paths: vec![route_path],
        ..RouteSpec::default()
    };
    let table = RouteTable::build(vec![(spec, ())]).expect("the configuration accepts it");
    let found = table.find(|| None, path, &Method::GET, &HeaderMap::new());
    let expected = match &pattern {
        PathPattern::Exact(exact) => path == exact,
        PathPattern::Prefix(prefix) => path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathPattern::Template(template) => {
            let mut router = matchit::Router::new();
            router.insert(template, ()).expect("it is a template");
            router.at(path).is_ok()
        }
    };
    assert_eq!(found.is_some(), expected, "{pattern:?} and {path:?}");
});
