//! gRPC between a real client and a real server, both of tonic: over HTTP/2 without TLS, and over TLS on both sides.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::grpc::{
    GrpcServer, Plain, connect, connect_without_clock, failure, method, ready,
};
use crate::support::http2::{Http2Backend, runtime, soon};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::Authority;
use crate::support::{DEADLINE, wait_until};

/// A client, a proxy and a server.
struct Session {
    client: Grpc<Channel>,
    proxy: RunningProxy,
    server: GrpcServer,
    /// The calls that the server has seen given up.
    given_up: Receiver<&'static str>,
}

/// Runs a test without TLS, and with TLS on both sides.
fn with_both(test: impl AsyncFn(Session)) {
    for encrypted in [false, true] {
        println!("with TLS: {encrypted}");
        runtime().block_on(async { test(Session::open(encrypted).await).await });
    }
}

impl Session {
    async fn open(encrypted: bool) -> Self {
        let authority = encrypted.then(Authority::new);
        let files = authority.as_ref().map(|it| it.issue(&["localhost"]));
        let (report, given_up) = mpsc::channel();
        let server = GrpcServer::start(files.as_ref(), report);
        let mut proxy = Proxy::new().setting("workers = 1");
        let mut upstream = "protocol = \"http2\"".to_owned();
        if let (Some(authority), Some(files)) = (&authority, &files) {
            let entry = files.entry();
            proxy = proxy.listener(&format!("tls = {{ certificates = [{entry}] }}"));
            let ca = authority.ca();
            upstream = format!("protocol = \"auto\"\ntls = {{ ca = {ca:?} }}");
        }
        let address = format!("localhost:{}", server.addr().port());
        let proxy = proxy.unprobed_with("app", &[address], &upstream).start();
        let client = connect(proxy.addr(), authority.as_ref()).await;
        Self {
            client,
            proxy,
            server,
            given_up,
        }
    }

    /// The client, for one call.
    async fn ready(&mut self) -> &mut Grpc<Channel> {
        ready(&mut self.client).await
    }

    fn hears_of(&self, call: &str) {
        let heard = self.given_up.recv_timeout(DEADLINE);
        assert_eq!(heard.expect("the server hears that it is given up"), call);
    }
}

fn text(text: &'static str) -> Request<Bytes> {
    Request::new(Bytes::from_static(text.as_bytes()))
}

/// Bytes that no compression and no repetition can take the place of.
fn large(length: u32) -> Bytes {
    (0..length).map(|i| ((i * 7) >> 3) as u8).collect()
}

#[track_caller]
fn is_failure(status: &Status) {
    let expected = failure();
    assert_eq!(status.code(), expected.code());
    assert_eq!(status.message(), expected.message());
    assert_eq!(status.details(), expected.details());
    assert_eq!(status.metadata().get("why"), expected.metadata().get("why"));
}

#[test]
fn a_call_carries_its_message_and_metadata_both_ways() {
    with_both(async |mut session| {
        let mut request = text("hello");
        let metadata = request.metadata_mut();
        metadata.append("note", "a note".parse().expect("a value"));
        metadata.append("note", "another".parse().expect("a value"));
        let bytes = MetadataValue::from_bytes(b"\0\x01\xfe\xff");
        metadata.append_bin("data-bin", bytes.clone());
        let call = session.ready().await.unary(request, method("Unary"), Plain);
        let answer = soon("an answer", call).await.expect("no error");
        assert_eq!(answer.get_ref(), "hello");
        let metadata = answer.metadata();
        let notes: Vec<_> = metadata.get_all("note").iter().collect();
        assert_eq!(notes, ["a note", "another"]);
        assert_eq!(metadata.get_bin("data-bin"), Some(&bytes));
        let id = metadata.get("x-request-id");
        assert!(id.is_some(), "{metadata:?}");
    });
}

