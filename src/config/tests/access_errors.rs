//! What is refused of who may come and how fast, and of what the kernel does about silent peers.

use super::layer4_errors::refused;

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
