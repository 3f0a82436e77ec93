//! gRPC as a library speaks it: a server and clients whose messages are plain bytes.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::KeyAndValueRef;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::http2::runtime;
use super::tls::{Authority, Files};

/// What a stream of answers is here.
type Answers = ReceiverStream<Result<Bytes, Status>>;

/// Messages that are what they are.
#[derive(Debug, Default, Clone, Copy)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}

/// The path of a method of [`GrpcServer`].
pub fn method(name: &str) -> PathAndQuery {
    let path = format!("/test.Echo/{name}");
    path.parse().expect("a path")
}

/// A client over tonic's own transport; `authority` is whom it trusts, if it speaks TLS.
pub async fn connect(addr: SocketAddr, authority: Option<&Authority>) -> Grpc<Channel> {
    let scheme = if authority.is_some() { "https" } else { "http" };
    let uri = format!("{scheme}://localhost:{}", addr.port());
    let mut endpoint = Endpoint::from_shared(uri).expect("a URI");
    if let Some(authority) = authority {
        let certificate = std::fs::read(authority.ca()).expect("a certificate");
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
        endpoint = endpoint.tls_config(tls).expect("valid settings");
    }
    let channel = endpoint.connect().await.expect("a connection");
    Grpc::new(channel).max_decoding_message_size(usize::MAX)
}

/// A client that keeps no time by itself, as tonic's transport does.
pub async fn connect_without_clock(
    addr: SocketAddr,
) -> Grpc<impl GrpcService<Body, ResponseBody = hyper::body::Incoming>> {
    let tcp = TcpStream::connect(addr).await.expect("a connection");
    let io = TokioIo::new(tcp);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    let send = move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    };
    let origin = format!("http://{addr}").parse().expect("a URI");
    Grpc::with_origin(tower::service_fn(send), origin)
}

/// A client that may be used for one call.
pub async fn ready<T: GrpcService<Body>>(client: &mut Grpc<T>) -> &mut Grpc<T> {
    assert!(client.ready().await.is_ok(), "the connection is open");
    client
}

/// A server of tonic in a thread, whose methods are:
///
/// * `Unary`: the message back, and the metadata `note` and `data-bin`
/// * `Join`: of a stream of messages, all in one
/// * `Count`: as many messages as the message says
/// * `Chat`: each message back as it comes
/// * `Fail`: no message, but a status with details and the metadata `why`
/// * `FailLate`: the same after a message
/// * `Hang`: nothing
/// * `HangLate`: nothing after a message
///
/// Dropped, it dies without a word on its connections.
pub struct GrpcServer {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcServer {
    /// With `tls` it speaks TLS. Whenever one of those that hang ends before its time, `given_up` hears of it.
    pub fn start(tls: Option<&Files>, given_up: Sender<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("it is bound");
        let mut server = Server::builder();
        if let Some(files) = tls {
            let read = |path| std::fs::read(path).expect("a file");
            let identity = Identity::from_pem(read(&files.cert), read(&files.key));
            let settings = ServerTlsConfig::new().identity(identity);
            server = server.tls_config(settings).expect("valid settings");
        }
        let service = tower::service_fn(move |request| answer(request, given_up.clone()));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    _ = stopped => {}
                    _ = server.serve_with_incoming(service, TcpListenerStream::new(listener)) => {}
                }
            });
        });
        Self {
            addr,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its own panic, if any, has been printed.
            let _ = thread.join();
        }
    }
}

async fn answer(
    request: http::Request<Body>,
    given_up: Sender<&'static str>,
) -> Result<http::Response<Body>, Infallible> {
    let name = request.uri().path().trim_start_matches("/test.Echo/");
    let name = name.to_owned();
    let mut server = tonic::server::Grpc::new(Plain).max_decoding_message_size(usize::MAX);
    let response = match name.as_str() {
        "Unary" => server.unary(tower::service_fn(unary), request).await,
        "Join" => {
            let service = tower::service_fn(join);
            server.client_streaming(service, request).await
        }
        "Count" => {
            let service = tower::service_fn(count);
            server.server_streaming(service, request).await
        }
        "Chat" => server.streaming(tower::service_fn(chat), request).await,
        "Fail" => server.unary(tower::service_fn(fail), request).await,
        "FailLate" => {
            let service = tower::service_fn(fail_late);
            server.server_streaming(service, request).await
        }
        "Hang" => {
            let service =
                tower::service_fn(move |_: Request<Bytes>| hang(Hanging("Hang", given_up.clone())));
            server.unary(service, request).await
        }
        "HangLate" => {
            let call = move |_: Request<Bytes>| hang_late(Hanging("HangLate", given_up.clone()));
            let service = tower::service_fn(call);
            server.server_streaming(service, request).await
        }
        _ => Status::unimplemented(name).into_http(),
    };
    Ok(response)
}

async fn unary(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let mut response = Response::new(request.get_ref().clone());
    for entry in request.metadata().iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if key == "note" => {
                response.metadata_mut().append("note", value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key == "data-bin" => {
                response
                    .metadata_mut()
                    .append_bin("data-bin", value.clone());
            }
            _ => {}
        }
    }
    Ok(response)
}

async fn join(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let mut messages = request.into_inner();
    let mut all = Vec::new();
    while let Some(message) = messages.message().await? {
        all.extend_from_slice(&message);
    }
    Ok(Response::new(all.into()))
}

async fn count(request: Request<Bytes>) -> Result<Response<Answers>, Status> {
    let text = std::str::from_utf8(request.get_ref()).ok();
    let number = text.and_then(|text| text.parse::<u32>().ok());
    let number = number.ok_or_else(|| Status::invalid_argument("a number"))?;
    let (send, answers) = mpsc::channel(4);
    tokio::spawn(async move {
        for number in 0..number {
            // It fails if nobody listens any more.
            let _ = send.send(Ok(number.to_string().into())).await;
        }
    });
    Ok(Response::new(ReceiverStream::new(answers)))
}

async fn chat(request: Request<Streaming<Bytes>>) -> Result<Response<Answers>, Status> {
    let mut messages = request.into_inner();
    let (send, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(message) = messages.message().await.transpose() {
            if send.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(answers)))
}

/// The status of `Fail`.
pub fn failure() -> Status {
    let details = Bytes::from_static(b"\0\x01details\xff");
    let mut status = Status::with_details(tonic::Code::NotFound, "100 % \u{fc}ber\nall", details);
    let why = "because".parse().expect("a value");
    status.metadata_mut().insert("why", why);
    status
}

async fn fail(_: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    Err(failure())
}

async fn fail_late(_: Request<Bytes>) -> Result<Response<Answers>, Status> {
    let (send, answers) = mpsc::channel(2);
    for answer in [Ok(Bytes::from_static(b"first")), Err(failure())] {
        send.try_send(answer).expect("there is room");
    }
    Ok(Response::new(ReceiverStream::new(answers)))
}

async fn hang(call: Hanging) -> Result<Response<Bytes>, Status> {
    let _call = call;
    std::future::pending().await
}

async fn hang_late(call: Hanging) -> Result<Response<Answers>, Status> {
    let (send, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        let _ = send.send(Ok(Bytes::from_static(b"first"))).await;
        send.closed().await;
        drop(call);
    });
    Ok(Response::new(ReceiverStream::new(answers)))
}

/// A call that takes for ever, and says so when it is given up.
struct Hanging(&'static str, Sender<&'static str>);

impl Drop for Hanging {
    fn drop(&mut self) {
        // The test may have ended.
        let _ = self.1.send(self.0);
    }
}
