//! Connections are kept on both sides and used again, until one side says close.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::backend::RawBackend;
use crate::support::client::message;
use crate::support::proxy::before_script;
use crate::support::wait_until;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_client_that_says_close_gets_its_answer_and_the_end() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for _ in 0..3 {
        let mut client = proxy.connect();
        let answer = client.request(message("GET", "/", &[("connection", "close")], b""));
        let answer = answer.expect("an answer");
        assert_eq!(answer.headers.get("connection"), Some("close"));
        assert_eq!(client.read_to_end().expect("the proxy closes"), b"");
    }
    assert_eq!(
        backend.connections(),
        1,
        "the client's close is not the server's"
    );
}

#[test]
fn a_server_that_says_close_does_not_end_the_clients_connection() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        connection.stream.write_all(answer)
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for round in 1..=3 {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.headers.get("connection"), None);
        assert_eq!(backend.connections(), round);
    }
}

#[test]
fn requests_in_sequence_share_one_connection_to_the_server() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for _ in 0..100 {
        assert_eq!(client.get("/").expect("an answer").text(), "ok");
    }
    for _ in 0..100 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.heads().len(), 200);
}

#[test]
fn clients_at_once_need_no_more_connections_to_the_server_than_they_are() {
    const CLIENTS: usize = 8;
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let start = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = proxy.connect();
                start.wait();
                for _ in 0..50 {
                    assert_eq!(client.get("/").expect("an answer").text(), "ok");
                }
            });
        }
    });
    assert_eq!(backend.heads().len(), CLIENTS * 50);
    assert!(
        (1..=CLIENTS).contains(&backend.connections()),
        "{}",
        backend.connections()
    );
}

#[test]
fn the_connection_used_last_is_used_next() {
    let released = Arc::new(AtomicUsize::new(0));
    let backend = RawBackend::start({
        let released = Arc::clone(&released);
        move |connection| {
            loop {
                connection.read_head()?;
                wait_until("its turn", || {
                    released.load(Ordering::Relaxed) > connection.number
                });
                let number = connection.number;
                write!(
                    connection.stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}"
                )?;
            }
        }
    });
    let proxy = before_script(&backend);
    // Three requests at once open three connections, which get free in the order 0, 1, 2.
    let mut clients: Vec<_> = (1..=3)
        .map(|count| {
            let mut client = proxy.connect();
            client
                .send_raw(message("GET", "/", &[], b""))
                .expect("sent");
            wait_until("the request at the server", || {
                backend.heads().len() == count
            });
            client
        })
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        released.store(number + 1, Ordering::Relaxed);
        let answer = client.read_response(false).expect("an answer");
        assert_eq!(answer.text(), number.to_string());
    }
    for client in &mut clients {
        assert_eq!(client.get("/").expect("an answer").text(), "2");
    }
    assert_eq!(backend.connections(), 3);
}
