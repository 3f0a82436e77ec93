//! `bandwidth`: bytes a second of clients, routes, listeners and servers, and who waits for whom.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::client::{Connection, message};
use crate::support::http2;
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::Authority;
use crate::tcp::{connect, echo, echoes, relaying_with};

const MB: usize = 1_000_000;

/// A proxy before this server, with these keys of its route.
fn limited(backend: &Backend, route: &str) -> Proxy {
    Proxy::new()
        .setting("workers = 2")
        .unprobed("app", &[backend.addr()])
        .extra(&format!("[[routes]]\nupstream = \"app\"\n{route}"))
}

/// GET from this address; how long it took.
fn fetch(proxy: &RunningProxy, client: [u8; 4], bytes: usize) -> Duration {
    let start = Instant::now();
    let mut connection = Connection::open_from(client, proxy.addr()).expect("it listens");
    let answer = connection.get(&format!("/bytes/{bytes}"));
    assert_eq!(answer.expect("an answer").body.len(), bytes);
    start.elapsed()
}

/// Whether it took so many seconds: not less, and not much more, for which a busy machine may be to blame.
#[track_caller]
fn took(elapsed: Duration, seconds: f64) {
    let ratio = elapsed.as_secs_f64() / seconds;
    assert!((0.97..2.0).contains(&ratio), "{elapsed:?} for {seconds} s");
}

/// The time of so many bytes at so many a second. The first ones, 50 ms worth, go at once.
fn time_of(bytes: usize, rate: usize) -> f64 {
    (bytes as f64 / rate as f64) - 0.05
}

#[test]
fn answers_take_their_time_over_both_versions_of_http() {
    let backend = Backend::start();
    let proxy = limited(&backend, "bandwidth = { download = \"1MB/s\" }").start();
    took(fetch(&proxy, [127, 0, 0, 1], MB), time_of(MB, MB));
    http2::runtime().block_on(async {
        let start = Instant::now();
        let client = http2::connect(proxy.addr()).await;
        let get = http2::get("/bytes/1000000");
        let answer = http2::exchange(&client, get, b"").await;
        assert_eq!(answer.expect("an answer").body.len(), MB);
        // The burst is not there yet again.
        took(start.elapsed(), time_of(MB, MB));
    });
    let delayed = proxy.metric_with("lb_bandwidth_delayed_bytes_total", "direction=\"download\"");
    assert!(delayed > 1_500_000, "{delayed}");
    assert_eq!(proxy.metric("lb_bandwidth_waiting"), 0);
    assert_eq!(proxy.metric("lb_bandwidth_clients"), 1);
}

#[test]
fn requests_bodies_take_theirs_and_arrive_whole() {
    let backend = Backend::start();
    let proxy = limited(
        &backend,
        "bandwidth = { upload = \"1MB/s\", key = \"total\" }",
    )
    .listener("min_body_rate = \"100MB/s\"")
    .start();
    let body: Vec<u8> = (0..=250).cycle().take(MB).collect();
    let digest = xxhash_rust::xxh3::xxh3_64(&body);
    let start = Instant::now();
    let answer = proxy
        .connect()
        .request(message("POST", "/upload", &[], &body));
    let answer = answer.expect("an answer").json();
    took(start.elapsed(), time_of(MB, MB));
    assert_eq!(answer["bytes"], MB);
    assert_eq!(answer["xxh3"], format!("{digest:016x}"));
}

#[test]
fn a_clients_connections_share_and_others_have_their_own() {
    let backend = Backend::start();
    let proxy = limited(&backend, "")
        .listener("bandwidth = { download = \"1MB/s\" }")
        .start();
    let took_of = in_parallel(3, |number| match number {
        2 => fetch(&proxy, [127, 0, 0, 2], MB / 2),
        _ => fetch(&proxy, [127, 0, 0, 1], MB / 2),
    });
    took(took_of[0].max(took_of[1]), time_of(MB, MB));
    took(took_of[2], time_of(MB / 2, MB));
}

