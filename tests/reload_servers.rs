//! Servers while configurations change: what is added and removed, and that nothing is forgotten of those that stay.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::backend::{Backend, RawBackend, RefusingPort};
use crate::support::client::{self, message};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::wait_until;

fn config() -> Proxy {
    Proxy::new().setting("workers = 2\nwatch_config = false")
}

/// An upstream with these servers and weights, and keys of its own.
fn weighted(servers: &[(SocketAddr, u32)], toml: &str) -> Proxy {
    let list = servers
        .iter()
        .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"))
        .collect::<Vec<_>>()
        .join(", ");
    config().extra(&format!(
        "[[upstreams]]\nname = \"app\"\nservers = [{list}]\n{toml}"
    ))
}

const QUICK: &str = r#"slow_start = "0s"
health_check = { interval = "100ms", timeout = "500ms", fall = 2, rise = 1 }"#;
/// Probed once, at the start.
const ONCE: &str = r#"health_check = { interval = "10m", timeout = "500ms", fall = 2, rise = 1 }"#;

/// How many of `requests` each backend answers.
fn shares(proxy: &RunningProxy, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = proxy.get("/");
        assert_eq!(answer.status, 200);
        let name = answer.headers.get("x-backend").expect("a backend's answer");
        *shares.entry(name.to_owned()).or_default() += 1;
    }
    shares
}

fn expected<const N: usize>(shares: [(&Backend, usize); N]) -> BTreeMap<String, usize> {
    let shares = shares.map(|(backend, count)| (backend.name().to_owned(), count));
    BTreeMap::from(shares)
}

fn servers(proxy: &RunningProxy) -> BTreeMap<String, Value> {
    let list = proxy.admin_json("/servers")["servers"].clone();
    let list = list.as_array().expect("a list").iter();
    list.map(|it| (it["address"].as_str().expect("one").to_owned(), it.clone()))
        .collect()
}

fn call(proxy: &RunningProxy, method: &str, path: &str, body: &Value) {
    let host = proxy.admin().to_string();
    let headers = [("host", host.as_str())];
    let body = body.to_string();
    let request = message(method, path, &headers, body.as_bytes());
    let answer = client::request(proxy.admin(), request);
    assert!(answer.status < 300, "{}", answer.text());
}

#[test]
fn servers_come_go_and_change_their_weights() {
    let (a, b, c) = (Backend::start(), Backend::start(), Backend::start());
    let proxy = weighted(&[(a.addr(), 1), (b.addr(), 1)], QUICK).start();
    assert_eq!(shares(&proxy, 10), expected([(&a, 5), (&b, 5)]));
    proxy.change_to(&weighted(&[(a.addr(), 1), (b.addr(), 3)], QUICK));
    assert_eq!(shares(&proxy, 12), expected([(&a, 3), (&b, 9)]));
    let changes = proxy.change_to(&weighted(&[(b.addr(), 1), (c.addr(), 1)], QUICK));
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(shares(&proxy, 10), expected([(&b, 5), (&c, 5)]));
    proxy.change_to(&weighted(&[(a.addr(), 1)], QUICK));
    assert_eq!(shares(&proxy, 4), expected([(&a, 4)]));
}

#[test]
fn a_server_that_does_not_run_yet_gets_no_request() {
    let (a, missing) = (Backend::start(), RefusingPort::new());
    let proxy = weighted(&[(a.addr(), 1)], QUICK).start();
    proxy.change_to(&weighted(&[(a.addr(), 1), (missing.addr(), 1)], QUICK));
    assert_eq!(shares(&proxy, 10), expected([(&a, 10)]));
    assert_eq!(proxy.metric("lb_server_connect_failures_total"), 0);
    assert_eq!(
        servers(&proxy)[&missing.addr().to_string()]["health"],
        "down"
    );
}

