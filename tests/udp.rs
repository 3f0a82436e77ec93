//! Listeners with `mode = "udp"`: sessions and their servers. `udp_limits` has what is too much, `udp_changes` what happens to
//! them when configurations and processes change, `udp_quic` what is known of QUIC.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};

use serde_json::Value;

use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::udp::{UdpClient, UdpServer};
use crate::support::{in_parallel, wait_until};

/// A proxy that passes datagrams on to these servers.
pub fn relaying(servers: &[&UdpServer]) -> Proxy {
    relaying_with(servers, "", "")
}

/// The same with keys of the listener and of the upstream.
pub fn relaying_with(servers: &[&UdpServer], listener: &str, upstream: &str) -> Proxy {
    let servers: Vec<SocketAddr> = servers.iter().map(|it| it.addr()).collect();
    let proxy = Proxy::new()
        .setting("workers = 2\nwatch_config = false")
        .listener("mode = \"udp\"\nupstream = \"app\"")
        .listener(listener);
    match upstream.contains("health_check") {
        true => proxy.upstream_with("app", &servers, upstream),
        false => proxy.unprobed_with("app", &servers, upstream),
    }
}

pub fn open(proxy: &RunningProxy) -> u64 {
    proxy.metric("lb_connections_open")
}

pub fn dropped(proxy: &RunningProxy, reason: &str) -> u64 {
    let label = format!("reason=\"{reason}\"");
    proxy.metric_with("lb_udp_datagrams_dropped_total", &label)
}

pub fn ended(proxy: &RunningProxy, reason: &str) -> u64 {
    let label = format!("reason=\"{reason}\"");
    proxy.metric_with("lb_udp_sessions_ended_total", &label)
}

#[test]
fn each_client_gets_its_own_answers() {
    let server = UdpServer::echo();
    let proxy = relaying(&[&server]).start();
    in_parallel(4, |thread| {
        let clients: Vec<_> = (0..50).map(|_| UdpClient::of(proxy.addr())).collect();
        for round in 0..5 {
            for (number, client) in clients.iter().enumerate() {
                client.send(format!("{thread}/{number}/{round}"));
            }
            for (number, client) in clients.iter().enumerate() {
                let answer = client.receive();
                assert_eq!(answer, format!("{thread}/{number}/{round}").into_bytes());
            }
        }
    });
    assert_eq!(server.received(), 1000);
    assert_eq!(server.peers(), 200, "a session each");
    for (metric, count) in [
        ("lb_connections_accepted_total", 200),
        ("lb_connections_open", 200),
        ("lb_udp_datagrams_received_total", 1000),
        ("lb_udp_datagrams_sent_total", 1000),
        ("lb_server_connects_total", 200),
        ("lb_udp_datagrams_dropped_total", 0),
    ] {
        assert_eq!(proxy.metric(metric), count, "{metric}");
    }
    let bytes = proxy.metric("lb_bytes_received_total");
    assert_eq!(proxy.metric("lb_server_bytes_sent_total"), bytes);
    assert_eq!(proxy.metric("lb_bytes_sent_total"), bytes);
}

#[test]
fn a_client_stays_with_the_server_of_its_session() {
    let (a, b) = (UdpServer::named("a"), UdpServer::named("b"));
    let proxy = relaying(&[&a, &b]).start();
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    // Kept until the end, so that each has a port of its own.
    let clients: Vec<_> = (0..10).map(|_| UdpClient::of(proxy.addr())).collect();
    for client in &clients {
        let name = client.ask("who?");
        for _ in 0..5 {
            assert_eq!(client.ask("and now?"), name);
        }
        *shares.entry(name).or_default() += 1;
    }
    let even = [("a".to_owned(), 5), ("b".to_owned(), 5)];
    assert_eq!(shares, BTreeMap::from(even));
}

