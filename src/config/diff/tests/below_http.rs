//! Listeners of TCP, what limits them, and what load balancers share.

use super::*;

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
