//! Clients that send too much, too little, or take nothing: each is closed or bounded, counted and named, costs little
//! memory, and nobody else notices.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, FullPort};
use crate::support::client::{Connection, message};
use crate::support::frames::*;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::wait_until;

/// How much memory a flood may cost, in KiB.
const BOUND: u64 = 32 * 1024;

/// Short deadlines for those who let others wait.
const IMPATIENT: &str = r#"timeouts = { idle = "500ms", headers = "500ms" }"#;

/// A proxy with a single worker, which has to serve the floods and everybody else.
fn before(backend: &Backend, listener: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .listener(listener)
        .unprobed("app", &[backend.addr()])
        .start()
}

/// Runs an attack. Meanwhile another client is answered all the time, and the proxy stays small.
fn survives<T>(proxy: &RunningProxy, attack: impl FnOnce() -> T) -> T {
    let mut other = proxy.connect();
    assert_eq!(other.get("/").expect("an answer").status, 200);
    let before = proxy.process().rss_kib();
    let over = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut answers = 0;
            while answers == 0 || !over.load(Ordering::Relaxed) {
                let answer = other.get("/").expect("an answer, whatever others do");
                assert_eq!(answer.status, 200);
                answers += 1;
            }
        });
        let result = attack();
        over.store(true, Ordering::Relaxed);
        others.join().expect("the other client is served");
        result
    });
    let after = proxy.process().rss_kib();
    assert!(after < before + BOUND, "{before} KiB grew to {after} KiB");
    result
}

