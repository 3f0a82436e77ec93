//! What went wrong once: races between the two sides, framings that few use, ends that nobody had thought of.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use loadbalancer::net::connect::connect as connect_to_server;
use serde_json::Value;
use socket2::SockRef;

use crate::support::backend::{
    Backend, FullPort, RawBackend, RawConnection, RefusingPort, report, reporting,
};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, RunningProxy, before_script};
use crate::support::temp_dir::TempDir;
use crate::support::{DEADLINE, wait_until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

fn open_files(proxy: &RunningProxy) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", proxy.process().pid()));
    files.expect("the proxy runs").count()
}

#[test]
fn a_client_that_resets_before_its_switch_is_complete_leaves_nothing_behind() {
    const CLIENTS: usize = 5;
    let (reset, resets) = mpsc::channel();
    let resets = Mutex::new(resets);
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        let resets = resets.lock().expect("no holder panics");
        resets.recv_timeout(DEADLINE).map_err(io::Error::other)?;
        drop(resets);
        connection.stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        )?;
        io::copy(&mut connection.stream, &mut io::sink()).map(drop)
    });
    let proxy = before_script(&backend);
    let files = open_files(&proxy);
    for number in 1..=CLIENTS {
        let mut client = proxy.connect();
        let fields = [("connection", "upgrade"), ("upgrade", "echo")];
        // As long as the proxy holds a byte of what comes next, it does not notice the reset.
        client
            .send_raw([message("GET", "/", &fields, b""), b"x".to_vec()].concat())
            .expect("sent");
        wait_until("the request is at the server", || {
            backend.heads().len() == number
        });
        let stream = client.try_clone_stream().expect("a second handle");
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .expect("an option of every socket");
        drop((client, stream));
        reset.send(()).expect("the script waits");
    }
    wait_until("no client is connected", || {
        proxy.metric("lb_connections_open") == 0
    });
    wait_until("no request is in flight", || {
        proxy.metric("lb_server_in_flight") == 0
    });
    wait_until("all sockets are closed", || open_files(&proxy) <= files);
}

#[test]
fn requests_that_nobody_had_read_when_the_end_began_are_answered() {
    let backend = RawBackend::answering(OK);
    let mut proxy = Proxy::new()
        .setting("workers = 2")
        .unprobed("app", &[backend.addr()])
        .start();
    // The kernel accepts in its place.
    proxy.process().signal("STOP");
    let mut clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client
            .send_raw(message("GET", "/", &[], b""))
            .expect("sent");
    }
    proxy.process().signal("TERM");
    proxy.process().signal("CONT");
    for client in &mut clients {
        assert_eq!(client.read_response(false).expect("an answer").text(), "ok");
    }
    drop(clients);
    assert!(proxy.wait_exit(DEADLINE).success());
}

#[test]
fn a_chunked_body_arrives_with_any_method() {
    let backend = Backend::start();
    let proxy = Proxy::new().unprobed("app", &[backend.addr()]).start();
    let mut client = proxy.connect();
    for method in ["GET", "DELETE", "OPTIONS", "REPORT"] {
        let body = b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n";
        let answer = client.request(message(method, "/echo", &[CHUNKED], body));
        let answer = answer.expect(method);
        assert_eq!(
            (answer.status, answer.text()),
            (200, "firstlast"),
            "{method}"
        );
    }
}

