//! What is refused of splits, mirrors, retries, hedges, queues, limits, cookies, ejection, reloads and upgrades.

use super::*;

/// The errors of a file whose second upstream is "b", with `upstream` keys for the first and a route of `route` keys.
fn errors(upstream: &str, route: &str) -> Vec<String> {
    let text = format!("{SMALLEST}{upstream}\n[[upstreams]]\nname = \"b\"\n[[routes]]\n{route}\n");
    lines(toml_with(&text, &[("SHORT", "0123456789abcde")]))
}

#[test]
fn routes_that_make_no_sense_are_refused() {
    for (keys, error) in [
        (
            "upstream = \"app\"\nsplit = { b = 1 }",
            "routes[0]: does several things; expected one of \"upstream\", \"split\"",
        ),
        (
            "split = {}",
            "routes[0].split: is empty; expected upstreams",
        ),
        (
            "split = { app = 0, b = 0 }",
            "routes[0].split: has only weights of 0",
        ),
        (
            "split = { b = 1, ap = 1 }",
            "routes[0].split.ap: no upstream is named \"ap\"; did you mean \"app\"?",
        ),
        (
            "split = { app = \"x\" }",
            "routes[0].split.app: \"x\" is a string; expected a whole number, 0 or more",
        ),
        (
            "split = { app = 1000001 }",
            "routes[0].split.app: 1000001 is too large; expected 0 to 1000000",
        ),
        (
            "upstream = \"app\"\nsplit_by = \"client_ip\"",
            "routes[0].split_by: is for routes with a split",
        ),
        (
            "upstream = \"app\"\nmirror = { upstream = \"app\" }",
            "mirror.upstream: \"app\" gets the requests of this route already",
        ),
        (
            "split = { app = 1, b = 1 }\nmirror = { upstream = \"b\" }",
            "mirror.upstream: \"b\" gets the requests",
        ),
        (
            "upstream = \"app\"\nmirror = {}",
            "routes[0].mirror.upstream: is missing; expected the upstream",
        ),
        (
            "upstream = \"app\"\nmirror = { upstream = \"c\" }",
            "mirror.upstream: no upstream is named \"c\"",
        ),
        (
            "upstream = \"app\"\nmirror = { upstream = \"b\", share = 10 }",
            "mirror.share: 10 is a number; expected a share such as \"20%\"",
        ),
        (
            "upstream = \"app\"\nretry = { budget = \"101%\" }",
            "retry.budget: \"101%\" is more than the whole",
        ),
        (
            "upstream = \"app\"\nretry = { on = [] }",
            "retry.on: is empty, so that nothing is tried again; write attempts = 0",
        ),
        (
            "upstream = \"app\"\nretry = { on = [\"404\"] }",
            "retry.on[0]: \"404\" is nothing to retry on",
        ),
        (
            "upstream = \"app\"\nretry = { on = \"503\" }",
            "retry.on: \"503\" is a string; expected a list, for example [\"connect\", \"503\"]",
        ),
        (
            "upstream = \"app\"\ntimeout = \"1s\"\nretry = { per_try_timeout = \"2s\" }",
            "retry.per_try_timeout: 2s is longer than the route's timeout, 1s",
        ),
        (
            "upstream = \"app\"\nhedge = { after = \"p99\" }",
            "hedge.after: \"p99\" is not a duration",
        ),
        (
            "upstream = \"app\"\npriority = \"urgent\"",
            "priority: \"urgent\" is not a priority",
        ),
        (
            "upstream = \"app\"\nretry = { attemps = 1 }",
            "retry.attemps: is not a key of the configuration; did you mean \"attempts\"?",
        ),
    ] {
        let lines = errors("", keys);
        assert_eq!(lines.len(), 1, "{keys}: {lines:#?}");
        assert!(
            lines[0].starts_with("lb.toml:1") && lines[0].contains(error),
            "{}",
            lines[0]
        );
    }
}

#[test]
fn keys_of_forwarding_are_for_routes_that_forward() {
    for key in [
        "split_by = \"random\"",
        "mirror = { upstream = \"b\" }",
        "retry = {}",
        "hedge = {}",
        "priority = \"low\"",
        "timeout = \"1s\"",
    ] {
        for action in ["respond = {}", "redirect = { to = \"/x\" }"] {
            let lines = errors("", &format!("{action}\n{key}"));
            assert_eq!(lines.len(), 1, "{lines:#?}");
            assert!(
                lines[0].contains("is for routes with an upstream"),
                "{lines:?}"
            );
        }
    }
}

