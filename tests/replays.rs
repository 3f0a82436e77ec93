//! Bodies of requests that have to be sent again: what is kept for that, and what is not.

use std::io::{Read, Write};
use std::sync::mpsc;

use crate::support::DEADLINE;
use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{message, request};
use crate::support::http2::{self, connect, exchange, runtime};
use crate::support::proxy::{Proxy, RunningProxy};

const BODY: &[u8] = b"a precious body";
const CHUNKED: &[(&str, &str)] = &[("transfer-encoding", "chunked")];

/// Takes a request with a body of 15 bytes, or what comes of a longer one, and closes the connection.
fn dropping() -> RawBackend {
    RawBackend::start(|connection| {
        connection.read_head()?;
        connection.stream.read_exact(&mut [0; BODY.len()])
    })
}

fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let chunks = body.chunks(size).map(|chunk| {
        let mut line = format!("{:x}\r\n", chunk.len()).into_bytes();
        line.extend_from_slice(chunk);
        line.extend_from_slice(b"\r\n");
        line
    });
    let mut all: Vec<u8> = chunks.flatten().collect();
    all.extend_from_slice(b"0\r\n\r\n");
    all
}

/// Before a server that drops requests and one that echoes them.
fn before(dropping: &RawBackend, backend: &Backend, retry: &str) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[dropping.addr(), backend.addr()])
        .extra(&format!("[[routes]]\nupstream = \"app\"\n{retry}"))
        .start()
}

#[test]
fn a_small_body_is_sent_again() {
    let (dropping, backend) = (dropping(), Backend::start());
    let proxy = before(&dropping, &backend, "");
    for _ in 0..2 {
        let answer = request(proxy.addr(), message("PUT", "/echo", &[], BODY));
        assert_eq!((answer.status, &*answer.body), (200, BODY));
        let chunked = message("PUT", "/echo", CHUNKED, &in_chunks(BODY, 4));
        let answer = request(proxy.addr(), chunked);
        assert_eq!((answer.status, &*answer.body), (200, BODY));
    }
    assert_eq!(dropping.heads().len(), 2, "{:?}", dropping.heads());
    let retried = proxy.metric_with("lb_upstream_retries_total", "reason=\"reset\"");
    assert_eq!(retried, 2);
}

#[test]
fn a_body_as_large_as_may_be_is_sent_again_and_a_larger_one_is_not() {
    let (dropping, backend) = (dropping(), Backend::start());
    let proxy = before(&dropping, &backend, "retry = { max_body = \"20000B\" }");
    let largest: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    let larger = [&*largest, b"!"].concat();
    for chunked in [false, true] {
        let ask = |body: &[u8]| match chunked {
            false => request(proxy.addr(), message("PUT", "/echo", &[], body)),
            true => {
                let bytes = message("PUT", "/echo", CHUNKED, &in_chunks(body, 999));
                request(proxy.addr(), bytes)
            }
        };
        let answers = [ask(&largest), ask(&largest)];
        for answer in answers {
            assert_eq!(answer.status, 200, "chunked: {chunked}");
            assert_eq!(answer.body, largest);
        }
        let mut statuses = [ask(&larger).status, ask(&larger).status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 502], "chunked: {chunked}");
    }
}

#[test]
fn a_body_that_has_not_come_as_a_whole_goes_on_after_what_was_sent_again() {
    let (report, reports) = mpsc::channel();
    let dropping = RawBackend::start(move |connection| {
        connection.read_head()?;
        connection.stream.read_exact(&mut [0; 8])?;
        report.send(()).map_err(std::io::Error::other)
    });
    let backend = Backend::start();
    let proxy = before(&dropping, &backend, "");
    for _ in 0..2 {
        let mut client = proxy.connect();
        let whole = message("PUT", "/echo", &[], BODY);
        let (begin, rest) = whole.split_at(whole.len() - BODY.len() + 8);
        client.send_raw(begin).expect("a connection");
        if dropping.connections() == 0 {
            reports.recv_timeout(DEADLINE).expect("it is dropped");
        }
        client.send_raw(rest).expect("a connection");
        let answer = client.read_response(false).expect("an answer");
        assert_eq!((answer.status, &*answer.body), (200, BODY));
        // The connection is as good as ever.
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
}

#[test]
fn bodies_of_http_2_are_sent_again_too() {
    let (dropping, backend) = (dropping(), Backend::start());
    let proxy = before(&dropping, &backend, "");
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        for _ in 0..2 {
            let put = http2::request("PUT", "/echo");
            let answer = exchange(&client, put, BODY).await.expect("an answer");
            assert_eq!((answer.status(), &*answer.body), (200, BODY));
        }
    });
    assert_eq!(dropping.heads().len(), 1);
}

#[test]
fn a_body_meets_the_close_of_a_used_connection_and_goes_on_a_new_one() {
    // Answers the first request on each connection and closes it at the second, with its body.
    let server = RawBackend::start(|connection| {
        for turn in 0..2 {
            connection.read_head()?;
            connection.stream.read_exact(&mut [0; BODY.len()])?;
            if turn == 0 {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                connection.stream.write_all(answer)?;
            }
        }
        Ok(())
    });
    let proxy = Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[server.addr()])
        .start();
    for _ in 0..5 {
        let answer = request(proxy.addr(), message("PUT", "/", &[], BODY));
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
    assert_eq!((server.connections(), server.heads().len()), (5, 9));
    // What must not be made twice is lost there, and counted.
    let answer = request(proxy.addr(), message("POST", "/", &[], BODY));
    assert_eq!(answer.status, 502);
    assert_eq!(proxy.metric("lb_upstream_lost_on_close_total"), 1);
}
