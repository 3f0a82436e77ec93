//! HTTP/2 towards servers (RFC 9113), by prior knowledge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::support::client::{self, message};
use crate::support::http2::{
    Asked, Http2Backend, connect, exchange, get, read, read_body, request, runtime, soon,
};
use crate::support::in_parallel;
use crate::support::proxy::{Proxy, RunningProxy};

/// A proxy with one worker before a server of HTTP/2.
fn before(backend: &Http2Backend) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed_with("app", &[backend.addr()], "protocol = \"http2\"")
        .start()
}

/// Answers with what it was sent, trailers included.
async fn echo(mut asked: Asked) {
    let (body, trailers) = read_body(asked.request.body_mut()).await.expect("a body");
    let mut sending = asked.begin(Response::new(()));
    sending
        .send_data(Bytes::from(body), false)
        .expect("a stream");
    let trailers = trailers.unwrap_or_default();
    sending.send_trailers(trailers).expect("a stream");
}

#[test]
fn a_request_of_http_1_becomes_one_of_http_2() {
    let backend = Http2Backend::start(|mut asked| async move {
        let (head, fields) = (&asked.request, asked.request.headers());
        assert_eq!(head.method(), "GET");
        let text = format!(
            "{} {} {} {:?} {:?}",
            head.uri(),
            fields["x-forwarded-for"].to_str().expect("text"),
            fields["via"].to_str().expect("text"),
            fields.get("connection"),
            fields.get("host"),
        );
        asked.answer(&text);
    });
    let proxy = before(&backend);
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client
            .request(message(
                "GET",
                "/a?b=c",
                &[("host", "a.example"), ("keep-alive", "1")],
                b"",
            ))
            .expect("an answer");
        assert_eq!(
            answer.text(),
            "http://a.example/a?b=c 127.0.0.1 1.1 loadbalancer None None"
        );
        assert_eq!(answer.headers.get("via"), Some("2.0 loadbalancer"));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn bodies_of_any_size_pass_both_ways_from_either_version() {
    let backend = Http2Backend::start(echo);
    let proxy = before(&backend);
    let body: Vec<u8> = (0..2_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    for length in [0, 1, 65_535, 65_536, body.len()] {
        let body = &body[..length];
        let answer = client::request(proxy.addr(), message("POST", "/", &[], body));
        assert!(answer.body == body, "{length} bytes over HTTP/1.1");
    }
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        for length in [0, 1, 65_536, body.len()] {
            let body = &body[..length];
            let answer = exchange(&client, request("POST", "/"), body).await;
            assert!(answer.expect("an answer").body == body, "{length} bytes");
        }
    });
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_call_of_grpc_streams_both_ways_and_ends_with_its_status() {
    let backend = Http2Backend::start(|mut asked| async move {
        assert_eq!(asked.request.headers()["te"], "trailers");
        let mut sending = asked.begin(Response::new(()));
        while let Some(data) = asked.request.body_mut().data().await {
            sending
                .send_data(data.expect("data"), false)
                .expect("a stream");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sending.send_trailers(trailers).expect("a stream");
    });
    let proxy = before(&backend);
    runtime().block_on(async {
        let mut client = connect(proxy.addr()).await;
        let mut call = request("POST", "/a.B/C");
        let fields = [("te", "trailers"), ("content-type", "application/grpc")];
        for (name, value) in fields {
            call.headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        let (answer, mut sending) = client.send_request(call, false).expect("a stream");
        let mut answer = soon("the head, before the body's end", answer)
            .await
            .expect("a head");
        for message in ["one", "two", "three"] {
            let data = Bytes::from_static(message.as_bytes());
            sending.send_data(data, false).expect("a stream");
            let echoed = soon("each message as it is sent", answer.body_mut().data()).await;
            assert_eq!(echoed.expect("data").expect("data"), message);
        }
        sending.send_data(Bytes::new(), true).expect("a stream");
        let answer = soon("the end", read(answer)).await.expect("an end");
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn many_requests_share_connections_as_far_as_the_server_lets_them() {
    let mut settings = server::Builder::new();
    settings.max_concurrent_streams(4);
    let open = Arc::new(AtomicUsize::new(0));
    let backend = Http2Backend::start_with(settings, move |mut asked| {
        let open = Arc::clone(&open);
        async move {
            assert!(open.fetch_add(1, Ordering::SeqCst) < 100);
            tokio::time::sleep(Duration::from_millis(50)).await;
            open.fetch_sub(1, Ordering::SeqCst);
            asked.answer("ok");
        }
    });
    let proxy = before(&backend);
    // The first one learns what the server lets.
    assert_eq!(proxy.get("/").text(), "ok");
    let answers = in_parallel(16, |_| proxy.get("/").text().to_owned());
    assert!(answers.iter().all(|answer| answer == "ok"));
    let connections = backend.connections();
    assert!((2..=8).contains(&connections), "{connections} connections");
}

#[test]
fn a_refused_stream_is_tried_again_whatever_its_method() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let backend = Http2Backend::start(move |mut asked| {
        let refuse = counted.fetch_add(1, Ordering::SeqCst) == 1;
        async move {
            if refuse {
                asked.respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                asked.answer("ok");
            }
        }
    });
    let proxy = before(&backend);
    assert_eq!(proxy.get("/").text(), "ok");
    let answer = client::request(proxy.addr(), message("POST", "/", &[], b""));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_refused_stream_is_tried_again_with_the_body_that_it_got() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let backend = Http2Backend::start(move |mut asked| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                // Only once all of it is there.
                _ = read_body(asked.request.body_mut()).await;
                asked.respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                echo(asked).await;
            }
        }
    });
    let proxy = before(&backend);
    let chunked = [("transfer-encoding", "chunked")];
    let bodies = [
        message("POST", "/", &[], b"precious"),
        message(
            "POST",
            "/",
            &chunked,
            b"4\r\nprec\r\n4\r\nious\r\n0\r\n\r\n",
        ),
    ];
    for body in bodies {
        tries.store(0, Ordering::SeqCst);
        let answer = client::request(proxy.addr(), body);
        assert_eq!((answer.status, answer.text()), (200, "precious"));
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn a_stream_that_breaks_off_is_no_whole_answer() {
    let backend = Http2Backend::start(|mut asked| async move {
        let mut sending = asked.begin(Response::new(()));
        sending
            .send_data(Bytes::from_static(b"half"), false)
            .expect("a stream");
        tokio::time::sleep(Duration::from_millis(20)).await;
        sending.send_reset(Reason::INTERNAL_ERROR);
    });
    let proxy = before(&backend);
    let mut client = proxy.connect();
    let answer = client.request(message("GET", "/", &[], b""));
    assert!(answer.is_err(), "{answer:?}");
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        let answer = exchange(&client, get("/"), b"").await;
        assert!(answer.expect_err("a reset").is_reset());
    });
}

#[test]
fn trailers_with_space_around_a_value_are_no_end_of_an_answer() {
    for value in [" y", "y ", "\ty", "y\t"] {
        let backend = Http2Backend::start(move |mut asked| async move {
            let mut sending = asked.begin(Response::new(()));
            let half = Bytes::from_static(b"half");
            sending.send_data(half, false).expect("a stream");
            let fields = [(
                HeaderName::from_static("x"),
                HeaderValue::from_static(value),
            )];
            let sent = sending.send_trailers(HeaderMap::from_iter(fields));
            sent.expect("a stream");
        });
        let proxy = before(&backend);
        let answer = proxy.connect().request(message("GET", "/", &[], b""));
        assert!(answer.is_err(), "{value:?}: {answer:?}");
        runtime().block_on(async {
            let client = connect(proxy.addr()).await;
            let answer = exchange(&client, get("/"), b"").await;
            assert!(answer.expect_err("a reset").is_reset(), "{value:?}");
        });
    }
}

#[test]
fn a_server_that_speaks_http_1_only_is_a_bad_gateway() {
    let backend = crate::support::backend::Backend::start();
    let proxy = Proxy::new()
        .unprobed_with("app", &[backend.addr()], "protocol = \"http2\"")
        .start();
    assert_eq!(proxy.get("/").status, 502);
}

#[test]
fn a_request_may_have_all_the_fields_that_it_may_have() {
    let backend = Http2Backend::start(|mut asked| async move {
        let fields = asked.request.headers().keys();
        let own = fields
            .filter(|name| name.as_str().starts_with("x-f"))
            .count();
        asked.answer(&own.to_string());
    });
    let proxy = before(&backend);
    let fields: Vec<_> = (0..98).map(|number| format!("x-f{number}")).collect();
    let fields: Vec<_> = fields.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = client::request(proxy.addr(), message("GET", "/", &fields, b""));
    // Beside those, x-forwarded-* begin so.
    assert_eq!((answer.status, answer.text()), (200, "101"));
}

#[test]
fn upgrades_share_connections_as_http_2_has_none() {
    let backend = Http2Backend::start(|mut asked| async move { asked.answer("ok") });
    let proxy = before(&backend);
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    for _ in 0..5 {
        let answer = client::request(proxy.addr(), message("GET", "/", &fields, b""));
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_server_that_takes_nothing_is_given_up_in_the_upstreams_time() {
    let backend = Http2Backend::start(|asked| async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(asked);
    });
    let toml = "protocol = \"http2\"\ntimeouts = { idle = \"300ms\" }";
    let proxy = Proxy::new()
        .unprobed_with("app", &[backend.addr()], toml)
        .start();
    let answer = client::request(proxy.addr(), message("POST", "/", &[], &[0; 1_000_000]));
    assert_eq!(answer.status, 502);
}
