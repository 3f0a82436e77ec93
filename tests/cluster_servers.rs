//! Changes to servers at run time that hold for a whole fleet.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::client::{Response, message, request};
use crate::support::proxy::{Proxy, RunningProxy, address_of};
use crate::support::wait_until;

const CLUSTER: &str =
    "key = \"a secret of the fleet that is tested\"\ninterval = \"100ms\"\ndead_after = \"2s\"";

fn config(name: &str, seeds: &[SocketAddr], server: &Backend, shares: bool) -> Proxy {
    let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
    Proxy::new()
        .upstream("app", &[server.addr()])
        .extra(&format!(
            "[cluster]\nlisten = \"127.0.0.1:0\"\nname = {name:?}\nseeds = {seeds:?}\nshare_servers = {shares}\n{CLUSTER}"
        ))
}

fn start(name: &str, seeds: &[SocketAddr], server: &Backend) -> RunningProxy {
    config(name, seeds, server, true).start()
}

fn gossip(node: &RunningProxy) -> SocketAddr {
    address_of(node.process(), "cluster")
}

/// Two nodes that know each other, before the same server.
fn pair(server: &Backend) -> [RunningProxy; 2] {
    let one = start("one", &[], server);
    let other = start("other", &[gossip(&one)], server);
    wait_until("they meet", || {
        one.admin_json("/cluster")["nodes"] == 2 && other.admin_json("/cluster")["nodes"] == 2
    });
    [one, other]
}

fn ask(node: &RunningProxy, method: &str, path: &str, body: Value) -> Response {
    let host = node.admin().to_string();
    let headers = [("host", host.as_str())];
    let answer = request(
        node.admin(),
        message(method, path, &headers, body.to_string().as_bytes()),
    );
    assert!(answer.status < 300, "{}", answer.text());
    answer
}

/// The servers as `address weight draining origin`.
fn servers(node: &RunningProxy) -> Vec<String> {
    let servers = node.admin_json("/servers")["servers"].clone();
    let servers = servers.as_array().expect("a list").iter().map(|it| {
        let text = |key: &str| it[key].to_string().replace('"', "");
        format!("{} {} {}", text("id"), text("weight"), text("draining"))
    });
    let mut servers: Vec<_> = servers.collect();
    servers.sort();
    servers
}

fn wait_until_alike(nodes: &[&RunningProxy], expected: &[String]) {
    let mut expected = expected.to_vec();
    expected.sort();
    for node in nodes {
        wait_until(&format!("{expected:?}"), || servers(node) == expected);
    }
}

#[test]
fn a_change_at_one_node_is_made_at_all() {
    let (server, added) = (Backend::start(), Backend::start());
    let [one, other] = pair(&server);
    let (first, second) = (server.addr(), added.addr());
    ask(
        &one,
        "POST",
        "/servers",
        json!({"address": second.to_string(), "weight": 3}),
    );
    let both = [
        format!("app@{first} 1 false"),
        format!("app@{second} 3 false"),
    ];
    wait_until_alike(&[&one, &other], &both);
    wait_until("it gets requests from there", || {
        other.get("/").headers.get("x-backend") == Some(added.name())
    });
    ask(
        &other,
        "PATCH",
        &format!("/servers/app@{second}"),
        json!({"weight": 5}),
    );
    ask(
        &other,
        "PATCH",
        &format!("/servers/app@{first}"),
        json!({"drain": true}),
    );
    let changed = [
        format!("app@{first} 1 true"),
        format!("app@{second} 5 false"),
    ];
    wait_until_alike(&[&one, &other], &changed);
    ask(&one, "DELETE", &format!("/servers/app@{first}"), json!({}));
    wait_until_alike(&[&one, &other], &[format!("app@{second} 5 false")]);
    ask(
        &other,
        "DELETE",
        &format!("/servers/app@{second}"),
        json!({}),
    );
    wait_until_alike(&[&one, &other], &[]);
}

#[test]
fn who_was_away_learns_what_was_done_and_undone() {
    let (server, added) = (Backend::start(), Backend::start());
    let [one, mut away] = pair(&server);
    let (first, second) = (server.addr(), added.addr());
    ask(
        &away,
        "POST",
        "/servers",
        json!({"address": second.to_string()}),
    );
    let both = [
        format!("app@{first} 1 false"),
        format!("app@{second} 1 false"),
    ];
    wait_until_alike(&[&one, &away], &both);
    away.process().signal("STOP");
    ask(&one, "DELETE", &format!("/servers/app@{second}"), json!({}));
    ask(
        &one,
        "PATCH",
        &format!("/servers/app@{first}"),
        json!({"weight": 7}),
    );
    let after = [format!("app@{first} 7 false")];
    wait_until_alike(&[&one], &after);
    away.process().signal("CONT");
    wait_until_alike(&[&one, &away], &after);
    // And it stays so, whoever starts anew with what his file has.
    away.kill_9_and_restart();
    wait_until("it is back", || away.admin_json("/cluster")["nodes"] == 2);
    wait_until_alike(&[&one, &away], &after);
}

#[test]
fn who_joins_learns_all_of_it_and_keeps_it() {
    let server = Backend::start();
    let one = start("one", &[], &server);
    let first = server.addr();
    let addresses = (1..=200).map(|number| format!("127.9.0.{number}:9"));
    let mut expected = vec![format!("app@{first} 1 false")];
    for address in addresses {
        ask(
            &one,
            "POST",
            "/servers",
            json!({"address": address, "weight": 0}),
        );
        expected.push(format!("app@{address} 0 false"));
    }
    let mut joins = start("joins", &[gossip(&one)], &server);
    wait_until_alike(&[&joins], &expected);
    drop(one);
    joins.kill_9_and_restart();
    wait_until_alike(&[&joins], &expected);
}

#[test]
fn changes_stay_at_home_where_they_are_not_shared() {
    let server = Backend::start();
    let one = config("one", &[], &server, true).start();
    let private = config("private", &[gossip(&one)], &server, false).start();
    wait_until("they meet", || one.admin_json("/cluster")["nodes"] == 2);
    let first = server.addr();
    ask(
        &one,
        "PATCH",
        &format!("/servers/app@{first}"),
        json!({"weight": 7}),
    );
    ask(
        &private,
        "PATCH",
        &format!("/servers/app@{first}"),
        json!({"weight": 9}),
    );
    let received = |node: &RunningProxy| node.metric("lb_cluster_datagrams_received_total");
    let before = [&one, &private].map(received);
    for (node, before) in [&one, &private].into_iter().zip(before) {
        wait_until("they have told each other since", || {
            received(node) >= before + 3
        });
    }
    assert_eq!(servers(&one), [format!("app@{first} 7 false")]);
    assert_eq!(servers(&private), [format!("app@{first} 9 false")]);
    // From now on they are: whoever was first to share wins over what was private.
    private.change_to(&config("private", &[gossip(&one)], &server, true));
    wait_until_alike(&[&one, &private], &[format!("app@{first} 7 false")]);
}