/// Asserts that the flood is counted under its name, and told once.
fn is_named(proxy: &RunningProxy, flood: &str) {
    let sample = format!(r#"lb_http2_floods_total{{listener="web",flood="{flood}"}} 1"#);
    wait_until("the flood's name", || proxy.metrics().contains(&sample));
    let told = format!(r#"flood="{flood}""#);
    proxy.process().wait_for_line(&told);
    assert_eq!(lines_with(proxy, &told), 1);
}

fn lines_with(proxy: &RunningProxy, text: &str) -> usize {
    let output = proxy.process().output();
    output.lines().filter(|line| line.contains(text)).count()
}

/// A connection that begins with `first` and goes on with what `next` gives until it is told to calm down.
fn is_calmed(flood: &str, first: Vec<u8>, next: impl Fn(u32) -> Vec<u8>) {
    let backend = Backend::start();
    let proxy = before(&backend, "");
    let end = survives(&proxy, || {
        let mut client = Frames::connect(proxy.addr());
        client.send(first);
        client.flood(|number| Some(next(number)))
    });
    // Who goes on for long gets a reset, which may come before the word has been read.
    let calmed = matches!(end, End::Goaway(ENHANCE_YOUR_CALM) | End::Close);
    assert!(calmed, "{flood}: {end:?}");
    is_named(&proxy, flood);
}

/// The number of the stream that is opened at this turn.
fn stream(turn: u32) -> u32 {
    1 + 2 * turn
}

/// A POST whose body never ends, on stream 1.
fn endless() -> Vec<u8> {
    let fields = [(":method", Some("POST")), (":path", Some("/hang"))];
    frame(HEADERS, END_HEADERS, 1, fields_with(&fields))
}

#[test]
fn rapid_resets_are_calmed() {
    is_calmed("rst_stream", Vec::new(), |turn| {
        let asked = frame(HEADERS, WHOLE, stream(turn), get());
        [asked, reset(stream(turn))].concat()
    });
}

#[test]
fn resets_that_take_their_time_are_calmed_too() {
    // Each stream is there before it is reset, so that only their number tells.
    is_calmed("rst_stream", Vec::new(), |turn| {
        let hang = fields_with(&[(":path", Some("/hang"))]);
        let mut bytes = Vec::new();
        if turn >= 50 {
            bytes = reset(stream(turn - 50));
        }
        bytes.extend(frame(HEADERS, WHOLE, stream(turn), hang));
        bytes
    });
}

#[test]
fn streams_that_we_are_made_to_reset_are_calmed() {
    is_calmed("error", Vec::new(), |turn| {
        let asked = frame(HEADERS, END_HEADERS, stream(turn), post());
        [asked, window_update(stream(turn), 0x7fff_ffff)].concat()
    });
}

#[test]
fn continuations_without_end_are_calmed() {
    let mut half = get();
    half.extend([0x00, 0x7f, 0xff, 0x7f]); // a name of 16 KiB
    let begun = frame(HEADERS, 0, 1, half);
    is_calmed("continuation", begun.clone(), |_| {
        frame(CONTINUATION, 0, 1, [b'x'; 1000])
    });
    is_calmed("continuation", begun, |_| frame(CONTINUATION, 0, 1, b""));
}

#[test]
fn settings_without_end_are_calmed() {
    is_calmed("settings", Vec::new(), |turn| {
        settings(&[(INITIAL_WINDOW_SIZE, turn)])
    });
}

#[test]
fn pings_without_end_are_calmed() {
    is_calmed("ping", Vec::new(), |_| {
        frame(PING, 0, 0, [7; 8]).repeat(100)
    });
}

#[test]
fn data_without_content_is_calmed() {
    is_calmed("empty_data", endless(), |_| {
        frame(DATA, 0, 1, b"").repeat(10)
    });
}

#[test]
fn small_data_that_waits_is_bounded() {
    let (backend, connecting) = (Backend::start(), FullPort::new());
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[backend.addr()])
        .unprobed("slow", &[connecting.addr()])
        .extra(
            "[[routes]]\nmethods = [\"POST\"]\nupstream = \"slow\"\n[[routes]]\nupstream = \"app\"",
        )
        .start();
    let end = survives(&proxy, || {
        let mut client = Frames::connect(proxy.addr());
        client.send(frame(HEADERS, END_HEADERS, 1, post()));
        client.flood(|_| Some(frame(DATA, 0, 1, b"x").repeat(100)))
    });
    let calmed = matches!(end, End::Goaway(ENHANCE_YOUR_CALM) | End::Close);
    assert!(calmed, "{end:?}");
    is_named(&proxy, "empty_data");
}

#[test]
fn priorities_without_end_are_calmed() {
    is_calmed("priority", Vec::new(), |turn| {
        frame(PRIORITY, 0, stream(turn), [0, 0, 0, 0, 1]).repeat(10)
    });
}

#[test]
fn frames_that_mean_nothing_are_calmed() {
    is_calmed("other", Vec::new(), |_| {
        frame(0x1f, 0, 0, b"grease").repeat(10)
    });
}

#[test]
fn header_lists_that_unpack_to_a_lot_are_calmed() {
    let mut block = get();
    literal(&mut block, 0x40, b"x", &[b'a'; 3000]);
    block.extend([0x80 | 62; 13_000]);
    is_calmed("header_list", Vec::new(), |turn| {
        frame(HEADERS, WHOLE, stream(turn), &block)
    });
}

#[test]
fn window_updates_cost_nothing_but_time() {
    let backend = Backend::start();
    let proxy = before(&backend, "");
    let begun = Instant::now();
    let end = survives(&proxy, || {
        let mut client = Frames::connect(proxy.addr());
        client.send(endless());
        client.flood(|_| {
            let goes_on = begun.elapsed() < Duration::from_secs(1);
            goes_on.then(|| {
                [window_update(0, 1), window_update(1, 1)]
                    .concat()
                    .repeat(100)
            })
        })
    });
    assert!(matches!(end, End::Close | End::Goaway(NO_ERROR)), "{end:?}");
}

#[test]
fn streams_without_room_are_given_up() {
    let backend = Backend::start();
    let proxy = before(&backend, IMPATIENT);
    survives(&proxy, || {
        let mut client = Frames::connect_with(proxy.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
        for turn in 0..100 {
            client.ask(
                stream(turn),
                fields_with(&[(":path", Some("/bytes/1000000"))]),
            );
        }
        for _ in 0..100 {
            client.wait_for("resets", |frame| frame.kind == RST_STREAM);
        }
    });
    assert_eq!(proxy.metric("lb_stalled_answers_total"), 100);
    wait_until("servers that are rid of them", || {
        proxy.metric("lb_server_in_flight") <= 1
    });
}

#[test]
fn clients_that_read_nothing_are_given_up() {
    let backend = Backend::start();
    let proxy = before(&backend, IMPATIENT);
    survives(&proxy, || {
        let mut http1 = proxy.connect();
        let request = message("GET", "/bytes/30000000", &[], b"");
        http1.send_raw(request).expect("sent");
        let mut http2 = Frames::connect_with(proxy.addr(), &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
        http2.send(window_update(0, 0x7fff_0000));
        for turn in 0..100 {
            http2.ask(
                stream(turn),
                fields_with(&[(":path", Some("/bytes/30000000"))]),
            );
        }
        wait_until("both are given up", || {
            proxy.metric("lb_stalled_answers_total") >= 2
                && proxy.metric("lb_connections_open") == 1
        });
    });
}

/// Sends a request's head a byte at a time until the connection is closed, which must be soon.
fn drips(proxy: &RunningProxy, socket: &TcpStream, head: &[u8]) {
    use std::io::Write;
    let mut socket = socket;
    let closed = || proxy.metric("lb_header_timeouts_total") == 1;
    let mut rest = head.iter();
    wait_until("an end of the dripping", || {
        let byte = rest.next().expect("the head is long enough");
        thread::sleep(Duration::from_millis(20));
        _ = socket.write_all(&[*byte]);
        closed()
    });
    assert_eq!(
        lines_with(proxy, "takes too long for a request's headers"),
        1
    );
}

#[test]
fn a_head_that_drips_is_given_up() {
    let backend = Backend::start();
    let proxy = before(&backend, IMPATIENT);
    survives(&proxy, || {
        let mut client = proxy.connect();
        let head = format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}", "a".repeat(1000));
        let socket = client.try_clone_stream().expect("a socket");
        drips(&proxy, &socket, head.as_bytes());
        assert_eq!(client.read_response(false).expect("an answer").status, 408);
    });
}

#[test]
fn a_header_block_that_drips_is_given_up_even_if_other_streams_are_open() {
    let backend = Backend::start();
    let proxy = before(&backend, IMPATIENT);
    survives(&proxy, || {
        let mut client = Frames::connect(proxy.addr());
        client.ask(1, fields_with(&[(":path", Some("/hang"))]));
        let mut block = get();
        literal(&mut block, 0x00, b"x", &[b'a'; 1000]);
        let socket = client.socket();
        drips(&proxy, &socket, &frame(HEADERS, WHOLE, 3, block));
        assert_eq!(client.end(), End::Goaway(ENHANCE_YOUR_CALM));
    });
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let backend = Backend::start();
    let proxy = before(&backend, "max_connections_per_ip = 10");
    let idle = survives(&proxy, || {
        let idle: Vec<_> = (0..300).map(|_| Connection::open(proxy.addr())).collect();
        wait_until("refusals", || {
            proxy.metric("lb_address_limit_closed_total") == 291
        });
        idle
    });
    wait_until("the other client's end", || {
        proxy.metric("lb_connections_open") == 9
    });
    drop(idle);
    wait_until("room", || proxy.metric("lb_connections_open") == 0);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_body_that_hardly_comes_is_given_up() {
    use std::io::Write;
    let backend = Backend::start();
    let proxy = before(&backend, "min_body_rate = \"1KiB/s\"");
    survives(&proxy, || {
        let mut client = proxy.connect();
        let mut socket = client.try_clone_stream().expect("a socket");
        let length = [("content-length", "100000")];
        client
            .send_raw(message("POST", "/", &length, b""))
            .expect("sent");
        // Ten seconds behind, and then some for a busy machine.
        let end = Instant::now() + Duration::from_secs(30);
        while proxy.metric("lb_stalled_bodies_total") == 0 {
            assert!(Instant::now() < end, "it is not given up");
            _ = socket.write_all(b"x");
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(client.read_response(false).expect("an answer").status, 408);
    });
}
