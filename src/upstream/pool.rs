//! A worker's connections to one server.
//!
//! hyper's client splits a connection into a sender and a driver that does the I/O. Here both stay together and the
//! driver is polled by whoever uses the connection: by the request that waits for an answer, then by the answer's body.
//! A request thus never hops between tasks, and a connection that nobody uses costs nothing. Idle ones are a stack:
//! the most recently used is taken first, so that few stay hot and the rest time out.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::message::RequestBody;
use crate::net::{Stream, Traffic};

/// Idle connections kept for an endpoint and worker.
const MAX_IDLE: usize = 128;

/// Largest response head, in bytes; a server that sends more gets a 502.
const MAX_HEADER_SIZE: usize = 64 * 1024;

/// A connection to a server, driven by its user.
#[derive(Debug)]
pub struct Connection(Box<Wire>);

#[derive(Debug)]
struct Wire {
    sender: http1::SendRequest<RequestBody>,
    driver: http1::Connection<TokioIo<Stream>, RequestBody>,
    traffic: Rc<Traffic>,
    over: bool,
    reused: bool,
}

impl Connection {
    /// Speaks HTTP/1.1 on a connected socket.
    pub async fn new(tcp: TcpStream, traffic: Rc<Traffic>, idle: Duration) -> hyper::Result<Self> {
        let stream = TokioIo::new(Stream::new(tcp, Rc::clone(&traffic), idle).reading_on());
        let (sender, driver) = http1::Builder::new()
            .writev(false)
            .max_header_size(MAX_HEADER_SIZE)
            .handshake(stream)
            .await?;
        Ok(Self(Box::new(Wire {
            sender,
            driver,
            traffic,
            over: false,
            reused: false,
        })))
    }

    /// Bytes that the kernel has taken for this connection so far.
    pub fn sent(&self) -> u64 {
        self.0.traffic.sent()
    }

    /// Whether it has served an earlier request, so that its server may have closed it meanwhile.
    pub fn reused(&self) -> bool {
        self.0.reused
    }

    /// Queues a request. Nothing happens until the connection is driven.
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<>
    {
        self.0.sender.try_send_request(request)
    }

    /// Does the I/O that is possible now; true once the connection has ended.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let wire = &mut *self.0;
        if !wire.over {
            // An error reaches the request or body that waits for it; here only the end matters.
            wire.over = Pin::new(&mut wire.driver).poll(cx).is_ready();
        }
        wire.over
    }

    /// Does the I/O that is possible now; whether the connection can take the next request.
    fn ready(&mut self, cx: &mut Context<'_>) -> bool {
        !self.drive(cx) && self.0.sender.is_ready()
    }

    /// Drives it in a task of its own until its request is sent and its answer read or given up.
    ///
    /// This is for an answer that came while the request's body is still on its way: a client may not read the one
    /// before the other has been taken. Such a connection is not used again.
    pub fn detach(self) {
        let Self(wire) = self;
        tokio::task::spawn_local(async move {
            let Wire { sender, driver, .. } = *wire;
            drop(sender);
            _ = driver.await;
        });
    }

    /// Takes the socket back after the server has switched protocols, with what it sent after its answer.
    ///
    /// # Errors
    /// The connection failed before its HTTP part ended.
    pub async fn into_stream(mut self) -> hyper::Result<(Stream, Bytes)> {
        if !self.0.over {
            Pin::new(&mut self.0.driver).await?;
        }
        let parts = self.0.driver.into_parts();
        Ok((parts.io.into_inner(), parts.read_buf))
    }
}

/// Unused connections to one server.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    max_age: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// A pool that keeps connections unused for up to `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Self {
            idle: RefCell::default(),
            max_age,
        }
    }

    /// The connection that was used last and is still open.
    pub fn take(&self, cx: &mut Context<'_>) -> Option<Connection> {
        loop {
            let Idle { mut connection, .. } = self.idle.borrow_mut().pop()?;
            if connection.ready(cx) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer has been read, if it can be used again.
    pub fn put(&self, mut connection: Connection, cx: &mut Context<'_>) {
        if connection.0.traffic.blocked() {
            // The server answered before it took all of the request: somebody has to send the rest.
            connection.detach();
        } else if connection.ready(cx) {
            let mut idle = self.idle.borrow_mut();
            if idle.len() < MAX_IDLE {
                connection.0.reused = true;
                idle.push(Idle {
                    connection,
                    since: Instant::now(),
                });
            }
        }
    }

    /// The same within an async function.
    pub async fn put_now(&self, connection: Connection) {
        let mut connection = Some(connection);
        poll_fn(|cx| {
            if let Some(connection) = connection.take() {
                self.put(connection, cx);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Closes what has been unused for too long or was closed by the server.
    pub fn prune(&self, now: Instant) {
        let mut cx = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|idle| {
            now.saturating_duration_since(idle.since) < self.max_age
                && idle.connection.ready(&mut cx)
        });
    }

    /// How many connections are unused.
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Whether no connection is unused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
