//! Clients' connections while configurations change: they live on, and their next request finds the new one.

use std::io::{Read, Write};

use crate::reload::saying;
use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{Connection, message};
use crate::support::frames::*;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::{self, Authority, Files};
use crate::support::wait_until;

/// A configuration that forwards, at this path, and lets tell itself from others.
fn forwarding(server: &RawBackend, word: &str) -> Proxy {
    Proxy::new()
        .setting("workers = 1\nwatch_config = false")
        .unprobed("app", &[server.addr()])
        .extra(&format!(
            "[[routes]]\nupstream = \"app\"\n[[routes]]\npaths = [\"/word\"]\nrespond = {{ body = {word:?} }}"
        ))
}

#[test]
fn a_kept_connection_lives_through_reloads() {
    let proxy = saying("0").start();
    let mut busy = proxy.connect();
    let mut parked = proxy.connect();
    assert_eq!(parked.get("/").expect("an answer").text(), "0");
    wait_until("it is parked", || {
        proxy.metric("lb_connections_parked") == 1
    });
    for number in 1..=5 {
        let word = number.to_string();
        proxy.change_to(&saying(&word));
        assert_eq!(busy.get("/").expect("the connection lives").text(), word);
    }
    assert_eq!(parked.get("/").expect("the connection lives").text(), "5");
}

#[test]
fn an_http2_connection_lives_through_reloads() {
    let proxy = saying("0").start();
    let mut client = Frames::connect(proxy.addr());
    for number in 0..5 {
        client.is_usable(2 * number + 1);
        proxy.change_to(&saying(&number.to_string()));
    }
    client.is_usable(11);
}

#[test]
fn a_tunnel_lives_through_reloads_that_remove_all_it_came_by() {
    let server = RawBackend::start(|connection| {
        connection.read_head()?;
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        connection.stream.write_all(switch)?;
        let mut byte = [0];
        while connection.stream.read(&mut byte)? > 0 {
            connection.stream.write_all(&byte)?;
        }
        Ok(())
    });
    let proxy = forwarding(&server, "0").start();
    let mut client = proxy.connect();
    let headers = [("connection", "upgrade"), ("upgrade", "echo")];
    client
        .send_raw(message("GET", "/", &headers, b""))
        .expect("sent");
    assert_eq!(client.read_head().expect("an answer").status, 101);
    let mut echoes = |byte: u8| {
        client.send_raw([byte]).expect("the tunnel is open");
        assert_eq!(client.read_exact(1).expect("an echo"), [byte]);
    };
    echoes(b'a');
    proxy.change_to(&forwarding(&server, "1"));
    echoes(b'b');
    proxy.change_to(&saying("no upstream any more"));
    echoes(b'c');
    assert_eq!(proxy.get("/").text(), "no upstream any more");
    echoes(b'd');
}

#[test]
fn a_request_under_way_ends_as_it_began() {
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let server = RawBackend::start(move |connection| {
        connection.read_head()?;
        let told = told.lock().expect("nobody panics with it");
        _ = told.recv_timeout(crate::support::DEADLINE);
        connection
            .stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold")
    });
    let proxy = forwarding(&server, "0").start();
    let mut client = proxy.connect();
    client
        .send_raw(message("GET", "/", &[], b""))
        .expect("sent");
    wait_until("the request has reached the server", || {
        server.heads().len() == 1
    });
    proxy.change_to(&saying("new").setting("watch_config = false"));
    go_on.send(()).expect("the server waits");
    let answer = client.read_response(false).expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "old"));
    assert_eq!(client.get("/").expect("the connection lives").text(), "new");
}

