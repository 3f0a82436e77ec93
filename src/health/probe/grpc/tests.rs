//! The probe against a small HTTP/2 server, and its messages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use hyper::body::{Body, Frame};
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// The parts of an answer's body, in order.
struct Parts(Vec<Frame<Bytes>>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = (!self.0.is_empty()).then(|| self.0.remove(0));
        Poll::Ready(next.map(Ok))
    }
}

/// What a server answers.
#[derive(Clone, Default)]
struct Answer {
    status: StatusCode,
    fields: Vec<(&'static str, &'static str)>,
    message: Vec<u8>,
    trailers: Vec<(&'static str, &'static str)>,
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields.iter().map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    fields.collect()
}

impl Answer {
    fn response(self) -> Response<Parts> {
        let mut parts = Vec::new();
        // A byte at a time, as it may come.
        for byte in self.message {
            parts.push(Frame::data(Bytes::from(vec![byte])));
        }
        if !self.trailers.is_empty() {
            parts.push(Frame::trailers(map(&self.trailers)));
        }
        let mut response = Response::new(Parts(parts));
        *response.status_mut() = self.status;
        *response.headers_mut() = map(&self.fields);
        response
    }
}

/// The health service's answer with this status.
fn serving(status: u8) -> Answer {
    Answer {
        message: vec![0, 0, 0, 0, 2, 8, status],
        trailers: vec![("grpc-status", "0")],
        ..Answer::default()
    }
}

fn failing(code: &'static str) -> Answer {
    Answer {
        fields: vec![("grpc-status", code), ("grpc-message", "no%20luck")],
        ..Answer::default()
    }
}

type Asked = Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>;

/// A server that takes one connection; its task ends with the connection.
async fn server(answer: Answer) -> (Target, Asked, JoinHandle<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        address: "app.internal:3000".to_owned(),
        addrs: vec![listener.local_addr().unwrap()],
        ..Target::default()
    };
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let (answer, seen) = (answer.clone(), Arc::clone(&seen));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                seen.lock().unwrap().push((head, body));
                Ok::<_, Infallible>(answer.response())
            }
        });
        let connection = server::Builder::new(TokioExecutor::new());
        let connection = connection.serve_connection(TokioIo::new(stream), service);
        connection.await.is_ok()
    });
    (target, asked, served)
}

async fn probe(answer: Answer) -> Result<(), String> {
    let (target, _, _served) = server(answer).await;
    let result = GrpcProbe::default().probe(&target).await;
    result.map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_health_service_is_called_as_grpc_says() {
    let (target, asked, served) = server(serving(1)).await;
    let service = "users".to_owned();
    GrpcProbe { service }.probe(&target).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), served).await;
    assert!(ended.unwrap().unwrap(), "the connection is closed in order");

    let asked = asked.lock().unwrap();
    let [(head, body)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!(head.method, Method::POST);
    assert_eq!(
        head.uri,
        "http://app.internal:3000/grpc.health.v1.Health/Check"
    );
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["user-agent"], "loadbalancer-health");
    assert_eq!(&body[..], b"\0\0\0\0\x07\x0a\x05users");
}

#[tokio::test]
async fn who_serves_is_healthy_and_nobody_else() {
    assert_eq!(probe(serving(1)).await, Ok(()));
    for (status, name) in [
        (0, "UNKNOWN"),
        (2, "NOT_SERVING"),
        (3, "SERVICE_UNKNOWN"),
        (9, "9"),
    ] {
        let error = format!("gRPC health is {name}");
        assert_eq!(probe(serving(status)).await, Err(error));
    }
    let empty = Answer {
        message: vec![0; 5],
        ..serving(0)
    };
    assert_eq!(probe(empty).await, Err("gRPC health is UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_failed_call_says_why() {
    for (code, error) in [
        (
            "5",
            "gRPC status 5 (NOT_FOUND: it does not know the service): no%20luck",
        ),
        (
            "12",
            "gRPC status 12 (UNIMPLEMENTED: it has no health service): no%20luck",
        ),
        ("99", "gRPC status 99 (no known one): no%20luck"),
        ("x", "bad gRPC response: its grpc-status is no number"),
    ] {
        assert_eq!(probe(failing(code)).await, Err(error.to_owned()));
    }
    let late = Answer {
        trailers: vec![("grpc-status", "14")],
        ..serving(1)
    };
    let error = "gRPC status 14 (UNAVAILABLE)".to_owned();
    assert_eq!(probe(late).await, Err(error));
}

#[tokio::test]
async fn what_is_no_answer_of_the_health_service_fails() {
    let message = |message: &[u8]| Answer {
        message: message.to_vec(),
        ..serving(1)
    };
    let not_found = Answer {
        status: StatusCode::NOT_FOUND,
        ..Answer::default()
    };
    let endless = vec![0; MESSAGE_LIMIT + 1];
    for (answer, error) in [
        (not_found, "status 404"),
        (
            Answer::default(),
            "bad gRPC response: it has no grpc-status",
        ),
        (message(b""), "bad gRPC response: it has no message"),
        (
            message(b"\x01\0\0\0\x02\x08\x01"),
            "bad gRPC response: its message is compressed",
        ),
        (
            message(b"\0\0\0\0\x03\x08\x01"),
            "bad gRPC response: its message is not as long as it says",
        ),
        (
            message(b"\0\0\0\0\x02\x08\xff"),
            "bad gRPC response: its message is malformed",
        ),
        (
            message(&endless),
            "bad gRPC response: its message is too long",
        ),
    ] {
        assert_eq!(probe(answer).await, Err(error.to_owned()));
    }
}

#[tokio::test]
async fn who_does_not_speak_http_2_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        address: "app.internal:3000".to_owned(),
        addrs: vec![listener.local_addr().unwrap()],
        ..Target::default()
    };
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await
    });
    let error = GrpcProbe::default().probe(&target).await.unwrap_err();
    assert!(error.to_string().starts_with("bad response: "), "{error}");
    served.await.unwrap().unwrap();
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    let status = |fields: &[u8]| {
        let message = [&[0, 0, 0, 0, fields.len() as u8], fields].concat();
        serving_status(&message)
    };
    // Each kind of value, with the status among them.
    let fields = b"\x10\x05\x1a\x02hi\x25abcd\x08\x02\x29abcdefgh\x08\x01\xf8\x7f\x00";
    assert_eq!(status(fields), Ok(SERVING));
    for malformed in [
        &b"\x08"[..],
        b"\x1a\x05hi",
        b"\x25abc",
        b"\x0b\x0c",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ] {
        assert_eq!(status(malformed), Err("its message is malformed"));
    }
}

#[test]
fn long_names_have_long_lengths() {
    let text = message(&"s".repeat(300));
    assert_eq!(&text[..8], &[0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    assert_eq!(text.len(), PREFIX + 303);
    assert_eq!(message(""), [0; 5]);
}
