//! What is refused of listeners of TCP and UDP, of who may come and how fast, and of upstreams that only listeners use.

use super::*;

const TLS: &str = "tls = { certificates = [{ cert = \"a.crt\", key = \"a.key\" }] }";

/// The errors of a listener with these keys and of an upstream "db" that has `upstream` keys; nothing else uses either.
fn errors(listener: &str, upstream: &str) -> Vec<String> {
    let text = format!(
        "[[listeners]]\nlisten = \"127.0.0.1:8080\"\n{listener}\n[[upstreams]]\nname = \"db\"\n{upstream}\n"
    );
    match toml(&text) {
        Ok(_) => Vec::new(),
        errors => lines(errors),
    }
}

#[track_caller]
fn refused(listener: &str, upstream: &str, error: &str) {
    let lines = errors(listener, upstream);
    assert_eq!(lines.len(), 1, "{listener} {upstream}: {lines:#?}");
    assert!(lines[0].contains(error), "{}", lines[0]);
}

#[test]
fn keys_are_for_their_modes() {
    let proxies = "proxy_protocol = \"required\"";
    for (mode, key, name, modes) in [
        ("tcp", "http2 = false", "http2", "\"http\""),
        ("udp", "http2 = true", "http2", "\"http\""),
        ("tcp", "min_body_rate = 1", "min_body_rate", "\"http\""),
        ("tcp", "normalize_path = true", "normalize_path", "\"http\""),
        (
            "tcp",
            "timeouts = { headers = \"1s\" }",
            "timeouts.headers",
            "\"http\"",
        ),
        (
            "udp",
            "timeouts = { keep_alive = \"1s\" }",
            "timeouts.keep_alive",
            "\"http\"",
        ),
        ("tcp", "responses = 1", "responses", "\"udp\""),
        ("tcp", "quic = true", "quic", "\"udp\""),
        ("udp", TLS, "tls", "\"http\" or \"tcp\""),
        ("udp", "sni = { a = \"db\" }", "sni", "\"http\" or \"tcp\""),
        (
            "udp",
            "alpn = { a = \"db\" }",
            "alpn",
            "\"http\" or \"tcp\"",
        ),
        ("udp", "tcp = {}", "tcp", "\"http\" or \"tcp\""),
        (
            "udp",
            "timeouts = { tls_handshake = \"1s\" }",
            "timeouts.tls_handshake",
            "\"http\" or \"tcp\"",
        ),
        (
            "udp",
            "timeouts = { half_closed = \"1s\" }",
            "timeouts.half_closed",
            "\"tcp\"",
        ),
    ] {
        refused(
            &format!("mode = {mode:?}\nupstream = \"db\"\n{key}"),
            "",
            &format!(
                "lb.toml:5: listeners[0].{name}: is for mode = {modes}, and this listener's is {mode:?}; leave it out"
            ),
        );
    }
    for (key, name, modes) in [
        ("upstream = \"db\"", "upstream", "\"tcp\" or \"udp\""),
        ("responses = 1", "responses", "\"udp\""),
        ("quic = true", "quic", "\"udp\""),
        (
            "timeouts = { half_closed = \"1s\" }",
            "timeouts.half_closed",
            "\"tcp\"",
        ),
    ] {
        refused(
            key,
            "",
            &format!(
                "lb.toml:3: listeners[0].{name}: is for mode = {modes}, and this listener's is \"http\""
            ),
        );
    }
    let trusted = toml(&format!(
        "trusted_proxies = [\"10.0.0.0/8\"]\n[[listeners]]\nlisten = \"127.0.0.1:1\"\nmode = \"udp\"\nupstream = \"db\"\n{proxies}\n[[upstreams]]\nname = \"db\"\n"
    ));
    assert!(lines(trusted)[0].contains("proxy_protocol: is for mode = \"http\" or \"tcp\""));
    // These ask for nothing.
    for keys in [
        "mode = \"udp\"\nupstream = \"db\"\nproxy_protocol = \"off\"\nsni = {}",
        "mode = \"http\"\nsni = {}\nalpn = {}",
    ] {
        assert_eq!(errors(keys, ""), [""; 0], "{keys}");
    }
    // Which mode was meant is not known: one error is enough.
    for keys in ["upstream = \"db\"", "quic = true", "sni = { a = \"db\" }"] {
        refused(
            &format!("mode = \"tpc\"\n{keys}"),
            "",
            "listeners[0].mode: \"tpc\" is not one of \"http\", \"tcp\", \"udp\"; did you mean \"tcp\"?",
        );
    }
}

