//! Which servers connections of TCP listeners are given to, and what becomes of them at a reload, an upgrade and the end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use crate::support::backend::{Backend, FullPort, RawBackend, RefusingPort, report, reporting};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{DEADLINE, wait_until};
use crate::tcp::{
    connect, echo, echoes, ended, is_reset, read_to_end, relaying, relaying_with, turned_away,
};

/// A server that says who it is.
fn named(name: &'static [u8]) -> RawBackend {
    RawBackend::start(move |connection| connection.stream.write_all(name))
}

/// Whom a new connection leads to.
fn who(proxy: &RunningProxy) -> String {
    let name = read_to_end(&mut connect(proxy.addr())).expect("a name");
    String::from_utf8(name).expect("text")
}

#[test]
fn a_server_that_refuses_is_passed_over() {
    let refusing = [RefusingPort::new(), RefusingPort::new()];
    let server = named(b"the one that is there");
    let addrs = [refusing[0].addr(), refusing[1].addr(), server.addr()];
    let proxy = relaying(&addrs).start();
    for _ in 0..6 {
        assert_eq!(who(&proxy), "the one that is there");
    }
    assert!(proxy.metric_with("lb_upstream_retries_total", "reason=\"connect\"") > 0);
    assert_eq!(ended(&proxy, "connect_failure"), 0);
}

#[test]
fn a_client_that_nobody_accepts_is_reset() {
    let refusing = RefusingPort::new();
    let proxy = relaying(&[refusing.addr()]).start();
    is_reset(turned_away(proxy.addr()));
    wait_until("it is counted", || ended(&proxy, "connect_failure") == 1);

    let full = FullPort::new();
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with("db", &[full.addr()], "timeouts = { connect = \"100ms\" }")
        .start();
    is_reset(turned_away(proxy.addr()));

    let none: [SocketAddr; 0] = [];
    let proxy = relaying(&none).start();
    is_reset(turned_away(proxy.addr()));
    wait_until("it is counted", || ended(&proxy, "no_server") == 1);
}

#[test]
fn further_tries_have_a_budget() {
    let refusing = [RefusingPort::new(), RefusingPort::new()];
    let proxy = relaying(&[refusing[0].addr(), refusing[1].addr()]).start();
    wait_until("it is spent", || {
        is_reset(turned_away(proxy.addr()));
        proxy.metric("lb_upstream_retries_denied_total") > 0
    });
    let tries = proxy.metric("lb_upstream_retries_total");
    assert!(tries < ended(&proxy, "connect_failure"), "{tries} tries");
}

#[test]
fn a_server_that_is_killed_leaves_its_connections_to_the_others() {
    let mut killed = Backend::start();
    let server = Backend::start();
    let proxy = relaying(&[killed.addr(), server.addr()]).start();
    let mut clients: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
    let names: Vec<_> = clients
        .iter_mut()
        .map(|client| client.get("/").expect("an answer"))
        .map(|answer| answer.headers.get("x-backend").map(str::to_owned))
        .collect();
    assert_ne!(names[0], names[1], "round robin");
    killed.kill_9();
    for _ in 0..4 {
        let answer = proxy.get("/");
        assert_eq!(answer.headers.get("x-backend"), Some(server.name()));
    }
}

#[test]
fn connections_are_load_for_as_long_as_they_last() {
    let servers = [echo(), echo()];
    let proxy = Proxy::new()
        .setting("workers = 1")
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with(
            "db",
            &[servers[0].addr(), servers[1].addr()],
            "strategy = \"least_connections\"\nmax_in_flight = 2\nqueue = { size = 1, timeout = \"10s\" }",
        )
        .start();
    let mut clients: Vec<_> = (0..4).map(|_| connect(proxy.addr())).collect();
    clients.iter_mut().for_each(|client| echoes(client, b"x"));
    assert_eq!([servers[0].connections(), servers[1].connections()], [2, 2]);
    // One waits, and one more has no room to.
    let mut waiting = connect(proxy.addr());
    wait_until("it waits", || proxy.metric("lb_upstream_queue_length") == 1);
    is_reset(turned_away(proxy.addr()));
    wait_until("it is counted", || ended(&proxy, "no_server") == 1);
    assert_eq!(proxy.metric("lb_upstream_shed_total"), 1);
    // That all are full is another matter.
    assert_eq!(proxy.metric("lb_upstream_no_server_total"), 0);
    clients.pop();
    echoes(&mut waiting, b"my turn");
}

