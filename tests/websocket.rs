//! WebSocket between a real client and a real server, both of tokio-tungstenite: over TLS, and over a stream of HTTP/2
//! (RFC 8441). `upgrades` has what is the same without either.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::DEADLINE;
use crate::support::http2::{runtime, soon};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::Authority;

/// What a client's WebSocket runs over.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Client = WebSocketStream<Box<dyn Io>>;
type Server = WebSocketStream<TcpStream>;

/// How a client reaches the proxy.
#[derive(Debug, Clone, Copy)]
struct Way {
    tls: bool,
    http2: bool,
}

const HTTP_1: Way = Way {
    tls: false,
    http2: false,
};
const TLS: Way = Way {
    tls: true,
    ..HTTP_1
};
const HTTP_2: Way = Way {
    http2: true,
    ..HTTP_1
};
const HTTP_2_TLS: Way = Way {
    tls: true,
    http2: true,
};

/// The ways that `upgrades` does not go.
const OTHERS: [Way; 3] = [TLS, HTTP_2, HTTP_2_TLS];
const ALL: [Way; 4] = [HTTP_1, TLS, HTTP_2, HTTP_2_TLS];

/// A WebSocket through a proxy.
struct Session {
    client: Client,
    proxy: RunningProxy,
    _server: Listener,
}

/// A server in a thread, ended on drop.
struct Listener {
    addr: SocketAddr,
    _stop: oneshot::Sender<Infallible>,
}

impl Listener {
    /// Has `script` use each WebSocket.
    fn start<S: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Server) -> S + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((tcp, _)) = listener.accept().await {
                let script = script.clone();
                tokio::spawn(async move {
                    if let Ok(peer) = accept_async(tcp).await {
                        script(peer).await;
                    }
                });
            }
        };
        thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept => {}
                }
            });
        });
        Self { addr, _stop: stop }
    }
}

/// Opens a WebSocket on each of these ways, through a listener with these keys, and runs a test with it.
fn on_each<S: Future<Output = ()> + Send + 'static>(
    ways: &[Way],
    listener: &str,
    script: impl Fn(Server) -> S + Clone + Send + 'static,
    test: impl AsyncFn(Session),
) {
    for way in ways {
        println!("{way:?}");
        let server = Listener::start(script.clone());
        runtime().block_on(async { test(Session::open(*way, listener, server).await).await });
    }
}

impl Session {
    async fn open(way: Way, listener: &str, server: Listener) -> Self {
        let authority = Authority::new();
        let entry = authority.issue(&["localhost"]).entry();
        let mut proxy = Proxy::new().setting("workers = 1").listener(listener);
        if way.tls {
            proxy = proxy.listener(&format!("tls = {{ certificates = [{entry}] }}"));
        }
        let proxy = proxy.unprobed("app", &[server.addr]).start();
        let opened = async {
            let io = connect(way, proxy.addr(), &authority).await;
            if way.http2 {
                over_stream(io).await
            } else {
                let asked = client_async("ws://localhost/chat", io).await;
                asked.expect("a handshake").0
            }
        };
        let client = soon("a WebSocket", opened).await;
        Self {
            client,
            proxy,
            _server: server,
        }
    }

    /// The next message.
    async fn next(&mut self) -> Message {
        self.read().await.expect("no error")
    }

    async fn read(&mut self) -> Result<Message, Error> {
        let message = soon("a message", self.client.next()).await;
        message.unwrap_or(Err(Error::ConnectionClosed))
    }

    async fn send(&mut self, message: Message) {
        soon("room", self.client.send(message)).await.expect("sent");
    }

    /// Reads to the orderly end, and gives the close that came before it.
    async fn read_close(&mut self) -> Option<CloseFrame> {
        let mut close = None;
        loop {
            match self.read().await {
                Ok(Message::Close(frame)) => close = frame,
                Ok(other) => panic!("{other:?} in place of the close"),
                Err(Error::ConnectionClosed) => return close,
                Err(error) => panic!("no orderly close: {error}"),
            }
        }
    }
}