#[test]
fn a_consistent_hash_gives_an_address_the_same_server_whatever_its_port() {
    let (a, b) = (UdpServer::named("a"), UdpServer::named("b"));
    let proxy = relaying_with(&[&a, &b], "", "strategy = \"consistent_hash\"").start();
    let mut names = BTreeMap::new();
    for last in 1..=20 {
        let of = || UdpClient::from([127, 0, 1, last], proxy.addr()).ask("who?");
        let name = of();
        assert!((0..5).all(|_| of() == name));
        *names.entry(name).or_insert(0) += 1;
    }
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn few_sessions_of_a_server_are_reason_to_begin_there() {
    let (a, b) = (UdpServer::named("a"), UdpServer::named("b"));
    let proxy = relaying_with(&[&a, &b], "", "strategy = \"least_connections\"").start();
    let clients: Vec<_> = (0..20).map(|_| UdpClient::of(proxy.addr())).collect();
    let names = clients.iter().map(|client| client.ask("who?"));
    assert_eq!(names.filter(|name| name == "a").count(), 10);
    let counts = proxy.admin_json("/servers")["servers"].clone();
    let in_flight = |server: &Value| server["in_flight"].as_u64();
    let counts: Vec<_> = counts
        .as_array()
        .expect("two")
        .iter()
        .map(in_flight)
        .collect();
    assert_eq!(counts, [Some(10), Some(10)]);
}

#[test]
fn a_session_moves_when_nobody_listens_at_its_server_any_more() {
    let (a, b) = (UdpServer::named("a"), UdpServer::named("b"));
    let proxy = relaying(&[&a, &b]).start();
    let clients: Vec<_> = (0..4).map(|_| UdpClient::of(proxy.addr())).collect();
    for client in &clients {
        client.ask("who?");
    }
    drop(a);
    for client in &clients {
        assert_eq!(client.insist("and now?"), "b");
    }
    assert_eq!(proxy.metric("lb_udp_sessions_moved_total"), 2);
    assert!(proxy.metric("lb_server_connect_failures_total") >= 2);
    assert_eq!(open(&proxy), 4);
}

#[test]
fn a_session_whose_only_server_is_back_goes_on() {
    let server = UdpServer::named("first");
    let addr = server.addr();
    let proxy = relaying(&[&server]).start();
    let client = UdpClient::of(proxy.addr());
    assert_eq!(client.ask("who?"), "first");
    drop(server);
    client.send("anybody?");
    wait_until("refused", || {
        proxy.metric("lb_server_connect_failures_total") > 0
    });
    let _second = UdpServer::start_at(addr, |_| vec!["second".into()]);
    assert_eq!(client.insist("who?"), "second");
    assert_eq!(proxy.metric("lb_upstream_no_server_total"), 0);
    assert_eq!(open(&proxy), 1);
}

#[test]
fn a_session_moves_when_probes_find_its_server_down() {
    let answering = |name: &'static str| {
        UdpServer::start(move |datagram| match datagram {
            b"well?" if name == "ill" => vec!["no".into()],
            b"well?" => vec!["yes, well".into()],
            _ => vec![name.into()],
        })
    };
    let ill = answering("ill");
    let check = r#"health_check = { kind = "udp", send = "well?", expect = "yes", interval = "100ms", timeout = "500ms", fall = 2, rise = 1 }"#;
    let alone = relaying_with(&[&ill], "", check).start();
    wait_until("it is down", || alone.metric("lb_server_up") == 0);
    UdpClient::of(alone.addr()).send("who?");
    wait_until("dropped", || dropped(&alone, "no_server") == 1);

    // One that is ill from the second probe on.
    let probes = std::sync::atomic::AtomicUsize::new(0);
    let turning = UdpServer::start(move |datagram| match datagram {
        b"well?" => match probes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => vec!["yes".into()],
            _ => vec!["no".into()],
        },
        _ => vec!["turning".into()],
    });
    let well = answering("well");
    let proxy = relaying_with(&[&turning, &well], "", check).start();
    let client = UdpClient::of(proxy.addr());
    wait_until("one is left", || proxy.metric("lb_server_up") == 1);
    assert_eq!(client.ask("who?"), "well");
}

#[test]
fn a_dns_server_is_probed_with_a_query() {
    let dns = |rcode: u8| {
        UdpServer::start(move |query| {
            let mut answer = query.to_vec();
            if query.len() > 12 {
                answer[2] |= 0x80;
                answer[3] = rcode;
            }
            vec![answer]
        })
    };
    let (refusing, failing) = (dns(5), dns(2));
    let check = r#"health_check = { kind = "dns", interval = "100ms", timeout = "500ms", fall = 2, rise = 1 }"#;
    let proxy = relaying_with(&[&refusing, &failing], "", check).start();
    wait_until("one is down", || proxy.metric("lb_server_up") == 1);
    let up = format!(
        "lb_server_up{{upstream=\"app\",server=\"{}\"}} 1",
        refusing.addr()
    );
    assert!(proxy.metrics().contains(&up));
}

