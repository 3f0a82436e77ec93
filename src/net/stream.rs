//! A stream that counts its bytes and gives up on a peer that stops reading.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{Stall, Tcp, Transport, clock};
use crate::metrics::{Counter, Sharded};

/// Up to how many bytes copying costs less than having the kernel gather them.
const FLAT: usize = 16 * 1024;

/// Bytes received and sent, of a listener or an endpoint.
#[derive(Debug, Default)]
pub struct ByteStats {
    /// Bytes read from the peer.
    pub received: Counter,
    /// Bytes written to the peer.
    pub sent: Counter,
}

/// Where a connection's bytes are counted.
#[derive(Debug)]
pub struct Traffic {
    totals: Arc<Sharded<ByteStats>>,
    worker: usize,
    sent: u64,
    /// All bytes, for somebody who cannot ask the stream.
    moved: Option<Rc<Cell<u64>>>,
    /// When bytes came last, likewise.
    heard: Option<Rc<Cell<Instant>>>,
    /// Let go of when the stream is closed.
    held: Option<Box<dyn Any>>,
}

impl Traffic {
    /// Counts a new connection's bytes into the worker's share of `totals`.
    pub fn new(totals: Arc<Sharded<ByteStats>>, worker: usize) -> Self {
        Self {
            totals,
            worker,
            sent: 0,
            moved: None,
            heard: None,
            held: None,
        }
    }

    /// Keeps something for as long as the stream is open.
    pub fn holding(mut self, held: impl Any) -> Self {
        self.held = Some(Box::new(held));
        self
    }

    pub(super) fn add_received(&mut self, bytes: u64) {
        self.totals.shard(self.worker).received.add(bytes);
        self.add_moved(bytes);
        if let Some(heard) = &self.heard {
            heard.set(clock::now());
        }
    }

    pub(super) fn add_sent(&mut self, bytes: u64) {
        self.totals.shard(self.worker).sent.add(bytes);
        self.sent += bytes;
        self.add_moved(bytes);
    }

    fn add_moved(&self, bytes: u64) {
        if let Some(moved) = &self.moved {
            moved.set(moved.get() + bytes);
        }
    }
}

/// The stream of either side. The bytes that it counts are those of HTTP, without what TLS adds to them.
///
/// A vectored write of little is one flat `send`, which is cheaper than a `writev` for the small answers that dominate;
/// large ones are not copied.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    traffic: Traffic,
    send_stall: Stall,
    reads_on: bool,
}

impl Stream {
    /// A write that makes no progress for `idle` fails with `TimedOut`.
    pub fn new(transport: Transport, traffic: Traffic, idle: Duration) -> Self {
        Self {
            transport,
            traffic,
            send_stall: Stall::new(idle),
            reads_on: false,
        }
    }

    /// The stream of a client's side, which hears a server out: a server may answer and close before it has read the
    /// whole request. A write that then fails counts as done, so that what came before can be read; the next read tells
    /// of the end.
    pub fn reading_on(mut self) -> Self {
        self.reads_on = true;
        self
    }

    /// The stream after a switch of protocols: an error of either direction is one.
    pub fn switched(mut self) -> Self {
        self.reads_on = false;
        self
    }

    /// Bytes that the kernel, or TLS, has taken so far.
    pub fn sent(&self) -> u64 {
        self.traffic.sent
    }

    /// Counts the bytes that move from now on, in both directions, where others can see it.
    pub fn moved(&mut self) -> Rc<Cell<u64>> {
        Rc::clone(self.traffic.moved.get_or_insert_default())
    }

    /// When bytes came last, from now on, where others can see it.
    pub fn heard(&mut self) -> Rc<Cell<Instant>> {
        let heard = &mut self.traffic.heard;
        Rc::clone(heard.get_or_insert_with(|| Rc::new(Cell::new(clock::now()))))
    }

    /// Gives the transport back.
    pub fn into_transport(self) -> Transport {
        self.transport
    }

    /// What the bytes pass through.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// The socket.
    pub fn tcp(&self) -> &Tcp {
        self.transport.tcp()
    }

    /// Whether all that was written has been taken by the kernel.
    pub fn is_flushed(&self) -> bool {
        self.transport.is_flushed()
    }

    /// Counts what was read before the stream was made.
    pub fn add_received(&mut self, bytes: usize) {
        self.traffic.add_received(bytes as u64);
    }

    /// Accounts for a write of `length` bytes that came to `polled`.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(match ready!(self.progress(cx, polled))? {
            Some(bytes) => {
                self.traffic.add_sent(bytes as u64);
                bytes
            }
            None => length,
        }))
    }

    /// What a write or flush that came to `polled` comes to for somebody who does not wait for ever; `None` if the peer
    /// is gone, and to be heard out.
    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<Option<T>>> {
        match polled {
            Poll::Ready(result) => {
                self.send_stall.progress();
                Poll::Ready(match result {
                    Err(ref error) if self.reads_on && is_lost(error) => Ok(None),
                    result => result.map(Some),
                })
            }
            Poll::Pending => self.send_stall.poll_stalled(cx).map(|()| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer stopped reading",
                ))
            }),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.transport).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            self.traffic.add_received(bytes as u64);
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.wrote(cx, polled, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        let polled = if length <= FLAT && !self.transport.is_encrypted() {
            let mut space = [MaybeUninit::uninit(); FLAT];
            let mut flat = ReadBuf::uninit(&mut space);
            bufs.iter().for_each(|buf| flat.put_slice(buf));
            Pin::new(&mut self.transport).poll_write(cx, flat.filled())
        } else {
            Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
        };
        self.wrote(cx, polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.transport).poll_flush(cx);
        self.progress(cx, polled).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

/// Whether the peer has ended the connection.
fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_vectored_write_of_any_size_arrives_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let traffic = Traffic::new(Arc::new(Sharded::new(1)), 0);
        let mut stream = Stream::new(Tcp::from(tcp).into(), traffic, Duration::from_secs(60));
        for length in [0, 1, FLAT - 4, FLAT - 3, 3 * FLAT] {
            let body: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let (head, sent) = (b"head", stream.sent());
            let bufs = [IoSlice::new(head), IoSlice::new(&body)];
            // Loopback takes all of it at once.
            assert_eq!(stream.write_vectored(&bufs).await.unwrap(), 4 + length);
            assert_eq!(stream.sent() - sent, 4 + length as u64);
            let mut arrived = vec![0; 4 + length];
            peer.read_exact(&mut arrived).await.unwrap();
            assert_eq!(arrived, [&head[..], &body].concat());
        }
    }
}