#[test]
fn messages_of_megabytes_pass_both_ways() {
    with_both(async |mut session| {
        let message = large(5_000_000);
        for sent in [Bytes::new(), message] {
            let request = Request::new(sent.clone());
            let call = session.ready().await.unary(request, method("Unary"), Plain);
            let answer = soon("an answer", call).await.expect("no error");
            let answer = answer.into_inner();
            assert!(answer == sent, "{} bytes came back", answer.len());
        }
    });
}

#[test]
fn a_stream_of_messages_gets_one_answer() {
    with_both(async |mut session| {
        let pieces: Vec<Bytes> = (0..200).map(|_| large(9_999)).collect();
        let request = Request::new(tokio_stream::iter(pieces.clone()));
        let call = session
            .ready()
            .await
            .client_streaming(request, method("Join"), Plain);
        let answer = soon("an answer", call).await.expect("no error");
        assert!(*answer.get_ref() == pieces.concat());
    });
}

#[test]
fn one_message_gets_a_stream_of_answers() {
    with_both(async |mut session| {
        for number in ["0", "1000"] {
            let call = session
                .ready()
                .await
                .server_streaming(text(number), method("Count"), Plain);
            let mut answers = soon("an answer", call)
                .await
                .expect("no error")
                .into_inner();
            let mut seen = 0;
            while let Some(answer) = soon("the next", answers.message()).await.expect("no error") {
                assert_eq!(answer, seen.to_string());
                seen += 1;
            }
            assert_eq!(seen.to_string(), number);
        }
    });
}

#[test]
fn each_message_of_a_conversation_arrives_as_it_is_sent() {
    with_both(async |mut session| {
        let (send, messages) = tokio::sync::mpsc::channel(1);
        let request = Request::new(ReceiverStream::new(messages));
        let call = session
            .ready()
            .await
            .streaming(request, method("Chat"), Plain);
        let mut answers = soon("the head", call).await.expect("no error").into_inner();
        for number in 0..20 {
            let message = Bytes::from(format!("message {number}"));
            send.send(message.clone()).await.expect("it is open");
            let answer = soon("its answer", answers.message()).await;
            assert_eq!(answer.expect("no error"), Some(message));
        }
        drop(send);
        let end = soon("the end", answers.message()).await;
        assert_eq!(end.expect("no error"), None);
        let trailers = answers.trailers().await.expect("no error");
        assert!(trailers.is_some(), "the status came at the end");
    });
}

