//! What two files are said to differ in.

use serde_json::json;

use super::*;
use crate::config::{Format, keep_what_needs_a_restart, parse, restart_needed};

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

const BELOW_HTTP: &str = r#"
[redis]
urls = ["redis://:hush1@a:1"]

[cluster]
listen = "127.0.0.1:7946"
seeds = ["b:7946"]
key = "0123456789abcdef"
name = "a"

[[listeners]]
name = "db"
listen = "127.0.0.1:5432"
mode = "tcp"
upstream = "db"
sni = { "a.example" = "db" }
allow = ["10.0.0.0/8"]
bandwidth = [{ upload = "1MB/s" }, { upload = "5MB/s", key = "total" }]
connection_rate = { connections = 10, window = "1s" }
tcp = { user_timeout = "30s" }

[[upstreams]]
name = "db"
bandwidth = { download = "1MB/s" }

[[upstreams]]
name = "other"
"#;

#[test]
fn listeners_below_http_and_what_is_shared_are_compared_too() {
    for (from, to, expected) in [
        (
            "\nupstream = \"db\"",
            "\nupstream = \"other\"",
            "listener \"db\": upstream db -> other\nupstream \"other\": adaptive_concurrency",
        ),
        (
            "{ \"a.example\" = \"db\" }",
            "{ \"a.example\" = \"other\", b = \"db\" }",
            "listener \"db\": sni.\"a.example\" db -> other\nlistener \"db\": sni.b db added",
        ),
        (
            "[\"10.0.0.0/8\"]",
            "[\"file:allow.txt\", \"10.0.0.0/8\"]",
            "listener \"db\": allow: file:allow.txt added",
        ),
        (
            "{ upload = \"1MB/s\" }, { upload = \"5MB/s\", key = \"total\" }",
            "{ upload = \"6MB/s\", key = \"total\" }",
            "listener \"db\": bandwidth client_ip removed\nlistener \"db\": bandwidth total: upload 5MB/s -> 6MB/s",
        ),
        (
            "connections = 10",
            "connections = 20",
            "listener \"db\": connection_rate.burst 10 -> 20\nlistener \"db\": connection_rate.connections 10 -> 20",
        ),
        (
            "user_timeout = \"30s\"",
            "keep_alive = \"off\"",
            "listener \"db\": tcp.keep_alive 1m -> off\nlistener \"db\": tcp.user_timeout 30s -> off",
        ),
        (
            "download = \"1MB/s\"",
            "download = \"2MB/s\"",
            "upstream \"db\": bandwidth.download 1MB/s -> 2MB/s",
        ),
        (
            "seeds = [\"b:7946\"]",
            "seeds = [\"b:7946\", \"c:7946\"]",
            "cluster.seeds: c:7946 added",
        ),
        (
            "0123456789abcdef",
            "hush5678-hush5678",
            "cluster.key differs (secret)",
        ),
        ("hush1", "hush2", "redis.urls differs (secret)"),
        (
            "urls = [\"redis://:hush1@a:1\"]",
            "url = \"redis://:hush1@a:1\"",
            "redis.urls [***] removed\nredis.url *** added",
        ),
    ] {
        assert_eq!(BELOW_HTTP.matches(from).count(), 1, "{from}");
        let new = config(&BELOW_HTTP.replace(from, to), &[]);
        let found = texts(&changes(&config(BELOW_HTTP, &[]), &new)).join("\n");
        assert!(found.starts_with(expected), "{found}");
        assert!(!found.contains("hush"), "{found}");
    }
    let sentinel = |password: &str, host: &str| {
        let sentinel = format!(
            "sentinel = {{ master = \"m\", urls = [\"redis://:{password}@{host}:1\"], password = {password:?} }}"
        );
        config(
            &BELOW_HTTP.replace("urls = [\"redis://:hush1@a:1\"]", &sentinel),
            &[],
        )
    };
    assert_eq!(
        texts(&changes(&sentinel("hush1", "a"), &sentinel("hush2", "a"))),
        [
            "redis.sentinel.password differs (secret)",
            "redis.sentinel.urls differs (secret)"
        ]
    );
    assert_eq!(
        texts(&changes(&sentinel("hush", "a"), &sentinel("hush", "b"))),
        ["redis.sentinel.urls differs (secret)"]
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

#[test]
fn what_needs_a_restart_is_named() {
    let old = config(OLD, &[KEY]);
    let needed = |more: &str| {
        restart_needed(
            &old,
            &config(&format!("{more}\n{OLD}").replace("workers = 2", ""), &[KEY]),
        )
    };
    assert_eq!(needed("workers = 2"), [""; 0]);
    assert_eq!(
        needed(
            "workers = 3\nupgrade_socket = \"off\"\naccess_log = {}\nadmin = { listen = \"127.0.0.1:1\", token = \"t\", state_file = \"s\" }"
        ),
        [
            "workers",
            "admin.listen",
            "admin.token",
            "admin.state_file",
            "access_log",
            "upgrade_socket"
        ]
    );
    assert_eq!(
        needed("workers = 2\nadmin = { listen = \"off\" }"),
        ["admin.listen"]
    );
    let token = |token: &str| config(&format!("admin = {{ token = {token:?} }}\n{OLD}"), &[KEY]);
    assert_eq!(restart_needed(&token("a"), &token("b")), ["admin.token"]);
    assert_eq!(
        needed("workers = 2\nwatch_config = false\ndrain_timeout = \"1s\""),
        [""; 0]
    );
    assert_eq!(
        needed(&format!(
            "workers = 2\ncluster = {{ listen = \"127.0.0.1:1\", seeds = [], key = \"0123456789abcdef\" }}"
        )),
        ["cluster"]
    );
    let cluster =
        |from: &str, to: &str| config(&format!("{CLUSTER}{SMALL}").replace(from, to), &[]);
    for (from, to, expected) in [
        ("7946", "7947", &["cluster.listen"][..]),
        ("\"a\"", "\"b\"", &["cluster.name"]),
        ("abcdef", "abcdeg", &["cluster.key"]),
        (
            "seeds = []",
            "seeds = [\"b:1\"]\nadvertise = \"10.0.0.1:1\"\ninterval = \"1s\"\ndead_after = \"9s\"\nshare_servers = true",
            &[],
        ),
    ] {
        let (old, new) = (cluster("", ""), cluster(from, to));
        assert_eq!(restart_needed(&old, &new), expected, "{from}");
    }
}

const CLUSTER: &str = "\n[cluster]\nlisten = \"127.0.0.1:7946\"\nseeds = []\nkey = \"0123456789abcdef\"\nname = \"a\"\n";

const SMALL: &str = "[[listeners]]\nlisten = \"127.0.0.1:1\"\n[[upstreams]]\nname = \"app\"\n";

#[test]
fn what_needs_a_restart_stays_as_it_was_started() {
    let started = config(&format!("{CLUSTER}{SMALL}"), &[]);
    let text = format!(
        "workers = 7\naccess_log = {{}}\nupgrade_socket = \"off\"\nadmin = {{ listen = \"off\" }}\ndrain_timeout = \"1s\"\n{CLUSTER}{SMALL}"
    );
    let text = text
        .replace("7946", "7947")
        .replace("abcdef", "abcdeg")
        .replace("\"a\"", "\"b\"");
    let mut new = config(&text.replace("seeds = []", "seeds = [\"c:1\"]"), &[]);
    keep_what_needs_a_restart(&started, &mut new);
    assert_eq!(restart_needed(&started, &new), [""; 0]);
    let changed = ["cluster.seeds: c:1 added", "drain_timeout 30s -> 1s"];
    assert_eq!(texts(&changes(&started, &new)), changed);

    let without = config(SMALL, &[]);
    let mut gone = without.clone();
    keep_what_needs_a_restart(&started, &mut gone);
    assert_eq!(texts(&changes(&started, &gone)), [""; 0]);
    let mut new = started.clone();
    keep_what_needs_a_restart(&without, &mut new);
    assert!(new.cluster.is_none());
}
