//! Limits in a Redis Cluster: keys on all nodes, slots that move, and a primary that is killed under load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{message, request};
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis_fleet::Cluster;
use crate::support::wait_until;

const CLIENTS: u8 = 60;
const LIMIT: usize = 3;

/// A proxy that counts in the cluster.
fn limited_by(cluster: &Cluster, store: &str, on_failure: &str) -> RunningProxy {
    let urls = cluster.urls();
    Proxy::new()
        .setting("workers = 2\ntrusted_proxies = [\"127.0.0.1\"]")
        .extra(&format!(
            "[redis]\nurls = {urls}\ntimeout = \"500ms\"\n\
             [rate_limit]\nstore = {store:?}\nrequests = {LIMIT}\nwindow = \"10m\"\non_store_failure = {on_failure:?}\n\
             [[routes]]\nrespond = {{}}"
        ))
        .start()
}

fn address(client: u8) -> String {
    format!("192.0.2.{client}")
}

fn key(client: u8) -> String {
    format!("lb:{{global:{}}}:fw600000", address(client))
}

fn ask(proxy: &RunningProxy, client: u8) -> u16 {
    let forwarded = address(client);
    let headers = [("x-forwarded-for", forwarded.as_str())];
    request(proxy.addr(), message("GET", "/", &headers, b"")).status
}

/// A figure that has no labels.
fn figure(proxy: &RunningProxy, name: &str) -> u64 {
    let metrics = proxy.metrics();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    value
        .and_then(|it| it.parse().ok())
        .unwrap_or_else(|| panic!("no {name}: {metrics}"))
}

#[test]
fn a_cluster_counts_while_slots_move_and_a_primary_is_killed() {
    let mut cluster = Cluster::start();
    let proxies = ["redis", "redis_leased"].map(|store| limited_by(&cluster, store, "deny"));
    every_client_has_its_limit_on_some_node(&cluster, &proxies);
    a_slot_that_moves_is_followed(&cluster, &proxies[0]);
    drop(proxies);
    let proxies = ["redis", "redis_leased"].map(|store| limited_by(&cluster, store, "local"));
    a_killed_primary_is_replaced(&mut cluster, &proxies);
}

