//! Load balancers that know each other: one limit for all of them, whoever comes, goes or interferes.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Connection, get, message};
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy, address_of};
use crate::support::wait_until;

const KEY: &str = "a secret of the fleet that is tested";

/// One that is not what a test is about.
const LIMIT: &str = "requests = 10\nwindow = \"1s\"";

/// A node of a fleet, before no servers, under one limit for everybody.
fn config(name: &str, seeds: &[SocketAddr], limit: &str) -> Proxy {
    config_at("127.0.0.1:0", name, seeds, limit)
}

fn config_at(listen: &str, name: &str, seeds: &[SocketAddr], limit: &str) -> Proxy {
    let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
    Proxy::new().setting("workers = 2").extra(&format!(
        "[cluster]\nlisten = {listen:?}\nname = {name:?}\nseeds = {seeds:?}\nkey = {KEY:?}\n\
         interval = \"200ms\"\ndead_after = \"2s\"\n\
         [rate_limit]\nstore = \"cluster\"\nkey = \"route\"\n{limit}\n[[routes]]\nrespond = {{}}"
    ))
}

fn start(name: &str, seeds: &[SocketAddr], limit: &str) -> RunningProxy {
    config(name, seeds, limit).start()
}

/// Nodes that have all found each other.
fn fleet<const N: usize>(limit: &str) -> [RunningProxy; N] {
    let first = start("node-0", &[], limit);
    let seed = gossip(&first);
    let mut fleet = vec![first];
    for number in 1..N {
        fleet.push(start(&format!("node-{number}"), &[seed], limit));
    }
    for node in &fleet {
        wait_until("all are there", || nodes(node) == N as u64);
    }
    fleet.try_into().unwrap_or_else(|_| panic!("there are {N}"))
}

/// Where the others' datagrams come in.
fn gossip(node: &RunningProxy) -> SocketAddr {
    address_of(node.process(), "cluster")
}

fn nodes(node: &RunningProxy) -> u64 {
    node.admin_json("/cluster")["nodes"]
        .as_u64()
        .expect("a number")
}

fn member(node: &RunningProxy, name: &str) -> serde_json::Value {
    let view = node.admin_json("/cluster");
    let members = view["members"].as_array().expect("a list");
    let member = members.iter().find(|it| it["name"] == name);
    member.cloned().unwrap_or_default()
}

/// Asks as fast as `rate` a second, and gives how many were admitted and how many denied.
fn load(node: &RunningProxy, rate: u32, duration: Duration) -> (u32, u32) {
    let mut client = Connection::open(node.addr()).expect("it listens");
    let begin = Instant::now();
    let (mut admitted, mut denied) = (0, 0);
    for number in 0.. {
        let due = begin + Duration::from_secs(1) * number / rate;
        if due.duration_since(begin) > duration {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match client.get("/").expect("an answer").status {
            200 => admitted += 1,
            429 => denied += 1,
            other => panic!("status {other}"),
        }
    }
    (admitted, denied)
}

/// Waits until the only other node has told all that it had used until now. What is still on its way might be admitted
/// twice: a node's part of what seemed to be left.
fn hear_it_all(node: &RunningProxy) {
    let received = || {
        let metrics = node.metrics();
        let mut lines = metrics.lines();
        let value = lines.find_map(|it| it.strip_prefix("lb_cluster_datagrams_received_total "));
        value.expect("a line").parse::<u64>().expect("a count")
    };
    // Between two rounds there may be one datagram a turn, four a round.
    let enough = received() + 12;
    wait_until("it has been told", || received() >= enough);
}

#[test]
fn a_fleet_of_three_admits_what_one_would() {
    let nodes =
        fleet::<3>("algorithm = \"token_bucket\"\nrequests = 100\nburst = 10\nwindow = \"1s\"");
    for rates in [[120, 120, 120], [250, 0, 0], [150, 20, 10]] {
        let at = |node: usize, duration| match rates[node] {
            0 => (0, 0),
            rate => load(&nodes[node], rate, duration),
        };
        in_parallel(3, |node| at(node, Duration::from_secs(2))); // until they have settled
        let counts = in_parallel(3, |node| at(node, Duration::from_secs(4)));
        let admitted: u32 = counts.iter().map(|it| it.0).sum();
        assert!(
            (350..=450).contains(&admitted),
            "{rates:?}: {counts:?} in four seconds"
        );
    }
}

#[test]
fn what_one_has_admitted_nobody_else_does() {
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        let limit = format!("algorithm = {algorithm:?}\nrequests = 30\nwindow = \"1h\"");
        let [one, other] = fleet::<2>(&limit);
        wait_until("one has used it all up", || {
            get(one.addr(), "/").status == 429 && one.metric("lb_limit_allowed_total") >= 30
        });
        hear_it_all(&other);
        // Where anything is left, a node admits one request without asking: of a bucket a part of one has come in again.
        let once = u64::from(algorithm == "token_bucket");
        let answers: Vec<_> = (0..5).map(|_| get(other.addr(), "/")).collect();
        let again = answers.iter().filter(|it| it.status == 200).count();
        assert!(again as u64 <= once, "{algorithm}: {again}");
        let admitted =
            one.metric("lb_limit_allowed_total") + other.metric("lb_limit_allowed_total");
        assert_eq!(admitted, 30 + again as u64, "{algorithm}");
        let denied = answers.last().expect("there are five");
        assert_eq!(denied.status, 429, "{algorithm}");
        assert!(denied.headers.get("retry-after").is_some());
    }
}

