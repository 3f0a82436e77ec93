//! Connections that switch protocols: bytes both ways, and WebSocket as real peers speak it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Error, Message, WebSocket};

use crate::support::DEADLINE;
use crate::support::backend::{Backend, RawBackend};
use crate::support::client::message;
use crate::support::proxy::{Proxy, RunningProxy};

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nx-kept: 1\r\n\r\n";

fn before(server: SocketAddr) -> RunningProxy {
    Proxy::new().unprobed("app", &[server]).start()
}

fn asking(path: &str) -> Vec<u8> {
    let fields = [("connection", "keep-alive, Upgrade"), ("upgrade", "echo")];
    message("GET", path, &fields, b"")
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    let backend = Backend::start();
    let proxy = before(backend.addr());
    let mut client = proxy.connect();
    let answer = client.request(asking("/ws")).expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.headers.get("connection"), Some("upgrade"));
    assert_eq!(answer.headers.get("upgrade"), Some("echo"));
    assert_eq!(answer.headers.get("x-backend"), Some(backend.name()));
    assert!(answer.headers.get("x-request-id").is_some());
    for _ in 0..3 {
        client.send_raw(b"\0\xffnot HTTP\r\n\r\n").expect("sent");
        assert_eq!(
            client.read_exact(14).expect("an echo"),
            b"\0\xffnot HTTP\r\n\r\n"
        );
    }
    client.finish_sending().expect("the tunnel is open");
    assert_eq!(client.read_to_end().expect("the tunnel ends"), b"");
}

#[test]
fn what_either_side_says_before_the_switch_is_complete_is_not_lost() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        connection
            .stream
            .write_all(&[SWITCH, b"server first"].concat())?;
        let mut early = [0; 12];
        connection.stream.read_exact(&mut early)?;
        connection.stream.write_all(&early)
    });
    let proxy = before(backend.addr());
    let mut client = proxy.connect();
    client
        .send_raw([asking("/"), b"client first".to_vec()].concat())
        .expect("sent");
    let head = client.read_head().expect("an answer");
    assert_eq!((head.status, head.headers.get("x-kept")), (101, Some("1")));
    assert_eq!(
        client.read_exact(24).expect("both"),
        b"server firstclient first"
    );
    assert_eq!(client.read_to_end().expect("the tunnel ends"), b"");
}

#[test]
fn a_request_with_a_body_can_switch_too() {
    let backend = RawBackend::start(|connection| {
        connection.read_head()?;
        let mut bytes = [0; 9];
        connection.stream.read_exact(&mut bytes[..4])?;
        connection.stream.write_all(SWITCH)?;
        connection.stream.read_exact(&mut bytes[4..])?;
        connection.stream.write_all(&bytes)
    });
    let proxy = before(backend.addr());
    let mut client = proxy.connect();
    let fields = [("connection", "upgrade"), ("upgrade", "echo")];
    client
        .send_raw(message("POST", "/", &fields, b"body"))
        .expect("sent");
    assert_eq!(client.read_head().expect("an answer").status, 101);
    client.send_raw("later").expect("sent");
    assert_eq!(client.read_exact(9).expect("both"), b"bodylater");
}

#[test]
fn each_direction_of_a_tunnel_ends_by_itself() {
    let backend = RawBackend::start(|connection| {
        let head = connection.read_head()?;
        connection.stream.write_all(SWITCH)?;
        let mut received = Vec::new();
        if head.starts_with("GET /client-ends") {
            connection.stream.read_to_end(&mut received)?;
            connection.stream.write_all(b"got ")?;
            connection.stream.write_all(&received)
        } else {
            connection.stream.write_all(b"bye")?;
            connection.stream.shutdown(Shutdown::Write)?;
            connection.stream.read_to_end(&mut received)?;
            // Seen by the next connection's peer: this direction was still open.
            let mut next = TcpStream::connect(String::from_utf8_lossy(&received).as_ref())?;
            next.write_all(b"heard")
        }
    });
    let proxy = before(backend.addr());

    let mut client = proxy.connect();
    assert_eq!(
        client
            .request(asking("/client-ends"))
            .expect("an answer")
            .status,
        101
    );
    client.send_raw("all").expect("sent");
    client.finish_sending().expect("the tunnel is open");
    assert_eq!(client.read_to_end().expect("the tunnel ends"), b"got all");

    let proof = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut client = proxy.connect();
    assert_eq!(
        client
            .request(asking("/server-ends"))
            .expect("an answer")
            .status,
        101
    );
    assert_eq!(client.read_to_end().expect("the server ended"), b"bye");
    client
        .send_raw(proof.local_addr().expect("bound").to_string())
        .expect("sent");
    client.finish_sending().expect("the tunnel is open");
    let mut heard = Vec::new();
    let (mut stream, _) = proof.accept().expect("the server heard the client");
    stream.read_to_end(&mut heard).expect("readable");
    assert_eq!(heard, b"heard");
}

