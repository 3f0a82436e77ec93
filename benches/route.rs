//! What finding a request's route costs, for each kind of host and path and for tables of several sizes. Run with
//! `cargo bench --bench route`.
//!
//! A table has one kind of host and one kind of path, so that a figure tells about one index. Its requests ask for all
//! of its routes, in no order: with 100,000 of them most look-ups miss the processor's caches; a processor that looks
//! ahead waits for several of them at once, which it cannot in the proxy. The hosts and paths of requests are in the
//! cache, as in the proxy, which has just read them. The table lies in memory as the program's allocator has it.

use std::hint::black_box;

use divan::Bencher;
use http::{HeaderMap, Method};
use loadbalancer::route::{Host, Path, RouteSpec, RouteTable};

#[global_allocator]
static ALLOCATOR: loadbalancer::server::Allocator = loadbalancer::server::Allocator;

/// One route, and ten for each of 100 and of 10,000 hosts.
const ROUTES: [usize; 3] = [1, 1_000, 100_000];

/// A host has a route for each of these. They differ in length because prefixes are looked up by their lengths.
const NAMES: [&str; 10] = [
    "users",
    "orders",
    "carts",
    "payments",
    "sessions",
    "catalogue",
    "search",
    "reports",
    "preferences",
    "news",
];

fn main() {
    divan::main();
}

/// What it costs to see that a path is in its normal form, which most are, or to bring it there.
#[divan::bench(args = ["/", "/products/4711", "/v1/accounts/42/orders/2026/items.json", "/a%20b", "/x/../y//z"], sample_size = 1000)]
fn normal_path(bencher: Bencher<'_, '_>, path: &str) {
    bencher.bench_local(|| loadbalancer::route::normal_path(black_box(path)));
}

/// A route that takes everything, as in the configuration that is shipped.
#[divan::bench(sample_size = 1000)]
fn no_conditions(bencher: Bencher<'_, '_>) {
    let table = RouteTable::build(vec![(RouteSpec::default(), 0)]).expect("it is the only one");
    let case = Case::new(1, Hosts::Exact, Paths::Exact);
    bench(bencher, &table, |rng| case.request(rng, Ask::Route), true);
}

mod hit {
    use super::*;

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn exact(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Exact).bench(bencher, Ask::Route);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn prefix(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Prefix).bench(bencher, Ask::Route);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn template(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Template).bench(bencher, Ask::Route);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn wildcard_host(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Wildcard, Paths::Exact).bench(bencher, Ask::Route);
    }
}

mod unknown_path {
    use super::*;

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn exact(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Exact).bench(bencher, Ask::OtherPath);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn prefix(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Prefix).bench(bencher, Ask::OtherPath);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn template(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Template).bench(bencher, Ask::OtherPath);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn wildcard_host(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Wildcard, Paths::Exact).bench(bencher, Ask::OtherPath);
    }
}

mod unknown_host {
    use super::*;

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn exact(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Exact, Paths::Exact).bench(bencher, Ask::OtherHost);
    }

    #[divan::bench(args = ROUTES, sample_size = 100)]
    fn wildcard_host(bencher: Bencher<'_, '_>, routes: usize) {
        Case::new(routes, Hosts::Wildcard, Paths::Exact).bench(bencher, Ask::OtherHost);
    }
}

#[derive(Clone, Copy)]
enum Hosts {
    Exact,
    Wildcard,
}

#[derive(Clone, Copy)]
enum Paths {
    Exact,
    Prefix,
    Template,
}

/// What requests ask for.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    /// A route of the table.
    Route,
    /// A host of the table, and a path that is not there but resembles one that is.
    OtherPath,
    /// A host that is not there, and a path that all hosts have.
    OtherHost,
}

/// A table of so many routes, and the requests for it.
#[derive(Clone, Copy)]
struct Case {
    routes: usize,
    hosts: Hosts,
    paths: Paths,
}

impl Case {
    fn new(routes: usize, hosts: Hosts, paths: Paths) -> Self {
        Self {
            routes,
            hosts,
            paths,
        }
    }

    fn bench(self, bencher: Bencher<'_, '_>, ask: Ask) {
        let routes = (0..self.routes).map(|route| (self.spec(route), route));
        let table = RouteTable::build(routes.collect()).expect("all routes differ");
        let hit = ask == Ask::Route;
        bench(bencher, &table, |rng| self.request(rng, ask), hit);
    }

    fn spec(self, route: usize) -> RouteSpec {
        let (number, name) = (route / NAMES.len(), NAMES[route % NAMES.len()]);
        let host = format!("shop{number}.example.com");
        let host = match self.hosts {
            Hosts::Exact => Host::Exact(host),
            Hosts::Wildcard => Host::Wildcard(host),
        };
        let path = match self.paths {
            Paths::Exact => Path::Exact(format!("/v1/{name}/recent")),
            Paths::Prefix => Path::Prefix(format!("/v1/{name}")),
            Paths::Template => Path::Template(format!("/v1/{name}/{{id}}/items")),
        };
        RouteSpec {
            hosts: vec![host],
            paths: vec![path],
            ..RouteSpec::default()
        }
    }

    /// The host and path of a request.
    fn request(self, rng: &mut fastrand::Rng, ask: Ask) -> (String, String) {
        let route = rng.usize(..self.routes);
        let (number, name) = (route / NAMES.len(), NAMES[route % NAMES.len()]);
        let domain = match ask {
            Ask::OtherHost => "example.org",
            Ask::Route | Ask::OtherPath => "example.com",
        };
        let host = match self.hosts {
            Hosts::Exact => format!("shop{number}.{domain}"),
            Hosts::Wildcard => format!("www.shop{number}.{domain}"),
        };
        let path = match (self.paths, ask) {
            (Paths::Exact, Ask::OtherPath) => format!("/v1/{name}/oldest"),
            (Paths::Exact, _) => format!("/v1/{name}/recent"),
            (Paths::Prefix, Ask::OtherPath) => format!("/v2/{name}/4711/items"),
            (Paths::Template, Ask::OtherPath) => format!("/v1/{name}/4711/parts"),
            (Paths::Prefix | Paths::Template, _) => format!("/v1/{name}/4711/items"),
        };
        (host, path)
    }
}

fn bench(
    bencher: Bencher<'_, '_>,
    table: &RouteTable<usize>,
    request: impl Fn(&mut fastrand::Rng) -> (String, String),
    hit: bool,
) {
    let headers = HeaderMap::new();
    let find = |host: &str, path: &str| {
        let table = black_box(table);
        let found = table.find(|| Some(host), path, &Method::GET, &headers);
        found.copied()
    };
    let mut rng = fastrand::Rng::with_seed(1);
    // Not each of those that are measured: their part of the table would be in the cache then.
    for _ in 0..100 {
        let (host, path) = request(&mut rng);
        assert_eq!(find(&host, &path).is_some(), hit, "{host}{path}");
    }
    bencher
        .with_inputs(|| request(&mut rng))
        .bench_local_refs(|(host, path)| find(black_box(host), black_box(path)));
}