#[test]
fn connections_to_servers_are_kept_unless_they_are_to_be_others() {
    let server = RawBackend::start(|connection| {
        loop {
            connection.read_head()?;
            connection
                .stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
    });
    let proxy = forwarding(&server, "0").start();
    for number in 1..=3 {
        assert_eq!(proxy.get("/").status, 200);
        proxy.change_to(&forwarding(&server, &number.to_string()));
    }
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(server.connections(), 1);
    let announced = Proxy::new()
        .setting("workers = 1\nwatch_config = false")
        .unprobed_with("app", &[server.addr()], "proxy_protocol = \"v1\"");
    proxy.change_to(&announced);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(server.connections(), 2);
    let heads = server.heads();
    let last = heads.last().expect("a request");
    assert!(last.starts_with("PROXY TCP4 127.0.0.1"), "{last}");
}

#[test]
fn a_connection_from_before_is_announced_too() {
    let server = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let config = |keys: &str| {
        Proxy::new()
            .setting("workers = 1\nwatch_config = false")
            .unprobed_with("app", &[server.addr()], keys)
    };
    let proxy = config("").start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").expect("an answer").status, 200);
    proxy.change_to(&config("proxy_protocol = \"v1\""));
    assert_eq!(client.get("/").expect("the connection lives").status, 200);
    let heads = server.heads();
    let last = heads.last().expect("a request");
    assert!(last.starts_with("PROXY TCP4 127.0.0.1"), "{last}");
}

#[test]
fn timeouts_of_connections_that_there_are_follow() {
    let proxy = saying("0").start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").expect("an answer").status, 200);
    proxy.change_to(&saying("1").listener("timeouts = { keep_alive = \"200ms\" }"));
    assert_eq!(client.get("/").expect("an answer").text(), "1");
    assert_eq!(client.read_to_end().expect("it is closed"), b"");
}

/// A configuration that speaks TLS.
fn secure(files: &Files, keys: &str, word: &str) -> Proxy {
    let tls = format!("{keys}tls = {{ certificates = [{}] }}", files.entry());
    saying(word).setting("watch_config = false").listener(&tls)
}

fn ask(proxy: &RunningProxy, client: &rustls::ClientConfig) -> String {
    let mut connection = tls::connect(proxy.addr(), "localhost", client).expect("a connection");
    connection.ask("/", "").expect("an answer")
}

#[test]
fn tls_sessions_are_resumed_across_reloads() {
    let authority = Authority::new();
    let (client, files) = (authority.anonymous(), authority.issue(&["localhost"]));
    let proxy = secure(&files, "", "0").start();
    ask(&proxy, &client);
    proxy.change_to(&secure(&files, "", "1"));
    assert!(ask(&proxy, &client).ends_with('1'));
    assert_eq!(proxy.metric("lb_tls_resumptions_total"), 1);
    // Other settings of TLS, the same keys of tickets.
    proxy.change_to(&secure(&files, "http2 = false\n", "2"));
    assert!(ask(&proxy, &client).ends_with('2'));
    assert_eq!(proxy.metric("lb_tls_resumptions_total"), 2);
}

#[test]
fn certificates_that_came_with_a_reload_are_looked_after() {
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let mut client = authority.anonymous();
    client.resumption = rustls::client::Resumption::disabled();
    let proxy = saying("plain").setting("watch_config = false").start();
    proxy.change_to(&secure(&files, "", "secure"));
    let shown = || {
        let connection = tls::connect(proxy.addr(), "localhost", &client);
        connection.expect("a connection").certificate()
    };
    let before = shown();
    authority.issue(&["localhost"]);
    wait_until("the new certificate is shown", || shown() != before);
}

#[test]
fn fewer_connections_are_allowed_from_now_on() {
    let backend = Backend::start();
    let config = |max: u32| {
        Proxy::new()
            .setting("watch_config = false")
            .listener(&format!("max_connections_per_ip = {max}"))
            .upstream("app", &[backend.addr()])
    };
    let proxy = config(3).start();
    let mut first = proxy.connect();
    let mut second = proxy.connect();
    assert_eq!(first.get("/").expect("an answer").status, 200);
    assert_eq!(second.get("/").expect("an answer").status, 200);
    proxy.change_to(&config(2));
    let third = Connection::open(proxy.addr()).and_then(|mut it| it.get("/"));
    assert!(third.is_err(), "there are two already");
    assert_eq!(first.get("/").expect("it lives").status, 200);
    proxy.change_to(&config(3));
    assert_eq!(proxy.get("/").status, 200);
}
