//! A TCP socket that the runtime learns of only when something has to be waited for.
//!
//! Having the runtime watch a socket, and having it forget the socket again, are two system calls. A client that sends
//! its request right behind its connection, and closes after the answer, never has to be waited for.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use super::splice::Pipe;

/// A connected socket.
#[derive(Debug)]
pub struct Tcp(State);

#[derive(Debug)]
enum State {
    /// The runtime does not know it.
    Alone {
        tcp: std::net::TcpStream,
        /// Whether the last read took all that there was: the next one would have to wait.
        drained: bool,
    },
    /// The runtime tells when it can be read or written.
    Watched(TcpStream),
    /// The runtime could not be told of it, for want of memory.
    Lost,
}

impl Tcp {
    /// A socket that was accepted, and does not block.
    pub fn accepted(tcp: std::net::TcpStream) -> Self {
        Self(State::Alone {
            tcp,
            drained: false,
        })
    }

    /// Whether its task is woken when something happens to it.
    pub fn is_watched(&self) -> bool {
        matches!(self.0, State::Watched(_))
    }

    /// For options of the socket; `None` if it is lost.
    pub fn socket(&self) -> Option<SockRef<'_>> {
        match &self.0 {
            State::Alone { tcp, .. } => Some(SockRef::from(tcp)),
            State::Watched(tcp) => Some(SockRef::from(tcp)),
            State::Lost => None,
        }
    }

    /// Ready when there may be something to read, or the connection has ended. Costs no system call but to be watched.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched()?.poll_read_ready(cx)
    }

    /// Whether the peer has sent nothing and keeps the connection open. Has the task woken when that changes.
    pub fn poll_silent(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.poll_readable(cx).is_pending() {
                // At the end of a task's turn the runtime says nothing, whatever there is.
                return coop::has_budget_remaining() || self.is_silent_now();
            }
            // The last read may have left that open: it asked for no more than there was.
            match self.try_read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return false,
            }
        }
    }

    /// Whether something may have come that nobody has read, as far as that is known without a system call. To be asked
    /// when nobody waits for it any more.
    pub fn has_more(&self) -> bool {
        match &self.0 {
            State::Alone { drained, .. } => !drained,
            State::Watched(tcp) => {
                let cx = &mut Context::from_waker(Waker::noop());
                tcp.poll_read_ready(cx).is_ready()
            }
            State::Lost => false,
        }
    }

    /// Looks at what there is to read, without taking it; at nothing at the connection's end.
    pub fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.watched()?.poll_peek(cx, buffer).map_ok(|_| ())
    }

    /// Whether there is something to read, even if the runtime has not heard of it yet.
    pub fn has_bytes(&self) -> bool {
        self.socket().is_some_and(has_bytes)
    }

    /// Whether there is nothing to read and the peer keeps the connection open, even if the runtime has not heard of
    /// anything else yet.
    pub fn is_silent_now(&self) -> bool {
        let mut byte = [mem::MaybeUninit::uninit()];
        let peeked = self.socket().map(|socket| socket.peek(&mut byte));
        matches!(peeked, Some(Err(error)) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Takes at most `limit` bytes into an empty pipe; none if there is nothing that a pipe can take, but something to read,
    /// be it the connection's end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let tcp = &*self.watched()?;
        loop {
            ready!(tcp.poll_read_ready(cx))?;
            let filled = tcp.try_io(Interest::READABLE, || match pipe.fill(tcp, limit) {
                // It may be stopped by an urgent byte, which a read passes.
                Err(error) if error.kind() == ErrorKind::WouldBlock && has_bytes(tcp) => Ok(0),
                filled => filled,
            });
            if !is_to_be_repeated(&filled) {
                return Poll::Ready(filled);
            }
        }
    }

    /// Sends what is in a pipe, as far as there is room.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let tcp = &*self.watched()?;
        loop {
            ready!(tcp.poll_write_ready(cx))?;
            let drained = tcp.try_io(Interest::WRITABLE, || pipe.drain(tcp));
            if !is_to_be_repeated(&drained) {
                return Poll::Ready(drained);
            }
        }
    }

    /// Whether the connection has broken before its peer ended it, as far as the runtime has heard: costs no system call unless
    /// something is wrong. For who does not read, as a read tells the same.
    pub fn is_broken(&self) -> bool {
        let State::Watched(tcp) = &self.0 else {
            return false;
        };
        let broken = tcp.try_io(Interest::ERROR, || match tcp.take_error()? {
            // The kernel has an error of its own for a reset that follows the peer's end.
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Ok(()),
            Some(_) | None => Err(ErrorKind::WouldBlock.into()),
        });
        broken.is_ok()
    }

    /// Has its close be a reset: what is under way is lost, and the peer sees that.
    pub fn reset_on_close(&self) {
        if let Some(socket) = self.socket() {
            _ = socket.set_linger(Some(Duration::ZERO)); // or it is broken already
        }
    }

    /// Reads at most `buffer`, now or not at all.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read; the socket's.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            State::Alone { tcp, .. } => tcp.read(buffer),
            State::Watched(tcp) => tcp.try_read(buffer),
            State::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Has the runtime watch it from now on. Should that fail, the next call tells.
    pub fn watch(&mut self) {
        _ = self.watched();
    }

    /// The socket with the runtime watching it. What has happened to it before counts as happening now.
    fn watched(&mut self) -> io::Result<&mut TcpStream> {
        if matches!(self.0, State::Alone { .. })
            && let State::Alone { tcp, .. } = mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(TcpStream::from_std(tcp)?);
        }
        match &mut self.0 {
            State::Watched(tcp) => Ok(tcp),
            State::Alone { .. } | State::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl From<TcpStream> for Tcp {
    fn from(tcp: TcpStream) -> Self {
        Self(State::Watched(tcp))
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Others than the buffer of small messages would have to be filled with zeros first.
        let is_initialized = buf.initialized().len() == buf.capacity();
        if is_initialized
            && let State::Alone { tcp, drained } = &mut self.0
            && !*drained
        {
            let room = buf.remaining();
            match again_if_interrupted(|| tcp.read(buf.initialize_unfilled())) {
                Ok(read) => {
                    *drained = read < room;
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(self.watched()?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let State::Alone { tcp, .. } = &mut self.0 {
            match again_if_interrupted(|| tcp.write(buf)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        Pin::new(self.watched()?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [buf] = bufs {
            return self.poll_write(cx, buf); // a `send` is cheaper than a `writev`, and TLS mostly has one
        }
        if let State::Alone { tcp, .. } = &mut self.0 {
            match again_if_interrupted(|| tcp.write_vectored(bufs)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        Pin::new(self.watched()?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Alone { tcp, .. } => Poll::Ready(tcp.shutdown(Shutdown::Write)),
            State::Watched(tcp) => Pin::new(tcp).poll_shutdown(cx),
            State::Lost => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }
}

/// Whether there is something to read, said by the kernel.
fn has_bytes<'a>(socket: impl Into<SockRef<'a>>) -> bool {
    let mut byte = [mem::MaybeUninit::uninit()];
    matches!(socket.into().peek(&mut byte), Ok(1..))
}

/// Whether a call has to wait after all, or was disturbed.
fn is_to_be_repeated<T>(result: &io::Result<T>) -> bool {
    use ErrorKind::{Interrupted, WouldBlock};
    matches!(result, Err(error) if matches!(error.kind(), Interrupted | WouldBlock))
}

fn again_if_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Both ends of a connection.
    fn pair() -> (Tcp, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_nonblocking(true).unwrap();
        (Tcp::accepted(tcp), peer)
    }

    #[tokio::test]
    async fn what_need_not_be_waited_for_needs_no_runtime() {
        let (mut tcp, mut peer) = pair();
        peer.write_all(b"request").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(tcp.read(&mut buffer).await.unwrap(), 4);
        assert!(tcp.has_more() && tcp.has_bytes());
        assert_eq!(tcp.read(&mut buffer).await.unwrap(), 3);
        assert!(!tcp.has_more() && !tcp.has_bytes());
        tcp.write_all(b"answer").await.unwrap();
        tcp.shutdown().await.unwrap();
        assert!(!tcp.is_watched());
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }

    #[tokio::test]
    async fn a_close_is_seen_before_the_runtime_has_heard_of_it() {
        let (mut tcp, mut peer) = pair();
        tcp.watch();
        assert!(tcp.is_silent_now());
        peer.write_all(b"x").unwrap();
        assert!(!tcp.is_silent_now());
        tcp.read_exact(&mut [0]).await.unwrap();
        assert!(tcp.is_silent_now());
        drop(peer);
        assert!(!tcp.is_silent_now());
    }

    #[tokio::test]
    async fn what_comes_late_is_waited_for() {
        let (mut tcp, mut peer) = pair();
        let mut buffer = [0; 8];
        let read = tcp.read(&mut buffer);
        let write = async {
            tokio::task::yield_now().await; // the read has found nothing
            peer.write_all(b"late").unwrap();
        };
        let (read, ()) = tokio::join!(read, write);
        assert_eq!(read.unwrap(), 4);
        assert!(tcp.is_watched());
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_waited_for() {
        const MUCH: usize = 20 << 20;
        let (mut tcp, mut peer) = pair();
        let (begin, begun) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            begun.recv().unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all.len()
        });
        {
            let much = vec![0; MUCH];
            let mut write = std::pin::pin!(tcp.write_all(&much));
            let first =
                std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending()));
            assert!(first.await, "it is more than the kernel takes");
            begin.send(()).unwrap();
            write.await.unwrap();
        }
        tcp.shutdown().await.unwrap();
        assert!(tcp.is_watched());
        assert_eq!(reader.join().unwrap(), MUCH);
    }
}
