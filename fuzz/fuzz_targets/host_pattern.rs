//! Host patterns: what is accepted is written and read as the same, and a route for it takes its host and no other.
//!
//! The input's first line is the pattern, the second a host.
#![no_main]

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use loadbalancer::config::types::HostPattern;
use loadbalancer::route::{Host, RouteSpec, RouteTable};

fuzz_target!(|input: &str| {
    let (pattern, host) = input.split_once('\n').unwrap_or((input, "a"));
    let Ok(pattern) = pattern.parse::<HostPattern>() else {
        return;
    };
    assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
    let (route_host, own) = match pattern {
        HostPattern::Exact(name) => (Host::Exact(name.clone()), name),
        HostPattern::Wildcard(suffix) => (Host::Wildcard(suffix.clone()), format!("x.{suffix}")),
    };
    let spec = RouteSpec {
        hosts: vec![route_host.clone()],
        ..RouteSpec::default()
    };
    let table = RouteTable::build(vec![(spec, ())]).expect("a route by itself has no duplicate");
    let takes = |host: &str| {
        let found = table.find(|| Some(host), "/", &Method::GET, &HeaderMap::new());
        found.is_some()
    };
    // With a label more the longest names are longer than any name may be.
    assert!(takes(&own) || own.len() > 253, "{own}");
    let plain = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let expected = match route_host {
        Host::Exact(name) => plain == name,
        Host::Wildcard(suffix) => plain
            .strip_suffix(&suffix)
            .and_then(|labels| labels.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty()),
    };
    assert_eq!(takes(host), expected && plain.len() <= 256, "{host}");
});
