//! Listeners with `mode = "udp"`: sessions, their servers, and what is too much. `udp_changes` has what happens to them when
//! configurations and processes change, `udp_quic` what is known of QUIC.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};

use serde_json::Value;

use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::redis::Redis;
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

fn dropped(proxy: &RunningProxy, reason: &str) -> u64 {
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
fn clients_above_the_limit_are_dropped_and_the_others_go_on() {
    let server = UdpServer::echo();
    let keys = "max_connections = 2\ntimeouts = { idle = \"300ms\" }";
    let proxy = relaying_with(&[&server], keys, "").start();
    let clients = [(); 3].map(|()| UdpClient::of(proxy.addr()));
    for client in &clients[..2] {
        client.ask("first");
    }
    clients[2].send("too many");
    wait_until("dropped", || dropped(&proxy, "sessions") == 1);
    assert_eq!(clients[0].ask("again"), "again");
    assert_eq!(server.received(), 3);
    wait_until("room", || open(&proxy) == 0);
    assert_eq!(clients[2].ask("now"), "now");
}

#[test]
fn an_address_has_no_more_sessions_than_it_may() {
    let server = UdpServer::echo();
    let proxy = relaying_with(&[&server], "max_connections_per_ip = 2", "").start();
    let clients = [(); 3].map(|()| UdpClient::of(proxy.addr()));
    for client in &clients[..2] {
        client.ask("first");
    }
    clients[2].send("too many");
    wait_until("dropped", || dropped(&proxy, "refused") == 1);
    assert_eq!(proxy.metric("lb_address_limit_closed_total"), 1);
    let other = UdpClient::from([127, 0, 0, 2], proxy.addr());
    assert_eq!(other.ask("another"), "another");
}

#[test]
fn a_server_that_has_all_the_sessions_it_may_leaves_clients_to_others() {
    let (a, b) = (UdpServer::named("a"), UdpServer::named("b"));
    // All clients are of one address, and so for one server. Of requests over HTTP/2 there might be more than connections.
    let keys = "max_connections = 2\nprotocol = \"http2\"\nstrategy = \"consistent_hash\"";
    let proxy = relaying_with(&[&a, &b], "", keys)
        .extra("[[listeners]]\nname = \"http\"\nlisten = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"")
        .start();
    let clients: Vec<_> = (0..4).map(|_| UdpClient::of(proxy.addr())).collect();
    let names: Vec<_> = clients.iter().map(|client| client.ask("who?")).collect();
    assert_eq!(names.iter().filter(|name| *name == "a").count(), 2);
    UdpClient::of(proxy.addr()).send("too many");
    wait_until("dropped", || dropped(&proxy, "servers_full") == 1);
    assert_eq!(proxy.metric("lb_upstream_no_server_total"), 0);
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

#[test]
fn a_flood_from_many_ports_takes_no_more_than_its_sessions() {
    const SESSIONS: u64 = 500;
    const PORTS: usize = 100_000;
    let server = UdpServer::start(|_| Vec::new());
    let echo = UdpServer::echo();
    let proxy = relaying_with(&[&server], &format!("max_connections = {SESSIONS}"), "")
        .extra(&format!(
            "[[listeners]]\nname = \"calm\"\nlisten = \"127.0.0.1:0\"\nmode = \"udp\"\nupstream = \"calm\"\n\
             [[upstreams]]\nname = \"calm\"\nservers = [\"{}\"]\nhealth_check = {{ kind = \"off\" }}",
            echo.addr()
        ))
        .start();
    let calm = UdpClient::of(proxy.addr_of("calm"));
    calm.ask("before");
    let flood = |from: usize| {
        for port in 0..PORTS / 4 {
            let ip = [127, 1, from as u8, (port / 20_000) as u8 + 1];
            let from = SocketAddr::from((ip, 20_000 + (port % 20_000) as u16));
            let socket = UdpSocket::bind(from).expect("a port of an address of its own");
            socket.send_to(&[7; 64], proxy.addr()).expect("sent");
        }
    };
    in_parallel(4, flood);
    let label = "listener=\"web\"";
    let taken = || {
        let received = proxy.metric_with("lb_udp_datagrams_received_total", label);
        // The kernel drops what comes faster than it is read.
        received > PORTS as u64 / 4 && dropped(&proxy, "sessions") + SESSIONS == received
    };
    wait_until("all have been looked at", taken);
    assert_eq!(proxy.metric_with("lb_connections_open", label), SESSIONS);
    assert_eq!(calm.ask("after"), "after");
    let used = proxy.process().rss_kib();
    assert!(used < 64 * 1024, "{used} KiB");
}

#[test]
fn who_may_not_come_in_gets_no_session() {
    let server = UdpServer::echo();
    let proxy = relaying_with(&[&server], "deny = [\"127.0.0.2\"]", "").start();
    UdpClient::from([127, 0, 0, 2], proxy.addr()).send("let me in");
    wait_until("dropped", || dropped(&proxy, "refused") == 1);
    assert_eq!(proxy.metric("lb_access_denied_total"), 1);
    assert_eq!(UdpClient::of(proxy.addr()).ask("and me?"), "and me?");
    assert_eq!(server.received(), 1);
}

#[test]
fn an_address_begins_so_many_sessions_and_goes_on_with_those() {
    let server = UdpServer::echo();
    let rate = "connection_rate = { connections = 2, window = \"10m\" }";
    let proxy = relaying_with(&[&server], rate, "").start();
    let clients = [(); 3].map(|()| UdpClient::of(proxy.addr()));
    for client in &clients[..2] {
        client.ask("first");
    }
    clients[2].send("too many");
    wait_until("dropped", || dropped(&proxy, "refused") == 1);
    for _ in 0..5 {
        assert_eq!(clients[0].ask("again"), "again");
    }
}

#[test]
fn what_comes_first_waits_for_the_store_that_says_whether_it_may() {
    let redis = Redis::start();
    let server = UdpServer::echo();
    let rate = "connection_rate = { connections = 4, window = \"10m\", store = \"redis\" }";
    let proxy = relaying_with(&[&server], rate, "")
        .extra(&format!("[redis]\nurl = {:?}", redis.url()))
        .start();
    let clients = [(); 10].map(|()| UdpClient::of(proxy.addr()));
    for client in &clients {
        client.send("may I?");
    }
    wait_until("all are decided", || {
        open(&proxy) + dropped(&proxy, "refused") == 10
    });
    assert_eq!(open(&proxy), 4);
    let served = |client: &&UdpClient| client.has_answer();
    assert_eq!(clients.iter().filter(served).count(), 4);
}

#[test]
fn a_client_has_one_session_however_much_it_sends_while_the_store_is_asked() {
    let redis = Redis::start();
    let server = UdpServer::echo();
    let rate = "connection_rate = { connections = 1000, window = \"10m\", store = \"redis\" }";
    let proxy = relaying_with(&[&server], rate, "")
        .extra(&format!(
            "[redis]\nurl = {:?}\ntimeout = \"5s\"",
            redis.url()
        ))
        .start();
    let clients = [(); 20].map(|()| UdpClient::of(proxy.addr()));
    // Whoever is answered has been let in.
    for client in &clients {
        for _ in 0..20 {
            client.send("may I?");
        }
        assert_eq!(client.insist("may I?"), "may I?");
    }
    let taken = || server.received() as u64 + dropped(&proxy, "asking");
    wait_until("all are taken", || {
        taken() == proxy.metric("lb_udp_datagrams_received_total")
    });
    assert_eq!(proxy.metric("lb_connections_accepted_total"), 20);
    assert_eq!((open(&proxy), server.peers()), (20, 20));
}

#[test]
fn a_client_that_is_over_its_bandwidth_takes_no_room_from_others() {
    let server = UdpServer::echo();
    // 16 KiB may come at once, and what is as long then again in 15 s.
    let limit = "bandwidth = { upload = \"1kB/s\" }";
    for (of_clients, of_servers) in [(limit, ""), ("", limit)] {
        let of_clients = format!("max_connections = 5\n{of_clients}");
        let proxy = relaying_with(&[&server], &of_clients, of_servers).start();
        let clients = [(); 10].map(|()| UdpClient::of(proxy.addr()));
        clients[0].send([0; 16_000]);
        assert_eq!(clients[0].receive().len(), 16_000);
        for (client, before) in clients[1..].iter().zip(0..) {
            client.send([0; 16_000]);
            wait_until("it is over", || dropped(&proxy, "bandwidth") > before);
        }
        wait_until("they have no sessions", || open(&proxy) == 1);
        // That it is too much for its server is known when it has one.
        let begun = if of_servers.is_empty() { 1 } else { 10 };
        assert_eq!(proxy.metric("lb_connections_accepted_total"), begun);
        assert_eq!(ended(&proxy, "unsent"), begun - 1);
        let other = UdpClient::from([127, 0, 0, 2], proxy.addr());
        assert_eq!(other.ask("and I?"), "and I?");
        assert_eq!(dropped(&proxy, "sessions"), 0);
    }
}

#[test]
fn what_is_over_the_bandwidth_is_dropped() {
    let server = UdpServer::start(|query| vec![vec![7; 1000]; query.len()]);
    // 16 KiB may come at once.
    let limit = "bandwidth = { download = \"1kB/s\", upload = \"1kB/s\" }";
    let proxy = relaying_with(&[&server], limit, "").start();
    let client = UdpClient::of(proxy.addr());
    client.send([0; 40]);
    wait_until("the rest is dropped", || dropped(&proxy, "bandwidth") >= 20);
    let sent = proxy.metric("lb_udp_datagrams_sent_total");
    assert!((16..=20).contains(&sent), "{sent}");
    assert_eq!(sent + dropped(&proxy, "bandwidth"), 40);
    let other = UdpClient::from([127, 0, 0, 2], proxy.addr());
    other.send([0; 1]);
    assert_eq!(other.receive().len(), 1000);
    for _ in 0..40 {
        other.send([0; 1000]);
    }
    wait_until("uploads are", || dropped(&proxy, "bandwidth") >= 20 + 20);
    assert!(server.received() <= 2 + 20);
}
