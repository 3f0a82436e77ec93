//! Listeners with `mode = "tcp"`: bytes are passed on as they are. `tcp_servers` has who gets them,
//! `passthrough` TLS that is passed on by name, `tcp_tls` TLS that ends or begins here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::backend::{RawBackend, report, reporting};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{DEADLINE, wait_until};

/// A proxy that passes connections on to these servers.
pub fn relaying(servers: &[SocketAddr]) -> Proxy {
    relaying_with(servers, "")
}

/// The same with keys of the listener.
pub fn relaying_with(servers: &[SocketAddr], listener: &str) -> Proxy {
    Proxy::new()
        .setting("workers = 1")
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .listener(listener)
        .unprobed("db", servers)
}

/// A client's connection, with deadlines.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("the proxy listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

/// A server that gives back what it gets, until it gets no more.
pub fn echo() -> RawBackend {
    RawBackend::start(|connection| {
        let mut buffer = [0; 4096];
        loop {
            match connection.stream.read(&mut buffer)? {
                0 => return connection.stream.shutdown(Shutdown::Write),
                length => connection.stream.write_all(&buffer[..length])?,
            }
        }
    })
}

pub fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all)
}

/// What the echo of this is.
#[track_caller]
pub fn echoes(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("sent");
    let mut echo = vec![0; bytes.len()];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(echo, bytes);
}

pub fn ended(proxy: &RunningProxy, reason: &str) -> u64 {
    let label = format!("reason=\"{reason}\"");
    proxy.metric_with("lb_tcp_connections_ended_total", &label)
}

/// What a client comes to that is turned away at once, maybe before it knows that it is connected.
pub fn turned_away(addr: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    read_to_end(&mut stream)
}

#[track_caller]
pub fn is_reset(result: io::Result<Vec<u8>>) {
    let error = result.expect_err("an end by a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bytes_pass_both_ways_and_each_direction_ends_by_itself() {
    let server = echo();
    let proxy = relaying(&[server.addr()]).start();
    let mut client = connect(proxy.addr());
    echoes(&mut client, b"\0\xffnot HTTP\r\n\r\n");
    echoes(&mut client, b"more");
    assert_eq!(proxy.metric("lb_connections_open"), 1);
    assert_eq!(proxy.metric("lb_server_in_flight"), 1);
    client.shutdown(Shutdown::Write).expect("open");
    assert_eq!(read_to_end(&mut client).expect("the end"), b"");
    wait_until("the end is counted", || ended(&proxy, "client") == 1);
    assert_eq!(proxy.metric("lb_connections_open"), 0);
    assert_eq!(proxy.metric("lb_server_in_flight"), 0);
    assert_eq!(proxy.metric("lb_connections_accepted_total"), 1);
    assert_eq!(proxy.metric("lb_bytes_received_total"), 18);
    assert_eq!(proxy.metric("lb_bytes_sent_total"), 18);
    assert_eq!(proxy.metric("lb_server_bytes_sent_total"), 18);
    assert_eq!(proxy.metric("lb_server_bytes_received_total"), 18);
    assert_eq!(proxy.metric("lb_server_connect_seconds_count"), 1);
}

#[test]
fn a_server_may_speak_first_and_end_first() {
    let (server, heard) = reporting(|connection| {
        connection.stream.write_all(b"220 hello\r\n")?;
        connection.stream.shutdown(Shutdown::Write)?;
        read_to_end(&mut connection.stream)
    });
    let proxy = relaying(&[server.addr()]).start();
    let mut client = connect(proxy.addr());
    assert_eq!(
        read_to_end(&mut client).expect("a greeting"),
        b"220 hello\r\n"
    );
    client
        .write_all(b"said after the server's end")
        .expect("sent");
    client.shutdown(Shutdown::Write).expect("open");
    assert_eq!(report(&heard), b"said after the server's end");
    wait_until("the end is counted", || ended(&proxy, "server") == 1);
}

#[test]
fn much_passes_both_ways_at_once() {
    const MUCH: usize = 64 << 20;
    let piece = |number: usize, seed: usize| {
        let byte = |index: usize| (index * 7 + number * 13 + seed) as u8;
        (0..64 * 1024).map(byte).collect::<Vec<u8>>()
    };
    let send = move |mut stream: TcpStream, seed: usize| -> io::Result<()> {
        for number in 0..MUCH / (64 * 1024) {
            stream.write_all(&piece(number, seed))?;
        }
        stream.shutdown(Shutdown::Write)
    };
    let takes = move |mut stream: TcpStream, seed: usize| -> io::Result<bool> {
        let mut read = vec![0; 64 * 1024];
        for number in 0..MUCH / (64 * 1024) {
            stream.read_exact(&mut read)?;
            if read != piece(number, seed) {
                return Ok(false);
            }
        }
        Ok(stream.read(&mut read)? == 0)
    };
    let both = move |stream: &TcpStream, own: usize, other: usize| {
        let writer = stream.try_clone()?;
        let reader = stream.try_clone()?;
        thread::scope(|scope| {
            let sent = scope.spawn(move || send(writer, own));
            let taken = takes(reader, other);
            sent.join().expect("no panic").and(taken)
        })
    };
    let (server, taken) = reporting(move |connection| both(&connection.stream, 1, 2));
    let proxy = relaying(&[server.addr()]).start();
    let client = connect(proxy.addr());
    assert!(both(&client, 2, 1).expect("the relay stands"));
    assert!(report(&taken));
    assert_eq!(proxy.metric("lb_bytes_sent_total"), MUCH as u64);
}

#[test]
fn a_slow_reader_slows_the_sender_and_fills_no_memory() {
    let server = RawBackend::start(|connection| {
        let piece = [1; 64 * 1024];
        loop {
            connection.stream.write_all(&piece)?;
        }
    });
    let proxy = relaying(&[server.addr()]).start();
    let before = proxy.process().rss_kib();
    let clients: Vec<_> = (0..8).map(|_| connect(proxy.addr())).collect();
    let moved = || proxy.metric("lb_server_bytes_received_total");
    let mut last = (moved(), Instant::now());
    // Nothing moves any more for a while: all that can be full is.
    wait_until("the server is stopped", || {
        let now = moved();
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(500)
    });
    let on_its_way = moved() - proxy.metric("lb_bytes_sent_total");
    assert!(on_its_way <= 8 * 256 * 1024, "{on_its_way} bytes are held");
    let grown = proxy.process().rss_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for 8 connections");
    // And goes on with a reader.
    let mut taken = vec![0; 20 << 20];
    (&clients[0])
        .read_exact(&mut taken)
        .expect("all that is asked for");
}

#[test]
fn what_breaks_on_one_side_breaks_on_the_other() {
    let server = RawBackend::start(|connection| {
        connection.stream.read_exact(&mut [0])?; // or the reset may be there before the connection is
        connection.stream.write_all(b"half of")?;
        SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO))
    });
    let proxy = relaying(&[server.addr()]).start();
    let mut client = connect(proxy.addr());
    client.write_all(b"?").expect("open");
    is_reset(read_to_end(&mut client));
    wait_until("it is counted", || ended(&proxy, "server_reset") == 1);

    let (server, heard) = reporting(|connection| {
        connection.stream.write_all(b"!")?;
        Ok(read_to_end(&mut connection.stream))
    });
    let proxy = relaying(&[server.addr()]).start();
    let mut client = connect(proxy.addr());
    client.read_exact(&mut [0]).expect("connected");
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    drop(client);
    is_reset(report(&heard));
    wait_until("it is counted", || ended(&proxy, "client_reset") == 1);
}