#[test]
fn clients_stay_with_their_server_by_their_address() {
    let servers: Vec<_> = [&b"a"[..], b"b", b"c"].into_iter().map(named).collect();
    let addrs: Vec<_> = servers.iter().map(RawBackend::addr).collect();
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with("db", &addrs, "strategy = \"consistent_hash\"")
        .start();
    let first = who(&proxy);
    for _ in 0..10 {
        assert_eq!(who(&proxy), first);
    }
}

#[test]
fn an_address_has_its_number_of_connections() {
    let server = echo();
    let proxy = relaying_with(&[server.addr()], "max_connections_per_ip = 1").start();
    let mut first = connect(proxy.addr());
    echoes(&mut first, b"x");
    is_reset(turned_away(proxy.addr()));
    assert_eq!(proxy.metric("lb_address_limit_closed_total"), 1);
    drop(first);
    wait_until("the first is gone", || {
        proxy.metric("lb_connections_open") == 0
    });
    echoes(&mut connect(proxy.addr()), b"y");
}

#[test]
fn connections_outlive_a_reload_that_takes_their_server_away() {
    let (old, new) = (echo(), named(b"new"));
    let proxy = relaying(&[old.addr()]).start();
    let mut client = connect(proxy.addr());
    echoes(&mut client, b"before");
    proxy.change_to(&relaying(&[new.addr()]));
    echoes(&mut client, b"after");
    assert_eq!(who(&proxy), "new");
    // Even that of the listener.
    let other = Proxy::new()
        .setting("workers = 1")
        .unprobed("db", &[new.addr()]);
    proxy.change_to(&other);
    echoes(&mut client, b"and still");
    client.shutdown(Shutdown::Write).expect("open");
    assert_eq!(read_to_end(&mut client).expect("an end"), b"");
}

#[test]
fn connections_outlive_an_upgrade() {
    let server = echo();
    let mut proxy = relaying(&[server.addr()]).start();
    let mut client = connect(proxy.addr());
    echoes(&mut client, b"before");
    let successor = proxy.successor();
    successor.wait_for_line("took over");
    echoes(&mut client, b"after");
    echoes(&mut connect(proxy.addr()), b"to the successor");
    drop(client);
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn the_end_of_the_process_waits_for_connections_up_to_its_limit() {
    let server = echo();
    let mut proxy = relaying(&[server.addr()])
        .setting("drain_timeout = \"1s\"")
        .start();
    let mut client = connect(proxy.addr());
    echoes(&mut client, b"x");
    proxy.process().signal("TERM");
    proxy.process().wait_for_line("drain limit");
    assert!(read_to_end(&mut client).is_ok_and(|rest| rest.is_empty()));
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn what_is_on_its_way_at_the_drain_limit_is_not_taken_for_whole() {
    let (server, heard) = reporting(|connection| {
        let piece = [1; 16 * 1024];
        loop {
            if let Err(error) = connection.stream.write_all(&piece) {
                return Ok(error.kind());
            }
        }
    });
    let mut proxy = relaying(&[server.addr()])
        .setting("drain_timeout = \"1s\"")
        .start();
    let mut client = connect(proxy.addr());
    client.read_exact(&mut [0; 1000]).expect("it has begun");
    proxy.process().signal("TERM");
    let end = io::copy(&mut client, &mut io::sink());
    is_reset(end.map(|_| Vec::new()));
    assert_ne!(report(&heard), ErrorKind::WouldBlock, "it has heard of it");
    assert!(proxy.wait_exit(DEADLINE).success());
}