fn every_client_has_its_limit_on_some_node(cluster: &Cluster, proxies: &[RunningProxy]) {
    let statuses = in_parallel(8, |thread| {
        let clients = (0..CLIENTS).filter(|client| usize::from(*client) % 8 == thread);
        clients
            .map(|client| {
                let asked = (0..2 * LIMIT).map(|at| ask(&proxies[at % 2], client));
                asked.filter(|status| *status == 200).count()
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(statuses.concat(), [LIMIT; CLIENTS as usize]);
    for proxy in proxies {
        assert_eq!(proxy.metric("lb_limit_store_failures_total"), 0);
        assert_eq!(
            proxy.metric_with("lb_redis_connections", "role=\"primary\""),
            3 * 2
        );
    }
    for node in &cluster.nodes {
        let keys: Vec<String> = node.command("KEYS lb:{global*");
        assert!(
            !keys.is_empty(),
            "all nodes count, or replicate those that do"
        );
    }
}

fn a_slot_that_moves_is_followed(cluster: &Cluster, proxy: &RunningProxy) {
    let client = 200;
    let slot = cluster.slot(&key(client));
    let from = cluster.owner(slot);
    let to = (0..6)
        .find(|it| *it != from && cluster.is_primary(*it))
        .expect("another primary");
    let set = |node: usize, what: &str, id: &str| {
        let (): () = cluster.nodes[node].command(&format!("CLUSTER SETSLOT {slot} {what} {id}"));
    };
    let (from_id, to_id) = (cluster.id(from), cluster.id(to));
    set(to, "IMPORTING", &from_id);
    set(from, "MIGRATING", &to_id);
    // The key is not there yet, so it is counted where it will be.
    assert_eq!(ask(proxy, client), 200);
    let there: Vec<String> = cluster.nodes[to].command("KEYS lb:{global:192.0.2.200*");
    assert_eq!(there, [key(client)]);
    for node in [to, from] {
        set(node, "NODE", &to_id);
    }
    assert_eq!([(); 3].map(|()| ask(proxy, client)), [200, 200, 429]);
    assert!(figure(proxy, "lb_redis_redirections_total") >= 2);
    assert_eq!(proxy.metric("lb_limit_store_failures_total"), 0);
    assert_eq!(figure(proxy, "lb_redis_failovers_total"), 0);
}

fn a_killed_primary_is_replaced(cluster: &mut Cluster, proxies: &[RunningProxy]) {
    // New clients, whose keys are on all nodes.
    let clients: Vec<u8> = (100..150).collect();
    let victim = cluster.owner(cluster.slot(&key(clients[0])));
    let begin = Instant::now();
    let is_over = AtomicBool::new(false);
    let admitted = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (clients, is_over) = (&clients, &is_over);
                scope.spawn(move || load(&proxies[thread % 2], clients, is_over))
            })
            .collect();
        wait_until("there is load", || {
            proxies
                .iter()
                .all(|it| it.metric("lb_limit_allowed_total") > 0)
        });
        cluster.nodes[victim].kill_9();
        let noticed = |it: &RunningProxy| figure(it, "lb_redis_failovers_total") == 1;
        wait_until("the failover is noticed", || proxies.iter().all(noticed));
        wait_until("Redis alone decides again", || {
            let failures = || -> Vec<u64> {
                let of = |it: &RunningProxy| it.metric("lb_limit_store_failures_total");
                proxies.iter().map(of).collect()
            };
            let before = failures();
            let asked: Vec<u16> = clients.iter().map(|it| ask(&proxies[0], *it)).collect();
            asked.iter().all(|status| *status == 429) && failures() == before
        });
        is_over.store(true, Ordering::Relaxed);
        let mut admitted: HashMap<u8, usize> = HashMap::new();
        for thread in threads {
            for (client, count) in thread.join().expect("no answer was wrong or late") {
                *admitted.entry(client).or_default() += count;
            }
        }
        admitted
    });
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    // Redis' own and what each proxy admits by itself meanwhile; and what Redis had not replicated, once more.
    let most = LIMIT * (1 + proxies.len() + 1);
    for (client, count) in admitted {
        assert!((LIMIT..=most).contains(&count), "client {client}: {count}");
    }
}

#[test]
fn a_primary_that_was_dead_at_the_start_is_replaced_later() {
    let mut cluster = Cluster::start();
    let client = 100;
    let victim = cluster.owner(cluster.slot(&key(client)));
    let replica = cluster.replica_of(victim);
    cluster.hold_back(replica, true);
    cluster.nodes[victim].kill_9();
    let proxy = limited_by(&cluster, "redis", "allow");
    let failures = || proxy.metric("lb_limit_store_failures_total");
    wait_until("the dead one's clients do without it", || {
        let before = failures();
        ask(&proxy, client);
        failures() > before
    });
    proxy.process().wait_for_line("Redis is down");
    cluster.hold_back(replica, false);
    wait_until("the replica counts", || {
        let before = failures();
        ask(&proxy, client) == 429 && failures() == before
    });
}

/// Asks for all clients in turn, and counts who is admitted how often. Every answer comes soon.
fn load(proxy: &RunningProxy, clients: &[u8], is_over: &AtomicBool) -> HashMap<u8, usize> {
    let mut admitted = HashMap::new();
    while !is_over.load(Ordering::Relaxed) {
        for client in clients {
            let start = Instant::now();
            let status = ask(proxy, *client);
            assert!(
                start.elapsed() < Duration::from_secs(3),
                "{:?}",
                start.elapsed()
            );
            assert!([200, 429].contains(&status), "{status}");
            *admitted.entry(*client).or_default() += usize::from(status == 200);
        }
    }
    admitted
}
