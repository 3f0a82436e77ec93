//! Sessions of UDP while configurations and processes change.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{self, message};
use crate::support::proxy::{RunningProxy, address_of};
use crate::support::redis::Redis;
use crate::support::udp::{UdpClient, UdpServer};
use crate::support::{DEADLINE, wait_until};
use crate::udp::{ended, open, relaying, relaying_with};

/// Clients that ask and ask while `event` happens, and always get their answer.
fn under_load(proxy: &RunningProxy, event: impl FnOnce()) {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let addr = proxy.addr();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (over, answered) = (&over, &answered);
            scope.spawn(move || {
                let kept = UdpClient::of(addr);
                for number in 0.. {
                    if over.load(Relaxed) {
                        break;
                    }
                    let query = format!("{thread}/{number}");
                    assert_eq!(kept.ask(&query), query);
                    assert_eq!(UdpClient::of(addr).ask(&query), query);
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        let enough = |more: usize| {
            let until = answered.load(Relaxed) + more;
            wait_until("datagrams are answered", || answered.load(Relaxed) >= until);
        };
        enough(200);
        event();
        enough(200);
        over.store(true, Relaxed);
    });
}

/// Has the process end, and waits until it takes in no new client.
fn drain(proxy: &RunningProxy) {
    proxy.process().signal("TERM");
    proxy.process().wait_for_line("draining");
    wait_until("it takes nobody in", || {
        UdpClient::of(proxy.addr()).send("too late");
        let label = "reason=\"draining\"";
        proxy.metric_with("lb_udp_datagrams_dropped_total", label) > 0
    });
}

#[test]
fn sessions_go_on_through_a_reload() {
    let (server, other) = (UdpServer::telling_ports(), UdpServer::echo());
    let proxy = relaying(&[&server]).start();
    let client = UdpClient::of(proxy.addr());
    let port = client.ask("which?");
    under_load(&proxy, || {
        for idle in ["30s", "40s"] {
            let keys = format!("timeouts = {{ idle = {idle:?} }}");
            proxy.change_to(&relaying_with(&[&server, &other], &keys, ""));
        }
    });
    assert_eq!(client.ask("which?"), port);
    assert_eq!(ended(&proxy, "closed"), 0);
    let moved = proxy.metric("lb_udp_sessions_moved_total");
    assert_eq!(moved, 0, "its server is still there");
}

#[test]
fn sessions_of_a_server_that_was_removed_move() {
    let (a, b) = (UdpServer::named("a"), UdpServer::named("b"));
    let proxy = relaying(&[&a]).start();
    let client = UdpClient::of(proxy.addr());
    assert_eq!(client.ask("who?"), "a");
    proxy.change_to(&relaying(&[&a, &b]));
    assert_eq!(client.ask("who?"), "a");
    let call = |method: &str, path: &str, body: &serde_json::Value| {
        let host = proxy.admin().to_string();
        let body = body.to_string();
        let request = message(method, path, &[("host", &host)], body.as_bytes());
        let answer = client::request(proxy.admin(), request);
        assert!(answer.status < 300, "{}", answer.text());
    };
    let path = format!("/servers/app@{}", a.addr());
    call("PATCH", &path, &json!({ "drain": true }));
    assert_eq!(client.ask("who?"), "a", "it only gets no new ones");
    assert_eq!(UdpClient::of(proxy.addr()).ask("who?"), "b");
    call("DELETE", &path, &json!({}));
    assert_eq!(client.ask("who?"), "b");
    assert_eq!(open(&proxy), 2);
}

#[test]
fn a_listener_that_is_gone_ends_its_sessions_and_may_come_back() {
    let server = UdpServer::echo();
    let second = |addr: &str| {
        relaying(&[&server]).extra(&format!(
            "[[listeners]]\nname = \"second\"\nlisten = {addr:?}\nmode = \"udp\"\nupstream = \"app\""
        ))
    };
    let proxy = second("127.0.0.1:0").start();
    let addr = proxy.addr_of("second");
    let client = UdpClient::of(addr);
    client.ask("before");
    assert_eq!(open(&proxy), 1);
    proxy.change_to(&relaying(&[&server]));
    wait_until("its end", || {
        proxy.metric("lb_server_in_flight") == 0 && open(&proxy) == 0
    });
    let free = std::net::UdpSocket::bind(addr).expect("nobody has the port any more");
    drop(free);
    proxy.change_to(&second(&addr.to_string()));
    // What was sent meanwhile was refused, of which the client is told once.
    let again = UdpClient::of(addr);
    assert_eq!(again.ask("after"), "after");
}

#[test]
fn tcp_and_udp_may_have_the_same_port() {
    let server = UdpServer::echo();
    // Nobody else has this address, and so nobody its ports.
    let with = |mode: &str, addr: &str| {
        format!(
            "[[listeners]]\nname = {mode:?}\nlisten = {addr:?}\nmode = {mode:?}\nupstream = \"app\"\n"
        )
    };
    let udp = with("udp", "127.0.0.77:0");
    let proxy = relaying(&[&server]).extra(&udp).start();
    let addr = proxy.addr_of("udp");
    let client = UdpClient::of(addr);
    client.ask("alone");
    let tcp = with("tcp", &addr.to_string());
    proxy.change_to(&relaying(&[&server]).extra(&udp).extra(&tcp));
    assert!(std::net::TcpStream::connect(addr).is_ok());
    assert_eq!(client.ask("beside"), "beside");
    assert_eq!(server.peers(), 1);
}

#[test]
fn a_new_process_takes_over_without_a_datagram_lost() {
    let server = UdpServer::echo();
    let mut proxy = relaying_with(&[&server], "responses = 1", "").start();
    let mut successor = None;
    under_load(&proxy, || {
        let process = proxy.successor();
        process.wait_for_line("took over");
        successor = Some(process);
    });
    assert!(proxy.wait_exit(DEADLINE).success());
    let successor = successor.expect("it has started");
    assert_eq!(address_of(&successor, "web"), proxy.addr());
    assert_eq!(UdpClient::of(proxy.addr()).ask("after"), "after");
}

#[test]
fn answers_that_are_late_come_from_the_process_that_was_asked() {
    let server = UdpServer::start(|query| {
        if query == b"slowly" {
            thread::sleep(Duration::from_millis(500));
        }
        vec![query.to_vec()]
    });
    let mut proxy = relaying_with(&[&server], "responses = 1", "").start();
    let client = UdpClient::of(proxy.addr());
    client.send("slowly");
    wait_until("it is asked", || open(&proxy) == 1);
    let successor = proxy.successor();
    successor.wait_for_line("took over");
    assert_eq!(client.receive(), b"slowly");
    assert!(proxy.wait_exit(DEADLINE).success());
    assert_eq!(client.ask("and the other"), "and the other");
}

#[test]
fn a_process_that_ends_takes_in_whom_the_store_is_still_asked_about() {
    let (server, redis) = (UdpServer::echo(), Redis::start());
    let rate = "connection_rate = { connections = 1000, window = \"10m\", store = \"redis\" }";
    let mut proxy = relaying_with(&[&server], &format!("{rate}\nresponses = 1"), "")
        .extra(&format!(
            "[redis]\nurl = {:?}\ntimeout = \"9s\"",
            redis.url()
        ))
        .start();
    assert_eq!(UdpClient::of(proxy.addr()).ask("first"), "first");
    redis.pause();
    let client = UdpClient::of(proxy.addr());
    client.send("may I?");
    wait_until("it is asked", || {
        proxy.metric("lb_udp_datagrams_received_total") == 2
    });
    drain(&proxy);
    redis.resume();
    assert_eq!(client.receive(), b"may I?");
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn a_process_that_ends_waits_for_answers_and_takes_no_new_clients() {
    let server = UdpServer::start(|query| {
        if query == b"slowly" {
            thread::sleep(Duration::from_millis(700));
        }
        vec![query.to_vec()]
    });
    let mut proxy = relaying_with(&[&server], "responses = 1", "").start();
    let client = UdpClient::of(proxy.addr());
    client.send("slowly");
    wait_until("it is asked", || open(&proxy) == 1);
    drain(&proxy);
    assert_eq!(client.receive(), b"slowly");
    assert!(proxy.wait_exit(DEADLINE).success());
}
