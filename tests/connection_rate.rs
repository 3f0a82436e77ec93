//! `connection_rate`: how many new connections of one address are served.

use crate::support::client::{Connection, message};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis::Redis;
use crate::support::{in_parallel, wait_until};

/// A proxy without servers whose listener has this limit.
fn limited(rate: &str) -> Proxy {
    Proxy::new()
        .setting("workers = 2")
        .listener(&format!("connection_rate = {{ {rate} }}"))
        .extra("[[routes]]\nrespond = {}")
}

/// How many of `count` connections of an address, all at once, are served.
fn served(proxy: &RunningProxy, client: [u8; 4], count: usize) -> usize {
    let asked = in_parallel(count, |_| {
        let answer = Connection::open_from(client, proxy.addr()).and_then(|mut it| it.get("/"));
        answer.is_ok_and(|answer| answer.status == 200)
    });
    asked.into_iter().filter(|served| *served).count()
}

#[test]
fn an_address_opens_so_many_connections_and_others_have_their_own() {
    let proxy = limited("connections = 5, window = \"10m\"").start();
    let mut kept = proxy.connect();
    assert_eq!(served(&proxy, [127, 0, 0, 1], 20), 4);
    assert_eq!(served(&proxy, [127, 0, 0, 2], 20), 5);
    for _ in 0..10 {
        // Requests are none of its business.
        assert_eq!(kept.get("/").expect("an answer").status, 200);
    }
    assert_eq!(proxy.metric("lb_connection_rate_closed_total"), 31);
    assert_eq!(
        proxy.metric_with("lb_limit_denied_total", "limit=\"listener:web\""),
        31
    );
    assert_eq!(
        proxy.metric_with("lb_limit_allowed_total", "limit=\"listener:web\""),
        10
    );
    wait_until("their ends", || proxy.metric("lb_connections_open") == 1);
}

#[test]
fn a_bucket_fills_again() {
    let proxy = limited("connections = 1, window = \"1s\", burst = 3").start();
    assert_eq!(served(&proxy, [127, 0, 0, 1], 10), 3);
    wait_until("a token", || served(&proxy, [127, 0, 0, 1], 1) == 1);
}

#[test]
fn behind_a_proxy_clients_are_counted() {
    let proxy = limited("connections = 2, window = \"10m\"")
        .setting("trusted_proxies = [\"127.0.0.1\"]")
        .listener("proxy_protocol = \"required\"")
        .start();
    let statuses = [7, 7, 7, 8].map(|client| {
        let header = format!("PROXY TCP4 192.0.2.{client} 198.51.100.1 4321 443\r\n");
        let request = message("GET", "/", &[], b"");
        let answer = proxy
            .connect()
            .request([header.as_bytes(), &request].concat());
        answer.map(|it| it.status).unwrap_or_default()
    });
    assert_eq!(statuses, [200, 200, 0, 200]);
}

#[test]
fn load_balancers_share_a_limit_in_redis() {
    let redis = Redis::start();
    let proxies = [(); 2].map(|()| {
        limited("connections = 5, window = \"10m\", store = \"redis\"")
            .setting(&format!("redis = {{ url = {:?} }}", redis.url()))
            .start()
    });
    let counts = proxies
        .each_ref()
        .map(|proxy| served(proxy, [127, 0, 0, 1], 10));
    assert_eq!(counts, [5, 0]);
    let keys: Vec<String> = redis.command("KEYS lb:{listener*");
    assert_eq!(keys, ["lb:{listener:web:127.0.0.1}:tb600000"]);
}

#[test]
fn connections_are_leased_too() {
    let redis = Redis::start();
    let proxies = [(); 2].map(|()| {
        limited("connections = 400, window = \"10h\", store = \"redis_leased\", lease = 10")
            .setting(&format!(
                "redis = {{ url = {:?}, timeout = \"5s\" }}",
                redis.url()
            ))
            .start()
    });
    for proxy in &proxies {
        assert_eq!(served(proxy, [127, 0, 0, 1], 60), 60);
    }
    let sum = |name: &str| proxies.iter().map(|it| it.metric(name)).sum::<u64>();
    assert!(sum("lb_limit_leased_requests_total") >= 120);
    assert!(sum("lb_limit_leases_total") < 120, "fewer questions");
    assert_eq!(sum("lb_limit_store_failures_total"), 0);
}

#[test]
fn without_redis_the_policy_decides_and_nobody_waits_long() {
    let mut redis = Redis::start();
    redis.kill_9();
    for (policy, expected) in [("local", 5), ("allow", 10), ("deny", 0)] {
        let rate = format!(
            "connections = 5, window = \"10m\", store = \"redis\", on_store_failure = {policy:?}"
        );
        let proxy = limited(&rate)
            .setting(&format!("redis = {{ url = {:?} }}", redis.url()))
            .start();
        assert_eq!(served(&proxy, [127, 0, 0, 1], 10), expected, "{policy}");
        assert_eq!(proxy.metric("lb_limit_store_failures_total"), 10);
    }
}

#[test]
fn counts_survive_a_reload() {
    let proxy = limited("connections = 3, window = \"10m\"").start();
    assert_eq!(served(&proxy, [127, 0, 0, 1], 2), 2);
    proxy.change_to(&limited("connections = 3, window = \"10m\"").listener("http2 = false"));
    assert_eq!(served(&proxy, [127, 0, 0, 1], 5), 1);
}
