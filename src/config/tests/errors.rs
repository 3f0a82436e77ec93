//! What is refused, where the error is said to be, and what it says.

use super::*;

/// The smallest file and `more` have one error, which begins with `start` and has `part` in it.
#[track_caller]
fn refused(more: &str, start: &str, part: &str) {
    let lines = lines(toml(&format!("{more}{SMALLEST}")));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    assert!(lines[0].contains(part), "{}", lines[0]);
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_file() {
    let text = r#"wokers = 2

[[listeners]]
listen = "localhost:80"
mode = "tpc"

[[upstreams]]
name = "app"
servers = [
    "127.0.0.1:3000",
    "127.0.0.1",
]
[upstreams.timeouts]
connect = 3

[[upstreams]]
servers = ["127.0.0.1:1"]

[[routes]]
upstream = "ap"
rate_limit = { requests = 0, store = "redis" }
"#;
    assert_eq!(
        lines(toml_with(
            text,
            &[("LB__REDIS__URL", "env:NOT_SET"), ("LB__ADMIN__PORT", "1")]
        )),
        [
            r#"lb.toml:1: wokers: is not a key of the configuration; did you mean "workers"?"#,
            r#"lb.toml:4: listeners[0].listen: "localhost:80" is not an IP address and port; expected for example "127.0.0.1:8080", "0.0.0.0:8080" or "[::]:8080""#,
            r#"lb.toml:5: listeners[0].mode: "tpc" is not one of "http", "tcp", "udp"; did you mean "tcp"?"#,
            r#"lb.toml:11: upstreams[0].servers[1]: "127.0.0.1" has no port; expected "host:port", for example "127.0.0.1:3000""#,
            r#"lb.toml:14: upstreams[0].timeouts.connect: 3 is a number; expected a duration with its unit, for example "250ms", "5s" or "1h30m""#,
            r#"lb.toml:16: upstreams[1].name: is missing; expected a name by which routes refer to it, for example "app""#,
            r#"lb.toml:20: routes[0].upstream: no upstream is named "ap"; did you mean "app"?"#,
            r#"lb.toml:21: routes[0].rate_limit.requests: 0 is too small; expected a whole number, 1 or more"#,
            r#"LB__ADMIN__PORT: admin.port: is not a key of the configuration; known: listen, token, state_file"#,
            r#"LB__REDIS__URL: redis.url: the environment variable "NOT_SET" is not set"#,
        ]
    );
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    assert_eq!(
        lines(toml("workers = 2\n[admin\n")),
        ["lb.toml:2:7: unclosed table, expected `]`"]
    );
    let yaml = parse("a: 1\n b: 2\n", Format::Yaml, "lb.yaml", std::iter::empty());
    assert_eq!(
        lines(yaml),
        ["lb.yaml:2:3: mapping values are not allowed in this context"]
    );
    let json = parse("{\"a\": 1,}", Format::Json, "lb.json", std::iter::empty());
    assert_eq!(lines(json), ["lb.json:1:9: trailing comma"]);
}

#[test]
fn a_file_needs_a_listener_and_an_upstream() {
    assert_eq!(
        lines(toml("")),
        [
            r#"lb.toml: listeners: there are none; expected at least one, for example: [[listeners]] listen = "127.0.0.1:8080""#,
            r#"lb.toml: upstreams: there are none; expected at least one, for example: [[upstreams]] name = "app" servers = ["127.0.0.1:3000"]"#,
        ]
    );
    let two = format!("{SMALLEST}[[upstreams]]\nname = \"b\"\n");
    assert!(lines(toml(&two))[0].contains("routes: there are none, and 2 upstreams"));

    let only_responds = "listeners = [{ listen = \"127.0.0.1:0\" }]\nroutes = [{ respond = {} }]";
    assert!(toml(only_responds).unwrap().upstreams.is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    for (path, message) in [
        (
            "no/such.toml",
            "no/such.toml: cannot be read: No such file or directory (os error 2); name one with --config FILE",
        ),
        (
            "lb.ini",
            "lb.ini: has no known extension; expected .toml, .yaml, .yml or .json",
        ),
        ("lb", "lb: has no known extension"),
    ] {
        let lines = lines(load(Path::new(path), std::iter::empty()));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with(message), "{lines:?}");
    }
}

#[test]
fn what_concerns_the_whole() {
    refused("workers = 1025\n", "lb.toml:1: workers:", "1 to 1024");
    refused(
        "drain_timeout = \"5\"\n",
        "lb.toml:1: drain_timeout:",
        "has no unit",
    );
    refused(
        "trusted_proxies = [\"all\"]\n",
        "lb.toml:1: trusted_proxies[0]:",
        "10.0.0.0/8",
    );
    refused(
        "[access_log]\nformat = \"clf\"\n",
        "lb.toml:2: access_log.format:",
        "\"clf\" is not one of \"json\", \"combined\"",
    );
    refused("[redis]\n", "lb.toml:1: redis.url:", "is missing");
}

#[test]
fn an_admin_address_that_others_reach_needs_a_token() {
    refused(
        "[admin]\nlisten = \"0.0.0.0:9901\"\n",
        "lb.toml:1: admin.token: is missing;",
        "0.0.0.0:9901 is not a loopback address",
    );
    refused(
        "[admin]\ntoken = \"\"\n",
        "lb.toml:2: admin.token:",
        "is not a token",
    );
    refused(
        "[admin]\ntoken = \"a b\"\n",
        "lb.toml:2: admin.token:",
        "is not a token",
    );
    refused(
        "[admin]\ntoken = 123456789\n",
        "lb.toml:2: admin.token: is not a string",
        "env:NAME",
    );
    for listen in ["127.0.0.1:1", "[::1]:1", "unix:/run/lb.sock", "off"] {
        let config = toml(&format!("[admin]\nlisten = \"{listen}\"\n{SMALLEST}")).unwrap();
        assert_eq!(config.admin.is_none(), listen == "off");
    }
}

#[test]
fn listeners_share_no_address_and_no_name() {
    let with = |listener: &str| lines(toml(&format!("{SMALLEST}[[listeners]]\n{listener}\n")));
    assert_eq!(
        with("listen = [\"127.0.0.1:1\", \"127.0.0.1:8080\"]"),
        [
            "lb.toml:9: listeners[1].listen[1]: 127.0.0.1:8080 is taken by listeners[0].listen[0] already"
        ]
    );
    assert!(with("listen = \"127.0.0.1:9901\"")[0].ends_with("is taken by admin.listen already"));
    assert!(with("listen = []")[0].contains("is empty"));
    assert!(with("name = \"a\"")[0].contains("listeners[1].listen: is missing"));
    assert_eq!(
        with("name = \"listener0\"\nlisten = \"127.0.0.1:1\""),
        ["lb.toml:9: listeners[1].name: \"listener0\" is the name of listeners[0] too"]
    );
    // Port 0 is another port each time.
    let any = "[[listeners]]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n";
    assert!(toml(&format!("{SMALLEST}{any}")).is_ok());
}

#[test]
fn limits() {
    refused(
        "[rate_limit]\nrequests = 1\n",
        "lb.toml:1: rate_limit.window: is missing",
        "\"10s\"",
    );
    refused(
        "[rate_limit]\nrequests = 1\nwindow = \"0s\"\n",
        "lb.toml:3: rate_limit.window:",
        "is zero",
    );
    refused(
        "[rate_limit]\nrequests = 1\nwindow = \"1s\"\nstore = \"redis\"\n",
        "lb.toml:4: rate_limit.store:",
        "needs a [redis] table",
    );
    refused(
        "[rate_limit]\nrequests = 1\nwindow = \"1s\"\nburst = 2\n",
        "lb.toml:4: rate_limit.burst:",
        "token_bucket",
    );
    refused(
        "[rate_limit]\nrequests = 1\nwindow = \"1s\"\nstore = \"redis_leased\"\n",
        "lb.toml:4: rate_limit.store: \"redis_leased\" needs a [redis] table",
        "url = \"redis://127.0.0.1:6379\"",
    );
}

/// The error of an upstream with these keys.
fn upstream_error(keys: &str) -> String {
    let lines = lines(toml(&format!("{SMALLEST}{keys}\n")));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].clone()
}

