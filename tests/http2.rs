//! HTTP/2 towards clients (RFC 9113), by prior knowledge.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use tokio::time::sleep;

use crate::support::DEADLINE;
use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{self, message};
use crate::support::http2::{connect, exchange, get, read, read_body, request, runtime, soon};
use crate::support::proxy::{self, Proxy};

/// Waits until something is so, while the connections are driven.
async fn until(condition: impl Fn() -> bool) {
    soon("a condition", async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[test]
fn a_request_goes_to_a_server_and_its_answer_comes_back() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        let answer = exchange(&client, get("/headers"), b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.field("x-backend"), Some(backend.name()));
        assert!(answer.field("x-request-id").is_some() && answer.field("date").is_some());
        assert_eq!(answer.field("connection"), None);
        let seen = answer.json();
        assert_eq!(seen["headers"]["via"], json!(["2.0 loadbalancer"]));
        assert_eq!(seen["headers"]["host"], json!(["example.com"]));
        assert_eq!(seen["headers"]["x-forwarded-proto"], json!(["http"]));
        assert_eq!(seen["version"], "HTTP/1.1");
    });
}

#[test]
fn streams_share_a_connection_and_do_not_wait_for_each_other() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        let slow = exchange(&client, get("/hang"), b"");
        let fast = async {
            for _ in 0..50 {
                let answer = exchange(&client, get("/"), b"").await.expect("an answer");
                assert_eq!(answer.status(), 200);
            }
        };
        tokio::select! {
            _ = slow => panic!("the slow one came first"),
            () = fast => {}
        }
    });
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        for length in [1, 16_384, 65_536, body.len()] {
            let body = &body[..length];
            let answer = exchange(&client, request("POST", "/echo"), body).await;
            assert!(answer.expect("an answer").body == body, "{length} bytes");
        }
    });
}

#[test]
fn trailers_pass_both_ways_without_being_announced() {
    let backend = RawBackend::start(|connection| {
        let head = connection.read_head()?;
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"));
        let mut body = Vec::new();
        while !body.ends_with(b"x-sum: 1\r\n\r\n") {
            let mut byte = [0];
            connection.stream.read_exact(&mut byte)?;
            body.push(byte[0]);
        }
        connection.stream.write_all(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\nhost: a\r\n\r\n",
        )
    });
    let proxy = proxy::before_script(&backend);
    runtime().block_on(async {
        let mut client = connect(proxy.addr()).await;
        let (answer, mut sending) = client
            .send_request(request("POST", "/"), false)
            .expect("a stream");
        sending
            .send_data(Bytes::from_static(b"body"), false)
            .expect("a stream");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        sending.send_trailers(trailers).expect("a stream");
        let answer = soon("an answer", async {
            read(answer.await.expect("an answer")).await
        });
        let answer = answer.await.expect("a body");
        assert_eq!(answer.body, b"ok");
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(trailers.get("grpc-status").expect("it passes"), "0");
        assert!(!trailers.contains_key("host"));
    });
}

#[test]
fn crumbs_of_a_cookie_become_one_and_the_authority_wins_over_host() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        let mut request = get("/headers");
        for (name, value) in [
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("host", "evil.example"),
        ] {
            request
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        let answer = exchange(&client, request, b"").await.expect("an answer");
        let seen = answer.json();
        assert_eq!(seen["headers"]["cookie"], json!(["a=1; b=2"]));
        assert_eq!(seen["headers"]["host"], json!(["example.com"]));
    });
}

#[test]
fn refusals_are_answers_and_leave_the_connection_open() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra("[[routes]]\npaths = [\"/small\"]\nupstream = \"app\"\nmax_body = 10")
        .start();
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        let answer = exchange(&client, get("/nothing"), b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 404);
        let answer = exchange(&client, request("POST", "/small"), &[0; 1000]).await;
        assert_eq!(answer.expect("an answer").status(), 413);
        let answer = exchange(&client, request("TRACE", "/small"), b"").await;
        assert_eq!(answer.expect("an answer").status(), 405);
    });
}

#[test]
fn errors_are_statuses_of_grpc_to_grpc() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .upstream("nobody", &[] as &[&str])
        .extra("[[routes]]\npaths = [\"/a.B/*\"]\nupstream = \"nobody\"")
        .start();
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        for (path, status) in [("/a.B/C", "14"), ("/none", "12")] {
            let mut request = request("POST", path);
            let grpc = HeaderValue::from_static("application/grpc+proto");
            request.headers_mut().insert("content-type", grpc);
            let answer = exchange(&client, request, b"").await.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.field("content-type"), Some("application/grpc"));
            assert_eq!(answer.field("grpc-status"), Some(status), "{path}");
            assert!(answer.field("grpc-message").is_some());
        }
    });
}

