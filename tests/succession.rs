//! A new process takes over from the one that serves.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::client::{self, Connection, message};
use crate::support::process::{Process, kill};
use crate::support::proxy::{Proxy, RunningProxy, address_of};
use crate::support::{DEADLINE, wait_until};

const SWITCH: [(&str, &str); 2] = [("connection", "upgrade"), ("upgrade", "echo")];

/// Requests, each on a connection of its own, from four threads, while `event` happens. Gives how many there were.
fn under_load(addr: SocketAddr, event: impl FnOnce()) -> usize {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let answer = client::try_get(addr, "/");
                    let answer = answer.unwrap_or_else(|error| panic!("a lost request: {error}"));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        let enough = |more: usize| {
            let until = answered.load(Relaxed) + more;
            wait_until("requests are answered", || answered.load(Relaxed) >= until);
        };
        enough(50);
        event();
        enough(50);
        over.store(true, Relaxed);
    });
    answered.into_inner()
}

fn took_over(successor: &Process) {
    successor.wait_for_line("took over");
}

fn post(admin: SocketAddr, path: &str, body: &Value) -> client::Response {
    let host = admin.to_string();
    let body = body.to_string();
    client::request(
        admin,
        message("POST", path, &[("host", &host)], body.as_bytes()),
    )
}

#[test]
fn no_request_is_lost_while_a_new_process_takes_over() {
    let backend = Backend::start();
    let mut proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let mut successor = None;
    under_load(proxy.addr(), || {
        let process = proxy.successor();
        took_over(&process);
        assert!(proxy.wait_exit(DEADLINE).success());
        successor = Some(process);
    });
    let successor = successor.expect("it has started");
    assert_eq!(address_of(&successor, "web"), proxy.addr());
    assert_eq!(address_of(&successor, "admin"), proxy.admin());
    assert_eq!(client::get(proxy.admin(), "/readyz").status, 200);

    // And from that one the next.
    let mut third = None;
    under_load(proxy.addr(), || {
        let process = proxy.successor();
        took_over(&process);
        successor.wait_for_line("ended");
        third = Some(process);
    });
    assert_eq!(client::get(proxy.addr(), "/").status, 200);
    drop(third);
}

#[test]
fn more_or_fewer_workers_lose_nothing_either() {
    let backend = Backend::start();
    let mut proxy = Proxy::new()
        .setting("workers = 3")
        .upstream("app", &[backend.addr()])
        .start();
    let mut successors = Vec::new();
    for workers in ["workers = 1", "workers = 4"] {
        edit(&proxy, |text| {
            let rest = text.split_once('\n').expect("several lines").1;
            format!("{workers}\n{rest}")
        });
        under_load(proxy.addr(), || {
            let successor = proxy.successor();
            took_over(&successor);
            successors.push(successor);
        });
    }
    assert!(proxy.wait_exit(DEADLINE).success());
    successors[0].wait_for_line("ended");
}