#[test]
fn what_is_known_of_health_is_kept_and_nobody_is_probed_again() {
    let (up, down) = (
        RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        RefusingPort::new(),
    );
    let health = |proxy: &RunningProxy| {
        let servers = servers(proxy);
        [up.addr(), down.addr()].map(|it| servers[&it.to_string()]["health"].clone())
    };
    let config = |word: &str| {
        let route = format!(
            "{ONCE}\n[[routes]]\nupstream = \"app\"\n[[routes]]\npaths = [\"/word\"]\nrespond = {{ body = {word:?} }}"
        );
        weighted(&[(up.addr(), 1), (down.addr(), 1)], &route)
    };
    let proxy = config("start").start();
    wait_until("both are probed", || health(&proxy) == ["up", "down"]);
    for number in 0..5 {
        proxy.change_to(&config(&number.to_string()));
        assert_eq!(health(&proxy), ["up", "down"]);
    }
    assert_eq!(up.heads().len(), 1, "one probe");
    // Other checks go on from there.
    let others = ONCE.replace("timeout = \"500ms\"", "timeout = \"400ms\"");
    proxy.change_to(&weighted(&[(up.addr(), 1), (down.addr(), 1)], &others));
    assert_eq!(health(&proxy), ["up", "down"]);
    // And without any nothing is known.
    let off = "health_check = { kind = \"off\" }";
    proxy.change_to(&weighted(&[(up.addr(), 1), (down.addr(), 1)], off));
    assert_eq!(health(&proxy), ["unknown", "unknown"]);
    assert_eq!(up.heads().len(), 1, "still one");
}

#[test]
fn what_the_admin_api_has_changed_stays_changed() {
    let (a, b, c) = (Backend::start(), Backend::start(), Backend::start());
    let servers_of = |weight| weighted(&[(a.addr(), weight), (b.addr(), 1)], QUICK);
    let proxy = servers_of(1).start();
    call(
        &proxy,
        "POST",
        "/servers",
        &json!({"address": c.addr(), "weight": 2}),
    );
    call(
        &proxy,
        "DELETE",
        &format!("/servers/{}", b.addr()),
        &Value::Null,
    );
    let added = c.addr().to_string();
    wait_until("the added server is used", || {
        servers(&proxy)[&added]["eligible"] == true
    });
    proxy.change_to(&servers_of(4));
    assert_eq!(shares(&proxy, 12), expected([(&a, 8), (&c, 4)]));
    call(
        &proxy,
        "PATCH",
        &format!("/servers/{}", a.addr()),
        &json!({"weight": 2}),
    );
    proxy.change_to(&servers_of(1));
    assert_eq!(shares(&proxy, 12), expected([(&a, 6), (&c, 6)]));
    // Named by the file now, it is the file's.
    proxy.change_to(&weighted(&[(a.addr(), 1), (c.addr(), 6)], QUICK));
    assert_eq!(servers(&proxy)[&added]["origin"], "config");
    assert_eq!(shares(&proxy, 8), expected([(&a, 2), (&c, 6)]));
    // A removal of what the file named no more is forgotten.
    proxy.change_to(&servers_of(2));
    assert_eq!(shares(&proxy, 6), expected([(&a, 4), (&b, 2)]));
}

#[test]
fn a_route_finds_a_new_upstream_ready() {
    let (old, new) = (Backend::start(), Backend::start());
    let to = |name: &str, backend: &Backend| {
        config()
            .upstream(name, &[backend.addr()])
            .extra(&format!("[[routes]]\nname = \"all\"\nupstream = {name:?}"))
    };
    let proxy = to("blue", &old).start();
    assert_eq!(shares(&proxy, 2), expected([(&old, 2)]));
    proxy.change_to(&to("green", &new));
    let health = servers(&proxy)[&new.addr().to_string()]["health"].clone();
    assert_eq!(health, "up", "it was probed before its first request");
    assert_eq!(shares(&proxy, 4), expected([(&new, 4)]));
    assert_eq!(
        proxy.metric("lb_requests_total"),
        6,
        "the route's counts go on"
    );
    assert!(!proxy.metrics().contains("\"blue\""));
}

#[test]
fn a_servers_counts_go_on() {
    let backend = Backend::start();
    let config = |timeout: &str| {
        let keys = format!("{QUICK}\ntimeouts = {{ response = {timeout:?} }}");
        weighted(&[(backend.addr(), 1)], &keys)
    };
    let proxy = config("5s").start();
    assert_eq!(shares(&proxy, 3).len(), 1);
    proxy.change_to(&config("6s"));
    assert_eq!(shares(&proxy, 2).len(), 1);
    assert_eq!(proxy.metric("lb_server_requests_total"), 5);
}

#[test]
fn timeouts_of_an_upstream_follow() {
    let silent = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.read_head().map(drop)
    });
    let config = |response: &str| {
        config().unprobed_with(
            "app",
            &[silent.addr()],
            &format!("timeouts = {{ response = {response:?} }}"),
        )
    };
    let proxy = config("60s").start();
    proxy.change_to(&config("100ms"));
    assert_eq!(proxy.get("/").status, 504);
}
