//! Listeners that come and go while traffic flows.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::backend::RawBackend;
use crate::support::client::{self, Connection, message};
use crate::support::frames::Frames;
use crate::support::proxy::{Proxy, address_of};
use crate::support::{DEADLINE, wait_until};

/// A configuration with these listeners besides `web`, whose answers are this word.
fn config(word: &str, listeners: &[(&str, &str)]) -> Proxy {
    let mut proxy = Proxy::new().setting("workers = 2\nwatch_config = false");
    for (name, addresses) in listeners {
        proxy = proxy.extra(&format!(
            "[[listeners]]\nname = {name:?}\nlisten = {addresses}"
        ));
    }
    proxy.extra(&format!("[[routes]]\nrespond = {{ body = {word:?} }}"))
}

const ANY: &str = "\"127.0.0.1:0\"";

/// A port that is free at the moment.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("it is bound")
}

fn is_refused(address: SocketAddr) -> bool {
    let error = TcpStream::connect(address).err();
    error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_listener_is_added_and_removed() {
    let proxy = config("one", &[]).start();
    proxy.change_to(&config("two", &[("second", ANY)]));
    let second = proxy.addr_of("second");
    assert_eq!(client::get(second, "/").text(), "two");
    let mut kept = Connection::open(second).expect("it listens");
    let mut unused = Connection::open(second).expect("it listens");
    assert_eq!(kept.get("/").expect("an answer").status, 200);

    proxy.change_to(&config("three", &[]));
    assert!(is_refused(second));
    for connection in [&mut kept, &mut unused] {
        // A request may have been on its way: it gets the answer of its listener's last configuration.
        let answer = connection.get("/").expect("one more answer");
        assert_eq!((answer.status, answer.text()), (200, "two"));
        assert_eq!(answer.headers.get("connection"), Some("close"));
        assert_eq!(connection.read_to_end().expect("the end"), b"");
    }
    assert_eq!(proxy.get("/").text(), "three");
    wait_until("it is no more told of", || {
        !proxy.metrics().contains("\"second\"")
    });
}

#[test]
fn a_listener_that_comes_back_goes_on_counting() {
    let proxy = config("one", &[("second", ANY)]).start();
    let accepted = || {
        let metrics = proxy.metrics();
        let line = "lb_connections_accepted_total{listener=\"second\"} ";
        let value = metrics.lines().find_map(|it| it.strip_prefix(line));
        value.map(|it| it.parse::<u64>().expect("a count"))
    };
    client::get(proxy.addr_of("second"), "/");
    assert_eq!(accepted(), Some(1));
    proxy.change_to(&config("two", &[]));
    proxy.change_to(&config("three", &[("second", ANY)]));
    assert_eq!(accepted(), Some(1));
}

#[test]
fn requests_under_way_at_a_listener_that_is_removed_are_finished() {
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let server = RawBackend::start(move |connection| {
        connection.read_head()?;
        _ = told.lock().expect("nobody panics").recv_timeout(DEADLINE);
        connection
            .stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let second = format!("[[listeners]]\nname = \"second\"\nlisten = {ANY}");
    let config = |extra: &str| {
        Proxy::new()
            .setting("workers = 1\nwatch_config = false")
            .unprobed("app", &[server.addr()])
            .extra(extra)
    };
    let proxy = config(&second).start();
    let mut client = Connection::open(proxy.addr_of("second")).expect("it listens");
    client
        .send_raw(message("GET", "/", &[], b""))
        .expect("sent");
    wait_until("the request has reached the server", || {
        server.heads().len() == 1
    });
    proxy.change_to(&config(""));
    go_on.send(()).expect("the server waits");
    let answer = client.read_response(false).expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.headers.get("connection"), Some("close"));
}

#[test]
fn an_http2_connection_of_a_removed_listener_is_told_to_end() {
    let proxy = config("one", &[("second", ANY)]).start();
    let mut client = Frames::connect(proxy.addr_of("second"));
    client.is_usable(1);
    proxy.change_to(&config("two", &[]));
    assert!(matches!(
        client.end(),
        crate::support::frames::End::Goaway(0)
    ));
}

#[test]
fn addresses_of_a_listener_change_and_the_others_stay() {
    let (first, second) = (free(), free());
    let listen = |addresses: &[SocketAddr]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        config("one", &[("other", &format!("{addresses:?}"))])
    };
    let proxy = listen(&[first]).start();
    let mut kept = Connection::open(first).expect("it listens");
    assert_eq!(kept.get("/").expect("an answer").status, 200);
    proxy.change_to(&listen(&[first, second]));
    assert_eq!(client::get(second, "/").status, 200);
    proxy.change_to(&listen(&[second]));
    assert!(is_refused(first));
    assert_eq!(client::get(second, "/").status, 200);
    let answer = kept.get("/").expect("the listener is still there");
    assert_eq!(answer.headers.get("connection"), None);
}

#[test]
fn an_address_moves_to_another_listener_without_a_gap() {
    let address = free();
    let listen = |name: &str| config(name, &[(name, &format!("\"{address}\""))]);
    let proxy = listen("a").start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) || asked < 10 {
                assert_eq!(client::get(address, "/").status, 200);
                asked += 1;
            }
        });
        for _ in 0..5 {
            proxy.change_to(&listen("b"));
            proxy.change_to(&listen("a"));
        }
        done.store(true, Ordering::Relaxed);
        asking.join().expect("every request is answered");
    });
}

