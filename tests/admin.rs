//! The admin API of a running proxy, and what its changes do to traffic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::client::{self, Connection, Response, message};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{in_parallel, wait_until};

fn call(proxy: &RunningProxy, method: &str, path: &str, body: &Value) -> Response {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    // Without a token the API answers only those who call it by its address.
    let host = proxy.admin().to_string();
    let headers = [
        ("host", host.as_str()),
        ("content-type", "application/json"),
    ];
    client::request(
        proxy.admin(),
        message(method, path, &headers, body.as_bytes()),
    )
}

fn add(proxy: &RunningProxy, server: SocketAddr) -> Response {
    call(proxy, "POST", "/servers", &json!({ "address": server }))
}

fn servers(proxy: &RunningProxy) -> BTreeMap<String, Value> {
    let list = call(proxy, "GET", "/servers", &Value::Null).json();
    let list = list["servers"].as_array().expect("a list").clone();
    list.into_iter()
        .map(|server| {
            (
                server["address"].as_str().expect("an address").to_owned(),
                server,
            )
        })
        .collect()
}

fn wait_until_eligible(proxy: &RunningProxy, server: SocketAddr) {
    wait_until("the added server is eligible", || {
        servers(proxy)[&server.to_string()]["eligible"] == true
    });
}

/// How many of `requests` each backend answers.
fn shares(proxy: &RunningProxy, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let name = proxy
            .get("/")
            .headers
            .get("x-backend")
            .expect("a backend's answer")
            .to_owned();
        *shares.entry(name).or_default() += 1;
    }
    shares
}

#[test]
fn an_added_server_gets_its_share_after_its_first_good_probe() {
    let (a, b, added) = (Backend::start(), Backend::start(), Backend::start());
    let proxy = Proxy::new()
        .upstream_with("app", &[a.addr(), b.addr()], "slow_start = \"0s\"")
        .start();
    let answer = add(&proxy, added.addr());
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.headers.get("location"),
        Some(format!("/servers/app@{}", added.addr()).as_str())
    );
    wait_until_eligible(&proxy, added.addr());
    let expected = [a.name(), b.name(), added.name()].map(|name| (name.to_owned(), 10));
    assert_eq!(shares(&proxy, 30), BTreeMap::from(expected));
}

#[test]
fn mistakes_have_their_statuses_and_change_nothing() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    assert_eq!(add(&proxy, backend.addr()).status, 409);
    for (body, part) in [
        (json!({ "address": "127.0.0.1" }), "has no port"),
        (
            json!({ "address": "127.0.0.1:80", "weight": 257 }),
            "weight",
        ),
        (json!({ "address": "127.0.0.1:80", "wieght": 1 }), "wieght"),
        (json!({}), "address"),
    ] {
        let answer = call(&proxy, "POST", "/servers", &body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(part), "{body}: {}", answer.text());
    }
    let path = format!("/servers/{}", backend.addr());
    let shown = call(&proxy, "PATCH", &path, &json!({ "draining": false }));
    assert_eq!(shown.status, 400);
    assert!(shown.text().contains("`drain`"), "{}", shown.text());
    assert_eq!(
        call(
            &proxy,
            "POST",
            "/servers",
            &json!({ "address": "127.0.0.1:80", "upstream": "x" })
        )
        .status,
        404
    );
    assert_eq!(
        call(&proxy, "DELETE", "/servers/127.0.0.1:9", &Value::Null).status,
        404
    );
    assert_eq!(servers(&proxy).len(), 1);
}

