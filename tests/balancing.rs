//! Who of the servers gets a request: each strategy, as clients see it.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::support::backend::Backend;
use crate::support::client::{Connection, Response, message, request};
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy};

fn backends<const N: usize>() -> [Backend; N] {
    std::array::from_fn(|_| Backend::start())
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(Backend::addr).collect()
}

/// A proxy in front of an upstream with these keys. Probes have time: counts shall not depend on the machine's load.
fn start(backends: &[Backend], keys: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 2")
        .upstream_with(
            "app",
            &addresses(backends),
            &format!("health_check = {{}}\n{keys}"),
        )
        .start()
}

/// The server that an answer came from.
fn server(answer: &Response) -> String {
    assert_eq!(answer.status, 200);
    answer
        .headers
        .get("x-backend")
        .expect("a server's answer")
        .to_owned()
}

/// How many of these requests each backend answered.
fn counts<'a>(backends: &[Backend], servers: impl IntoIterator<Item = &'a String>) -> Vec<usize> {
    let mut counts = HashMap::<&str, usize>::new();
    for server in servers {
        *counts.entry(server).or_default() += 1;
    }
    let of = |backend: &Backend| counts.get(backend.name()).copied().unwrap_or(0);
    backends.iter().map(of).collect()
}

/// The servers that answer `each` requests on each of `connections` connections at once.
fn load(proxy: &RunningProxy, connections: usize, each: usize) -> Vec<String> {
    let servers = in_parallel(connections, |_| {
        let mut connection = Connection::open(proxy.addr()).expect("the proxy listens");
        let mut next = || server(&connection.get("/").expect("an answer"));
        (0..each).map(|_| next()).collect::<Vec<_>>()
    });
    servers.concat()
}

#[test]
fn ten_requests_on_ten_connections_are_five_for_each_of_two_servers() {
    let backends = backends::<2>();
    for workers in [2, 3] {
        let proxy = Proxy::new()
            .setting(&format!("workers = {workers}"))
            .upstream_with("app", &addresses(&backends), "health_check = {}")
            .start();
        let servers: Vec<_> = (0..10).map(|_| server(&proxy.get("/"))).collect();
        assert_eq!(counts(&backends, &servers), [5, 5], "{workers} workers");
        assert!(servers.is_sorted_by(|a, b| a != b), "in turns: {servers:?}");
    }
}

/// A proxy whose servers have these weights.
fn weighted(backends: &[Backend], weights: &[u32]) -> RunningProxy {
    let servers = backends.iter().zip(weights).map(|(backend, weight)| {
        let address = backend.addr();
        format!("{{ address = \"{address}\", weight = {weight} }}, ")
    });
    let servers: String = servers.collect();
    Proxy::new()
        .setting("workers = 2")
        .extra(&format!(
            "[[upstreams]]\nname = \"app\"\nservers = [{servers}]"
        ))
        .start()
}

#[test]
fn weights_give_exact_shares() {
    let backends = backends::<4>();
    let proxy = weighted(&backends, &[3, 1, 2, 1]);
    let servers = load(&proxy, 4, 175);
    assert_eq!(counts(&backends, &servers), [300, 100, 200, 100]);
}

#[test]
fn weight_0_gets_nothing() {
    let backends = backends::<3>();
    let proxy = weighted(&backends, &[1, 0, 2]);
    let servers = load(&proxy, 2, 15);
    assert_eq!(counts(&backends, &servers), [10, 0, 20]);
}

#[test]
fn strategies_that_draw_or_look_at_load_use_all_servers() {
    let backends = backends::<3>();
    for strategy in ["random", "least_connections", "power_of_two", "peak_ewma"] {
        let proxy = start(&backends, &format!("strategy = {strategy:?}"));
        let counts = counts(&backends, &load(&proxy, 1, 120));
        assert!(counts.iter().all(|&it| it > 0), "{strategy}: {counts:?}");
    }
}

#[test]
fn a_slow_server_gets_less_from_strategies_that_look_at_load() {
    let backends = [
        Backend::start(),
        Backend::start(),
        Backend::start_with(&["--delay", "100"]),
    ];
    for strategy in ["least_connections", "power_of_two", "peak_ewma"] {
        let proxy = start(&backends, &format!("strategy = {strategy:?}"));
        let counts = counts(&backends, &load(&proxy, 6, 40));
        let fast = counts[0].min(counts[1]);
        assert!(counts[2] * 2 < fast, "{strategy}: {counts:?}");
    }
}