#[test]
fn who_is_killed_is_dead_soon_and_who_ends_says_so() {
    let [one, killed, mut ended] = fleet::<3>(LIMIT);
    let since = Instant::now();
    killed.process().signal("KILL");
    wait_until("it is dead", || member(&one, "node-1")["state"] == "dead");
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(nodes(&one), 2);
    let since = Instant::now();
    ended.terminate();
    wait_until("it has left", || member(&one, "node-2")["state"] == "left");
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(one.metric_with("lb_cluster_nodes", "state=\"dead\""), 1);
    assert_eq!(one.metric_with("lb_cluster_nodes", "state=\"left\""), 1);
}

#[test]
fn an_operator_sees_who_is_there_and_who_differs() {
    let one = start("one", &[], LIMIT);
    let other = start("other", &[gossip(&one)], "requests = 20\nwindow = \"1s\"");
    wait_until("they disagree", || {
        member(&one, "other")["differing_limits"][0] == "global"
            && member(&other, "one")["differing_limits"][0] == "global"
    });
    let seen = member(&one, "other");
    assert_eq!(seen["state"], "alive");
    assert_eq!(seen["address"], gossip(&other).to_string());
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    wait_until("it is measured", || {
        member(&one, "other")["round_trip_ms"].as_f64().is_some()
    });
    assert_eq!(
        one.metric_with("lb_cluster_differing_nodes", "what=\"limits\""),
        1
    );
    assert_eq!(
        one.metric_with("lb_cluster_differing_nodes", "what=\"version\""),
        0
    );
    let view = other.admin_json("/cluster");
    assert_eq!(
        (&view["name"], &view["enabled"]),
        (&"other".into(), &true.into())
    );
}

#[test]
fn strangers_are_counted_and_change_nothing() {
    let [one, _other] = fleet::<2>(LIMIT);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let mut of_format = vec![7; 100];
    of_format[..4].copy_from_slice(b"LBC\x01");
    let mut newer = of_format.clone();
    newer[3] = 9;
    for (datagram, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "malformed"),
        (of_format, "forged"),
        (newer, "format"),
        (vec![0; 5000], "oversized"),
    ] {
        stranger.send_to(&datagram, gossip(&one)).expect("sent");
        let label = format!("reason={reason:?}");
        wait_until(reason, || {
            one.metric_with("lb_cluster_datagrams_refused_total", &label) == 1
        });
    }
    assert_eq!(nodes(&one), 2);
}

#[test]
fn another_key_is_another_fleet() {
    let one = start("one", &[], LIMIT);
    let stranger = Proxy::new().extra(&format!(
        "[cluster]\nlisten = \"127.0.0.1:0\"\nname = \"stranger\"\nseeds = [\"{}\"]\n\
         key = \"another secret altogether\"\ninterval = \"100ms\"\n[[routes]]\nrespond = {{}}",
        gossip(&one)
    ));
    let stranger = stranger.start();
    let forged = "reason=\"forged\"";
    wait_until("it is refused", || {
        one.metric_with("lb_cluster_datagrams_refused_total", forged) > 3
    });
    assert_eq!((nodes(&one), nodes(&stranger)), (1, 1));
    let missing = stranger.admin_json("/cluster")["missing_seeds"].clone();
    assert_eq!(missing, serde_json::json!([gossip(&one).to_string()]));
    let line = one.process().wait_for_line("do not open");
    let sender = gossip(&stranger).to_string();
    assert!(line.contains("WARN") && line.contains(&sender), "{line}");
    stranger.process().wait_for_line("no other node");
    let told = one.process().output().matches("do not open").count();
    assert_eq!(told, 1, "once a minute");
}

