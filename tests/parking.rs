//! Connections that wait for a request are parked, which costs little and which no client notices.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::proxy_protocol::LINE;
use crate::support::client::message;
use crate::support::http2::{self, connect_over, exchange, runtime};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{DEADLINE, wait_until};

/// One worker, so that what happened to one connection first has happened to all that were idle before.
fn proxy() -> Proxy {
    Proxy::new()
        .setting("workers = 1")
        .extra("[[routes]]\npaths = [\"/a\"]\nrespond = { body = \"a\" }")
        .extra("[[routes]]\npaths = [\"/b\"]\nrespond = { body = \"b\" }")
}

fn parked(proxy: &RunningProxy, connections: u64) {
    wait_until("they are parked", || {
        proxy.metric("lb_connections_parked") == connections
    });
}

fn get(path: &str) -> Vec<u8> {
    message("GET", path, &[], b"")
}

#[test]
fn a_parked_connection_answers_again() {
    let proxy = proxy().start();
    let mut client = proxy.connect();
    parked(&proxy, 1); // before its first request
    for _ in 0..2 {
        assert_eq!(client.get("/a").expect("an answer").text(), "a");
        parked(&proxy, 1);
    }
    let received = 2 * get("/a").len() as u64;
    assert_eq!(proxy.metric("lb_bytes_received_total"), received);
    assert_eq!(proxy.metric("lb_connections_accepted_total"), 1);
    drop(client);
    wait_until("the close is noticed", || {
        proxy.metric("lb_connections_open") == 0
    });
    assert_eq!(proxy.metric("lb_connections_parked"), 0);
}

#[test]
fn a_request_may_wake_it_in_pieces_or_with_others() {
    let proxy = proxy().start();
    let mut client = proxy.connect();
    parked(&proxy, 1);
    client.send_raw("\r\nG").expect("sent");
    wait_until("the first piece is read", || {
        proxy.metric("lb_connections_parked") == 0
    });
    client.send_raw(&get("/a")[1..]).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "a");

    parked(&proxy, 1);
    let bodies = ["a", "b", "a"];
    client
        .send_raw([get("/a"), get("/b"), get("/a")].concat())
        .expect("sent");
    for body in bodies {
        assert_eq!(client.read_response(false).expect("an answer").text(), body);
    }

    // More than is read at first.
    parked(&proxy, 1);
    let long = "x".repeat(20_000);
    let request = message("GET", "/b", &[("x-long", &long)], b"");
    assert_eq!(client.request(request).expect("an answer").text(), "b");
}

#[test]
fn half_a_request_is_not_parked_and_not_lost() {
    let proxy = proxy().start();
    let mut client = proxy.connect();
    let second = get("/b");
    let (half, rest) = second.split_at(10);
    client.send_raw([&get("/a"), half].concat()).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "a");
    // Idle for longer than this one, it would be parked if it could.
    let mut other = proxy.connect();
    assert_eq!(other.get("/a").expect("an answer").text(), "a");
    parked(&proxy, 1);
    client.send_raw(rest).expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "b");
    parked(&proxy, 2);
}

#[test]
fn half_a_request_that_came_with_another_is_408_after_a_while() {
    let proxy = proxy()
        .listener("timeouts = { headers = \"300ms\" }")
        .start();
    let mut client = proxy.connect();
    client
        .send_raw([get("/a"), b"GET /".to_vec()].concat())
        .expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "a");
    assert_eq!(client.read_response(false).expect("an answer").status, 408);
    assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
}

#[test]
fn empty_lines_after_a_request_do_not_keep_it_from_parking() {
    let proxy = proxy().start();
    let mut client = proxy.connect();
    client
        .send_raw([get("/a"), b"\r\n".to_vec()].concat())
        .expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").text(), "a");
    parked(&proxy, 1);
    assert_eq!(client.get("/b").expect("an answer").text(), "b");
}

#[test]
fn keep_alive_ends_a_parked_connection() {
    const LIMIT: Duration = Duration::from_millis(1800);
    let proxy = proxy()
        .listener("timeouts = { keep_alive = \"1800ms\" }")
        .start();
    let (mut used, mut new) = (proxy.connect(), proxy.connect());
    let start = Instant::now();
    assert_eq!(used.get("/a").expect("an answer").text(), "a");
    parked(&proxy, 2);
    for client in [&mut used, &mut new] {
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
        let elapsed = start.elapsed();
        // A connection is opened before the clock starts, if only by a moment.
        let earliest = LIMIT - Duration::from_millis(100);
        assert!((earliest..DEADLINE / 2).contains(&elapsed), "{elapsed:?}");
    }
    wait_until("they count no more", || {
        proxy.metric("lb_connections_open") == 0
    });
    assert_eq!(proxy.metric("lb_connections_parked"), 0);
}

#[test]
fn headers_that_do_not_end_are_408_after_a_park_too() {
    let proxy = proxy()
        .listener("timeouts = { headers = \"300ms\" }")
        .start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/a").expect("an answer").text(), "a");
    parked(&proxy, 1);
    client.send_raw("GET / HTTP/1.1\r\nhost: te").expect("sent");
    assert_eq!(client.read_response(false).expect("an answer").status, 408);
    assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
}

#[test]
fn the_end_closes_parked_connections_but_answers_what_they_have_sent() {
    let mut proxy = proxy().start();
    let [mut idle, mut asking] = [proxy.connect(), proxy.connect()];
    for client in [&mut idle, &mut asking] {
        assert_eq!(client.get("/a").expect("an answer").text(), "a");
    }
    parked(&proxy, 2);
    proxy.process().signal("STOP");
    asking.send_raw(get("/b")).expect("sent");
    proxy.process().signal("TERM");
    proxy.process().signal("CONT");
    assert_eq!(idle.read_to_end().expect("a close in order"), b"");
    let answer = asking.read_response(false).expect("an answer");
    assert_eq!(answer.text(), "b");
    assert_eq!(asking.read_to_end().expect("the close"), b"");
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn parked_connections_keep_no_buffers() {
    const CLIENTS: usize = 400;
    let proxy = proxy().start();
    assert_eq!(proxy.get("/a").text(), "a");
    let before = proxy.process().rss_kib();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/a").expect("an answer").text(), "a");
    }
    // Of the 17 KiB that each of them takes while it is served. Some of this is no connection's.
    let most = before + 6 * CLIENTS as u64;
    wait_until("the memory is given back", || {
        proxy.metric("lb_connections_parked") == CLIENTS as u64 && proxy.process().rss_kib() < most
    });
}

#[test]
fn a_connection_is_new_until_its_first_request_even_if_it_was_parked_behind_a_proxy_header() {
    let proxy = proxy()
        .setting("trusted_proxies = [\"127.0.0.1\"]")
        .listener("proxy_protocol = \"required\"")
        .start();
    let mut socket = TcpStream::connect(proxy.addr()).expect("a connection");
    parked(&proxy, 1);
    socket.write_all(LINE).expect("sent");
    parked(&proxy, 0);
    parked(&proxy, 1);
    runtime().block_on(async {
        socket.set_nonblocking(true).expect("a socket");
        let socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
        let client = connect_over(socket).await;
        let answer = exchange(&client, http2::get("/a"), b"").await;
        assert_eq!(answer.expect("an answer").body, b"a");
    });
}
