//! Answers that come before the answer (RFC 9110, section 15.2): 103 Early Hints and its like, from any version to any.

use std::future::poll_fn;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use http::{Response, StatusCode};
use tokio::sync::Semaphore;

use crate::support::backend::RawBackend;
use crate::support::client::{Connection, Response as Answer, message};
use crate::support::http2::{Http2Backend, connect, get, read, runtime, soon};
use crate::support::proxy::{Proxy, RunningProxy, before_script};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n";
const NO_RETRIES: &str = "[[routes]]\nupstream = \"app\"\nretry = { attempts = 0 }";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The hints, as a head of HTTP/2.
fn hints() -> Response<()> {
    let hints = Response::builder().status(103);
    let hints = hints.header("link", "</x>; rel=preload").body(());
    hints.expect("an answer")
}

/// What the test has seen of what a server waits for.
type Seen = Arc<Semaphore>;

async fn wait_for(seen: &Semaphore) {
    let seen = soon("that the test goes on", seen.acquire()).await;
    seen.expect("nobody closes it").forget();
}

/// A server that sends hints, and the answer once the test has seen them.
fn hinting() -> (RawBackend, Seen) {
    let seen = Seen::new(Semaphore::new(0));
    let awaited = Arc::clone(&seen);
    let backend = RawBackend::start(move |connection| {
        loop {
            connection.read_head()?;
            connection.stream.write_all(HINTS.as_bytes())?;
            runtime().block_on(wait_for(&awaited));
            connection.stream.write_all(OK.as_bytes())?;
        }
    });
    (backend, seen)
}

/// A server of HTTP/2 that does the same.
fn hinting_http2() -> (Http2Backend, Seen) {
    let seen = Seen::new(Semaphore::new(0));
    let awaited = Arc::clone(&seen);
    let backend = Http2Backend::start(move |mut asked| {
        let awaited = Arc::clone(&awaited);
        async move {
            asked.respond.send_informational(hints()).expect("a stream");
            wait_for(&awaited).await;
            asked.answer("ok");
        }
    });
    (backend, seen)
}

fn before_http2(backend: &Http2Backend) -> RunningProxy {
    Proxy::new()
        .unprobed_with("app", &[backend.addr()], "protocol = \"http2\"")
        .start()
}

/// Sends a request, and leaves its answers to be read.
fn ask(client: &mut Connection, method: &str) {
    let request = message(method, "/", &[], b"");
    client.send_raw(request).expect("sent");
}

/// Reads answers of these statuses.
fn answers(client: &mut Connection, statuses: &[u16]) {
    for status in statuses {
        let answer = client.read_response(false).expect("an answer");
        assert_eq!(answer.status, *status);
    }
}

fn is_hint(answer: &Answer, via: &str) {
    assert_eq!((answer.status, answer.text()), (103, ""));
    let fields: Vec<_> = answer.headers.0.iter().collect();
    let expected = [("link", "</x>; rel=preload"), ("via", via)];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields, expected.iter().collect::<Vec<_>>());
}

/// Asks twice over a connection of HTTP/1.1.
fn asks_http1(proxy: &RunningProxy, seen: &Semaphore, via: &str) {
    let mut client = proxy.connect();
    for _ in 0..2 {
        ask(&mut client, "GET");
        is_hint(&client.read_response(false).expect("hints"), via);
        seen.add_permits(1);
        let answer = client.read_response(false).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
}

/// Asks twice over a connection of HTTP/2.
fn asks_http2(proxy: &RunningProxy, seen: &Semaphore, via: &str) {
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        for _ in 0..2 {
            let mut client = client.clone().ready().await.expect("room");
            let (mut answer, _) = client.send_request(get("/"), true).expect("sent");
            let hints = soon("hints", poll_fn(|cx| answer.poll_informational(cx))).await;
            let hints = hints.expect("hints").expect("a stream");
            assert_eq!(hints.status(), 103);
            assert_eq!(hints.headers()["link"], "</x>; rel=preload");
            assert_eq!(hints.headers()["via"], via);
            assert_eq!(hints.headers().len(), 2);
            seen.add_permits(1);
            let answer = soon("an answer", answer).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(read(answer).await.expect("a body").body, b"ok");
        }
    });
}

#[test]
fn hints_reach_clients_of_either_version_before_the_answer_is_there() {
    let (backend, seen) = hinting();
    let proxy = before_script(&backend);
    asks_http1(&proxy, &seen, "1.1 loadbalancer");
    asks_http2(&proxy, &seen, "1.1 loadbalancer");
}

#[test]
fn hints_of_a_server_of_http_2_do_too() {
    let (backend, seen) = hinting_http2();
    let proxy = before_http2(&backend);
    asks_http1(&proxy, &seen, "2.0 loadbalancer");
    asks_http2(&proxy, &seen, "2.0 loadbalancer");
}

