//! Connections that are passed on by the name that a client asks for, and with PROXY headers. `tcp_tls` has those whose TLS
//! ends or begins here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::proxy_protocol::{LINE, requiring};
use crate::support::backend::{Backend, report, reporting};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::{self, Authority, Files};
use crate::support::wait_until;
use crate::tcp::{connect, echo, read_to_end};

/// A server of HTTPS with a certificate of its own.
pub struct Site {
    proxy: RunningProxy,
    _backend: Backend,
}

impl Site {
    pub fn start(files: &Files) -> Self {
        let backend = Backend::start();
        let keys = format!("tls = {{ certificates = [{}] }}", files.entry());
        let proxy = Proxy::new()
            .listener(&keys)
            .unprobed("app", &[backend.addr()])
            .start();
        Self {
            proxy,
            _backend: backend,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }
}

/// A TCP listener that passes on by name, with these keys, before servers `one` and `two`.
fn sorting(keys: &str, one: SocketAddr, two: SocketAddr) -> Proxy {
    Proxy::new()
        .setting("workers = 1")
        .listener("mode = \"tcp\"")
        .listener(keys)
        .unprobed("one", &[one])
        .unprobed("two", &[two])
}

/// An answer over TLS from who shows that it is `name`.
fn ask(addr: SocketAddr, name: &str, client: &ClientConfig) -> String {
    let mut connection = tls::connect(addr, name, client).expect("a handshake");
    connection.ask("/", "").expect("an answer")
}

/// A ClientHello for this name, with this much more in it.
fn hello(name: &str, padding: usize) -> Vec<u8> {
    fn sized(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).expect("it is short");
        [&length.to_be_bytes()[..], bytes].concat()
    }
    let asked = [&[0][..], &sized(name.as_bytes())].concat();
    let extensions = [
        &[0, 0][..],
        &sized(&sized(&asked)),
        &[0, 21],
        &sized(&vec![0; padding]),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(&[0x13, 1]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("it is short");
    let message = [&[1][..], &length.to_be_bytes()[1..], &body].concat();
    let record = |part: &[u8]| [&[22, 3, 1][..], &sized(part)].concat();
    message.chunks(16 * 1024).flat_map(record).collect()
}

fn bad_hellos(proxy: &RunningProxy) -> u64 {
    proxy.metric_with("lb_tcp_connections_ended_total", "reason=\"bad_hello\"")
}

#[test]
fn each_name_leads_to_its_server_which_proves_who_it_is() {
    let authority = Authority::new();
    let one = Site::start(&authority.issue(&["a.example", "b.a.example"]));
    let two = Site::start(&authority.issue_as("two", &["c.b.example", "other.example"]));
    let table =
        "sni = { \"a.example\" = \"one\", \"*.b.example\" = \"two\", \"*.example\" = \"one\" }";
    let proxy = sorting(table, one.addr(), two.addr())
        .extra("[access_log]\nformat = \"json\"")
        .start();
    let client = authority.anonymous();
    for name in ["a.example", "c.b.example", "b.a.example"] {
        assert!(
            ask(proxy.addr(), name, &client).starts_with("HTTP/1.1 200"),
            "{name}"
        );
    }
    // What is nobody's is closed here, or goes to the others.
    let refused = tls::connect(proxy.addr(), "elsewhere.test", &client);
    let error = refused.err().expect("nobody takes it").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let counted = || proxy.metric_with("lb_tcp_connections_ended_total", "reason=\"no_route\"");
    wait_until("it is counted", || counted() == 1);
    let line = proxy.process().wait_for_line("\"no_route\"");
    assert!(line.contains("\"name\":\"elsewhere.test\""), "{line}");
    let table = format!("{table}\nupstream = \"two\"");
    proxy.change_to(&sorting(
        &table.replace("\"*.example\" = \"one\"", ""),
        one.addr(),
        two.addr(),
    ));
    assert!(ask(proxy.addr(), "other.example", &client).starts_with("HTTP/1.1 200"));
}

#[test]
fn protocols_come_before_names() {
    let authority = Authority::new();
    let site = Site::start(&authority.issue(&["a.example"]));
    let (challenge, heard) = reporting(|connection| connection.read_until(b"acme-tls/1"));
    let keys = "sni = { \"a.example\" = \"one\" }\nalpn = { \"acme-tls/1\" = \"two\" }";
    let proxy = sorting(keys, site.addr(), challenge.addr()).start();
    let mut client = authority.anonymous();
    assert!(ask(proxy.addr(), "a.example", &client).starts_with("HTTP/1.1 200"));
    client.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    assert!(tls::connect(proxy.addr(), "a.example", &client).is_err());
    assert_eq!(report(&heard)[0], 22, "the hello, from its first byte");
}

#[test]
fn a_hello_arrives_as_it_was_sent_in_whatever_pieces_it_came() {
    let (server, heard) = reporting(|connection| read_to_end(&mut connection.stream));
    let proxy = sorting(
        "sni = { \"a.example\" = \"one\" }",
        server.addr(),
        server.addr(),
    )
    .start();
    let short = [hello("a.example", 0), b"and what follows".to_vec()].concat();
    let mut client = connect(proxy.addr());
    for byte in &short {
        client.write_all(&[*byte]).expect("sent");
        thread::yield_now();
    }
    client.shutdown(Shutdown::Write).expect("open");
    assert_eq!(report(&heard), short);
    // The longest that there may be.
    let long = hello("a.example", 65_400);
    assert!((65_400..65_536).contains(&long.len()), "{}", long.len());
    let mut client = connect(proxy.addr());
    client.write_all(&long).expect("sent");
    client.shutdown(Shutdown::Write).expect("open");
    assert!(report(&heard) == long);
    assert_eq!(
        proxy.metric("lb_bytes_received_total"),
        (short.len() + long.len()) as u64
    );
}

#[test]
fn what_is_no_hello_is_closed_and_counted() {
    let server = echo();
    let keys = "sni = { \"a.example\" = \"one\" }\nupstream = \"two\"\ntimeouts = { tls_handshake = \"300ms\" }";
    let proxy = sorting(keys, server.addr(), server.addr()).start();
    let mut malformed = hello("a.example", 0);
    malformed[43] = 0xff;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0", &malformed] {
        let mut client = connect(proxy.addr());
        client.write_all(bytes).expect("sent");
        match read_to_end(&mut client) {
            Ok(rest) => assert_eq!(rest, b""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    wait_until("they are counted", || bad_hellos(&proxy) == 3);
    // One that does not come is waited for, and not for ever.
    let began = Instant::now();
    let mut client = connect(proxy.addr());
    client
        .write_all(&hello("a.example", 0)[..20])
        .expect("sent");
    assert!(read_to_end(&mut client).is_ok_and(|rest| rest.is_empty()));
    assert!(began.elapsed() >= Duration::from_millis(300));
    wait_until("it is counted", || bad_hellos(&proxy) == 4);
    assert_eq!(server.connections(), 0);
    // Who only looks whether the port is open does no wrong.
    drop(connect(proxy.addr()));
    wait_until("it has gone", || proxy.metric("lb_connections_open") == 0);
    assert_eq!(bad_hellos(&proxy), 4);
}

#[test]
fn one_port_passes_some_names_on_and_ends_the_others() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let own = authority.issue(&["own.example"]);
    let site = Site::start(&authority.issue(&["passed.example"]));
    let keys = format!(
        "tls = {{ certificates = [{}] }}\nsni = {{ \"passed.example\" = \"site\" }}",
        own.entry()
    );
    let proxy = Proxy::new()
        .setting("workers = 1")
        .listener(&keys)
        .unprobed("app", &[backend.addr()])
        .unprobed("site", &[site.addr()])
        .extra("[[routes]]\nupstream = \"app\"")
        .start();
    let mut client = authority.anonymous();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut passed = tls::connect(proxy.addr(), "passed.example", &client).expect("a handshake");
    assert_eq!(passed.protocol().as_deref(), Some("h2"));
    let ended = tls::connect(proxy.addr(), "own.example", &client).expect("a handshake");
    assert_eq!(ended.protocol().as_deref(), Some("h2"));
    assert_ne!(passed.certificate(), ended.certificate());
    client.alpn_protocols.clear();
    for name in ["passed.example", "own.example"] {
        let answer = ask(proxy.addr(), name, &client);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(proxy.metric("lb_tls_handshakes_total"), 2);
    assert_eq!(proxy.metric("lb_requests_total"), 1);
    // HTTP without TLS is told so, as ever.
    let mut plain = connect(proxy.addr());
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("sent");
    let answer = read_to_end(&mut plain).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 400"));
    // And a reload leaves what is passed on alone.
    let other = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[backend.addr()]);
    proxy.change_to(&other);
    passed
        .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .expect("sent");
    assert!(passed.read_exact(9).is_ok(), "the server's settings");
}

#[test]
fn where_tls_ends_a_hello_that_comes_too_late_is_a_failed_handshake() {
    let (authority, server) = (Authority::new(), echo());
    let keys = format!(
        "tls = {{ certificates = [{}] }}\nsni = {{ \"a.example\" = \"one\" }}\nupstream = \"two\"\n\
         timeouts = {{ tls_handshake = \"300ms\" }}",
        authority.issue(&["own.example"]).entry()
    );
    let proxy = sorting(&keys, server.addr(), server.addr()).start();
    let mut client = connect(proxy.addr());
    client
        .write_all(&hello("a.example", 0)[..20])
        .expect("sent");
    assert!(read_to_end(&mut client).is_ok_and(|rest| rest.is_empty()));
    wait_until("it is counted", || {
        proxy.metric("lb_tls_failures_total") == 1
    });
    assert_eq!(bad_hellos(&proxy), 0);
    // One that comes, and cannot be accepted, is told so.
    let mut client = connect(proxy.addr());
    client
        .write_all(&hello("elsewhere.example", 0))
        .expect("sent");
    let answer = read_to_end(&mut client).expect("an alert, and the end");
    assert_eq!(answer.first(), Some(&21));
    wait_until("it is counted", || {
        proxy.metric("lb_tls_failures_total") == 2
    });
}

#[test]
fn proxy_headers_come_in_and_go_out() {
    let (server, heard) = reporting(|connection| {
        let line = connection.read_until(b"\r\n")?;
        connection.stream.write_all(b"hello ")?;
        let mut said = [0; 4];
        connection.stream.read_exact(&mut said)?;
        connection.stream.write_all(&said)?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    });
    let announcing = |proxy: Proxy| {
        proxy
            .listener("mode = \"tcp\"\nupstream = \"db\"")
            .unprobed_with("db", &[server.addr()], "proxy_protocol = \"v1\"")
            .start()
    };
    let talk = |proxy: &RunningProxy, header: &[u8]| {
        let mut client = connect(proxy.addr());
        client.write_all(&[header, b"text"].concat()).expect("sent");
        let all = read_to_end(&mut client).expect("an answer");
        assert_eq!(all, b"hello text");
        (report(&heard), client.local_addr().expect("connected"))
    };
    // It says who the client is,
    let proxy = announcing(Proxy::new());
    let (line, client) = talk(&proxy, b"");
    let (from, to) = (client.port(), proxy.addr().port());
    assert_eq!(
        line,
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n")
    );
    // by the word of who is trusted.
    let proxy = announcing(requiring());
    let (line, _) = talk(&proxy, LINE);
    assert_eq!(line.as_bytes(), LINE);
    // Without one there is no connection.
    let mut client = connect(proxy.addr());
    client.write_all(b"no header at all\r\n").expect("sent");
    match read_to_end(&mut client) {
        Ok(rest) => assert_eq!(rest, b""),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(proxy.metric("lb_proxy_header_failures_total"), 1);
}

#[test]
fn a_header_comes_before_a_hello_on_both_sides() {
    let bytes = hello("a.example", 100);
    let length = bytes.len();
    let (server, heard) = reporting(move |connection| {
        let mut all = vec![0; LINE.len() + length];
        connection.stream.read_exact(&mut all)?;
        Ok(all)
    });
    let proxy = requiring()
        .listener("mode = \"tcp\"\nsni = { \"a.example\" = \"db\" }")
        .unprobed_with("db", &[server.addr()], "proxy_protocol = \"v1\"")
        .start();
    let mut client = connect(proxy.addr());
    client.write_all(&[LINE, &bytes].concat()).expect("sent");
    assert!(report(&heard) == [LINE, &bytes].concat());
}
