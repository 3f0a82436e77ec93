//! What is refused of upstreams, by who sends to them: routes, or listeners of TCP or UDP; and of their probes.

use super::layer4_errors::{errors, refused};

#[test]
fn upstreams_have_what_those_who_send_to_them_use() {
    let of_http = [
        ("sticky = {}", "sticky"),
        ("set_headers = { a = \"b\" }", "set_headers"),
        ("protocol = \"http2\"", "protocol"),
        ("adaptive_concurrency = {}", "adaptive_concurrency"),
        ("timeouts = { response = \"1s\" }", "timeouts.response"),
        ("timeouts = { idle = \"1s\" }", "timeouts.idle"),
        ("timeouts = { pool_idle = \"1s\" }", "timeouts.pool_idle"),
    ];
    let shared = "mode = \"tcp\"\nupstream = \"db\"\n[[listeners]]\nlisten = \"127.0.0.1:80\"";
    for (key, name) in of_http {
        for mode in ["tcp", "udp"] {
            refused(
                &format!("mode = {mode:?}\nupstream = \"db\""),
                key,
                &format!(
                    "lb.toml:7: upstreams[0].{name}: is for HTTP requests, and no route sends any to this upstream; leave it out"
                ),
            );
        }
        assert_eq!(errors(shared, key), [""; 0], "{key}");
        assert_eq!(errors("", key), [""; 0], "{key}");
    }
    for (key, name) in [
        ("tcp = {}", "tcp"),
        ("timeouts = { connect = \"1s\" }", "timeouts.connect"),
    ] {
        refused(
            "mode = \"udp\"\nupstream = \"db\"",
            key,
            &format!(
                "upstreams[0].{name}: is for TCP connections, and only listeners of mode = \"udp\" use this upstream"
            ),
        );
        assert_eq!(errors("mode = \"tcp\"\nupstream = \"db\"", key), [""; 0]);
    }
    for (key, keys) in [
        (
            "adaptive_concurrency = \"off\"",
            "set_headers = {}\nprotocol = \"http1\"",
        ),
        ("max_connections = 5", "queue = { size = 3 }"),
    ] {
        assert_eq!(
            errors(
                "mode = \"tcp\"\nupstream = \"db\"",
                &format!("{key}\n{keys}")
            ),
            [""; 0]
        );
    }
    refused(
        "mode = \"tcp\"\nupstream = \"db\"",
        "queue = { size = 3 }",
        "upstreams[0].queue: is for requests that no server has room for, and nothing limits",
    );
    let hash = "strategy = \"consistent_hash\"\nhash = \"path\"";
    for listener in [
        "mode = \"tcp\"\nupstream = \"db\"",
        "mode = \"udp\"\nupstream = \"db\"",
        shared,
    ] {
        refused(
            listener,
            hash,
            "upstreams[0].hash: is a part of HTTP requests, and a listener passes connections or datagrams on to this upstream; expected \"client_ip\"",
        );
    }
    // With an error in the routes nobody knows whether one of them leads here.
    refused(
        "mode = \"tcp\"\nupstream = \"db\"\n[[listeners]]\nlisten = \"127.0.0.1:80\"\n[[routes]]\nupstream = 1",
        "sticky = {}",
        "routes[0].upstream: 1 is a number",
    );
}

#[test]
fn probes_have_the_keys_of_their_kind() {
    for (check, error) in [
        (
            "{ kind = \"dns\", path = \"/\" }",
            "health_check.path: is for kind = \"http\"; leave it out",
        ),
        (
            "{ kind = \"dns\", expect = \"a\" }",
            "health_check.expect: is for kind = \"http\" or \"udp\"; leave it out",
        ),
        (
            "{ kind = \"dns\", name = \"a b\" }",
            "health_check.name: \"a b\" is not a name to ask a DNS server for",
        ),
        (
            "{ kind = \"dns\", name = \"10.0.0.1\" }",
            "health_check.name: \"10.0.0.1\" is not a name",
        ),
        (
            "{ kind = \"dns\", name = \"\" }",
            "health_check.name: \"\" is not a name",
        ),
        (
            "{ kind = \"udp\", name = \"a\" }",
            "health_check.name: is for kind = \"dns\"; leave it out",
        ),
        (
            "{ kind = \"tcp\", send = \"a\" }",
            "health_check.send: is for kind = \"udp\"; leave it out",
        ),
        (
            "{ kind = \"udp\", expect = [\"200\"] }",
            "health_check.expect: is a list of statuses, which is for kind = \"http\"; expected a text",
        ),
        (
            "{ expect = \"200\" }",
            "health_check.expect: \"200\" is a string; expected a list, for example [\"2xx\", \"3xx\"]",
        ),
        (
            "{ expect = 200 }",
            "health_check.expect: 200 is a number; expected a list of statuses, or a text for kind = \"udp\", for example",
        ),
        (
            "{ kind = \"udpp\", send = \"a\" }",
            "health_check.kind: \"udpp\" is not one of",
        ),
    ] {
        refused(
            "",
            &format!("health_check = {check}"),
            &format!("upstreams[0].{error}"),
        );
    }
    let long = "x".repeat(65_508);
    refused(
        "",
        &format!("health_check = {{ kind = \"udp\", send = \"{long}\" }}"),
        "health_check.send: does not fit a datagram, which has at most 65507 bytes",
    );
    // TCP is the default here.
    refused(
        "mode = \"tcp\"\nupstream = \"db\"",
        "health_check = { path = \"/\" }",
        "health_check.path: is for kind = \"http\"; leave it out",
    );
    refused(
        "mode = \"udp\"\nupstream = \"db\"",
        "health_check = { interval = \"1s\" }",
        "health_check.kind: is missing; servers that only listeners of mode = \"udp\" use are not probed by default",
    );
}