#[test]
fn upstreams() {
    for (keys, error) in [
        (
            "hash = \"cookie:\"",
            "upstreams[0].hash: \"\" is not a cookie's name",
        ),
        (
            "timeouts = { idle = \"0s\" }",
            "upstreams[0].timeouts.idle: \"0s\" is zero",
        ),
        (
            "health_check = { path = \"health\" }",
            "health_check.path: \"health\" is not a path",
        ),
        (
            "health_check = { expect = [] }",
            "health_check.expect: is empty",
        ),
        (
            "health_check = { expect = [200] }",
            "health_check.expect[0]: 200 is a number; expected statuses as a string",
        ),
        (
            "health_check = { kind = \"tcp\", path = \"/\" }",
            "health_check.path: is for kind",
        ),
        (
            "health_check = { kind = \"off\", path = \"/\" }",
            "health_check.path: is for kind = \"http\"",
        ),
        (
            "health_check = { kind = \"off\", host = \"a\" }",
            "health_check.host: is for kind = \"http\"",
        ),
        (
            "health_check = { kind = \"off\", expect = [\"2xx\"] }",
            "health_check.expect: is for kind = \"http\"",
        ),
        (
            "health_check = { kind = \"off\", port = 81 }",
            "health_check.port: is for probes, and kind = \"off\" makes none",
        ),
        (
            "health_check = { host = \"\" }",
            "health_check.host: \"\" is not a Host",
        ),
        (
            "health_check = { fall = 0 }",
            "health_check.fall: 0 is too small",
        ),
    ] {
        let line = upstream_error(keys);
        assert!(
            line.starts_with("lb.toml:8: ") && line.contains(error),
            "{line}"
        );
    }
    for (servers, error) in [
        (
            "\"a:1\", { address = \"A:1\" }",
            "a:1 is server 0 of this upstream already",
        ),
        (
            "{ address = \"a:1\", weight = 257 }",
            "servers[0].weight: 257 is too large",
        ),
        (
            "{ address = \"a:1\", weight = -1 }",
            "servers[0].weight: -1 is too small",
        ),
        ("{ weight = 1 }", "servers[0].address: is missing"),
        ("[\"a:1\"]", "servers[0]: is a list; expected an address"),
        (
            "\"a:1\", 5",
            "servers[1]: 5 is a number; expected an address",
        ),
    ] {
        let text = SMALLEST.replace(r#""127.0.0.1:3000", "app.internal:3001""#, servers);
        let line = lines(toml(&text)).join("\n");
        assert!(
            line.starts_with("lb.toml:7: ") && line.contains(error),
            "{line}"
        );
    }
    let harmless = "protocol = \"http1\"\nproxy_protocol = \"off\"\nservers = []\n";
    let text = SMALLEST.replace("servers = [", &format!("{harmless}# ["));
    assert!(toml(&text).unwrap().upstreams[0].servers.is_empty());
}

#[test]
fn a_hash_is_for_consistent_hash() {
    let error = "is for strategy = \"consistent_hash\"";
    for hash in ["path", "header:x-user", "cookie:session"] {
        assert!(upstream_error(&format!("hash = {hash:?}")).contains(error));
        for strategy in ["random", "least_connections"] {
            let keys = format!("hash = {hash:?}\nstrategy = {strategy:?}");
            let line = upstream_error(&keys);
            assert!(
                line.starts_with("lb.toml:8: upstreams[0].hash: ") && line.contains(error),
                "{line}"
            );
        }
        let fits = format!("{SMALLEST}hash = {hash:?}\nstrategy = \"consistent_hash\"\n");
        assert!(toml(&fits).is_ok());
        // The strategy that was meant is not known: one error is enough.
        let misspelt = upstream_error(&format!("strategy = \"consistant_hash\"\nhash = {hash:?}"));
        assert!(
            misspelt.contains("did you mean \"consistent_hash\"?"),
            "{misspelt}"
        );
    }
    assert!(toml(&format!("{SMALLEST}hash = \"client_ip\"\n")).is_ok());
}

#[test]
fn an_override_is_where_its_errors_are() {
    assert_eq!(
        lines(toml_with(
            SMALLEST,
            &[
                ("LB__UPSTREAMS__0__SERVERS", "['x']"),
                ("LB__LISTENERS__1__NAME", "b"),
                ("LB__LISTENERS__9__NAME", "c"),
            ]
        )),
        [
            "LB__LISTENERS__1__NAME: listeners[1].listen: is missing; expected an address such as \"127.0.0.1:8080\"",
            "LB__LISTENERS__9__NAME: listeners is a list of 2; expected a position from 0 to 2 in place of \"9\"",
            "LB__UPSTREAMS__0__SERVERS: upstreams[0].servers[0]: \"x\" has no port; expected \"host:port\", for example \"127.0.0.1:3000\"",
        ]
    );
}