async fn connect(way: Way, addr: SocketAddr, authority: &Authority) -> Box<dyn Io> {
    let tcp = TcpStream::connect(addr).await.expect("a connection");
    if !way.tls {
        return Box::new(tcp);
    }
    let mut config = authority.anonymous();
    if way.http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    Box::new(connector.connect(name, tcp).await.expect("a handshake"))
}

/// Asks for a WebSocket over a stream of HTTP/2.
async fn over_stream(io: Box<dyn Io>) -> Client {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io));
    let (mut client, mut connection) = handshake.await.expect("a handshake");
    // The server's settings say whether it can be asked.
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Pending if connection.is_extended_connect_protocol_enabled() => Poll::Ready(()),
        Poll::Pending => {
            cx.waker().wake_by_ref(); // another task reads the settings
            Poll::Pending
        }
        Poll::Ready(end) => panic!("the connection has ended: {end:?}"),
    })
    .await;
    tokio::spawn(connection);
    let asking = Request::builder()
        .method(Method::CONNECT)
        .uri("http://localhost/chat")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new());
    let answer = client.send_request(asking.expect("a request")).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let stream = hyper::upgrade::on(answer).await.expect("a stream");
    let io: Box<dyn Io> = Box::new(TokioIo::new(stream));
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// Sends data back until the close, which the library answers.
async fn echo(mut peer: Server) {
    while let Some(Ok(message)) = peer.next().await {
        let is_data = message.is_text() || message.is_binary();
        if is_data && peer.send(message).await.is_err() {
            return;
        }
    }
}

fn pattern(length: usize) -> Bytes {
    (0..=250).cycle().take(length).collect()
}

fn farewell(code: CloseCode) -> CloseFrame {
    CloseFrame {
        code,
        reason: "that is all".into(),
    }
}

#[test]
fn messages_of_any_size_and_in_pieces_come_back() {
    on_each(&OTHERS, "", echo, async |mut session| {
        session.send(Message::text("hello")).await;
        assert_eq!(session.next().await, Message::text("hello"));
        for length in [0, 1, 65_536, 1 << 20, 3_000_000] {
            let data = pattern(length);
            session.send(Message::binary(data.clone())).await;
            let back = session.next().await.into_data();
            assert!(back == data, "{} of {length} bytes came back", back.len());
            session.send(Message::Ping("p".into())).await;
            assert_eq!(session.next().await, Message::Pong("p".into()));
        }
        let pieces = [
            ("frag", Data::Text, false),
            ("men", Data::Continue, false),
            ("ted", Data::Continue, true),
        ];
        for (text, kind, last) in pieces {
            let frame = Frame::message(text, OpCode::Data(kind), last);
            session.send(Message::Frame(frame)).await;
        }
        assert_eq!(session.next().await, Message::text("fragmented"));
    });
}

#[test]
fn both_sides_talk_at_once() {
    const MESSAGES: usize = 200;
    let talk = |peer: Server| async move {
        let (mut send, mut receive) = peer.split();
        let talking = async {
            for _ in 0..MESSAGES {
                send.send(Message::binary(pattern(20_000))).await?;
            }
            Ok::<_, Error>(())
        };
        let listening = async { while let Some(Ok(_)) = receive.next().await {} };
        let _ = tokio::join!(talking, listening);
    };
    on_each(&OTHERS, "", talk, async |session| {
        let (mut send, mut receive) = session.client.split();
        let talking = async {
            for _ in 0..MESSAGES {
                let sent = send.send(Message::binary(pattern(20_000))).await;
                sent.expect("sent");
            }
        };
        let listening = async {
            for _ in 0..MESSAGES {
                let message = receive.next().await.expect("a message");
                assert!(message.expect("no error").into_data() == pattern(20_000));
            }
        };
        soon("all of it", async { tokio::join!(talking, listening) }).await;
    });
}

#[test]
fn a_close_of_the_client_has_its_code_and_is_answered() {
    for code in [CloseCode::Away, CloseCode::Library(4001)] {
        let (report, reports) = mpsc::channel();
        let listen = move |mut peer: Server| {
            let report = report.clone();
            async move {
                while let Some(message) = peer.next().await {
                    // The test looks at what it hears of.
                    let _ = report.send(message.map_err(|error| error.to_string()));
                }
            }
        };
        on_each(&OTHERS, "", listen, async |mut session| {
            let close = session.client.close(Some(farewell(code)));
            soon("room", close).await.expect("sent");
            assert_eq!(session.read_close().await, Some(farewell(code)));
            let heard = reports.recv_timeout(DEADLINE).expect("a message");
            assert_eq!(heard, Ok(Message::Close(Some(farewell(code)))));
        });
    }
}