#[test]
fn what_has_no_routes_needs_an_upstream() {
    for keys in [
        "mode = \"tcp\"".to_owned(),
        "mode = \"udp\"".to_owned(),
        "mode = \"tcp\"\nsni = {}".to_owned(),
        // What is decrypted has to go somewhere.
        format!("mode = \"tcp\"\n{TLS}\nsni = {{ a = \"db\" }}"),
    ] {
        refused(
            &keys,
            "",
            "lb.toml:1: listeners[0].upstream: is missing; expected the upstream that mode = ",
        );
    }
    refused(
        "mode = \"tcp\"\nupstream = \"bd\"",
        "",
        "lb.toml:4: listeners[0].upstream: no upstream is named \"bd\"; known: db",
    );
    refused(
        "mode = \"tcp\"\nupstream = [\"db\"]",
        "",
        "lb.toml:4: listeners[0].upstream: is a list; expected a name",
    );
    for (key, name) in [
        ("tls = {}", "tls"),
        ("proxy_protocol = \"v2\"", "proxy_protocol"),
    ] {
        refused(
            "mode = \"udp\"\nupstream = \"db\"",
            key,
            &format!(
                "lb.toml:4: listeners[0].upstream: \"db\" has \"{name}\", and datagrams are sent as they come"
            ),
        );
        assert_eq!(errors("mode = \"tcp\"\nupstream = \"db\"", key), [""; 0]);
    }
}

#[test]
fn routes_are_for_listeners_that_speak_http() {
    let route = "[[routes]]\nrespond = {}\n";
    refused(
        &format!("mode = \"tcp\"\nupstream = \"db\"\n{route}"),
        "",
        "lb.toml:5: routes[0]: is for requests, and no listener has mode = \"http\"; leave the route out",
    );
    for mode in ["tcp", "udp"] {
        let other = "[[listeners]]\nname = \"web\"\nlisten = \"127.0.0.1:80\"\n";
        refused(
            &format!(
                "name = \"db\"\nmode = {mode:?}\nupstream = \"db\"\n{other}{route}listeners = [\"web\", \"db\"]"
            ),
            "",
            "routes[0].listeners[1]: \"db\" has no requests, but the mode \"tcp\" or \"udp\"",
        );
    }
}

#[test]
fn what_is_passed_through_has_names() {
    let with = |table: &str| format!("mode = \"tcp\"\nupstream = \"db\"\n{table}");
    for (table, error) in [
        (
            "sni = { \"*\" = \"db\" }",
            "sni.\"*\": \"*\" is not a name; the listener's \"upstream\" or \"tls\" is for all others",
        ),
        (
            "sni = { \"10.0.0.1\" = \"db\" }",
            "sni.\"10.0.0.1\": \"10.0.0.1\" is an address, and TLS clients ask for names only",
        ),
        (
            "sni = { \"[::1]\" = \"db\" }",
            "sni.\"[::1]\": \"[::1]\" is an address",
        ),
        (
            "sni = { \"a:443\" = \"db\" }",
            "sni.\"a:443\": \"a:443\" has a port; expected a host such as",
        ),
        (
            "sni = { \"a b\" = \"db\" }",
            "sni.\"a b\": \"a b\" is not a host name",
        ),
        (
            "sni = { a = \"bd\" }",
            "sni.a: no upstream is named \"bd\"; known: db",
        ),
        (
            "sni = { A = \"db\", \"a.\" = \"db\" }",
            "sni.\"a.\": is given twice, in two spellings",
        ),
        ("sni = { a = 1 }", "sni.a: 1 is a number; expected a name"),
        ("sni = [\"a\"]", "sni: is a list; expected a table"),
        (
            "alpn = { \"\" = \"db\" }",
            "alpn.\"\": \"\" is not a protocol's name, which has 1 to 255 bytes",
        ),
        (
            "alpn = { h2 = \"bd\" }",
            "alpn.h2: no upstream is named \"bd\"",
        ),
    ] {
        refused(
            &with(table),
            "",
            &format!("lb.toml:5: listeners[0].{error}"),
        );
    }
    for table in ["sni = { a = \"db\" }", "alpn = { h2 = \"db\" }"] {
        let name = table.split(' ').next().unwrap();
        refused(
            table,
            "",
            &format!(
                "lb.toml:3: listeners[0].{name}: is what TLS clients say, and this listener speaks plain HTTP; give it \"tls\", or mode = \"tcp\""
            ),
        );
        refused(
            &format!("mode = \"tcp\"\n{table}"),
            "tls = {}",
            "\"db\" has \"tls\", which would encrypt a second time what is passed on as it is",
        );
        // One error is enough.
        refused(
            &format!("tls = 1\n{table}"),
            "",
            "listeners[0].tls: 1 is a number",
        );
    }
}