#[test]
fn an_address_widens_to_all_of_its_port() {
    let address = free();
    let wide = format!("\"0.0.0.0:{}\"", address.port());
    let proxy = config("one", &[("other", &format!("\"{address}\""))]).start();
    assert_eq!(client::get(address, "/").text(), "one");
    proxy.change_to(&config("two", &[("other", &wide)]));
    assert_eq!(client::get(address, "/").text(), "two");
}

#[test]
fn an_address_that_cannot_be_bound_undoes_all_of_it() {
    let proxy = config("one", &[]).start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|it| (taken, it)).expect("bound");
    let good = free();
    proxy.write(&config(
        "two",
        &[
            ("good", &format!("\"{good}\"")),
            ("bad", &format!("\"{}\"", taken.1)),
        ],
    ));
    let answer = proxy.reload();
    assert_eq!(answer.status, 422);
    let message = answer.json()["errors"][0]["message"].to_string();
    assert!(message.contains(&taken.1.to_string()), "{message}");
    assert_eq!(proxy.get("/").text(), "one");
    assert!(is_refused(good));
    drop(taken);
    assert_eq!(proxy.reload().status, 200);
    assert_eq!(client::get(good, "/").text(), "two");
}

#[test]
fn the_number_of_connections_changes_while_there_are_some() {
    let config = |max: u32| {
        Proxy::new()
            .setting("workers = 1\nwatch_config = false")
            .listener(&format!("max_connections = {max}"))
            .extra("[[routes]]\nrespond = {}")
    };
    let proxy = config(1).start();
    let mut first = proxy.connect();
    assert_eq!(first.get("/").expect("an answer").status, 200);
    let mut waiting = proxy.connect();
    waiting
        .send_raw(message("GET", "/", &[], b""))
        .expect("sent");
    proxy.change_to(&config(2));
    assert_eq!(waiting.read_response(false).expect("an answer").status, 200);
    proxy.change_to(&config(1));
    drop(waiting);
    wait_until("it has gone", || proxy.metric("lb_connections_open") == 1);
    let mut third = proxy.connect();
    third.send_raw(message("GET", "/", &[], b"")).expect("sent");
    drop(first);
    assert_eq!(third.read_response(false).expect("an answer").status, 200);
}

#[test]
fn a_listener_that_was_added_is_handed_over_to_the_next_process() {
    let proxy = config("one", &[]).start();
    let listeners = [("second", ANY)];
    proxy.change_to(&config("two", &listeners));
    let second = proxy.addr_of("second");
    let successor = proxy.successor();
    successor.wait_for_line("took over");
    assert_eq!(address_of(&successor, "second"), second);
    assert_eq!(client::get(second, "/").text(), "two");
}