#[test]
fn a_server_has_its_limit_whoever_asks() {
    let backends = [Backend::start(), Backend::start()];
    let addrs = backends.each_ref().map(|it| it.addr());
    let proxy = Proxy::new()
        .setting("workers = 2")
        .unprobed_with("app", &addrs, "bandwidth = { download = \"1MB/s\" }")
        .start();
    // Round robin: two for each server.
    let times = in_parallel(4, |number| {
        fetch(&proxy, [127, 0, 0, number as u8 + 1], MB / 2)
    });
    let last = times.into_iter().max().expect("four");
    took(last, time_of(MB, MB));
}

#[test]
fn ten_who_share_a_limit_have_equal_parts_of_it() {
    let backend = Backend::start();
    let proxy = limited(
        &backend,
        "bandwidth = { download = \"1MB/s\", key = \"total\" }",
    )
    .start();
    let mut times = in_parallel(10, |number| {
        fetch(&proxy, [127, 0, 0, number as u8 + 1], MB / 10)
    });
    times.sort();
    let last = times[9];
    took(last, time_of(MB, MB));
    // The first to come has the burst to itself.
    assert!(
        times[1].as_secs_f64() > 0.8 * last.as_secs_f64(),
        "{times:?}"
    );
}

#[test]
fn waiting_for_a_turn_is_no_idleness() {
    let backend = Backend::start();
    let rates = "{ upload = \"40KB/s\", download = \"40KB/s\", key = \"total\" }";
    let proxy = limited(&backend, "")
        .listener(&format!(
            "bandwidth = {rates}\ntimeouts = {{ idle = \"100ms\" }}"
        ))
        .start();
    // Each has its turn, of a kilobyte, every quarter of a second.
    let body = vec![b'x'; 6000];
    let echoed = in_parallel(10, |_| {
        let request = message("POST", "/echo", &[], &body);
        proxy.connect().request(request).map(|it| it.body)
    });
    for answer in echoed {
        assert!(answer.expect("an answer") == body);
    }
    assert_eq!(proxy.metric("lb_stalled_bodies_total"), 0);
}

#[test]
fn a_new_rate_holds_for_what_is_under_way() {
    hastened_by("bandwidth = { download = \"100MB/s\" }");
}

#[test]
fn a_limit_that_is_taken_away_is_lifted_for_what_is_under_way() {
    hastened_by("");
}

/// An answer that would take 20 seconds is done long before, once the route has these keys instead.
#[track_caller]
fn hastened_by(route: &str) {
    let backend = Backend::start();
    let proxy = limited(&backend, "bandwidth = { download = \"1MB/s\" }").start();
    let start = Instant::now();
    thread::scope(|scope| {
        let fetched = scope.spawn(|| fetch(&proxy, [127, 0, 0, 1], 20 * MB));
        crate::support::wait_until("it waits", || proxy.metric("lb_bandwidth_waiting") == 1);
        proxy.change_to(&limited(&backend, route));
        fetched.join().expect("it ends");
    });
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(8), "{elapsed:?}");
}

#[test]
fn a_limit_that_stays_holds_through_reloads() {
    let backend = Backend::start();
    let limit = "bandwidth = { download = \"1MB/s\", key = \"total\" }";
    let with = |listener: &str| limited(&backend, limit).listener(listener);
    let proxy = with("").start();
    let start = Instant::now();
    thread::scope(|scope| {
        let fetched = scope.spawn(|| {
            // Connections begin all the time, while reloads are under way, too.
            for _ in 0..100 {
                fetch(&proxy, [127, 0, 0, 1], MB / 50);
            }
        });
        let mut reloads = 0;
        while !fetched.is_finished() {
            let idle = format!("timeouts = {{ keep_alive = \"{}s\" }}", 30 + reloads % 2);
            proxy.change_to(&with(&idle));
            reloads += 1;
        }
        assert!(reloads > 1);
    });
    let elapsed = start.elapsed();
    assert!(
        elapsed.as_secs_f64() > 0.97 * time_of(2 * MB, MB),
        "{elapsed:?}"
    );
}