#[test]
fn upstreams_that_make_no_sense_are_refused() {
    for (keys, error) in [
        (
            "adaptive_concurrency = \"off\"\nqueue = {}",
            "upstreams[0].queue: is for requests that no server has room for, and nothing limits",
        ),
        (
            "queue = { timeout = \"0s\" }",
            "upstreams[0].queue.timeout: \"0s\" is zero",
        ),
        (
            "max_in_flight = 0",
            "upstreams[0].max_in_flight: 0 is too small; expected a whole number, 1 or more",
        ),
        (
            "adaptive_concurrency = \"on\"",
            "adaptive_concurrency: \"on\" is not right; expected \"off\" or a table",
        ),
        (
            "adaptive_concurrency = { min = 9, max = 8 }",
            "adaptive_concurrency.min: 9 is more than \"max\", which is 8",
        ),
        (
            "adaptive_concurrency = { initial = 7 }",
            "adaptive_concurrency.initial: 7 is less than \"min\", which is 8",
        ),
        (
            "adaptive_concurrency = { initial = 9, max = 8 }",
            "adaptive_concurrency.initial: 9 is more than \"max\", which is 8",
        ),
        (
            "ejection = { base = \"10m\" }",
            "ejection.base: 10m is longer than \"max\", which is 5m",
        ),
        (
            "ejection = { max = \"10s\" }",
            "ejection.max: 10s is shorter than \"base\", which is 30s",
        ),
        (
            "ejection = { latency_factor = 1.0 }",
            "ejection.latency_factor: 1 is not right; expected a number above 1",
        ),
        (
            "ejection = { consecutive_failure = 1 }",
            "did you mean \"consecutive_failures\"?",
        ),
        (
            "sticky = { cookie = \"a b\" }",
            "sticky.cookie: \"a b\" is not a cookie's name",
        ),
        (
            "sticky = { cookie = \"\" }",
            "sticky.cookie: \"\" is not a cookie's name",
        ),
        (
            "sticky = { ttl = \"1500ms\" }",
            "sticky.ttl: is not in whole seconds",
        ),
        (
            "sticky = { secret = \"env:SHORT\" }",
            "sticky.secret: is shorter than 16 bytes",
        ),
        (
            "sticky = { secret = \"env:NOT_SET\" }",
            "sticky.secret: the environment variable \"NOT_SET\" is not set",
        ),
        (
            "strategy = \"consistent_hash\"\nsticky = {}",
            "upstreams[0].sticky: keeps a client on a server, and so does strategy = \"consistent_hash\"; choose one",
        ),
    ] {
        let lines = errors(keys, "upstream = \"app\"");
        assert_eq!(lines.len(), 1, "{keys}: {lines:#?}");
        assert!(lines[0].contains(error), "{}", lines[0]);
        assert!(!lines[0].contains("0123456789abcde"), "{}", lines[0]);
    }
}

#[test]
fn one_mistake_is_one_error() {
    for keys in [
        "max_in_flight = -1\nadaptive_concurrency = \"off\"\nqueue = {}",
        "adaptive_concurrency = \"of\"\nqueue = {}",
    ] {
        assert_eq!(errors(keys, "upstream = \"app\"").len(), 1, "{keys}");
    }
}

#[test]
fn what_concerns_reloads_and_upgrades_is_checked() {
    let long = format!("upgrade_socket = \"/{}\"", "x".repeat(99));
    for (keys, error) in [
        (
            long.as_str(),
            "upgrade_socket: has 100 bytes; a socket's path has at most 99",
        ),
        (
            "upgrade_socket = \"\"",
            "upgrade_socket: \"\" is not a path",
        ),
        (
            "upgrade_socket = false",
            "upgrade_socket: false is a boolean; expected a path or \"off\"",
        ),
        (
            "watch_config = \"yes\"",
            "watch_config: \"yes\" is a string; expected true or false",
        ),
        (
            "reload_guard = { window = \"0s\" }",
            "reload_guard.window: \"0s\" is zero",
        ),
        (
            "reload_guard = { latency_factor = \"2\" }",
            "reload_guard.latency_factor: \"2\" is a string; expected a number above 1",
        ),
    ] {
        let lines = lines(toml(&format!("{keys}\n{SMALLEST}")));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(
            lines[0].starts_with(&format!("lb.toml:1: {error}")),
            "{}",
            lines[0]
        );
    }
}