#[test]
fn calls_share_connections_and_do_not_wait_for_each_other() {
    with_both(async |session| {
        let calls = (0..150).map(|number| {
            let mut client = session.client.clone();
            tokio::spawn(async move {
                let message = Bytes::from(number.to_string());
                let request = Request::new(message.clone());
                let answer = ready(&mut client)
                    .await
                    .unary(request, method("Unary"), Plain)
                    .await;
                assert_eq!(answer.expect("no error").into_inner(), message);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            soon("an answer", call).await.expect("it was right");
        }
        let connections = session.proxy.metric("lb_server_connects_total");
        assert!((1..=2).contains(&connections), "{connections} connections");
    });
}

#[test]
fn an_error_comes_with_its_message_its_details_and_its_metadata() {
    with_both(async |mut session| {
        let call = session.ready().await.unary(text(""), method("Fail"), Plain);
        let status = soon("a status", call).await.expect_err("an error");
        is_failure(&status);
        let call = session
            .ready()
            .await
            .server_streaming(text(""), method("FailLate"), Plain);
        let mut answers = soon("a head", call).await.expect("no error").into_inner();
        let first = soon("a message", answers.message()).await;
        assert_eq!(first.expect("no error").expect("a message"), "first");
        let status = soon("a status", answers.message()).await;
        is_failure(&status.expect_err("an error"));
        let call = session
            .ready()
            .await
            .unary(text(""), method("Unknown"), Plain);
        let status = soon("a status", call).await.expect_err("an error");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unimplemented, "Unknown")
        );
    });
}

#[test]
fn a_call_that_the_client_gives_up_is_given_up_at_the_server() {
    with_both(async |mut session| {
        let call = session.ready().await.unary(text(""), method("Hang"), Plain);
        let gone = tokio::time::timeout(Duration::from_millis(200), call).await;
        assert!(gone.is_err(), "{gone:?}");
        // The library's task must be run to say so.
        let served = session
            .ready()
            .await
            .unary(text(""), method("Unary"), Plain);
        soon("an answer", served).await.expect("no error");
        session.hears_of("Hang");

        let call = session
            .ready()
            .await
            .server_streaming(text(""), method("HangLate"), Plain);
        let mut answers = soon("a head", call).await.expect("no error").into_inner();
        let first = soon("a message", answers.message()).await;
        assert_eq!(first.expect("no error").expect("a message"), "first");
        drop(answers);
        let served = session
            .ready()
            .await
            .unary(text(""), method("Unary"), Plain);
        soon("an answer", served).await.expect("no error");
        session.hears_of("HangLate");
        wait_until("nothing is in flight", || {
            session.proxy.metric("lb_server_in_flight") == 0
        });
    });
}

#[test]
fn a_server_that_dies_is_an_error_whatever_was_said_before() {
    with_both(async |session| {
        let Session {
            mut client, server, ..
        } = session;
        let call = ready(&mut client)
            .await
            .server_streaming(text(""), method("HangLate"), Plain);
        let mut answers = soon("a head", call).await.expect("no error").into_inner();
        let first = soon("a message", answers.message()).await;
        assert_eq!(first.expect("no error").expect("a message"), "first");
        let mut other = client.clone();
        let hanging = tokio::spawn(async move {
            let client = ready(&mut other).await;
            client.unary(text(""), method("Hang"), Plain).await
        });
        // Both are at the server when this has been answered behind them.
        let behind = ready(&mut client)
            .await
            .unary(text(""), method("Unary"), Plain);
        soon("an answer", behind).await.expect("no error");
        drop(server);
        let broken = soon("the end", answers.message()).await;
        let code = broken.expect_err("no clean end").code();
        assert!(
            [Code::Unavailable, Code::Internal].contains(&code),
            "{code:?}"
        );
        let status = soon("an answer", hanging).await.expect("no panic");
        let status = status.expect_err("an error");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        // Nobody is there any more.
        let call = ready(&mut client)
            .await
            .unary(text(""), method("Unary"), Plain);
        let status = soon("an answer", call).await.expect_err("an error");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    });
}

#[test]
fn a_deadline_is_kept_for_a_server_that_does_not_keep_it() {
    let server = Http2Backend::start(|asked| async move {
        assert_eq!(asked.request.headers()["grpc-timeout"], "300m");
        let _asked = asked;
        std::future::pending().await
    });
    let proxy = Proxy::new()
        .unprobed_with("app", &[server.addr()], "protocol = \"http2\"")
        .start();
    runtime().block_on(async {
        let mut client = connect_without_clock(proxy.addr()).await;
        let limit = Duration::from_millis(300);
        let deadline = MetadataValue::from_static("300m");

        let start = Instant::now();
        let mut request = text("");
        request
            .metadata_mut()
            .insert("grpc-timeout", deadline.clone());
        let call = ready(&mut client)
            .await
            .unary(request, method("Any"), Plain);
        let status = soon("an answer", call).await.expect_err("an error");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!((limit..DEADLINE / 2).contains(&start.elapsed()));

        // It holds while the client has not said all, too.
        let start = Instant::now();
        let stream = tokio_stream::iter([Bytes::from_static(b"first")]);
        let mut request = Request::new(stream.chain(tokio_stream::pending()));
        request.metadata_mut().insert("grpc-timeout", deadline);
        let call = ready(&mut client)
            .await
            .streaming(request, method("Any"), Plain);
        let status = soon("an answer", call).await.expect_err("an error");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!((limit..DEADLINE / 2).contains(&start.elapsed()));
    });
}
