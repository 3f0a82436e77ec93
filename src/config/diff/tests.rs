//! What two files are said to differ in.

mod below_http;
mod restart;

use serde_json::json;

use super::*;
use crate::config::{Format, parse};

const OLD: &str = r#"
workers = 2
trusted_proxies = ["10.0.0.0/8"]

[[listeners]]
name = "web"
listen = ["127.0.0.1:8080", "127.0.0.1:8081"]

[[listeners]]
name = "secure"
listen = "127.0.0.1:8443"
tls = { certificates = [{ cert = "a.crt", key = "a.key" }, { cert = "b.crt", key = "b.key" }] }

[[upstreams]]
name = "app"
servers = ["127.0.0.1:3000", "127.0.0.1:3001"]
set_headers = { x-key = "env:KEY", x-open = "1" }
sticky = { secret = "env:KEY" }

[[upstreams]]
name = "canary"

[[routes]]
name = "api"
paths = ["/api/*"]
upstream = "app"

[[routes]]
name = "rest"
respond = {}
"#;

const KEY: (&str, &str) = ("KEY", "0123456789abcdef");

fn config(text: &str, env: &[(&str, &str)]) -> Config {
    let env = env
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    parse(text, Format::Toml, "lb.toml", env).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

/// The changes when each of `edits` replaces a text in the file that is there once.
#[track_caller]
fn edited(edits: &[(&str, &str)]) -> Vec<String> {
    let mut text = OLD.to_owned();
    for (from, to) in edits {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    texts(&changes(&config(OLD, &[KEY]), &config(&text, &[KEY])))
}

#[test]
fn the_same_has_no_changes() {
    assert_eq!(edited(&[]), [""; 0]);
    // Neither have defaults that are written out, other units, nor another order where it means nothing.
    let same = [
        ("workers = 2", "workers = 2\ndrain_timeout = \"30000ms\""),
        (
            "servers = [\"127.0.0.1:3000\", \"127.0.0.1:3001\"]",
            "servers = [{ address = \"127.0.0.1:3001\", weight = 1 }, \"127.0.0.1:3000\"]",
        ),
        (
            "[\"127.0.0.1:8080\", \"127.0.0.1:8081\"]",
            "[\"127.0.0.1:8081\", \"127.0.0.1:8080\"]",
        ),
    ];
    assert_eq!(edited(&same), [""; 0]);
}

#[test]
fn each_change_is_one_line_in_plain_words() {
    for (from, to, expected) in [
        ("workers = 2", "workers = 3", "workers 2 -> 3"),
        (
            "workers = 2",
            "workers = 2\nadmin = { state_file = \"my state\" }",
            "admin.state_file loadbalancer.state -> \"my state\"",
        ),
        (
            "workers = 2",
            "workers = 2\nadmin = { listen = \"off\" }",
            "admin.listen 127.0.0.1:9901 -> off\nadmin.state_file loadbalancer.state removed",
        ),
        (
            "[\"10.0.0.0/8\"]",
            "[\"10.0.0.0/8\", \"fd00::/8\"]",
            "trusted_proxies: fd00::/8 added",
        ),
        (
            "[\"10.0.0.0/8\"]",
            "[]",
            "trusted_proxies: 10.0.0.0/8 removed",
        ),
        (
            "\"127.0.0.1:3000\", ",
            "\"127.0.0.1:3002\", \"127.0.0.1:3000\", ",
            "upstream \"app\": server 127.0.0.1:3002 added",
        ),
        (
            "\"127.0.0.1:3000\", ",
            "",
            "upstream \"app\": server 127.0.0.1:3000 removed",
        ),
        (
            "\"127.0.0.1:3001\"",
            "{ address = \"127.0.0.1:3001\", weight = 2 }",
            "upstream \"app\": server 127.0.0.1:3001: weight 1 -> 2",
        ),
        (
            "x-open = \"1\"",
            "x-open = \"2\"",
            "upstream \"app\": set_headers.x-open 1 -> 2",
        ),
        (
            "[\"/api/*\"]",
            "[\"/api/*\", \"/v1\"]",
            "route \"api\": paths: /v1 added",
        ),
        (
            "upstream = \"app\"",
            "upstream = \"app\"\ntimeout = \"10s\"",
            "route \"api\": timeout 10s added",
        ),
        (
            "upstream = \"app\"",
            "upstream = \"app\"\nretry = { on = [\"503\", \"connect\"] }",
            "route \"api\": retry.on: reset removed\nroute \"api\": retry.on: 502 removed\nroute \"api\": retry.on: 504 removed",
        ),
        (
            "upstream = \"app\"",
            "upstream = \"app\"\nhedge = {}",
            "route \"api\": hedge { after = p95, budget = 2% } added",
        ),
        (
            "upstream = \"app\"",
            "split = { app = 95, canary = 5 }",
            "route \"api\": upstream app removed\nroute \"api\": split { app = 95, canary = 5 } added\nroute \"api\": split_by random added",
        ),
        (
            "respond = {}",
            "respond = { body = \"a\\nb\" }",
            "route \"rest\": respond.body \"\" -> \"a\\nb\"",
        ),
        (
            "{ cert = \"a.crt\", key = \"a.key\" }, ",
            "",
            "listener \"secure\": certificate a.crt removed",
        ),
        (
            "key = \"b.key\"",
            "key = \"c.key\"",
            "listener \"secure\": certificate b.crt: key b.key -> c.key",
        ),
        (
            "name = \"canary\"",
            "name = \"canary\"\nejection = \"off\"",
            "upstream \"canary\": ejection { base = 30s, consecutive_failures = 5, error_ratio = 30%, interval = 1s, max = 5m, max_share = 50%,... -> off",
        ),
    ] {
        assert_eq!(edited(&[(from, to)]).join("\n"), expected);
    }
}

#[test]
fn whole_tables_come_and_go() {
    let gone = "[[listeners]]\nname = \"web\"\nlisten = [\"127.0.0.1:8080\", \"127.0.0.1:8081\"]\n";
    assert_eq!(
        edited(&[(gone, ""), ("name = \"canary\"", "name = \"shadow\"")]),
        [
            "listener \"web\" removed",
            "route \"api\": listeners: web removed",
            "route \"rest\": listeners: web removed",
            "upstream \"canary\" removed",
            "upstream \"shadow\" added",
        ]
    );
}

#[test]
fn the_order_is_told_where_it_decides() {
    let route =
        |name: &str, keys: &str| format!("[[routes]]\nname = {name:?}\nrespond = {{}}\n{keys}\n");
    let swapped = |a: &str, b: &str| {
        let (a, b) = (route("a", a), route("b", b));
        let with = |routes: String| config(&format!("{OLD}{routes}"), &[KEY]);
        texts(&changes(&with(format!("{a}{b}")), &with(format!("{b}{a}"))))
    };
    for (a, b, decides) in [
        ("headers = { a = \"1\" }", "headers = { b = \"1\" }", true),
        (
            "headers = { a = \"1\" }",
            "headers = { b = \"1\", c = \"1\" }",
            false,
        ),
        ("hosts = [\"a\"]", "hosts = [\"b\"]", false),
        (
            "headers = { a = \"1\" }\nhosts = [\"a\"]",
            "headers = { b = \"1\" }\nhosts = [\"b\"]",
            false,
        ),
        (
            "headers = { a = \"1\" }\nhosts = [\"a\", \"c\"]",
            "headers = { b = \"1\" }\nhosts = [\"b\", \"c\"]",
            true,
        ),
        (
            "headers = { a = \"1\" }\npaths = [\"/{x}/1\"]",
            "headers = { b = \"1\" }\npaths = [\"/{y}/1\"]",
            true,
        ),
        (
            "headers = { a = \"1\" }\npaths = [\"/{x}/1\"]",
            "headers = { b = \"1\" }\npaths = [\"/{y}/2\"]",
            false,
        ),
        (
            "headers = { a = \"1\" }\nmethods = [\"GET\"]",
            "headers = { b = \"1\" }",
            false,
        ),
    ] {
        let expected: &[&str] = if decides {
            &["routes: order changed"]
        } else {
            &[]
        };
        assert_eq!(swapped(a, b), expected, "{a} | {b}");
    }
    let certificates =
        "{ cert = \"a.crt\", key = \"a.key\" }, { cert = \"b.crt\", key = \"b.key\" }";
    let reversed = "{ cert = \"b.crt\", key = \"b.key\" }, { cert = \"a.crt\", key = \"a.key\" }";
    assert_eq!(
        edited(&[(certificates, reversed)]),
        ["listener \"secure\": tls.certificates: order changed"]
    );
}

#[test]
fn secrets_differ_without_being_shown() {
    let full =
        format!("admin = {{ token = \"env:TOKEN\" }}\nredis = {{ url = \"env:URL\" }}\n{OLD}");
    let before = [KEY, ("TOKEN", "hush1"), ("URL", "redis://:hush1@a:1")];
    let after = [
        ("KEY", "another-0123456789"),
        ("TOKEN", "hush2"),
        ("URL", "redis://:hush2@a:1"),
    ];
    let found = changes(&config(&full, &before), &config(&full, &after));
    assert_eq!(
        texts(&found),
        [
            "admin.token differs (secret)",
            "redis.url differs (secret)",
            "upstream \"app\": set_headers.x-key differs (secret)",
            "upstream \"app\": sticky.secret differs (secret)",
        ]
    );
    let all = serde_json::to_string(&found).unwrap();
    for secret in ["hush", "another", "0123456789"] {
        assert!(!all.contains(secret), "{all}");
    }
    assert_eq!(
        edited(&[("x-key = \"env:KEY\"", "x-key = \"open\"")]),
        ["upstream \"app\": set_headers.x-key *** -> open"]
    );
}

#[test]
fn a_change_is_written_as_json() {
    let old =
        json!({ "upstreams": [{ "name": "a b", "servers": [{ "address": "x:1", "weight": 1 }] }] });
    let new = json!({ "upstreams": [{ "name": "a b", "servers": [{ "address": "x:1", "weight": 2 }] }], "n": 1 });
    assert_eq!(
        serde_json::to_value(diff(&old, &new)).unwrap(),
        json!([
            {
                "path": "upstreams[\"a b\"].servers[\"x:1\"].weight",
                "kind": "changed",
                "from": 1,
                "to": 2,
                "text": "upstream \"a b\": server x:1: weight 1 -> 2",
            },
            { "path": "n", "kind": "added", "to": 1, "text": "n 1 added" },
        ])
    );
}

#[test]
fn values_of_any_shape_are_compared() {
    for (old, new, expected) in [
        (json!(1), json!(2), &[" 1 -> 2"][..]),
        (
            json!({ "routes": [5, 5] }),
            json!({ "routes": [{ "name": 5 }] }),
            &["route \"5\" 5 -> { name = 5 }", "route \"5 (2)\" removed"],
        ),
        (
            json!({ "a": [[1], null] }),
            json!({ "a": { "b": "" } }),
            &["a [[1], null] -> { b = \"\" }"],
        ),
        (json!({ "a b": 1 }), json!({}), &["\"a b\" 1 removed"]),
    ] {
        assert_eq!(texts(&diff(&old, &new)), expected);
    }
}

proptest::proptest! {
    #[test]
    fn lines_are_lines(old in "\\PC{0,9}[\n\r\u{2028}]\\PC{0,9}", new in ".{0,300}") {
        let changes = diff(&json!({ "a": [&old], "b": &old }), &json!({ "a": [&new], "b": &new }));
        for change in changes {
            assert_eq!(change.to_string().lines().count(), 1, "{change}");
        }
    }
}