#[test]
fn of_many_who_add_the_same_server_one_succeeds() {
    let (backend, added) = (Backend::start(), Backend::start());
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let mut statuses = in_parallel(8, |_| add(&proxy, added.addr()).status);
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[test]
fn a_download_outlives_the_removal_of_its_server() {
    let (a, b) = (Backend::start(), Backend::start());
    let proxy = Proxy::new().upstream("app", &[a.addr()]).start();
    let mut download = Connection::open(proxy.addr()).expect("a connection");
    download
        .send_raw(message("GET", "/slow/200000/400000", &[], b""))
        .expect("sent");
    let head = download.read_head().expect("the download has begun");

    assert_eq!(add(&proxy, b.addr()).status, 201);
    wait_until_eligible(&proxy, b.addr());
    let removed = call(
        &proxy,
        "POST",
        "/remove-server",
        &json!({ "address": a.addr() }),
    );
    assert_eq!(
        (removed.status, &removed.json()["in_flight"]),
        (200, &json!(1))
    );

    assert_eq!(
        shares(&proxy, 5),
        BTreeMap::from([(b.name().to_owned(), 5)])
    );
    let mut received = 0;
    download
        .read_body(&head, |part| received += part.len())
        .expect("the whole download");
    assert_eq!(received, 200_000);
}

#[test]
fn changes_are_there_after_a_kill_and_a_restart() {
    let (a, b, added) = (Backend::start(), Backend::start(), Backend::start());
    let mut proxy = Proxy::new().upstream("app", &[a.addr(), b.addr()]).start();
    assert_eq!(add(&proxy, added.addr()).status, 201);
    assert_eq!(
        call(
            &proxy,
            "DELETE",
            &format!("/servers/{}", a.addr()),
            &Value::Null
        )
        .status,
        200
    );
    let weight = call(
        &proxy,
        "PATCH",
        &format!("/servers/app@{}", b.addr()),
        &json!({ "weight": 3 }),
    );
    assert_eq!((weight.status, &weight.json()["weight"]), (200, &json!(3)));

    proxy.kill_9_and_restart();

    let after = servers(&proxy);
    assert_eq!(after.len(), 2);
    assert_eq!(after[&b.addr().to_string()]["weight"], 3);
    wait_until_eligible(&proxy, added.addr());
    let expected = [(b.name().to_owned(), 15), (added.name().to_owned(), 5)];
    assert_eq!(shares(&proxy, 20), BTreeMap::from(expected));
}

#[test]
fn a_draining_server_gets_nothing_new_until_it_is_told_otherwise() {
    let (a, b) = (Backend::start(), Backend::start());
    let proxy = Proxy::new().upstream("app", &[a.addr(), b.addr()]).start();
    let drain = |drain: bool| {
        let answer = call(
            &proxy,
            "PATCH",
            &format!("/servers/{}", a.addr()),
            &json!({ "drain": drain }),
        );
        assert_eq!(answer.status, 200);
    };
    drain(true);
    assert_eq!(
        shares(&proxy, 6),
        BTreeMap::from([(b.name().to_owned(), 6)])
    );
    drain(false);
    assert_eq!(shares(&proxy, 6).len(), 2);
}

#[test]
fn no_request_through_the_proxy_reaches_the_api() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    for path in ["/servers", "/metrics", "/config"] {
        let answer = proxy.get(path);
        assert_eq!(
            (answer.status, answer.headers.get("x-backend")),
            (404, Some(backend.name())),
            "{path}"
        );
    }
}

#[test]
fn a_configured_token_is_needed_and_not_shown() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .env("LB__ADMIN__TOKEN", "env:TEST_TOKEN")
        .env("TEST_TOKEN", "secret-word")
        .start();
    assert_eq!(call(&proxy, "GET", "/servers", &Value::Null).status, 401);
    let with = |token: &str| {
        let authorization = format!("Bearer {token}");
        client::request(
            proxy.admin(),
            message("GET", "/config", &[("authorization", &authorization)], b""),
        )
    };
    assert_eq!(with("secret-wore").status, 401);
    let config = with("secret-word");
    assert_eq!(config.status, 200);
    assert_eq!(config.json()["admin"]["token"], "***");
    assert!(!config.text().contains("secret-word"));
}

#[test]
fn bytes_are_counted_while_they_move() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let mut download = Connection::open(proxy.addr()).expect("a connection");
    download
        .send_raw(message("GET", "/slow/10000000/100000", &[], b""))
        .expect("sent");
    let sample = |name: &str| -> u64 {
        let metrics = proxy.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ')
            .next()
            .and_then(|value| value.parse().ok())
            .expect("a whole number")
    };
    wait_until("bytes of the unfinished download are counted", || {
        sample("lb_bytes_sent_total") > 10_000
    });
    let server = format!(
        "lb_server_in_flight{{upstream=\"app\",server=\"{}\"}}",
        backend.addr()
    );
    assert_eq!(sample(&server), 1);
    assert_eq!(sample("lb_connections_open"), 1);
    drop(download);
    wait_until("the abandoned download is no load any more", || {
        sample(&server) == 0
    });
    wait_until("its connection is closed", || {
        sample("lb_connections_open") == 0
    });
}

#[test]
fn requests_are_counted_by_route_server_and_class() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    for path in ["/", "/", "/status/404", "/reset"] {
        proxy.get(path);
    }
    let server = format!("upstream=\"app\",server=\"{}\"", backend.addr());
    let expected = [
        "lb_requests_total{listener=\"web\",route=\"route0\",class=\"2xx\"} 2".to_owned(),
        "lb_requests_total{listener=\"web\",route=\"route0\",class=\"4xx\"} 1".to_owned(),
        "lb_requests_total{listener=\"web\",route=\"route0\",class=\"5xx\"} 1".to_owned(),
        "lb_request_duration_seconds_count{listener=\"web\",route=\"route0\"} 4".to_owned(),
        format!("lb_server_requests_total{{{server},class=\"2xx\"}} 2"),
        format!("lb_server_requests_total{{{server},class=\"none\"}} 1"),
    ];
    wait_until("all requests are counted", || {
        let metrics = proxy.metrics();
        expected
            .iter()
            .all(|line| metrics.lines().any(|it| it == line))
    });
}

#[test]
fn it_is_not_ready_while_it_drains() {
    let backend = Backend::start();
    let mut proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let admin = proxy.admin();
    let mut download = Connection::open(proxy.addr()).expect("a connection");
    download
        .send_raw(message("GET", "/slow/100000/100000", &[], b""))
        .expect("sent");
    download.read_head().expect("the download has begun");
    assert_eq!(client::get(admin, "/readyz").status, 200);
    thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("not ready", || {
                client::try_get(admin, "/readyz").is_ok_and(|answer| answer.status == 503)
            });
            assert_eq!(client::get(admin, "/healthz").status, 200);
        });
        assert!(proxy.terminate().success());
    });
}
