//! Reads and writes for all streams of a connection to a server, and finds out whether the server is still there.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::message::h2::{Liveness, Step};
use crate::net::clock;

/// Why a connection has ended.
#[derive(Debug, Error)]
pub enum Ended {
    /// One side has closed it.
    #[error("it was closed")]
    Closed,
    /// It has failed.
    #[error(transparent)]
    Failed(#[from] h2::Error),
    /// The server did not even answer a PING.
    #[error("the server is silent")]
    Silent,
}

/// Drives a connection to its end. When it is dropped, the streams fail.
pub struct Driver<T, F> {
    connection: Connection<T, Bytes>,
    pings: Option<PingPong>,
    heard: Rc<Cell<Instant>>,
    busy_since: F,
    liveness: Liveness,
    timer: Pin<Box<Sleep>>,
}

impl<T, F> Driver<T, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Option<Instant>,
{
    /// Drives `connection`, from which something came at `heard` last. `busy_since` says since when it has streams, if it
    /// has: otherwise nobody needs to know whether the server is there.
    pub fn new(
        mut connection: Connection<T, Bytes>,
        heard: Rc<Cell<Instant>>,
        busy_since: F,
    ) -> Self {
        Self {
            pings: connection.ping_pong(),
            connection,
            timer: Box::pin(sleep_until(heard.get())),
            heard,
            busy_since,
            liveness: Liveness::of_server(),
        }
    }

    fn ping(&mut self, cx: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings {
            _ = pings.poll_pong(cx); // of the last one
            _ = pings.send_ping(Ping::opaque()); // unless that is still awaited
        }
    }
}

impl<T, F> Future for Driver<T, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Option<Instant> + Unpin,
{
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut this.connection).poll(cx) {
                return Poll::Ready(ended.map_or_else(Ended::Failed, |()| Ended::Closed));
            }
            ready!(this.timer.as_mut().poll(cx));
            let now = clock::now();
            let heard = match (this.busy_since)() {
                Some(since) => this.heard.get().max(since),
                None => now,
            };
            match this.liveness.step(now, heard) {
                Step::Wait(until) => this.timer.as_mut().reset(until),
                Step::Ask => this.ping(cx),
                Step::Close => return Poll::Ready(Ended::Silent),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    type Requests = h2::client::SendRequest<Bytes>;

    /// A connection of which the other end is in our hands. It lasts as long as there may be requests.
    async fn connection() -> (Requests, Connection<DuplexStream, Bytes>, DuplexStream) {
        let (ours, peer) = duplex(64 * 1024);
        let (requests, connection) = h2::client::handshake(ours).await.unwrap();
        (requests, connection, peer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_asked_and_given_up() {
        let (_requests, connection, mut peer) = connection().await;
        let start = Instant::now();
        let heard = Rc::new(Cell::new(start));
        let driver = Driver::new(connection, heard, || Some(start));
        let Ok(ended) = timeout(Duration::from_secs(60), driver).await else {
            panic!("it waits for ever");
        };
        assert!(matches!(ended, Ended::Silent), "{ended}");
        assert_eq!(start.elapsed().as_secs(), 50);
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).await.unwrap();
        let is_ping = |frame: &[u8]| frame == [0, 0, 8, 6, 0, 0, 0, 0, 0];
        assert!(sent.windows(9).any(is_ping));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_for_nothing() {
        let (_requests, connection, mut peer) = connection().await;
        let heard = Rc::new(Cell::new(Instant::now()));
        let driver = Driver::new(connection, heard, || None);
        assert!(timeout(Duration::from_secs(3600), driver).await.is_err());
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).await.unwrap();
        assert!(!sent.windows(9).any(|frame| frame[2..4] == [8, 6]));
    }
}