#[test]
fn a_node_that_nobody_answers_says_so_until_it_has_met_somebody() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("it is bound");
    let one = start("one", &[], LIMIT);
    let other = start("other", &[silent], LIMIT);
    let line = other.process().wait_for_line("no other node");
    assert!(
        line.contains("WARN") && line.contains(&silent.to_string()),
        "{line}"
    );
    other.change_to(&config("other", &[gossip(&one)], LIMIT));
    other.process().wait_for_line("the cluster was found");
    let output = one.process().output();
    assert!(
        !output.contains("no other node"),
        "it has nobody to look for"
    );
}

#[test]
fn an_upgrade_keeps_the_nodes_name_and_what_the_fleet_has_used() {
    let limit = "requests = 20\nwindow = \"1h\"";
    let one = start("one", &[], limit);
    let port = UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let listen = port.expect("a free port").to_string();
    let other = config_at(&listen, "other", &[gossip(&one)], limit).start();
    wait_until("they meet", || nodes(&one) == 2 && nodes(&other) == 2);
    let before = member(&one, "other")["generation"].as_u64();
    // Nobody comes to the other node, which has only been told.
    wait_until("all is used up", || {
        get(other.addr(), "/").status == 429 && other.metric("lb_limit_allowed_total") >= 20
    });
    hear_it_all(&one);
    let successor = other.successor();
    successor.wait_for_line("took over");
    wait_until("it is the same node", || {
        let seen = member(&one, "other");
        seen["state"] == "alive" && seen["generation"].as_u64() > before
    });
    assert_eq!(nodes(&one), 2);
    assert_eq!(member(&one, "other")["address"], listen);
    wait_until("it has learned what was used", || {
        other.admin_json("/cluster")["limits"][0]["hot_keys"] == 1
    });
    let again = (0..20).filter(|_| get(other.addr(), "/").status == 200);
    assert_eq!(again.count(), 0);
    assert_eq!(
        other.metric("lb_limit_allowed_total"),
        0,
        "of the successor"
    );
    assert_eq!(one.metric("lb_limit_allowed_total"), 0);
}

#[test]
fn who_has_not_been_met_has_a_part_from_the_beginning() {
    let config = |requests: u32| {
        Proxy::new().extra(&format!(
            "[cluster]\nlisten = \"127.0.0.1:0\"\nname = \"first\"\nkey = {KEY:?}\ndead_after = \"60s\"\n\
             seeds = [\"one.invalid:7946\", \"other.invalid:7946\"]\n\
             [rate_limit]\nstore = \"cluster\"\nkey = \"route\"\nrequests = {requests}\nwindow = \"1h\"\n\
             [[routes]]\nrespond = {{}}"
        ))
    };
    let node = config(30).start();
    let answers = || (0..70).map(|_| get(node.addr(), "/").status);
    assert_eq!(answers().filter(|it| *it == 200).count(), 10);
    // A new limit too knows that others are there.
    node.change_to(&config(60));
    assert_eq!(answers().filter(|it| *it == 200).count(), 20);
}

#[test]
fn seeds_follow_a_new_configuration() {
    let one = start("one", &[], LIMIT);
    let other = start("other", &[], LIMIT);
    assert_eq!((nodes(&one), nodes(&other)), (1, 1));
    other.change_to(&config("other", &[gossip(&one)], LIMIT));
    wait_until("they meet", || nodes(&one) == 2 && nodes(&other) == 2);
}

#[test]
fn without_a_cluster_there_is_nobody_else() {
    let alone = Proxy::new().extra("[[routes]]\nrespond = {}").start();
    let view = alone.admin_json("/cluster");
    assert_eq!(
        (&view["enabled"], &view["nodes"]),
        (&false.into(), &1.into())
    );
    assert!(!alone.metrics().contains("lb_cluster"));
    let host = alone.admin().to_string();
    let headers = [("host", host.as_str())];
    let posted =
        crate::support::client::request(alone.admin(), message("POST", "/cluster", &headers, b""));
    assert_eq!(posted.status, 405);
}
