//! What a reload does not bring into force.

use super::*;
use crate::config::{keep_what_needs_a_restart, restart_needed};

const CLUSTER: &str = "\n[cluster]\nlisten = \"127.0.0.1:7946\"\nseeds = []\nkey = \"0123456789abcdef\"\nname = \"a\"\n";

const SMALL: &str = "[[listeners]]\nlisten = \"127.0.0.1:1\"\n[[upstreams]]\nname = \"app\"\n";

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
        needed(
            "workers = 2\ncluster = { listen = \"127.0.0.1:1\", seeds = [], key = \"0123456789abcdef\" }"
        ),
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