#[test]
fn a_slow_reader_gets_its_whole_answer_although_its_next_request_is_there() {
    const CHUNK: usize = 4 << 10;
    const LIMIT: Duration = Duration::from_millis(200);
    let (more, wanted) = mpsc::channel();
    let wanted = Mutex::new(wanted);
    let backend = RawBackend::start(move |connection| {
        loop {
            connection.read_head()?;
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            connection.stream.write_all(head)?;
            while let Ok(()) = wanted.lock().expect("no holder panics").recv() {
                let chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &[b'x'; CHUNK], b"\r\n"].concat();
                connection.stream.write_all(&chunk)?;
            }
            connection.stream.write_all(b"0\r\n\r\n")?;
        }
    });
    let proxy = Proxy::new()
        .setting("workers = 1")
        .listener(&format!(
            "timeouts = {{ keep_alive = \"{LIMIT:?}\", headers = \"{LIMIT:?}\" }}"
        ))
        .unprobed("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    client
        .send_raw(message("GET", "/", &[], b"").repeat(2))
        .expect("sent");

    // Nobody reads: after a while what comes from the server stays with the proxy.
    let (mut asked, mut received) = (0, 0);
    while received < proxy.metric("lb_bytes_sent_total") + CHUNK as u64 {
        more.send(()).expect("the script waits");
        asked += CHUNK;
        wait_until("the proxy has the chunk", || {
            received = proxy.metric("lb_server_bytes_received_total");
            received >= asked as u64
        });
    }
    drop(more);
    wait_until("the request is over for the proxy", || {
        proxy.metric("lb_requests_total") == 1
    });
    thread::sleep(3 * LIMIT);
    let answer = client.read_response(false).expect("a whole answer");
    assert_eq!(answer.body.len(), asked);
    let next = client.read_response(false).expect("the next answer");
    assert_eq!(next.text(), "");
}

/// A proxy that logs JSON to a file, which is what is returned last.
fn logging(proxy: Proxy) -> (RunningProxy, impl Fn(usize) -> Vec<Value>) {
    let directory = TempDir::new();
    let path = directory.path().join("access.log");
    let proxy = proxy.extra(&format!(
        "[access_log]\nformat = \"json\"\npath = {path:?}\n"
    ));
    let records = move |count| {
        let _kept = &directory;
        let mut text = String::new();
        wait_until("the lines of the log", || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.matches('\n').count() == count
        });
        let records = text.lines().map(serde_json::from_str);
        records.collect::<Result<_, _>>().expect("lines of JSON")
    };
    (proxy.start(), records)
}

/// Panics unless all that the log says of so many answers is that they reached their end.
#[track_caller]
fn assert_complete(records: &[Value]) {
    let complete = records.iter().all(|record| record["complete"] == true);
    assert!(complete, "{records:#?}");
}

#[test]
fn a_connection_is_used_again_after_trailers() {
    const REQUESTS: usize = 30;
    let backend = RawBackend::start(|connection: &mut RawConnection| {
        loop {
            connection.read_head()?;
            connection.read_until(b"\r\n0\r\nx-sum: 1\r\n\r\n")?;
            connection.stream.write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n",
            )?;
        }
    });
    let proxy = Proxy::new().setting("workers = 1");
    let (proxy, records) = logging(proxy.unprobed("app", &[backend.addr()]));
    let mut client = proxy.connect();
    for number in 0..REQUESTS {
        // Not everyone takes the answer's trailers.
        let fields = [CHUNKED, ("trailer", "x-sum"), ("te", "trailers")];
        let fields = &fields[..2 + number % 2];
        let body = b"4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n";
        let answer = client.request(message("POST", "/", fields, body));
        let answer = answer.expect("an answer");
        assert_eq!(answer.text(), "ok");
        let trailer = answer.trailers.get("x-sum");
        assert_eq!(trailer, (number % 2 == 1).then_some("2"));
    }
    assert_eq!(backend.connections(), 1);
    let records = records(REQUESTS);
    assert_complete(&records);
    assert!(records.iter().all(|record| record["sent"] == 2));
}