#[test]
fn a_close_of_the_server_has_its_code_and_pings_of_the_server_are_answered() {
    let close = |mut peer: Server| async move {
        peer.send(Message::Ping("are you there".into()))
            .await
            .expect("sent");
        let pong = peer.next().await.expect("a message");
        assert_eq!(
            pong.expect("no error"),
            Message::Pong("are you there".into())
        );
        let code = CloseCode::Restart;
        peer.close(Some(farewell(code))).await.expect("sent");
        while let Some(Ok(_)) = peer.next().await {}
    };
    on_each(&OTHERS, "", close, async |mut session| {
        assert_eq!(session.next().await, Message::Ping("are you there".into()));
        let close = session.read_close().await;
        assert_eq!(close, Some(farewell(CloseCode::Restart)));
    });
}

#[test]
fn what_the_client_ends_the_server_may_still_answer() {
    let answer = |peer: Server| async move {
        let mut tcp = peer.into_inner();
        let mut all = Vec::new();
        tcp.read_to_end(&mut all).await.expect("an end");
        all.extend_from_slice(b", all of it");
        tcp.write_all(&all).await.expect("sent");
    };
    on_each(&OTHERS, "", answer, async |session| {
        let mut io = session.client.into_inner();
        io.write_all(b"heard").await.expect("sent");
        io.shutdown().await.expect("ended");
        let mut all = Vec::new();
        let read = soon("the end", io.read_to_end(&mut all)).await;
        read.expect("an orderly end");
        assert_eq!(String::from_utf8_lossy(&all), "heard, all of it");
    });
}

#[test]
fn a_client_that_vanishes_is_gone_for_the_server_and_the_other_way_round() {
    let (report, reports) = mpsc::channel();
    let listen = move |mut peer: Server| {
        let report = report.clone();
        async move {
            peer.send(Message::text("hello")).await.expect("sent");
            // The test may have ended.
            let _ = report.send(peer.next().await.is_none_or(|message| message.is_err()));
        }
    };
    on_each(&ALL, "", listen, async |mut session| {
        assert_eq!(session.next().await, Message::text("hello"));
        let Session {
            client,
            proxy,
            _server,
        } = session;
        drop(client);
        wait_for_none(&proxy).await;
        let gone = reports.recv_timeout(DEADLINE).expect("it is heard of");
        assert!(gone, "the server hears more of a client that is gone");
    });
    on_each(
        &ALL,
        "",
        |_: Server| async {},
        async |mut session| {
            let error = session.read().await.expect_err("no close, but an end");
            assert!(!matches!(error, Error::ConnectionClosed), "{error}");
        },
    );
}

/// Waits until nothing is in flight to servers.
async fn wait_for_none(proxy: &RunningProxy) {
    let in_flight = async {
        while proxy.metric("lb_server_in_flight") > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("nothing in flight", in_flight).await;
}

#[test]
fn pings_keep_a_websocket_open_and_silence_does_not() {
    const IDLE: Duration = Duration::from_millis(500);
    let settings = "timeouts = { idle = \"500ms\" }";
    on_each(&ALL, settings, echo, async |mut session| {
        // Longer than twice the limit, which is how late it may be noticed.
        let begun = Instant::now();
        while begun.elapsed() < 3 * IDLE {
            tokio::time::sleep(IDLE / 5).await;
            session.send(Message::Ping("p".into())).await;
            assert_eq!(session.next().await, Message::Pong("p".into()));
        }
        let silent = Instant::now();
        let end = session.read().await;
        assert!(end.is_err(), "{end:?}");
        let waited = silent.elapsed();
        assert!(
            waited >= IDLE * 9 / 10 && waited < DEADLINE / 2,
            "{waited:?}"
        );
        wait_for_none(&session.proxy).await;
    });
}
