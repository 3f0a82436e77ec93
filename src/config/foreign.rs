//! What other load balancers call things, what looks as if it belonged somewhere else, and what it is here.

use serde_json::Value;

use super::key_path::KeyPath;

/// Tables and keys that they do not have, and what was likely to be meant.
const KEYS: [(&str, &str, &str); 16] = [
    ("", "frontend", CALLED_LISTENERS),
    ("", "frontends", CALLED_LISTENERS),
    ("", "backend", CALLED_UPSTREAMS),
    ("", "backends", CALLED_UPSTREAMS),
    ("", "upstream", CALLED_UPSTREAMS),
    ("listeners[]", "bind", r#"it is called "listen" here"#),
    ("listeners[]", "backend", CALLED_UPSTREAM),
    ("listeners[]", "default_backend", CALLED_UPSTREAM),
    ("listeners[]", "proxy_pass", CALLED_UPSTREAM),
    (
        "listeners[]",
        "rate_limit",
        r#"requests are limited by "rate_limit" of the top level and of routes, connections by "connection_rate" of a listener"#,
    ),
    ("routes[]", "backend", CALLED_UPSTREAM),
    ("routes[]", "proxy_pass", CALLED_UPSTREAM),
    ("upstreams[]", "balance", CALLED_STRATEGY),
    ("upstreams[]", "lb_policy", CALLED_STRATEGY),
    ("upstreams[]", "server", CALLED_SERVERS),
    ("upstreams[]", "backends", CALLED_SERVERS),
];

const CALLED_LISTENERS: &str = r#"it is called "listeners" here"#;
const CALLED_UPSTREAMS: &str = r#"it is called "upstreams" here"#;
const CALLED_UPSTREAM: &str = r#"it is called "upstream" here"#;
const CALLED_STRATEGY: &str = r#"it is called "strategy" here"#;
const CALLED_SERVERS: &str = r#"it is called "servers" here"#;

/// Keys, values that they do not have, and what was likely to be meant.
const VALUES: [(&str, &str, &str); 10] = [
    ("upstreams[].strategy", "leastconn", LEAST_CONNECTIONS),
    ("upstreams[].strategy", "least_conn", LEAST_CONNECTIONS),
    ("upstreams[].strategy", "least_request", LEAST_CONNECTIONS),
    (
        "upstreams[].strategy",
        "rr",
        r#"that is "round_robin" here"#,
    ),
    ("upstreams[].strategy", "source", CONSISTENT_HASH),
    ("upstreams[].strategy", "ip_hash", CONSISTENT_HASH),
    ("upstreams[].strategy", "ring_hash", CONSISTENT_HASH),
    ("upstreams[].strategy", "maglev", CONSISTENT_HASH),
    ("listeners[].proxy_protocol", "v1", PROXY_VERSION),
    ("listeners[].proxy_protocol", "v2", PROXY_VERSION),
];

const LEAST_CONNECTIONS: &str = r#"that is "least_connections" here"#;
const CONSISTENT_HASH: &str = r#"that is "consistent_hash" here"#;
const PROXY_VERSION: &str =
    "versions are for upstreams, which are sent headers: a listener with \"required\" takes both";

/// What tables may look like that are easily taken for texts.
const EXAMPLES: [(&str, &str); 6] = [
    ("rate_limit", REQUESTS),
    ("routes[].rate_limit", REQUESTS),
    (
        "listeners[].connection_rate",
        r#"connection_rate = { connections = 5, window = "1s" }"#,
    ),
    ("listeners[].bandwidth", BANDWIDTH),
    ("routes[].bandwidth", BANDWIDTH),
    ("upstreams[].bandwidth", BANDWIDTH),
];

const REQUESTS: &str = r#"rate_limit = { requests = 100, window = "1s" }"#;
const BANDWIDTH: &str = r#"bandwidth = { download = "1MB/s" }"#;

/// What was likely to be meant by a key that the tables at `table` do not have.
pub(super) fn key(table: &str, key: &str) -> Option<&'static str> {
    advice(&KEYS, table, key)
}

/// What was likely to be meant by a value that the key at `path` does not have.
pub(super) fn value(path: &KeyPath, value: &Value) -> Option<&'static str> {
    advice(&VALUES, &path.pattern(), value.as_str()?)
}

/// What the table at `path` may look like.
pub(super) fn example_of_table(path: &KeyPath) -> Option<&'static str> {
    let pattern = path.pattern();
    let found = EXAMPLES.iter().find(|(key, _)| *key == pattern);
    found.map(|(_, example)| *example)
}

fn advice(known: &[(&str, &str, &'static str)], place: &str, word: &str) -> Option<&'static str> {
    let is_it = |it: &&(&str, &str, &str)| it.0 == place && it.1.eq_ignore_ascii_case(word);
    known.iter().find(is_it).map(|it| it.2)
}
