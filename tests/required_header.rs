//! Servers that only the load balancer can reach: it sends a secret that they demand.

use crate::support::backend::Backend;
use crate::support::client::{self, message, request};
use crate::support::proxy::Proxy;

const SET: &str = "set_headers = { \"X-From-Balancer\" = \"env:LB_TEST_KEY\" }";

#[test]
fn a_server_that_demands_a_secret_is_reached_through_the_balancer_only() {
    let backend = Backend::start_with(&["--require-header", "x-from-balancer: the secret"]);
    let proxy = Proxy::new()
        .env("LB_TEST_KEY", "the secret")
        .upstream_with("app", &[backend.addr()], SET)
        .start();
    // Probes do not have it.
    assert_eq!(client::get(backend.addr(), "/health").status, 200);
    proxy.process().wait_for_line("first probe succeeded");

    let guess = |value| message("GET", "/headers", &[("x-from-balancer", value)], b"");
    assert_eq!(client::get(backend.addr(), "/headers").status, 403);
    assert_eq!(request(backend.addr(), guess("a guess")).status, 403);

    assert_eq!(proxy.get("/").status, 200);
    // Whatever a client sends is overruled.
    let answer = request(proxy.addr(), guess("a guess"));
    let seen = &answer.json()["headers"]["x-from-balancer"];
    assert_eq!(*seen, serde_json::json!(["the secret"]));

    let other = Proxy::new()
        .env("LB_TEST_KEY", "another")
        .upstream_with("app", &[backend.addr()], SET)
        .start();
    assert_eq!(other.get("/").status, 403);
    assert_eq!(request(other.addr(), guess("the secret")).status, 403);
    for running in [&proxy, &other] {
        let output = running.process().output();
        assert!(!output.contains("the secret"), "{output}");
    }
}

#[test]
fn a_set_field_comes_once_whoever_else_would_say_it() {
    let backend = Backend::start();
    let toml = r#"set_headers = { x-forwarded-proto = "https", via = "us", x-request-id = "1", x-key = "k" }"#;
    let proxy = Proxy::new()
        .unprobed_with("app", &[backend.addr()], toml)
        .start();
    let fields = [
        ("x-key", "forged"),
        ("x_key", "forged"),
        ("x-other", "kept"),
    ];
    let answer = client::request(proxy.addr(), message("GET", "/headers", &fields, b""));
    let seen = &answer.json()["headers"];
    for (name, value) in [
        ("x-forwarded-proto", "https"),
        ("via", "us"),
        ("x-request-id", "1"),
        ("x-key", "k"),
        ("x-other", "kept"),
    ] {
        assert_eq!(seen[name], serde_json::json!([value]), "{name}");
    }
    assert!(seen.get("x_key").is_none());
}
