//! Probes against real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

async fn listener() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, target(&[addr]))
}

fn target(addrs: &[SocketAddr]) -> Target {
    Target {
        address: "app.internal:3000".to_owned(),
        addrs: addrs.to_vec(),
        ..Target::default()
    }
}

/// An address that nobody listens on.
async fn closed_port() -> SocketAddr {
    listener().await.1.addrs[0]
}

/// Takes one connection and reads the head of its request.
async fn accept(listener: TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(request).unwrap())
}

/// A server that gives `answer` to one request and closes; the task ends with the request's head.
async fn server(answer: impl Into<Vec<u8>>) -> (Target, JoinHandle<String>) {
    let (listener, target) = listener().await;
    let answer = answer.into();
    let served = tokio::spawn(async move {
        let (mut stream, request) = accept(listener).await;
        // The probe may have given up on a large answer.
        let _ = stream.write_all(&answer).await;
        request
    });
    (target, served)
}

fn health() -> HttpProbe {
    HttpProbe {
        path: PathAndQuery::from_static("/health?full=1"),
        host: None,
        expect: StatusRanges::default(),
    }
}

async fn error_for(answer: impl Into<Vec<u8>>) -> String {
    let (target, _served) = server(answer).await;
    let result = health().probe(&target).await;
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn the_request_is_a_get_on_a_connection_of_its_own() {
    let (target, served) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    health().probe(&target).await.unwrap();
    assert_eq!(
        served.await.unwrap(),
        "GET /health?full=1 HTTP/1.1\r\n\
         user-agent: loadbalancer-health\r\n\
         accept: */*\r\n\
         host: app.internal:3000\r\n\
         connection: close\r\n\r\n"
    );
}

#[tokio::test]
async fn the_host_header_can_be_configured() {
    let (target, served) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let probe = HttpProbe {
        host: Some(HeaderValue::from_static("www.example.com")),
        ..health()
    };
    probe.probe(&target).await.unwrap();
    let request = served.await.unwrap();
    assert!(
        request.contains("\r\nhost: www.example.com\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn the_status_decides() {
    for good in [200, 204, 299, 301, 399] {
        let (target, _served) = server(format!("HTTP/1.1 {good} X\r\n\r\n")).await;
        health().probe(&target).await.unwrap();
    }
    for bad in [400, 404, 500, 503] {
        let error = error_for(format!("HTTP/1.1 {bad} X\r\n\r\n")).await;
        assert_eq!(error, format!("status {bad}"));
    }
}

#[tokio::test]
async fn the_expected_statuses_can_be_configured() {
    let probe = HttpProbe {
        expect: StatusRanges::new([204..=204, 500..=599]),
        ..health()
    };
    for (status, is_good) in [(200, false), (204, true), (404, false), (503, true)] {
        let (target, _served) = server(format!("HTTP/1.1 {status} X\r\n\r\n")).await;
        assert_eq!(probe.probe(&target).await.is_ok(), is_good, "{status}");
    }
}

#[tokio::test]
async fn an_informational_answer_is_not_the_answer() {
    let error = error_for("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 No\r\n\r\n").await;
    assert_eq!(error, "status 500");
}

#[tokio::test]
async fn what_is_not_an_answer_is_a_bad_response() {
    let large = format!(
        "HTTP/1.1 200 OK\r\nx: {}\r\n\r\n",
        "y".repeat(4 * HEAD_LIMIT)
    );
    for (answer, reason) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "invalid HTTP version"),
        ("HTTP/1.1 200 OK\r\nx: ", "connection closed"),
        ("", "connection closed"),
        (&large, "message head is too large"),
    ] {
        let error = error_for(answer).await;
        let expected = format!("bad response: {reason}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn a_closed_port_is_told_with_its_address() {
    let addr = closed_port().await;
    for probe in [Probe::Http(health()), Probe::Tcp(TcpProbe)] {
        let error = probe.probe(&target(&[addr])).await.unwrap_err();
        assert!(
            matches!(&error, ProbeError::Connect { addr: told, source }
                if *told == addr && source.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .starts_with(&format!("connect to {addr}: "))
        );
    }
}

#[tokio::test]
async fn all_addresses_are_tried() {
    let closed = closed_port().await;
    let (target, _served) = server("HTTP/1.1 200 OK\r\n\r\n").await;
    let both = Target {
        addrs: vec![closed, target.addrs[0]],
        ..target
    };
    health().probe(&both).await.unwrap();
}

#[tokio::test]
async fn without_an_address_there_is_nothing_to_connect_to() {
    for probe in [Probe::Http(health()), Probe::Tcp(TcpProbe)] {
        let error = probe.probe(&target(&[])).await.unwrap_err();
        assert!(matches!(error, ProbeError::NoAddress), "{error:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_no_host_header_is_refused() {
    let target = Target {
        address: "app\n:80".to_owned(),
        addrs: Vec::new(),
        ..Target::default()
    };
    let error = health().probe(&target).await.unwrap_err();
    assert!(matches!(error, ProbeError::Host(_)), "{error:?}");
}

#[tokio::test]
async fn tcp_needs_nothing_but_a_connection() {
    let (listener, target) = listener().await;
    TcpProbe.probe(&target).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert!(received.is_empty());
}

#[tokio::test]
async fn a_body_is_not_waited_for_and_yet_read_so_that_the_server_sees_no_reset() {
    let (listener, target) = listener().await;
    let (judged, verdict) = oneshot::channel();
    let server = tokio::spawn(async move {
        let (mut stream, _) = accept(listener).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        stream.write_all(head).await.unwrap();
        verdict.await.unwrap();
        // The reset that answers a write to a closed socket shows in the next one.
        stream.write_all(b"go").await.unwrap();
        stream.write_all(b"od").await.unwrap();
        stream.read(&mut [0; 1]).await
    });
    health().probe(&target).await.unwrap();
    judged.send(()).unwrap();
    assert_eq!(server.await.unwrap().unwrap(), 0, "closed in good order");
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let (listener, target) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = accept(listener).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    health().probe(&target).await.unwrap();
    let cut_off = tokio::time::timeout(Duration::from_secs(10), server).await;
    cut_off.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn a_dropped_probe_closes_its_connection() {
    let (listener, target) = listener().await;
    let probe = tokio::spawn(async move { health().probe(&target).await });
    let (mut stream, _) = accept(listener).await;
    probe.abort();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 1])).await;
    assert_eq!(read.expect("the connection ends").unwrap(), 0);
}
