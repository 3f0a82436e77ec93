//! The PROXY protocol, versions 1 and 2, towards servers: which client a connection is for, and that it is for no other.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use crate::proxy_protocol::{LINE, binary, requiring};
use crate::support::backend::{RawBackend, report, reporting};
use crate::support::client::Connection;
use crate::support::http2::{self, exchange, get, runtime};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::Authority;
use crate::support::{DEADLINE, wait_until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that reports the line that each connection begins with, and answers what follows.
fn hearing() -> (RawBackend, Receiver<String>) {
    let (send, lines) = std::sync::mpsc::channel();
    let backend = RawBackend::start(move |connection| {
        let line = connection.read_until(b"\r\n")?;
        // A test that does not look any more has ended.
        let _ = send.send(String::from_utf8_lossy(&line).into_owned());
        while connection.read_head().is_ok() {
            connection.stream.write_all(OK)?;
        }
        Ok(())
    });
    (backend, lines)
}

fn address(connection: &Connection) -> SocketAddr {
    let stream = connection.try_clone_stream().expect("a handle");
    stream.local_addr().expect("it is connected")
}

fn announcing(server: &RawBackend, keys: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed_with("app", &[server.addr()], keys)
        .start()
}

#[test]
fn servers_hear_of_each_clients_connection_and_serve_no_other_over_theirs() {
    let (server, lines) = hearing();
    let proxy = announcing(&server, "proxy_protocol = \"v1\"");
    let mut clients = [proxy.connect(), proxy.connect()];
    for round in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").expect("an answer").text(), "ok");
            if round == 0 {
                let (ours, theirs) = (address(client), proxy.addr());
                let line = format!(
                    "PROXY TCP4 {} {} {} {}\r\n",
                    ours.ip(),
                    theirs.ip(),
                    ours.port(),
                    theirs.port()
                );
                assert_eq!(report(&lines), line);
            }
        }
    }
    assert_eq!(server.connections(), 2);
    let mut third = proxy.connect();
    assert_eq!(third.get("/").expect("an answer").text(), "ok");
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_servers_connection_ends_with_its_client() {
    for way in ["at once", "parked"] {
        let (server, ends) = reporting(|connection| {
            connection.read_until(b"\r\n")?;
            connection.read_head()?;
            connection.stream.write_all(OK)?;
            connection.stream.read(&mut [0])
        });
        let proxy = announcing(&server, "proxy_protocol = \"v1\"");
        let mut client = proxy.connect();
        assert_eq!(client.get("/").expect("an answer").text(), "ok");
        if way == "parked" {
            wait_until("it is parked", || {
                proxy.metric("lb_connections_parked") == 1
            });
            assert!(ends.try_recv().is_err(), "it is kept for the client");
        }
        drop(client);
        let start = Instant::now();
        assert_eq!(report(&ends), 0, "{way}");
        // Not by `pool_idle`, which is 30 s.
        assert!(start.elapsed() < DEADLINE, "{way}");
    }
}

#[test]
fn version_2_says_the_same() {
    let (server, headers) = reporting(|connection| {
        let mut header = [0; 28];
        connection.stream.read_exact(&mut header)?;
        connection.read_head()?;
        connection.stream.write_all(OK)?;
        Ok(header)
    });
    let proxy = announcing(&server, "proxy_protocol = \"v2\"");
    let mut client = proxy.connect();
    assert_eq!(client.get("/").expect("an answer").text(), "ok");
    let ports = [address(&client).port(), proxy.addr().port()].map(u16::to_be_bytes);
    let block = [&[127, 0, 0, 1, 127, 0, 0, 1][..], &ports.concat()].concat();
    assert_eq!(report(&headers)[..], binary(0x21, 0x11, &block));
}

/// A proxy that announces its clients to another one, before a server that hears what that one says.
struct Chain {
    _server: RawBackend,
    lines: Receiver<String>,
    second: RunningProxy,
    first: RunningProxy,
}

impl Chain {
    /// With these keys of the second one's listener and of the first one's upstream.
    fn start(listener: &str, upstream: &str) -> Self {
        let (server, lines) = hearing();
        let second = requiring()
            .listener(listener)
            .unprobed_with("app", &[server.addr()], "proxy_protocol = \"v1\"")
            .start();
        let address = format!("localhost:{}", second.addr().port());
        let first = requiring()
            .unprobed_with("app", &[address], upstream)
            .start();
        Self {
            _server: server,
            lines,
            second,
            first,
        }
    }

    /// Connects as this client, and sends so many requests.
    fn ask(&self, line: &str, requests: usize) -> Connection {
        let mut client = self.first.connect();
        client.send_raw(line).expect("sent");
        for _ in 0..requests {
            assert_eq!(client.get("/").expect("an answer").text(), "ok");
        }
        client
    }
}

#[test]
fn a_chain_of_proxies_keeps_who_is_connected_to_whom() {
    let authority = Authority::new();
    let entry = authority.issue(&["localhost"]).entry();
    let tls = format!("tls = {{ certificates = [{entry}] }}");
    let ca = authority.ca();
    for (listener, upstream) in [
        ("", "proxy_protocol = \"v1\"".to_owned()),
        (
            "",
            "proxy_protocol = \"v2\"\nprotocol = \"http2\"".to_owned(),
        ),
        (
            tls.as_str(),
            format!("proxy_protocol = \"v2\"\ntls = {{ ca = {ca:?} }}"),
        ),
        (
            tls.as_str(),
            format!("proxy_protocol = \"v1\"\nprotocol = \"auto\"\ntls = {{ ca = {ca:?} }}"),
        ),
    ] {
        let chain = Chain::start(listener, &upstream);
        let lines = [
            "PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n",
            "PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n",
        ];
        let clients = lines.map(|line| chain.ask(line, 3));
        for line in lines {
            assert_eq!(report(&chain.lines), line, "{upstream}");
        }
        let connections = chain.first.metric("lb_server_connects_total");
        assert_eq!(connections, 2, "{upstream}");
        drop(clients);
        wait_until("their connections have gone too", || {
            chain.second.metric("lb_connections_open") == 0
        });
    }
}

#[test]
fn streams_of_one_client_share_its_connection_of_http_2() {
    let chain = Chain::start("", "proxy_protocol = \"v2\"\nprotocol = \"http2\"");
    runtime().block_on(async {
        let mut tcp = tokio::net::TcpStream::connect(chain.first.addr())
            .await
            .expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut tcp, LINE)
            .await
            .expect("sent");
        let client = http2::connect_over(tcp).await;
        let ask = || exchange(&client, get("/"), b"");
        for _ in 0..3 {
            let answers = tokio::join!(ask(), ask(), ask(), ask());
            let (first, second, third, fourth) = answers;
            for answer in [first, second, third, fourth] {
                assert_eq!(answer.expect("an answer").body, b"ok");
            }
        }
    });
    assert_eq!(report(&chain.lines).as_bytes(), LINE);
    assert_eq!(chain.first.metric("lb_server_connects_total"), 1);
    assert_eq!(chain.second.metric("lb_connections_accepted_total"), 1);
}