#[test]
fn who_may_come_and_how_fast() {
    for (keys, error) in [
        (
            "allow = [\"all\"]",
            "allow[0]: \"all\" is not a network; expected for example \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.1\", or \"file:PATH\"",
        ),
        (
            "deny = [\"10.0.0.0/33\"]",
            "deny[0]: \"10.0.0.0/33\" is not a network",
        ),
        ("deny = [\"file:\"]", "deny[0]: \"file:\" names no file"),
        (
            "deny = \"10.0.0.0/8\"",
            "deny: \"10.0.0.0/8\" is a string; expected a list, for example [\"10.0.0.0/8\"]",
        ),
        (
            "connection_rate = { window = \"1s\" }",
            "connection_rate.connections: is missing; expected the number of new connections",
        ),
        (
            "connection_rate = { connections = 1 }",
            "connection_rate.window: is missing; expected the time",
        ),
        (
            "connection_rate = { connections = 0, window = \"1s\" }",
            "connection_rate.connections: 0 is too small",
        ),
        (
            "connection_rate = { connections = 1, window = \"1s\", algorithm = \"fixed_window\", burst = 2 }",
            "connection_rate.burst: is for algorithm = \"token_bucket\"",
        ),
        (
            "connection_rate = { connections = 1, window = \"1s\", store = \"redis\" }",
            "connection_rate.store: \"redis\" needs a [redis] table",
        ),
        (
            "connection_rate = { connections = 1, window = \"1s\", store = \"cluster\" }",
            "connection_rate.store: \"cluster\" needs a [cluster] table",
        ),
        (
            "connection_rate = { connections = 1, window = \"1s\", lease = 1 }",
            "connection_rate.lease: is for store = \"redis_leased\"",
        ),
        (
            "connection_rate = { requests = 1, connections = 1, window = \"1s\" }",
            "connection_rate.requests: is not a key of the configuration",
        ),
        (
            "bandwidth = {}",
            "bandwidth: limits nothing; expected \"upload\" or \"download\" or both",
        ),
        (
            "bandwidth = \"1MB/s\"",
            "bandwidth: \"1MB/s\" is a string; expected a table or a list of them",
        ),
        (
            "bandwidth = { upload = 0 }",
            "bandwidth.upload: 0 is too small; expected a rate such as",
        ),
        (
            "bandwidth = [{ upload = \"1MB\" }, { key = \"total\" }]",
            "bandwidth[1]: limits nothing",
        ),
        (
            "bandwidth = [{ upload = 1 }, { download = 1 }]",
            "bandwidth[1]: is the second one with key = \"client_ip\"; expected one of each key",
        ),
        (
            "bandwidth = { upload = 1, key = \"route\" }",
            "bandwidth.key: \"route\" is not one of \"client_ip\", \"total\"",
        ),
        (
            "bandwidth = { downlod = 1, upload = 1 }",
            "bandwidth.downlod: is not a key of the configuration; did you mean \"download\"?",
        ),
        (
            "bandwidth = [{ up = 1, upload = 1 }]",
            "bandwidth[0].up: is not a key of the configuration",
        ),
        (
            "tcp = { keep_alive = \"1500ms\" }",
            "tcp.keep_alive: is not in whole seconds up to 9h6m7s",
        ),
        (
            "tcp = { keep_alive = \"10h\" }",
            "tcp.keep_alive: is not in whole seconds up to 9h6m7s",
        ),
        (
            "tcp = { keep_alive = \"0s\" }",
            "tcp.keep_alive: \"0s\" is zero; expected a duration of at least 1ms; or \"off\"",
        ),
        (
            "tcp = { user_timeout = \"25d\" }",
            "tcp.user_timeout: is longer than 24d, the most that the system takes",
        ),
        (
            "tcp = { user_timeout = false }",
            "tcp.user_timeout: false is a boolean; expected \"off\" or a duration",
        ),
    ] {
        refused(keys, "", &format!("lb.toml:3: listeners[0].{error}"));
    }
    for (keys, error) in [
        (
            "deny = [1]",
            "routes[0].deny[0]: 1 is a number; expected a network such as \"10.0.0.0/8\", or \"file:PATH\"",
        ),
        (
            "bandwidth = [{ upload = 1 }, { upload = 1 }]",
            "routes[0].bandwidth[1]: is the second one",
        ),
        (
            "connection_rate = { window = \"1s\" }",
            "routes[0].connection_rate: is not a key of the configuration",
        ),
    ] {
        refused(&format!("[[routes]]\nupstream = \"db\"\n{keys}"), "", error);
    }
    for (keys, error) in [
        ("bandwidth = {}", "upstreams[0].bandwidth: limits nothing"),
        (
            "bandwidth = { upload = 1, key = \"total\" }",
            "upstreams[0].bandwidth.key: is not a key of the configuration",
        ),
        (
            "tcp = { keep_alive = \"1ms\" }",
            "upstreams[0].tcp.keep_alive: is not in whole seconds",
        ),
    ] {
        refused("", keys, error);
    }
}

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

#[test]
fn addresses_clash_within_a_protocol_only() {
    let with = |mode: &str, address: &str| {
        toml(&format!(
            "{SMALLEST}[[listeners]]\nlisten = \"{address}\"\nmode = {mode:?}\nupstream = \"app\"\n"
        ))
    };
    for (mode, address) in [
        ("udp", "127.0.0.1:8080"),
        ("udp", "127.0.0.1:9901"),
        ("tcp", "127.0.0.1:8081"),
    ] {
        assert!(with(mode, address).is_ok(), "{mode} {address}");
    }
    for (address, other) in [
        ("127.0.0.1:8080", "listeners[0].listen[0]"),
        ("127.0.0.1:9901", "admin.listen"),
    ] {
        let lines = lines(with("tcp", address));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].ends_with(&format!("is taken by {other} already")),
            "{lines:?}"
        );
    }
}