#[test]
fn what_is_idle_is_closed_and_what_moves_is_not() {
    let server = echo();
    let timeouts = "timeouts = { idle = \"2s\", half_closed = \"300ms\" }";
    let proxy = relaying_with(&[server.addr()], timeouts).start();
    let mut client = connect(proxy.addr());
    let began = Instant::now();
    let mut last = began;
    while began.elapsed() < Duration::from_millis(2500) {
        last = Instant::now();
        echoes(&mut client, b"x");
        thread::sleep(Duration::from_millis(100)); // the pace of the client
    }
    assert_eq!(read_to_end(&mut client).expect("an end"), b"");
    assert!(last.elapsed() >= Duration::from_secs(2));
    wait_until("it is counted", || ended(&proxy, "idle") == 1);

    // After one side's end there is less patience.
    let silent = RawBackend::start(|connection| {
        read_to_end(&mut connection.stream)?;
        thread::park_timeout(DEADLINE);
        Ok(())
    });
    let proxy = relaying_with(&[silent.addr()], "timeouts = { half_closed = \"300ms\" }").start();
    let mut client = connect(proxy.addr());
    client.shutdown(Shutdown::Write).expect("open");
    // Who has said all waits for the server's end, and this is none.
    is_reset(read_to_end(&mut client));
    wait_until("it is counted", || ended(&proxy, "idle") == 1);
}

#[test]
fn a_client_that_breaks_is_noticed_though_its_server_takes_nothing() {
    let (server, heard) = reporting(|connection| {
        connection.stream.write_all(b"!")?;
        thread::park_timeout(6 * DEADLINE); // longer than this test takes
        Ok(())
    });
    let proxy = relaying(&[server.addr()]).start();
    let mut client = connect(proxy.addr());
    client.read_exact(&mut [0]).expect("connected");
    client.set_nonblocking(true).expect("a socket");
    let mut last = (0, 0);
    wait_until("bytes are held that nobody takes", || {
        let room = client.write(&[7; 256 * 1024]);
        let sent = proxy.metric("lb_server_bytes_sent_total");
        let moved = (sent, proxy.metric("lb_bytes_received_total"));
        let stands = room.is_err() && moved == std::mem::replace(&mut last, moved);
        stands && moved.1 > moved.0
    });
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    drop(client);
    wait_until("it is noticed", || ended(&proxy, "client_reset") == 1);
    assert!(heard.try_recv().is_err(), "the server has not moved");
}