#[test]
fn a_stream_that_the_client_takes_back_ends_its_request_at_the_server() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let mut client = connect(proxy.addr()).await;
        let (answer, mut sending) = client.send_request(get("/hang"), true).expect("a stream");
        until(|| proxy.metric("lb_server_in_flight") == 1).await;
        sending.send_reset(h2::Reason::CANCEL);
        drop(answer);
        until(|| proxy.metric("lb_server_in_flight") == 0).await;
        let client = client.ready().await.expect("the connection stays");
        let answer = exchange(&client, get("/"), b"").await.expect("an answer");
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn a_preface_in_pieces_is_awaited_and_what_begins_like_one_is_http_1() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    let mut client = TcpStream::connect(proxy.addr()).expect("a connection");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket");
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.write_all(&[*byte]).expect("sent");
    }
    let mut frame = [0; 9];
    client.read_exact(&mut frame).expect("settings");
    assert_eq!(frame[3], 4, "the first frame is SETTINGS");

    let answer = client::request(proxy.addr(), message("POST", "/echo", &[], b"ok"));
    assert_eq!(answer.status, 200);
    let answer = client::request(proxy.addr(), "PRI * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answer.status, 400);
}

#[test]
fn connections_are_told_to_end_when_the_proxy_drains() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let mut client = connect(proxy.addr()).await;
        let (answer, _) = client
            .send_request(get("/delay/300"), true)
            .expect("a stream");
        let idle = connect(proxy.addr()).await;
        until(|| proxy.metric("lb_server_in_flight") == 1).await;
        proxy.process().signal("TERM");
        let answer = soon("an answer", async { read(answer.await?).await }).await;
        assert_eq!(answer.expect("what is under way is finished").status(), 200);
        soon("the idle connection ends", async {
            while idle.clone().ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

#[test]
fn a_websocket_over_a_stream_is_an_upgrade_to_its_server() {
    let backend = RawBackend::start(|connection| {
        let head = connection.read_head()?.to_lowercase();
        assert!(head.starts_with("get /chat http/1.1\r\n"), "{head}");
        for field in [
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-version: 13",
        ] {
            assert!(head.contains(&format!("{field}\r\n")), "{head}");
        }
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "));
        assert_eq!(key.expect("a key").len(), 24);
        connection.stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-accept: x\r\nsec-websocket-protocol: chat\r\n\r\nearly",
        )?;
        let mut bytes = [0; 5];
        while connection.stream.read_exact(&mut bytes).is_ok() {
            connection.stream.write_all(&bytes)?;
        }
        Ok(())
    });
    let proxy = proxy::before_script(&backend);
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        // The server's settings say whether it can be asked.
        until_enabled(&client).await;
        let mut request = request("CONNECT", "/chat");
        let protocol = h2::ext::Protocol::from_static("websocket");
        request.extensions_mut().insert(protocol);
        let version = HeaderValue::from_static("13");
        request
            .headers_mut()
            .insert("sec-websocket-version", version);
        let mut client = client.ready().await.expect("room");
        let (answer, mut sending) = client.send_request(request, false).expect("a stream");
        let mut answer = soon("an answer", answer).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        for name in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        let stream = answer.body_mut();
        let early = soon("what came early", stream.data()).await;
        assert_eq!(early.expect("data").expect("data"), "early");
        for text in ["hello", "\0\u{1}\n\r\u{2}"] {
            sending
                .send_data(Bytes::from(text), false)
                .expect("a stream");
            let echo = soon("an echo", stream.data()).await.expect("data");
            assert_eq!(echo.expect("data"), text);
        }
        sending.send_data(Bytes::new(), true).expect("a stream");
        let (rest, _) = soon("the end", read_body(stream)).await.expect("an end");
        assert_eq!(rest, b"");
    });
}

#[test]
fn connect_without_a_protocol_is_refused() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        until_enabled(&client).await;
        let mut tunnel = request("CONNECT", "/");
        *tunnel.uri_mut() = "example.com:443".parse().expect("an authority");
        let answer = exchange(&client, tunnel, b"").await.expect("an answer");
        assert_eq!(answer.status(), 405);
        let mut other = request("CONNECT", "/");
        let protocol = h2::ext::Protocol::from_static("connect-udp");
        other.extensions_mut().insert(protocol);
        let answer = exchange(&client, other, b"").await.expect("an answer");
        assert_eq!(answer.status(), 405);
    });
}

async fn until_enabled(client: &h2::client::SendRequest<Bytes>) {
    until(|| client.is_extended_connect_protocol_enabled()).await;
}

#[test]
fn a_page_in_place_of_a_websocket_is_no_websocket() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    runtime().block_on(async {
        let client = connect(proxy.addr()).await;
        until_enabled(&client).await;
        let mut websocket = request("CONNECT", "/");
        let protocol = h2::ext::Protocol::from_static("websocket");
        websocket.extensions_mut().insert(protocol);
        let answer = exchange(&client, websocket, b"").await.expect("an answer");
        assert_eq!(answer.status(), 502);
        assert!(answer.field("x-request-id").is_some());
    });
}

#[test]
fn what_a_client_takes_slowly_is_no_reason_to_end() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { keep_alive = \"200ms\" }")
        .unprobed("app", &[backend.addr()])
        .start();
    runtime().block_on(async {
        let mut client = connect(proxy.addr()).await;
        let (answer, _) = client
            .send_request(get("/bytes/200000"), true)
            .expect("a stream");
        let mut answer = soon("a head", answer).await.expect("a head");
        let stream = answer.body_mut();
        let mut length = 0;
        while let Some(data) = soon("data", stream.data()).await {
            let data = data.expect("the whole of it");
            length += data.len();
            sleep(Duration::from_millis(100)).await;
            stream
                .flow_control()
                .release_capacity(data.len())
                .expect("room");
        }
        assert_eq!(length, 200_000);
    });
}