#[test]
fn a_broken_answer_never_looks_whole_to_an_http_1_0_client() {
    let answers: [&'static [u8]; 2] = [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    ];
    for answer in answers {
        let backend = RawBackend::start(|connection| {
            connection.read_head()?;
            connection.stream.write_all(answer)
        });
        let proxy = before_script(&backend);
        let mut client = proxy.connect();
        client
            .send_raw("GET / HTTP/1.0\r\nhost: test\r\n\r\n")
            .expect("sent");
        let error = client.read_to_end().expect_err("half of an answer");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

#[test]
fn requests_behind_the_last_one_do_not_destroy_its_answer() {
    const LENGTH: usize = 3_000_000;
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        connection.stream.write_all(head.as_bytes())?;
        connection.stream.write_all(&vec![b'x'; LENGTH])
    });
    let proxy = before_script(&backend);
    for behind in [0, 1, 20_000] {
        let mut client = proxy.connect();
        let last = message("GET", "/", &[("connection", "close")], b"");
        client
            .send_raw([last, vec![b'y'; behind]].concat())
            .expect("sent");
        let answer = client.read_response(false).expect("a whole answer");
        assert_eq!(answer.text().len(), LENGTH, "{behind}");
        assert_eq!(client.read_to_end().expect("a close in order"), b"");
    }
}

#[test]
fn the_drain_limit_does_not_make_a_cut_answer_look_whole_to_an_http_1_0_client() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection
            .stream
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf")?;
        connection.read_head().map(drop) // until the proxy has gone
    });
    let mut proxy = Proxy::new()
        .setting("drain_timeout = \"200ms\"")
        .unprobed("app", &[backend.addr()])
        .start();
    let mut client = proxy.connect();
    client
        .send_raw("GET / HTTP/1.0\r\nhost: test\r\n\r\n")
        .expect("sent");
    client.read_head().expect("a head");
    assert_eq!(client.read_exact(4).expect("the first half"), b"half");
    proxy.terminate();
    let error = client.read_to_end().expect_err("half of an answer");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[test]
fn an_address_that_swallows_packets_leaves_time_for_the_next_one() {
    let full = FullPort::new();
    let good = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let good = (good.local_addr().expect("bound"), good);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (limit, start) = (Duration::from_secs(2), Instant::now());
    let stream = runtime.block_on(connect_to_server(&[full.addr(), good.0], limit));
    let peer = stream.expect("the second address is good").peer_addr();
    assert_eq!(peer.expect("it is connected"), good.0);
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
}

#[test]
fn an_answer_in_a_coding_that_cannot_be_undone_is_502() {
    for codings in ["gzip, chunked", "gzip"] {
        let backend = RawBackend::start(move |connection| {
            connection.read_head()?;
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n\r\n");
            connection.stream.write_all(head.as_bytes())?;
            connection.stream.write_all(b"2\r\nok\r\n0\r\n\r\n")
        });
        let proxy = before_script(&backend);
        let mut client = proxy.connect();
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.status, 502, "{codings}");
        assert_eq!(answer.headers.get("transfer-encoding"), None);
    }
}

#[test]
fn not_every_upgrade_is_passed_on() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    let requests = [
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo, H2C\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\nupgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: ,\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade:\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    ];
    for bytes in requests {
        assert_eq!(request(proxy.addr(), bytes).text(), "ok", "{bytes}");
        let head = backend.heads().pop().expect("a request");
        for field in ["upgrade", "connection", "http2-settings"] {
            assert!(!head.contains(&format!("\r\n{field}:")), "{head}");
        }
    }
}

#[test]
fn an_answer_of_the_proxys_own_to_head_is_complete() {
    let routes = "[[routes]]\npaths = [\"/text\"]\nrespond = { body = \"text\" }\n\
                  [[routes]]\npaths = [\"/moved\"]\nredirect = { to = \"/text\" }";
    let (proxy, records) = logging(Proxy::new().extra(routes));
    let mut client = proxy.connect();
    for (path, status) in [("/text", 200), ("/moved", 308), ("/nowhere", 404)] {
        let answer = client.request(message("HEAD", path, &[], b""));
        assert_eq!(answer.expect("an answer").status, status, "{path}");
    }
    let records = records(3);
    assert_complete(&records);
    assert!(records.iter().all(|record| record["sent"] == 0));
}

