//! The test programs `echo` and `throughput`: what they do, and that they notice what a load balancer must not do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::RawBackend;
use crate::support::client::Connection;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::tls::{self, Authority};
use crate::support::{DEADLINE, in_parallel};

const ECHO: &str = env!("CARGO_BIN_EXE_echo");
const THROUGHPUT: &str = env!("CARGO_BIN_EXE_throughput");

/// More than a run here takes on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// Offset in a stream, behind what client and server agree on, at which damage is done.
const SOMEWHERE: usize = 100_000;

/// A program that listens.
struct Server {
    process: Process,
    addr: SocketAddr,
}

impl Server {
    fn start(program: &str, args: &[&str]) -> Self {
        let args = [args, &["--listen", "127.0.0.1:0"]].concat();
        let process = Process::start(program, &args);
        let addr = process.wait_for("listening on", |line| {
            line.split_once(" listening on ")?.1.parse().ok()
        });
        Self { process, addr }
    }

    fn echo(args: &[&str]) -> Self {
        Self::start(ECHO, args)
    }

    fn throughput() -> Self {
        Self::start(THROUGHPUT, &["serve"])
    }

    /// Ends it, and gives its last line.
    fn end(mut self) -> String {
        self.process.signal("TERM");
        assert!(self.process.wait_exit(DEADLINE).success());
        let output = self.process.output();
        output.lines().last().unwrap_or_default().to_owned()
    }
}

/// Status and output of `throughput run`.
fn run(direct: SocketAddr, through: SocketAddr, more: &str) -> (Option<i32>, String) {
    let (direct, through) = (direct.to_string(), through.to_string());
    let mut args = vec!["run", "--direct", &direct, "--through", &through];
    args.extend(more.split_whitespace());
    let mut process = Process::start(THROUGHPUT, &args);
    let status = process.wait_exit(RUN_LIMIT);
    (status.code(), process.output())
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(DEADLINE)).expect("it is open");
    socket
}

#[test]
fn echo_sends_back_all_and_then_ends() {
    let echo = Server::echo(&[]);
    let mut client = Connection::open(echo.addr).unwrap();
    let sent = vec![b'x'; 1_000_000];
    thread::scope(|scope| {
        let mut sending = client.try_clone_stream().unwrap();
        scope.spawn({
            let sent = &sent;
            move || {
                sending.write_all(sent).unwrap();
                sending.shutdown(Shutdown::Write).unwrap();
            }
        });
        assert!(client.read_to_end().unwrap() == sent);
    });

    let socket = socket();
    for length in [0, 1, 60_000] {
        socket.send_to(&vec![b'y'; length], echo.addr).unwrap();
        let mut answer = vec![0; 65_535];
        let (got, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((got, from), (length, echo.addr));
        assert!(answer[..got].iter().all(|&byte| byte == b'y'));
    }
    assert_eq!(
        echo.end(),
        "echo ended: connections 1, broken 0, bytes 1000000, datagrams 3, datagram bytes 60001, dropped 0, \
         unfinished 0"
    );
}

#[test]
fn echo_ends_quiet_connections_in_order_when_it_ends() {
    let echo = Server::echo(&[]);
    let mut client = Connection::open(echo.addr).unwrap();
    client.send_raw("hello").unwrap();
    assert_eq!(client.read_exact(5).unwrap(), b"hello");
    echo.process.signal("TERM");
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert!(echo.end().ends_with("unfinished 0"));
}

#[test]
fn echo_waits_with_every_answer_but_not_one_after_the_other() {
    const DELAY: Duration = Duration::from_millis(300);
    let echo = Server::echo(&["--delay", "300"]);
    let begun = Instant::now();
    let datagrams = in_parallel(4, |number| {
        let socket = socket();
        let begun = Instant::now();
        socket.send_to(&[number as u8], echo.addr).unwrap();
        let mut answer = [0; 2];
        assert_eq!(socket.recv(&mut answer).unwrap(), 1);
        assert_eq!(answer[0], number as u8);
        begun.elapsed()
    });
    let together = begun.elapsed();
    assert!(datagrams.iter().all(|&took| took >= DELAY), "{datagrams:?}");
    assert!(together < 4 * DELAY, "{together:?}");

    let mut client = Connection::open(echo.addr).unwrap();
    let begun = Instant::now();
    client.send_raw("hello").unwrap();
    assert_eq!(client.read_exact(5).unwrap(), b"hello");
    assert!(begun.elapsed() >= DELAY);
}

#[test]
fn echo_speaks_tls() {
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let [cert, key] = [&files.cert, &files.key].map(|file| file.to_str().unwrap());
    let echo = Server::echo(&["--tls", cert, key]);

    let mut client = tls::connect(echo.addr, "localhost", &authority.anonymous()).unwrap();
    let sent = vec![b'x'; 100_000];
    client.send(&sent).unwrap();
    client.close().unwrap();
    assert!(client.read_to_end().unwrap() == sent);

    let mut plain = Connection::open(echo.addr).unwrap();
    plain.send_raw("no TLS at all").unwrap();
    let alert = plain.read_to_end().unwrap();
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");

    let counts = echo.end();
    assert!(
        counts.contains("connections 2, broken 1, bytes 100000,"),
        "{counts}"
    );
}

#[test]
fn throughput_measures_all_parts() {
    let server = Server::throughput();
    let pid = server.process.pid().to_string();
    let flags = format!("--mib 3 --requests 300 --connections 3 --rounds 2 --pid {pid}");
    let (status, output) = run(server.addr, server.addr, &flags);
    assert_eq!(status, Some(0), "{output}");
    let rows: Vec<_> = output.lines().map(|line| line.split('|').nth(1)).collect();
    let expected = [
        "what",
        "---",
        "up, MiB/s",
        "down, MiB/s",
        "both at once, MiB/s",
        "requests of 128 B, 1/s",
        "p50, µs",
        "p99, µs",
    ];
    assert_eq!(
        rows,
        expected
            .map(|row| Some(format!(" {row} ")))
            .each_ref()
            .map(Option::as_deref)
    );

    let (status, output) = run(
        server.addr,
        server.addr,
        "--udp --requests 300 --rounds 1 --size 1400",
    );
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains("datagrams of 1400 B, 1/s"), "{output}");
    server.end();
}

