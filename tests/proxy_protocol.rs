//! The PROXY protocol, versions 1 and 2, from a proxy in front. `proxy_protocol_servers` has the other side.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::{Connection, message};
use crate::support::http2::{self, exchange, get, runtime};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::temp_dir::TempDir;
use crate::support::tls::{Authority, connect_over};
use crate::support::{DEADLINE, wait_until};

/// A line of version 1, and whom it says the client is.
pub const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n";
const CLIENT: &str = "192.0.2.7";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2: the command with its version, the family with its transport, and what they are of.
pub fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("it is short");
    let fixed = [&[command, family][..], &length.to_be_bytes()].concat();
    [SIGNATURE, &fixed, block].concat()
}

/// A proxy that takes PROXY headers from this machine, before a server.
pub fn requiring() -> Proxy {
    Proxy::new()
        .setting("workers = 1\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .listener("proxy_protocol = \"required\"")
}

fn before(backend: &Backend) -> RunningProxy {
    requiring().unprobed("app", &[backend.addr()]).start()
}

/// What the server sees of a request behind this header.
fn seen(proxy: &RunningProxy, header: &[u8], fields: &[(&str, &str)]) -> Value {
    let mut client = proxy.connect();
    let request = message("GET", "/headers", fields, b"");
    let answer = client.request([header, &request].concat());
    answer.expect("an answer").json()["headers"].take()
}

/// Waits for the end of a connection without a word.
#[track_caller]
fn ends_silently(client: &mut Connection) {
    match client.read_to_end() {
        Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), ""),
        // What was sent and not read makes an end a reset.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn the_client_is_who_the_header_says() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let v6 = "2001:db8::7"
        .parse::<std::net::Ipv6Addr>()
        .expect("an address");
    let block_4 = [192, 0, 2, 7, 198, 51, 100, 1, 16, 225, 1, 187];
    let block_6 = [&v6.octets()[..], &v6.octets(), &[16, 225, 1, 187]].concat();
    // A NOOP and a type that is nobody's.
    let extended = [&block_4[..], &[4, 0, 1, 9], &[0xe9, 0, 2, 1, 2]].concat();
    for (header, client) in [
        (LINE.to_vec(), CLIENT),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4321 443\r\n".to_vec(),
            "2001:db8::7",
        ),
        (binary(0x21, 0x11, &block_4), CLIENT),
        (binary(0x21, 0x21, &block_6), "2001:db8::7"),
        (binary(0x21, 0x11, &extended), CLIENT),
    ] {
        let shown = String::from_utf8_lossy(&header).into_owned();
        // It comes from the client, who is no proxy.
        let fields = seen(&proxy, &header, &[("x-forwarded-for", "203.0.113.9")]);
        assert_eq!(fields["x-forwarded-for"][0], client, "{shown:?}");
    }
    // These say nothing of a client, so its address is the sender's. Only one that speaks for itself is believed in its
    // fields too: anybody may be behind another.
    let own = "203.0.113.9, 127.0.0.1";
    for (header, list) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (
            b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 4321 443\r\n".to_vec(),
            "127.0.0.1",
        ),
        (binary(0x21, 0, &[]), "127.0.0.1"),
        (binary(0x21, 0x12, &block_4), "127.0.0.1"),
        (binary(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
        (binary(0x20, 0, &[]), own),
        (binary(0x20, 0x11, &block_4), own),
    ] {
        let shown = String::from_utf8_lossy(&header).into_owned();
        let fields = seen(&proxy, &header, &[]);
        assert_eq!(fields["x-forwarded-for"][0], "127.0.0.1", "{shown:?}");
        let claim = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-real-ip", "203.0.113.9"),
        ];
        let fields = seen(&proxy, &header, &claim);
        assert_eq!(fields["x-forwarded-for"][0], list, "{shown:?}");
        assert_eq!(fields["x-real-ip"].is_null(), list != own, "{shown:?}");
    }
    assert_eq!(proxy.metric("lb_proxy_header_failures_total"), 0);
}

#[test]
fn a_header_may_come_byte_by_byte_and_counts_for_all_requests() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let block = [192, 0, 2, 7, 198, 51, 100, 1, 16, 225, 1, 187];
    for header in [LINE.to_vec(), binary(0x21, 0x11, &block)] {
        let mut client = proxy.connect();
        for byte in header {
            client.send_raw([byte]).expect("sent");
            std::thread::yield_now();
        }
        for _ in 0..3 {
            let answer = client.get("/headers").expect("an answer");
            assert_eq!(answer.json()["headers"]["x-forwarded-for"][0], CLIENT);
        }
        // Another one is no request.
        client.send_raw(LINE).expect("sent");
        let answer = client.read_response(false).expect("an answer");
        assert_eq!(answer.status, 400);
    }
}

#[test]
fn who_is_parked_is_still_the_same() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let mut client = proxy.connect();
    client.send_raw(LINE).expect("sent");
    for _ in 0..2 {
        let answer = client.get("/headers").expect("an answer");
        assert_eq!(answer.json()["headers"]["x-forwarded-for"][0], CLIENT);
        wait_until("it is parked", || {
            proxy.metric("lb_connections_parked") == 1
        });
    }
}