#[test]
fn a_session_ends_when_both_sides_are_silent() {
    let server = UdpServer::echo();
    let directory = crate::support::temp_dir::TempDir::new();
    let log = directory.path().join("access.log");
    let proxy = relaying_with(&[&server], "timeouts = { idle = \"200ms\" }", "")
        .extra(&format!("[access_log]\npath = {log:?}"))
        .start();
    let client = UdpClient::of(proxy.addr());
    client.ask("one");
    client.ask("three");
    assert_eq!(open(&proxy), 1);
    wait_until("its end", || ended(&proxy, "idle") == 1);
    assert_eq!(open(&proxy), 0);
    let mut text = String::new();
    wait_until("a line", || {
        text = fs::read_to_string(&log).unwrap_or_default();
        text.ends_with('\n')
    });
    let line: Value = serde_json::from_str(&text).expect("one line of JSON");
    for (key, value) in [
        ("protocol", Value::from("udp")),
        ("listener", "web".into()),
        ("upstream", "app".into()),
        ("server", server.addr().to_string().into()),
        ("received", 8.into()),
        ("sent", 8.into()),
        ("reason", "idle".into()),
    ] {
        assert_eq!(line[key], value, "{key} of {line}");
    }
    assert!(line["duration"].as_f64().expect("seconds") >= 0.2);
    assert_eq!(client.ask("anew"), "anew");
    assert_eq!(server.peers(), 2);
}

#[test]
fn a_session_ends_with_the_answers_that_are_expected() {
    let server = UdpServer::start(|query| vec![query.to_vec(), query.to_vec()]);
    let proxy = relaying_with(&[&server], "responses = 2", "").start();
    let client = UdpClient::of(proxy.addr());
    // Two of each, of three that were asked at once.
    for query in ["a", "b", "c"] {
        client.send(query);
    }
    let mut answers: Vec<_> = (0..6).map(|_| client.receive()).collect();
    answers.sort();
    assert_eq!(answers.concat(), b"aabbcc");
    wait_until("its end", || open(&proxy) == 0);
    let sessions = proxy.metric("lb_connections_accepted_total");
    assert_eq!(ended(&proxy, "answered"), sessions);
}

#[test]
fn datagrams_of_any_length_are_whole() {
    let server = UdpServer::echo();
    let proxy = relaying(&[&server]).start();
    let client = UdpClient::of(proxy.addr());
    for length in [0, 1, 1472, 9_000, 60_000, 65_507] {
        let datagram: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        client.send(&datagram);
        assert_eq!(client.receive(), datagram, "{length}");
    }
}

#[test]
fn what_is_too_long_for_the_way_to_the_server_is_dropped() {
    let server = UdpServer::echo();
    // A datagram over IPv6 can be 20 bytes longer than one over IPv4.
    let proxy = relaying(&[&server])
        .extra("[[listeners]]\nname = \"six\"\nlisten = \"[::1]:0\"\nmode = \"udp\"\nupstream = \"app\"")
        .start();
    let client = UdpSocket::bind("[::1]:0").expect("IPv6");
    let at = proxy.addr_of("six");
    client.send_to(&[7; 65_527], at).expect("sent");
    wait_until("dropped", || dropped(&proxy, "too_long") == 1);
    client.send_to(b"short", at).expect("sent");
    let mut space = [0; 16];
    let (length, from) = client.recv_from(&mut space).expect("an answer");
    assert_eq!((&space[..length], from), (&b"short"[..], at));
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let server = UdpServer::echo();
    let proxy = relaying(&[&server])
        .extra("[[listeners]]\nname = \"all\"\nlisten = \"0.0.0.0:0\"\nmode = \"udp\"\nupstream = \"app\"")
        .start();
    let port = proxy.addr_of("all").port();
    // Connected sockets hear from nobody else. One client, two addresses: two sessions.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket
        .set_read_timeout(Some(crate::support::DEADLINE))
        .expect("a socket");
    for last in [2, 3] {
        let at = SocketAddr::from(([127, 0, 0, last], port));
        socket.send_to(b"?", at).expect("sent");
        let (_, from) = socket.recv_from(&mut [0; 8]).expect("an answer");
        assert_eq!(from, at);
    }
    assert_eq!(server.peers(), 2);
}
