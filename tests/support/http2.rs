//! HTTP/2 without TLS, by prior knowledge: a client, and a server that a test tells what to answer.

use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::DEADLINE;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub head: http::response::Parts,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

/// What a test waits for, at most for [`DEADLINE`].
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// A runtime for what a test does with HTTP/2.
pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A connection, driven by a task of the runtime.
pub async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(addr).await.expect("a connection");
    connect_over(tcp).await
}

/// The same over a stream of any kind.
pub async fn connect_over(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(async move { _ = connection.await });
    client.ready().await.expect("an open connection")
}

/// A request without body.
pub fn get(path: &str) -> Request<()> {
    request("GET", path)
}

/// A request.
pub fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://example.com{path}");
    Request::builder()
        .method(method)
        .uri(uri)
        .body(())
        .expect("a request")
}

/// Sends a request and reads its answer.
pub async fn exchange(
    client: &SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<Answer, h2::Error> {
    let client = soon("room for a stream", client.clone().ready());
    let mut client = client.await?;
    let (answer, mut sending) = client.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(Bytes::copy_from_slice(body), true)?;
    }
    soon("an answer", async { read(answer.await?).await }).await
}

/// Reads an answer to its end.
pub async fn read(answer: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = answer.into_parts();
    let (body, trailers) = read_body(&mut stream).await?;
    Ok(Answer {
        head,
        body,
        trailers,
    })
}

/// Reads a body to its end.
pub async fn read_body(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok((body, stream.trailers().await?))
}

/// One request at a server, to be answered.
pub struct Asked {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

impl Asked {
    /// Sends an answer's head, and gives the way to send its body.
    pub fn begin(&mut self, response: Response<()>) -> SendStream<Bytes> {
        self.respond
            .send_response(response, false)
            .expect("a stream")
    }

    /// Sends a whole answer.
    pub fn answer(&mut self, body: &str) {
        let mut sending = self.begin(Response::new(()));
        let body = Bytes::copy_from_slice(body.as_bytes());
        sending.send_data(body, true).expect("a stream");
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server, ended on drop.
pub struct Http2Backend {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    _stop: oneshot::Sender<Infallible>,
}

impl Http2Backend {
    /// Answers each request with what `handle` makes of it.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        handle: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(server::Builder::new(), handle)
    }

    /// The same with settings of its own.
    pub fn start_with<F: Future<Output = ()> + Send + 'static>(
        settings: server::Builder,
        handle: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Self {
        let handle = Arc::new(move |asked| Box::pin(handle(asked)) as Work);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            runtime().block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, counted, settings, handle) => {}
                }
            });
        });
        Self {
            addr,
            connections,
            _stop: stop,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    connections: Arc<AtomicUsize>,
    settings: server::Builder,
    handle: Arc<impl Fn(Asked) -> Work + Send + Sync + 'static>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((tcp, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let (settings, handle) = (settings.clone(), Arc::clone(&handle));
        tokio::spawn(async move {
            let Ok(mut connection) = settings.handshake::<_, Bytes>(tcp).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(handle(Asked { request, respond }));
            }
        });
    }
}