#[test]
fn all_of_them_pass_in_order_but_100_which_is_the_proxys_own() {
    let backend = RawBackend::answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\ncontent-length: 5\r\nconnection: close\r\n\r\n\
        HTTP/1.1 103 x\r\nconnection: b\r\na: 1\r\nb: 2\r\n\r\nHTTP/1.1 199 x\r\ntransfer-encoding: chunked\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    for _ in 0..2 {
        ask(&mut client, "GET");
        let mut statuses = Vec::new();
        let answer = loop {
            let answer = client.read_response(false).expect("an answer");
            statuses.push(answer.status);
            if answer.status >= 200 {
                break answer;
            }
            // Nothing about a body or the connection (RFC 9112, section 6.1).
            let fields = answer.headers.0.iter().map(|(name, _)| &**name);
            let expected: &[_] = if answer.status == 103 {
                &["a", "via"]
            } else {
                &["via"]
            };
            assert_eq!(fields.collect::<Vec<_>>(), expected);
        };
        assert_eq!(statuses, [102, 103, 199, 200]);
        assert_eq!(answer.text(), "ok");
    }
    assert_eq!(backend.connections(), 1);
}

/// How many hints a client gets, and the status of what comes behind them.
fn flooded(proxy: &RunningProxy) -> (usize, u16) {
    let mut client = proxy.connect();
    ask(&mut client, "GET");
    let mut hints = 0;
    loop {
        let answer = client.read_response(false).expect("an answer");
        if answer.status != 103 {
            return (hints, answer.status);
        }
        hints += 1;
    }
}

/// The same before a server of HTTP/1.1 that sends so many, and then an answer.
fn flooded_with(count: usize) -> (usize, u16) {
    let backend = RawBackend::start(move |connection| {
        connection.read_head()?;
        for _ in 0..count {
            connection.stream.write_all(HINTS.as_bytes())?;
        }
        connection.stream.write_all(OK.as_bytes())
    });
    flooded(&before_script(&backend))
}

#[test]
fn a_server_cannot_flood_a_client_with_them() {
    assert_eq!(flooded_with(5000), (64, 200));
}

#[test]
fn a_server_that_says_nothing_else_does_not_answer() {
    assert_eq!(flooded_with(usize::MAX), (64, 502));
}

#[test]
fn a_try_that_ends_with_hints_is_made_again() {
    let good = RawBackend::start(|connection| {
        loop {
            connection.read_head()?;
            connection.stream.write_all(OK.as_bytes())?;
        }
    });
    let bad = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.write_all(HINTS.as_bytes())
    });
    let servers = [good.addr(), bad.addr()];
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &servers)
        .start();
    let mut client = proxy.connect();
    for expected in [&[200][..], &[103, 200]] {
        ask(&mut client, "GET");
        answers(&mut client, expected);
    }
}

#[test]
fn hints_without_an_answer_are_none() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.write_all(HINTS.as_bytes())
    });
    let proxy = before_script(&backend);
    let mut client = proxy.connect();
    ask(&mut client, "POST");
    answers(&mut client, &[103, 502]);
}

#[test]
fn who_has_begun_to_answer_had_not_closed_the_connection() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.write_all(OK.as_bytes())?;
        connection.read_head()?;
        connection.stream.write_all(HINTS.as_bytes())
    });
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[backend.addr()])
        .extra(NO_RETRIES)
        .start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").expect("an answer").status, 200);
    ask(&mut client, "GET");
    answers(&mut client, &[103, 502]);
    assert_eq!(backend.heads().len(), 2);
}

#[test]
fn a_stream_that_ends_with_hints_is_not_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, seen) = (Arc::clone(&asked), Seen::new(Semaphore::new(0)));
    let awaited = Arc::clone(&seen);
    let backend = Http2Backend::start(move |mut asked| {
        let (number, awaited) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&awaited));
        async move {
            if number == 0 {
                return asked.answer("ok");
            }
            asked.respond.send_informational(hints()).expect("a stream");
            wait_for(&awaited).await;
            asked.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    });
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed_with("app", &[backend.addr()], "protocol = \"http2\"")
        .extra(NO_RETRIES)
        .start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").expect("an answer").status, 200);
    ask(&mut client, "GET");
    is_hint(
        &client.read_response(false).expect("hints"),
        "2.0 loadbalancer",
    );
    seen.add_permits(1);
    assert_eq!(client.read_response(false).expect("an answer").status, 502);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_server_of_http_2_cannot_flood_either() {
    let backend = Http2Backend::start(|mut asked| async move {
        for _ in 0..20_000 {
            asked.respond.send_informational(hints()).expect("a stream");
        }
        asked.answer("ok");
    });
    assert_eq!(flooded(&before_http2(&backend)), (64, 502));
}