#[test]
fn a_tunnel_moves_megabytes_both_ways_at_once() {
    let backend = Backend::start();
    let proxy = before(backend.addr());
    let mut client = proxy.connect();
    assert_eq!(
        client.request(asking("/ws")).expect("an answer").status,
        101
    );
    let sent: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let mut writer = client.try_clone_stream().expect("a second handle");
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("the tunnel takes it");
            writer
                .shutdown(Shutdown::Write)
                .expect("the tunnel is open");
        });
        client.read_to_end().expect("the tunnel ends")
    });
    assert!(received == sent, "{} bytes came back", received.len());
}

#[test]
fn a_server_that_does_not_switch_gives_an_ordinary_answer() {
    let backend = Backend::start();
    let proxy = before(backend.addr());
    let mut client = proxy.connect();
    let answer = client.request(asking("/")).expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), format!("Hello from {}\n", backend.name()));
    let other = message(
        "GET",
        "/ws",
        &[("connection", "upgrade"), ("upgrade", "chess")],
        b"",
    );
    assert_eq!(client.request(other).expect("an answer").status, 426);
    assert_eq!(
        client.request(asking("/ws")).expect("an answer").status,
        101
    );
}

#[test]
fn a_server_that_switches_without_being_asked_is_refused() {
    let backend = RawBackend::answering(SWITCH);
    let proxy = before(backend.addr());
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/").expect("an answer").status, 502);
    }
}

type Peer = WebSocket<TcpStream>;

/// A WebSocket to a server that answers with `script`, and has the handshake's request.
fn websocket(
    script: impl Fn(&mut Peer) -> Result<(), Error> + Send + Sync + 'static,
) -> (Peer, Session) {
    let backend = RawBackend::start(move |connection| {
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.uri(), "/chat?room=1");
            let offered = &request.headers()["sec-websocket-protocol"];
            assert_eq!(offered, "chat.v2");
            response
                .headers_mut()
                .insert("sec-websocket-protocol", offered.clone());
            Ok(response)
        };
        let stream = connection.stream.try_clone()?;
        let mut peer = tungstenite::accept_hdr(stream, choose).expect("a handshake");
        script(&mut peer).map_err(std::io::Error::other)
    });
    let proxy = before(backend.addr());
    let stream = TcpStream::connect(proxy.addr()).expect("the proxy listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let uri = proxy.url("/chat?room=1").replace("http:", "ws:");
    let uri = uri.parse().expect("a URI");
    let asking = ClientRequestBuilder::new(uri).with_sub_protocol("chat.v2");
    let (peer, answer) = tungstenite::client(asking, stream).expect("a handshake");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat.v2");
    (
        peer,
        Session {
            _proxy: proxy,
            _backend: backend,
        },
    )
}

/// What a WebSocket runs over.
struct Session {
    _proxy: RunningProxy,
    _backend: RawBackend,
}

/// Sends data back until the close, which the library answers.
fn echo(peer: &mut Peer) -> Result<(), Error> {
    loop {
        match peer.read() {
            Ok(message) if message.is_text() || message.is_binary() => peer.send(message)?,
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn reads_until_closed(peer: &mut Peer) -> Option<CloseFrame> {
    let mut frame = None;
    loop {
        match peer.read() {
            Ok(Message::Close(closing)) => frame = closing,
            Ok(other) => panic!("{other:?} in place of the close"),
            Err(Error::ConnectionClosed) => return frame,
            Err(error) => panic!("no orderly close: {error}"),
        }
    }
}

#[test]
fn a_websocket_carries_large_and_fragmented_messages_and_pings() {
    let (mut peer, _session) = websocket(echo);
    let large: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    peer.send(Message::binary(large.clone())).expect("sent");
    let back = peer.read().expect("an echo").into_data();
    assert!(back == large, "{} bytes came back", back.len());

    peer.send(Message::Ping("p".into())).expect("sent");
    assert_eq!(peer.read().expect("a pong"), Message::Pong("p".into()));

    let pieces = [
        ("frag", Data::Text, false),
        ("men", Data::Continue, false),
        ("ted", Data::Continue, true),
    ];
    for (text, kind, last) in pieces {
        let frame = Frame::message(text, OpCode::Data(kind), last);
        peer.send(Message::Frame(frame)).expect("sent");
    }
    assert_eq!(peer.read().expect("an echo"), Message::text("fragmented"));
}

#[test]
fn a_websockets_close_passes_from_the_server() {
    let farewell = || CloseFrame {
        code: CloseCode::Library(4001),
        reason: "no more".into(),
    };
    let (mut peer, _session) = websocket(move |peer| {
        peer.close(Some(farewell()))?;
        match peer.read() {
            Ok(_) | Err(Error::ConnectionClosed) => Ok(()),
            Err(error) => Err(error),
        }
    });
    assert_eq!(reads_until_closed(&mut peer), Some(farewell()));
}

#[test]
fn a_websockets_close_passes_from_the_client() {
    let (mut peer, _session) = websocket(echo);
    let farewell = CloseFrame {
        code: CloseCode::Away,
        reason: "page left".into(),
    };
    peer.close(Some(farewell.clone())).expect("sent");
    // The other side's answer repeats it.
    assert_eq!(reads_until_closed(&mut peer), Some(farewell));
}