#[test]
fn tunnels_take_their_time() {
    let backend = Backend::start();
    let proxy = limited(
        &backend,
        "bandwidth = { upload = \"1MB/s\", download = \"10MB/s\" }",
    )
    .start();
    let mut client = connect(proxy.addr());
    let fields = [("connection", "upgrade"), ("upgrade", "echo")];
    client
        .write_all(&message("GET", "/ws", &fields, b""))
        .expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    let start = Instant::now();
    echoes_much(&client, MB);
    took(start.elapsed(), time_of(MB, MB));
}

/// Sends so many bytes and reads them again.
fn echoes_much(client: &std::net::TcpStream, bytes: usize) {
    let sent: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = client;
            writer.write_all(&sent).expect("sent");
            client.shutdown(Shutdown::Write).expect("a socket");
        });
        let mut read = Vec::new();
        let mut reader = client;
        reader.read_to_end(&mut read).expect("an echo");
        assert!(read == sent);
    });
}

fn relayed(listener: &str, server: SocketAddr) -> RunningProxy {
    relaying_with(&[server], listener).start()
}

#[test]
fn connections_of_tcp_take_their_time_both_ways() {
    let server = echo();
    for (limits, rate) in [
        ("{ upload = \"1MB/s\", download = \"100MB/s\" }", MB),
        ("{ upload = \"100MB/s\", download = \"2MB/s\" }", 2 * MB),
    ] {
        let proxy = relayed(&format!("bandwidth = {limits}"), server.addr());
        let start = Instant::now();
        echoes_much(&connect(proxy.addr()), MB);
        took(start.elapsed(), time_of(MB, rate));
    }
}

#[test]
fn connections_of_tcp_share_the_limit_of_a_server() {
    let server = echo();
    let proxy = Proxy::new()
        .setting("workers = 2")
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with("db", &[server.addr()], "bandwidth = { upload = \"1MB/s\" }")
        .start();
    let start = Instant::now();
    in_parallel(2, |_| echoes_much(&connect(proxy.addr()), MB / 2));
    took(start.elapsed(), time_of(MB, MB));
}

#[test]
fn tls_that_ends_here_is_limited_like_anything() {
    let (server, authority) = (echo(), Authority::new());
    let certificate = authority.issue(&["localhost"]).entry();
    let keys =
        format!("tls = {{ certificates = [{certificate}] }}\nbandwidth = {{ upload = \"1MB/s\" }}");
    let proxy = relayed(&keys, server.addr());
    let mut client =
        crate::support::tls::connect(proxy.addr(), "localhost", &authority.anonymous())
            .expect("a handshake");
    let start = Instant::now();
    client.send(vec![b'x'; MB / 2]).expect("sent");
    client.send(b"end").expect("sent");
    client.read_until("end").expect("an echo");
    took(start.elapsed(), time_of(MB / 2, MB));
}

#[test]
fn tiny_messages_are_charged_their_bytes() {
    let server = echo();
    let proxy = relayed(
        "bandwidth = { upload = \"10KB/s\", download = \"10KB/s\" }",
        server.addr(),
    );
    let mut client = connect(proxy.addr());
    let start = Instant::now();
    for _ in 0..300 {
        echoes(&mut client, b"a message of 20 byte");
    }
    // 6 KB, which go at once; as buffers they would be megabytes.
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_small_client_is_not_behind_large_ones() {
    let server = echo();
    let proxy = relayed(
        "bandwidth = { upload = \"1MB/s\", download = \"100MB/s\", key = \"total\" }",
        server.addr(),
    );
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| echoes_much(&connect(proxy.addr()), 2 * MB / 5));
        }
        crate::support::wait_until("they wait", || proxy.metric("lb_bandwidth_waiting") >= 4);
        let mut client = connect(proxy.addr());
        for _ in 0..3 {
            let start = Instant::now();
            echoes(&mut client, b"small");
            let waited = start.elapsed();
            assert!(waited < Duration::from_millis(600), "{waited:?}");
        }
    });
}