/// Sends request number `key` of each of 60 keys twice; the server of each key, the same both times.
fn servers_of_keys(
    backends: &[Backend],
    proxy: &RunningProxy,
    of_key: impl Fn(usize) -> Vec<u8>,
) -> Vec<String> {
    let once = || {
        let ask = |key| server(&request(proxy.addr(), of_key(key)));
        (0..60).map(ask).collect::<Vec<_>>()
    };
    let servers = once();
    assert_eq!(once(), servers, "a key stays with its server");
    let counts = counts(backends, &servers);
    assert!(counts.iter().all(|&it| it > 0), "{counts:?}");
    servers
}

fn consistent_hash(backends: &[Backend], hash: &str) -> RunningProxy {
    start(
        backends,
        &format!("strategy = \"consistent_hash\"\nhash = {hash:?}"),
    )
}

#[test]
fn consistent_hash_by_a_header() {
    let backends = backends::<3>();
    let proxy = consistent_hash(&backends, "header:X-User");
    servers_of_keys(&backends, &proxy, |key| {
        message("GET", "/", &[("x-user", &format!("user {key}"))], b"")
    });
}

#[test]
fn consistent_hash_by_a_cookie() {
    let backends = backends::<3>();
    let proxy = consistent_hash(&backends, "cookie:session");
    let plain = servers_of_keys(&backends, &proxy, |key| {
        message("GET", "/", &[("cookie", &format!("session={key}"))], b"")
    });
    let among_others = servers_of_keys(&backends, &proxy, |key| {
        let cookies = format!("theme=dark; session={key}; sessions={}", key + 1);
        message("GET", "/", &[("cookie", &cookies)], b"")
    });
    assert_eq!(among_others, plain);
}

#[test]
fn consistent_hash_by_path_without_query() {
    let backends = backends::<3>();
    let proxy = consistent_hash(&backends, "path");
    let plain = servers_of_keys(&backends, &proxy, |key| {
        message("GET", &format!("/bytes/{key}"), &[], b"")
    });
    let with_query = servers_of_keys(&backends, &proxy, |key| {
        message("GET", &format!("/bytes/{key}?page={key}"), &[], b"")
    });
    assert_eq!(with_query, plain);
}

#[test]
fn consistent_hash_by_client_believes_a_trusted_proxy() {
    let backends = backends::<3>();
    let of_client = |key: usize| {
        let client = format!("192.0.2.{key}");
        message("GET", "/", &[("x-forwarded-for", &client)], b"")
    };
    let keys = "strategy = \"consistent_hash\"\nhealth_check = {}";
    let proxy = Proxy::new()
        .setting("trusted_proxies = [\"127.0.0.1\"]")
        .upstream_with("app", &addresses(&backends), keys)
        .start();
    servers_of_keys(&backends, &proxy, of_client);

    // Whoever is not trusted is one client, whatever it says.
    let proxy = consistent_hash(&backends, "client_ip");
    let ask = |key| server(&request(proxy.addr(), of_client(key)));
    let first = ask(0);
    assert!((1..30).all(|key| ask(key) == first));
}

#[test]
fn without_a_server_only_its_keys_move() {
    let mut backends = backends::<3>();
    let keys = "strategy = \"consistent_hash\"\nhash = \"header:x-user\"";
    let proxy = Proxy::new()
        .upstream_with("app", &addresses(&backends), keys)
        .start();
    let ask = |key: usize| {
        let fields = [("x-user", &*format!("user {key}"))];
        server(&request(proxy.addr(), message("GET", "/", &fields, b"")))
    };
    let before: Vec<_> = (0..200).map(ask).collect();

    backends[0].kill_9();
    proxy.process().wait_for_line("server is down");
    let after: Vec<_> = (0..200).map(ask).collect();
    let gone = backends[0].name();
    assert!(!after.iter().any(|server| server == gone));
    let others = before.iter().zip(&after);
    let others: Vec<_> = others.filter(|(before, _)| *before != gone).collect();
    let moved = others.iter().filter(|(before, after)| before != after);
    let (moved, kept) = (moved.count(), others.len());
    assert!(
        moved * 20 <= kept,
        "{moved} of {kept} keys of other servers moved"
    );
}