fn edit(proxy: &RunningProxy, edited: impl FnOnce(String) -> String) {
    let file = proxy.directory().join("config.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, edited(text)).expect("it can be written");
}

#[test]
fn tunnels_and_answers_under_way_stay_with_the_process_that_has_them() {
    let backend = Backend::start();
    let mut proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let mut tunnel = proxy.connect();
    let answer = tunnel.request(message("GET", "/ws", &SWITCH, b""));
    assert_eq!(answer.expect("an answer").status, 101);
    let mut download = proxy.connect();
    let request = message("GET", "/slow/100000/100000", &[], b"");
    download.send_raw(request).expect("sent");
    let head = download.read_head().expect("a head");

    let successor = proxy.successor();
    took_over(&successor);
    tunnel.send_raw(b"still here").expect("sent");
    assert_eq!(tunnel.read_exact(10).expect("an echo"), b"still here");
    let mut length = 0;
    let read = download.read_body(&head, |piece| length += piece.len());
    read.expect("the whole body");
    assert_eq!(length, 100_000);
    tunnel.send_raw(b"and still").expect("sent");
    assert_eq!(tunnel.read_exact(9).expect("an echo"), b"and still");
    drop((tunnel, download));
    assert!(proxy.wait_exit(DEADLINE).success());
    assert_eq!(client::get(proxy.addr(), "/").status, 200);
}

#[test]
fn a_connection_that_waits_has_one_more_request_answered() {
    let backend = Backend::start();
    let mut proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let mut fresh = proxy.connect();
    let mut idle = [proxy.connect(), proxy.connect()];
    for client in &mut idle {
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
    let successor = proxy.successor();
    took_over(&successor);
    proxy
        .process()
        .wait_for_line("another process has taken over");
    for client in idle.iter_mut().chain([&mut fresh]) {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers.get("connection"), Some("close"));
        assert_eq!(client.read_to_end().expect("a clean end"), b"");
    }
    assert!(proxy.wait_exit(DEADLINE).success());
    assert_eq!(client::get(proxy.addr(), "/").status, 200);
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let file = proxy.directory().join("config.toml");
    let good = fs::read_to_string(&file).expect("the configuration");
    let blocked = TcpListener::bind("127.0.0.1:0").expect("a port");
    let in_use = blocked.local_addr().expect("bound").to_string();
    for (broken, message) in [
        ("nonsense = 1\n".to_owned() + &good, "nonsense"),
        (
            format!("{good}\n[[listeners]]\nname = \"more\"\nlisten = {in_use:?}\n"),
            "already in use",
        ),
    ] {
        fs::write(&file, broken).expect("written");
        let mut successor = proxy.successor();
        let status = successor.wait_exit(DEADLINE);
        assert_eq!(status.code(), Some(1));
        assert!(
            successor.output().contains(message),
            "{}",
            successor.output()
        );
        assert_eq!(proxy.get("/").status, 200);
    }
    proxy
        .process()
        .wait_for_line("the new process did not start");
    drop(blocked);
    // Changes that had to wait are made now.
    let added = post(
        proxy.admin(),
        "/servers",
        &json!({"address": "127.0.0.1:9"}),
    );
    assert_eq!(added.status, 201, "{}", added.text());
    fs::write(&file, good).expect("written");
    let successor = proxy.successor();
    took_over(&successor);
    assert_eq!(client::get(proxy.addr(), "/").status, 200);
}

#[test]
fn changes_of_servers_go_over_and_can_be_made_by_the_successor() {
    let (first, second) = (Backend::start(), Backend::start());
    let mut proxy = Proxy::new().upstream("app", &[first.addr()]).start();
    let address = second.addr().to_string();
    let added = post(proxy.admin(), "/servers", &json!({ "address": address }));
    assert_eq!(added.status, 201);
    let successor = proxy.successor();
    took_over(&successor);
    assert!(proxy.wait_exit(DEADLINE).success());
    let list = client::get(proxy.admin(), "/servers");
    assert!(list.text().contains(&address), "{}", list.text());
    let removed = post(
        proxy.admin(),
        "/remove-server",
        &json!({ "address": address }),
    );
    assert_eq!(removed.status, 200, "{}", removed.text());
}

#[test]
fn sticky_sessions_go_on_with_the_successor() {
    let backends = [(); 4].map(|()| Backend::start());
    let servers: Vec<_> = backends.iter().map(Backend::addr).collect();
    let proxy = Proxy::new()
        .unprobed_with("app", &servers, "sticky = {}")
        .start();
    let first = proxy.get("/");
    let cookie = first.headers.get("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("its value").to_owned();
    let successor = proxy.successor();
    took_over(&successor);
    proxy
        .process()
        .wait_for_line("another process has taken over");
    for _ in 0..6 {
        let again = message("GET", "/", &[("cookie", &cookie)], b"");
        let again = client::request(proxy.addr(), again);
        assert_eq!(
            again.headers.get("x-backend"),
            first.headers.get("x-backend")
        );
    }
}

#[test]
fn who_has_no_listener_in_common_takes_nothing_over() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let other = Proxy::new().upstream("app", &[backend.addr()]).start();
    let gate = format!("{:?}", proxy.directory().join("upgrade"));
    let own = format!("{:?}", other.directory().join("upgrade"));
    edit(&other, |text| {
        let (first, rest) = text.split_once("[[listeners]]").expect("listeners");
        let rest = rest.replace("\"web\"", "\"other\"");
        format!("{}[[listeners]]{rest}", first.replace(&own, &gate))
    });
    let mut successor = other.successor();
    assert_eq!(successor.wait_exit(DEADLINE).code(), Some(1));
    let output = successor.output();
    assert!(
        output.contains("no listener of this configuration"),
        "{output}"
    );
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(other.get("/").status, 200);
}

#[test]
fn sigusr2_has_the_program_take_over_from_itself() {
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let mut successor = None;
    under_load(proxy.addr(), || {
        proxy.process().signal("USR2");
        let line = proxy.process().wait_for_line("started a new process");
        let pid = line.rsplit_once("successor=").expect("its number").1;
        successor = Some(Stray(pid.split(' ').next().expect("a word").to_owned()));
        proxy.process().wait_for_line("took over");
        proxy
            .process()
            .wait_for_line("another process has taken over");
    });
    let mut connection = Connection::open(proxy.addr()).expect("the successor listens");
    assert_eq!(connection.get("/").expect("an answer").status, 200);
}

/// A process that is no child of the test.
struct Stray(String);

impl Drop for Stray {
    fn drop(&mut self) {
        kill("KILL", &self.0);
    }
}

#[test]
fn without_anybody_to_take_over_from_it_does_not_start() {
    let proxy = Proxy::new().upstream("app", &["127.0.0.1:9"]).start();
    let (directory, mut proxy) = (proxy.directory().to_owned(), proxy);
    proxy.terminate();
    assert!(
        !directory.join("upgrade").exists(),
        "it is removed at the end"
    );
    let mut successor = proxy.successor();
    assert_eq!(successor.wait_exit(DEADLINE).code(), Some(1));
    let output = successor.output();
    assert!(
        output.contains("nobody serves there; start without --upgrade"),
        "{output}"
    );
}

#[test]
fn a_stranger_at_the_gate_is_sent_away() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let backend = Backend::start();
    let proxy = Proxy::new().upstream("app", &[backend.addr()]).start();
    let gate = proxy.directory().join("upgrade");
    for words in [
        &b"\xff\xff\xff\xff"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x02{}",
    ] {
        let mut stranger = UnixStream::connect(&gate).expect("a gate");
        stranger
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        stranger.write_all(words).expect("sent");
        let mut rest = Vec::new();
        // An error is the end as well.
        _ = stranger.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    let successor = proxy.successor();
    took_over(&successor);
    assert_eq!(client::get(proxy.addr(), "/").status, 200);
}
