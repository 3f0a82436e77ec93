//! Sessions of UDP that there are too many of, that may not begin, and datagrams that are too much.

use std::net::{SocketAddr, UdpSocket};

use crate::support::redis::Redis;
use crate::support::udp::{UdpClient, UdpServer};
use crate::support::{in_parallel, wait_until};
use crate::udp::{dropped, ended, open, relaying_with};

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