#[test]
fn http_2_and_tls_come_behind_the_header() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let entry = authority.issue(&["localhost"]).entry();
    let proxy = requiring()
        .listener(&format!("tls = {{ certificates = [{entry}] }}"))
        .unprobed("app", &[backend.addr()])
        .start();
    let mut tcp = TcpStream::connect(proxy.addr()).expect("a connection");
    tcp.write_all(LINE).expect("sent");
    let mut client = connect_over(tcp, "localhost", &authority.anonymous()).expect("a handshake");
    let answer = client.ask("/headers", "").expect("an answer");
    let field = format!("\"x-forwarded-for\":[{CLIENT:?}]");
    assert!(answer.contains(&field), "{answer}");
    assert!(
        answer.contains("\"x-forwarded-proto\":[\"https\"]"),
        "{answer}"
    );

    // Not behind the ClientHello, and not within TLS.
    let tcp = TcpStream::connect(proxy.addr()).expect("a connection");
    let refused = connect_over(tcp, "localhost", &authority.anonymous());
    assert!(refused.is_err());
    assert_eq!(proxy.metric("lb_proxy_header_failures_total"), 1);

    let plain = before(&backend);
    runtime().block_on(async {
        let mut tcp = tokio::net::TcpStream::connect(plain.addr())
            .await
            .expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut tcp, LINE)
            .await
            .expect("sent");
        let client = http2::connect_over(tcp).await;
        let answer = exchange(&client, get("/headers"), b"")
            .await
            .expect("an answer");
        assert_eq!(answer.json()["headers"]["x-forwarded-for"][0], CLIENT);
    });
}

#[test]
fn the_log_and_the_limits_know_the_client_of_the_header() {
    let (directory, backend) = (TempDir::new(), Backend::start());
    let path = directory.path().join("access.log");
    let proxy = requiring()
        .listener("max_connections_per_ip = 1")
        .unprobed("app", &[backend.addr()])
        .extra(&format!("[access_log]\npath = {path:?}"))
        .extra("[rate_limit]\nrequests = 2\nwindow = \"10m\"")
        .start();
    let header = |client: &str| format!("PROXY TCP4 {client} 198.51.100.1 4321 443\r\n");
    let open = |client: &str| {
        let mut connection = proxy.connect();
        connection.send_raw(header(client)).expect("sent");
        connection
    };
    let mut first = open("192.0.2.7");
    let statuses = [(); 3].map(|()| first.get("/").expect("an answer").status);
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(open("192.0.2.8").get("/").expect("an answer").status, 200);

    // The first one's place is taken.
    ends_silently(&mut open("192.0.2.7"));
    assert_eq!(proxy.metric("lb_address_limit_closed_total"), 1);
    drop(first);
    wait_until("its place is free", || {
        let answer = open("192.0.2.7").get("/");
        answer.is_ok_and(|answer| answer.status == 429)
    });

    wait_until("the log is written", || {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let of = |client: &str| log.matches(&format!("\"client\":{client:?}")).count();
        assert_eq!(of("127.0.0.1"), 0);
        of("192.0.2.7") >= 4 && of("192.0.2.8") == 1
    });
}

#[test]
fn nobody_else_is_believed() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .setting("trusted_proxies = [\"192.0.2.0/24\"]")
        .listener("proxy_protocol = \"required\"")
        .unprobed("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    let request = message("GET", "/", &[], b"");
    client.send_raw([LINE, &request].concat()).expect("sent");
    ends_silently(&mut client);
    assert_eq!(proxy.metric("lb_proxy_header_failures_total"), 1);
}

#[test]
fn what_is_no_header_ends_the_connection() {
    let backend = Backend::start();
    let proxy = before(&backend);
    let request = message("GET", "/", &[], b"");
    let wrong: [&[u8]; 6] = [
        &request,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4321\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 4321 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\n",
        &binary(0x31, 0x11, &[0; 12]),
        &binary(0x21, 0x11, &[0; 11]),
    ];
    for (number, header) in wrong.into_iter().enumerate() {
        let mut client = proxy.connect();
        client.send_raw([header, &request].concat()).expect("sent");
        ends_silently(&mut client);
        let failures = proxy.metric("lb_proxy_header_failures_total");
        assert_eq!(failures, number as u64 + 1, "{header:?}");
    }
}

#[test]
fn a_header_that_does_not_come_to_its_end_is_not_waited_for() {
    let limit = Duration::from_millis(300);
    let backend = Backend::start();
    let authority = Authority::new();
    let entry = authority.issue(&["localhost"]).entry();
    for tls in [
        String::new(),
        format!("tls = {{ certificates = [{entry}] }}"),
    ] {
        let proxy = requiring()
            .listener("timeouts = { tls_handshake = \"300ms\" }")
            .listener(&tls)
            .unprobed("app", &[backend.addr()])
            .start();
        for begun in [&b""[..], b"PROXY TCP4 ", &SIGNATURE[..5]] {
            let start = Instant::now();
            let mut client = proxy.connect();
            client.send_raw(begun).expect("sent");
            ends_silently(&mut client);
            let elapsed = start.elapsed();
            assert!(
                (limit..DEADLINE / 2).contains(&elapsed),
                "{tls}: {elapsed:?}"
            );
        }
        assert_eq!(proxy.metric("lb_proxy_header_failures_total"), 2);
    }
}

#[test]
fn a_listener_that_wants_no_header_refuses_it() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .setting("trusted_proxies = [\"127.0.0.0/8\"]")
        .unprobed("app", &[backend.addr()])
        .start();
    let request = message("GET", "/", &[], b"");
    for header in [LINE.to_vec(), binary(0x20, 0, &[])] {
        proxy.refuses([&header[..], &request].concat(), 400);
    }
}