#[test]
fn throughput_fails_when_it_is_slower_than_it_may() {
    let server = Server::throughput();
    let flags = "--only requests --requests 100 --rounds 1 --at-least 1000";
    let (status, output) = run(server.addr, server.addr, flags);
    assert_eq!(status, Some(1), "{output}");
    assert!(
        output.contains("times as fast as directly, not 1000"),
        "{output}"
    );
}

#[test]
fn throughput_refuses_what_udp_cannot_do() {
    let nobody = socket().local_addr().unwrap();
    for (flags, complaint) in [
        ("--udp --only up", "there is no up over UDP"),
        ("--udp --size 65508", "a datagram has 65507 bytes at most"),
        (
            "--udp --size 8000 --connections 50",
            "may not fit into a socket's buffer",
        ),
    ] {
        let (status, output) = run(nobody, nobody, flags);
        assert_eq!(status, Some(2), "{output}");
        assert!(
            output.contains(complaint),
            "{complaint:?} is not in {output}"
        );
    }
}

/// Passes bytes on, except that one way they are damaged once, `SOMEWHERE`.
fn damaging(server: SocketAddr, way: &'static str, damage: fn(&mut Vec<u8>, usize)) -> RawBackend {
    RawBackend::start(move |connection| {
        let client = &connection.stream;
        let server = TcpStream::connect(server)?;
        server.set_read_timeout(Some(DEADLINE))?;
        let pass = |mut from: &TcpStream, mut to: &TcpStream, is_damaged: bool| {
            let mut passed = 0;
            let mut bytes = vec![0; 60_000];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                let mut now = bytes[..length].to_vec();
                if is_damaged && (passed..passed + length).contains(&SOMEWHERE) {
                    damage(&mut now, SOMEWHERE - passed);
                }
                passed += length;
                to.write_all(&now)?;
            }
            to.shutdown(Shutdown::Write)
        };
        thread::scope(|scope| {
            let down = scope.spawn(|| pass(&server, client, way == "down"));
            let up = pass(client, &server, way == "up");
            down.join().expect("passing does not panic").and(up)
        })
    })
}

#[test]
fn throughput_notices_every_kind_of_damage() {
    let server = Server::throughput();
    let change: fn(&mut Vec<u8>, usize) = |bytes, at| bytes[at] ^= 1;
    let lose: fn(&mut Vec<u8>, usize) = |bytes, at| _ = bytes.remove(at);
    let add: fn(&mut Vec<u8>, usize) = |bytes, at| bytes.insert(at, 0);
    for (way, damage, part, complaint) in [
        (
            "up",
            change,
            "up",
            "the bytes to the server are not those that were sent",
        ),
        (
            "up",
            lose,
            "up",
            "1048575 of 1048576 bytes arrived at the server",
        ),
        (
            "up",
            add,
            "both",
            "1048577 of 1048576 bytes arrived at the server",
        ),
        (
            "down",
            change,
            "down",
            "the bytes from the server are not those that were sent",
        ),
        (
            "down",
            lose,
            "down",
            "the end in the midst of the server's receipt: bytes are missing",
        ),
        (
            "down",
            add,
            "both",
            "more than the 1048576 bytes that were sent",
        ),
        ("up", change, "requests", "the answer to request"),
        ("down", change, "requests", "the answer to request"),
    ] {
        let relay = damaging(server.addr, way, damage);
        let flags =
            format!("--only {part} --mib 1 --connections 1 --requests 1000 --size 1000 --rounds 1");
        let (status, output) = run(server.addr, relay.addr(), &flags);
        assert_eq!(status, Some(1), "{output}");
        let complaint = format!(
            "{part}, through the load balancer ({}): connection 0: {complaint}",
            relay.addr()
        );
        assert!(
            output.contains(&complaint),
            "{complaint:?} is not in {output}"
        );
    }
}

#[test]
fn throughput_notices_connections_that_end_and_datagrams_that_do_not_come_back() {
    let server = Server::throughput();
    let closing = RawBackend::start(|connection| connection.read_until(b"transfer").map(drop));
    let (status, output) = run(
        server.addr,
        closing.addr(),
        "--mib 1 --rounds 1 --only down",
    );
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("down, through"), "{output}");

    let silent = socket();
    let flags = "--udp --requests 10 --rounds 1 --patience 1";
    let (status, output) = run(server.addr, silent.local_addr().unwrap(), flags);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("no answer to datagram 0"), "{output}");
}

#[test]
fn tcp_passes_as_it_is_sent() {
    let server = Server::throughput();
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"app\"")
        .unprobed("app", &[server.addr])
        .start();
    let flags = "--mib 4 --requests 500 --size 5000 --connections 5 --rounds 2";
    let (status, output) = run(server.addr, proxy.addr(), flags);
    assert_eq!(status, Some(0), "{output}");
}