#[test]
fn nothing_else_that_a_peer_says_of_the_client_is_believed() {
    let backend = Backend::start();
    let fields = [
        "x-real-ip",
        "x-forwarded-port",
        "x-forwarded-ssl",
        "x-forwarded-scheme",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-forwarded-uri",
        "x-forwarded-anything",
        "front-end-https",
        "x-original-url",
        "x-rewrite-url",
    ];
    let mut claims = fields.map(|name| (name, "192.0.2.1")).to_vec();
    claims.push(("proxy", "192.0.2.1:80"));
    for (trusted, expected) in [("10.0.0.0/8", None), ("127.0.0.0/8", Some("192.0.2.1"))] {
        let proxy = Proxy::new()
            .setting(&format!("trusted_proxies = [{trusted:?}]"))
            .unprobed("app", &[backend.addr()])
            .start();
        let seen = request(proxy.addr(), message("GET", "/headers", &claims, b"")).json();
        for name in fields {
            let value = seen["headers"][name][0].as_str();
            assert_eq!(value, expected, "{name} of {seen}");
        }
        // As a variable of CGI it is HTTP_PROXY (CVE-2016-5385), which nobody has a use for.
        assert_eq!(seen["headers"]["proxy"][0].as_str(), None, "{seen}");
    }
}

#[test]
fn an_absolute_target_is_no_excuse_for_several_hosts() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for hosts in [["a.example", "b.example"], ["a.example"; 2]] {
        let fields = hosts.map(|host| ("host", host));
        let bytes = message("GET", "http://a.example/", &fields, b"");
        assert_eq!(request(proxy.addr(), bytes).status, 400, "{hosts:?}");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_second_try_takes_no_turn_from_the_requests_after_it() {
    const REQUESTS: u64 = 20;
    let (refusing, backend) = (RefusingPort::new(), Backend::start());
    let servers = [refusing.addr(), backend.addr()];
    let proxy = Proxy::new()
        .unprobed_with("app", &servers, "ejection = \"off\"")
        .start();
    for _ in 0..REQUESTS {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(proxy.metric("lb_upstream_retries_total"), REQUESTS / 2);
}

#[test]
fn a_refused_method_is_told_which_ones_are_not() {
    let proxy = Proxy::new().extra("[[routes]]\nrespond = {}").start();
    let answer = request(proxy.addr(), message("TRACE", "/", &[], b""));
    assert_eq!(answer.status, 405);
    let allowed = answer.headers.get("allow").expect("RFC 9110, 15.5.6");
    let allowed: Vec<_> = allowed.split(", ").collect();
    assert!(allowed.contains(&"GET") && allowed.contains(&"POST"));
    assert!(!allowed.contains(&"TRACE") && !allowed.contains(&"CONNECT"));
}

#[test]
fn it_is_ready_when_its_workers_are() {
    // They wait for this Redis for a second, in vain.
    let redis = FullPort::new();
    let start = Instant::now();
    let proxy = Proxy::new()
        .extra(&format!("[redis]\nurl = \"redis://{}\"", redis.addr()))
        .extra("[rate_limit]\nstore = \"redis\"\nrequests = 5\nwindow = \"10m\"")
        .extra("[[routes]]\nrespond = {}")
        .start();
    let elapsed = start.elapsed();
    assert!(elapsed > Duration::from_millis(900), "{elapsed:?}");
    assert_eq!(proxy.get("/").status, 200);
}

/// Ports that wait after a close are as good as used up: a client that gives up thousands of requests a second would leave
/// none for others.
#[test]
fn what_a_client_gives_up_ends_with_a_reset_at_the_server() {
    let (backend, ends) = reporting(|connection| {
        connection.read_head()?;
        let mut rest = Vec::new();
        let end = connection.stream.read_to_end(&mut rest);
        Ok(end.err().map(|error| error.kind()))
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    let fields = [("content-length", "1000")];
    client
        .send_raw(message("POST", "/", &fields, b"some"))
        .expect("sent");
    wait_until("the server has the request", || !backend.heads().is_empty());
    drop(client);
    assert_eq!(report(&ends), Some(ErrorKind::ConnectionReset));
}
