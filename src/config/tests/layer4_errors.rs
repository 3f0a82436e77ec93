//! What is refused of listeners of TCP and UDP, and of TLS that is passed through.

use super::*;

const TLS: &str = "tls = { certificates = [{ cert = \"a.crt\", key = \"a.key\" }] }";

/// The errors of a listener with these keys and of an upstream "db" that has `upstream` keys; nothing else uses either.
pub(super) fn errors(listener: &str, upstream: &str) -> Vec<String> {
    let text = format!(
        "[[listeners]]\nlisten = \"127.0.0.1:8080\"\n{listener}\n[[upstreams]]\nname = \"db\"\n{upstream}\n"
    );
    match toml(&text) {
        Ok(_) => Vec::new(),
        errors => lines(errors),
    }
}

/// There is one error, which has `error` in it.
#[track_caller]
pub(super) fn refused(listener: &str, upstream: &str, error: &str) {
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
fn an_upstream_without_a_mode_is_the_only_error() {
    // Of several upstreams routes would have to choose, if this listener were of HTTP.
    let more = "[[upstreams]]\nname = \"other\"";
    refused(
        "upstream = \"db\"",
        more,
        "lb.toml:3: listeners[0].upstream: is for mode = \"tcp\" or \"udp\", and this listener's is \"http\"; set mode = \"tcp\" (or \"udp\"), or leave it out: routes say where requests of HTTP go",
    );
    refused(
        "upstream = \"db\"\nmode = \"tpc\"",
        more,
        "listeners[0].mode: \"tpc\" is not one of",
    );
    refused("", more, "routes: there are none, and 2 upstreams");
}

#[test]
fn a_rate_limit_without_requests_is_refused() {
    let limit = "[rate_limit]\nrequests = 1\nwindow = \"1s\"";
    for mode in ["tcp", "udp"] {
        let listener = format!("mode = {mode:?}\nupstream = \"db\"");
        refused(
            &listener,
            limit,
            "lb.toml:7: rate_limit: is for requests of HTTP, and no listener speaks HTTP; leave it out, or limit connections by \"connection_rate\"",
        );
        // Together with one of HTTP it has its use.
        let with_http = format!("{listener}\n[[listeners]]\nlisten = \"127.0.0.1:1\"");
        assert_eq!(errors(&with_http, limit), [""; 0]);
    }
    refused(
        "mode = \"tpc\"\nupstream = \"db\"",
        limit,
        "listeners[0].mode: \"tpc\"",
    );
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
