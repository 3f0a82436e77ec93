//! `tcp`: what the kernel does about connections on which nothing moves, seen in its own list of them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::Connection;
use crate::support::proxy::Proxy;
use crate::support::{DEADLINE, wait_until};
use crate::tcp::{connect, ended};

/// How often the kernel's list counts in a second.
const TICKS: u64 = 100;

/// When the end of a connection that is at `local` will ask whether `remote` is still there, if ever.
fn keep_alive(local: Option<SocketAddr>, remote: SocketAddr) -> Option<Duration> {
    const KEEP_ALIVE: &str = "02";
    let list = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
    let found = list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_local = local.is_none_or(|local| fields[1] == shown(local));
        let established = fields[3] == "01";
        (is_local && established && fields[2] == shown(remote)).then(|| fields[5].to_owned())
    });
    let timer = found.expect("the connection is open");
    let (kind, when) = timer.split_once(':').expect("its form");
    let ticks = u64::from_str_radix(when, 16).expect("a number");
    (kind == KEEP_ALIVE).then(|| Duration::from_millis(ticks * 1000 / TICKS))
}

/// An address as the list has it.
fn shown(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is not of IPv4");
    };
    let bits = u32::from_ne_bytes(address.ip().octets());
    format!("{bits:08X}:{:04X}", address.port())
}

/// Whether it is nearly this long.
fn is_about(keep_alive: Option<Duration>, seconds: u64) -> bool {
    let range = seconds.saturating_sub(15)..=seconds;
    keep_alive.is_some_and(|it| range.contains(&it.as_secs()))
}

#[test]
fn both_sides_connections_are_kept_alive() {
    let backend = Backend::start();
    let with = |listener: &str, upstream: &str| {
        let proxy = Proxy::new().setting("workers = 2").listener(listener);
        let off = "health_check = { kind = \"off\" }";
        proxy.upstream_with("app", &[backend.addr()], &format!("{off}\n{upstream}"))
    };
    let proxy = with("", "").start();
    let of = |client: &Connection| {
        let client = client.try_clone_stream().and_then(|it| it.local_addr());
        let client = client.expect("it is open");
        (
            keep_alive(Some(proxy.addr()), client),
            keep_alive(None, backend.addr()),
        )
    };
    let mut client = proxy.connect();
    client.get("/").expect("an answer");
    let (of_client, of_server) = of(&client);
    assert!(is_about(of_client, 60), "{of_client:?}");
    assert!(is_about(of_server, 60), "{of_server:?}");

    // The sockets that listen stay, and new connections have the new time.
    proxy.change_to(&with("tcp = { keep_alive = \"600s\" }", ""));
    let mut second = proxy.connect();
    second.get("/").expect("an answer");
    let of_second = of(&second).0;
    assert!(is_about(of_second, 600), "{of_second:?}");
    proxy.change_to(&with("tcp = { keep_alive = \"off\" }", ""));
    let mut third = proxy.connect();
    third.get("/").expect("an answer");
    assert_eq!(of(&third).0, None);
}

#[test]
fn without_keep_alive_servers_are_not_asked() {
    let backend = Backend::start();
    let off =
        "health_check = { kind = \"off\" }\ntcp = { keep_alive = \"off\", user_timeout = \"30s\" }";
    let proxy = Proxy::new()
        .upstream_with("app", &[backend.addr()], off)
        .start();
    let mut client = proxy.connect();
    client.get("/").expect("an answer");
    assert_eq!(keep_alive(None, backend.addr()), None);
}

#[test]
fn a_server_that_takes_nothing_for_too_long_is_given_up() {
    let server = RawBackend::start(|connection| {
        connection.stream.write_all(b"!")?;
        thread::park_timeout(6 * DEADLINE); // longer than this test takes
        Ok(())
    });
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with("db", &[server.addr()], "tcp = { user_timeout = \"1s\" }")
        .start();
    let mut client = connect(proxy.addr());
    client.read_exact(&mut [0]).expect("connected");
    let piece = [7; 256 * 1024];
    let error = loop {
        if let Err(error) = client.write_all(&piece) {
            break error;
        }
    };
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "it was not given up");
    wait_until("it is counted", || ended(&proxy, "server_reset") == 1);
}
