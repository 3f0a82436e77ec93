//! A TLS connection (RFC 8446, RFC 5246) over rustls, which owns no buffers while it is idle.
//!
//! ```text
//! socket ──one recv──▶ scratch ──decrypted in place──▶ the reader's buffer
//!                         └ a part of a record: held   └ what did not fit: unread
//! slices ──encrypted──▶ scratch ──one send──▶ socket
//!                         └ what was not taken: unsent, and nothing is encrypted until it is
//! ```
//! The scratch belongs to the thread (`net::scratch`); what rustls does with it is in `session`. Each of the three buffers of
//! a connection is bounded, and freed when it is empty.

mod reason;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, CommonState, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Tcp;
use super::scratch::{Scratch, Space};
use session::{Next, PLAINTEXT_MAX, RECORD_MAX, Session, invalid};

/// How many records fit into the scratch, beside a plaintext that is gathered.
const RECORDS: usize = 4;
const SCRATCH: usize = PLAINTEXT_MAX + RECORDS * RECORD_MAX;

thread_local! {
    static SPACE: Space = const { Space::new(Vec::new()) };
}

/// The most that is held: a handshake message may come in many records (RFC 8446, section 5.1), and is read when it is
/// whole.
const HELD_MAX: usize = 0xffff;

/// A TLS connection. Only [`accept`] and [`connect`] make one, and its handshake is over.
pub struct TlsStream {
    tcp: Tcp,
    session: Session,
    /// The beginning of a record, or of a handshake message.
    held: Vec<u8>,
    /// Plaintext that nobody has asked for.
    unread: Leftover,
    /// Records that the kernel has not taken.
    unsent: Leftover,
    /// What ended the connection; all that comes after is refused.
    failure: Option<Box<Error>>,
    /// Whether the peer has said that it sends nothing more.
    is_ended: bool,
    /// Whether we have.
    is_closed: bool,
}

/// Shakes hands with a client.
///
/// # Errors
/// `InvalidData` with rustls' error in it if the client does not speak TLS as it must, having been told by an alert;
/// `UnexpectedEof` if it leaves; the socket's; `Other` if `config` cannot be used.
pub async fn accept(tcp: Tcp, config: Arc<ServerConfig>) -> io::Result<Box<TlsStream>> {
    accept_after(tcp, config, Vec::new()).await
}

/// The same with a client of whose bytes the first, `early`, have been read already.
///
/// # Errors
/// Those of [`accept`].
pub async fn accept_after(
    tcp: Tcp,
    config: Arc<ServerConfig>,
    early: Vec<u8>,
) -> io::Result<Box<TlsStream>> {
    let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    TlsStream::open(tcp, Session::Server(session), early).await
}

/// Shakes hands with a server, whose certificate must be for `name`.
///
/// # Errors
/// Like those of [`accept`]. A certificate that is refused is `InvalidData`.
pub async fn connect(
    tcp: Tcp,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Box<TlsStream>> {
    let session = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
    let opened = TlsStream::open(tcp, Session::Client(session), Vec::new()).await;
    opened.map_err(reason::explained)
}

impl TlsStream {
    async fn open(tcp: Tcp, session: Session, mut early: Vec<u8>) -> io::Result<Box<Self>> {
        let mut stream = Box::new(Self {
            tcp,
            session,
            held: Vec::new(),
            unread: Leftover::default(),
            unsent: Leftover::default(),
            failure: None,
            is_ended: false,
            is_closed: false,
        });
        // A client has the first word.
        let consumed = stream.decrypt(&mut early, &mut ReadBuf::new(&mut []));
        stream.held = early.split_off(consumed);
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// What the handshake came to, and what has been agreed upon.
    pub fn agreed(&self) -> &CommonState {
        &self.session
    }

    /// The socket.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// The socket, to have it watched. What is read from it is missing here.
    pub fn tcp_mut(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// Whether all that was written has been taken by the kernel.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether a read would give something without the socket being asked: bytes, the end, or an error.
    pub fn has_decrypted(&self) -> bool {
        !self.unread.is_empty() || self.is_ended || self.failure.is_some()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            // First, as what failed may have left an alert to send.
            let sent = ready!(self.poll_send(cx));
            self.check()?;
            sent?;
            if ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))? == 0 {
                let error = io::Error::new(ErrorKind::UnexpectedEof, "tls handshake eof");
                return Poll::Ready(Err(error));
            }
        }
        self.poll_send(cx)
    }

    /// Receives once, and decrypts what there is, into `buf` and behind it. Ready with the number of bytes that came.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let held = self.held.len();
        if held >= HELD_MAX {
            let error = "a handshake message in too many records";
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
        }
        // As many records as there is room for, and what makes a long handshake message longer.
        let records = (buf.remaining() / PLAINTEXT_MAX).clamp(1, RECORDS);
        let room = (records * RECORD_MAX).max(held + RECORD_MAX / 4);
        let mut scratch = Scratch::take(&SPACE, SCRATCH);
        scratch[..held].copy_from_slice(&self.held);
        let mut space = ReadBuf::new(&mut scratch[held..room]);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut space))?;
        let received = space.filled().len();
        if received > 0 {
            let incoming = &mut scratch[..held + received];
            let consumed = self.decrypt(incoming, buf);
            let rest = &incoming[consumed..];
            if !rest.is_empty() || held > 0 {
                self.held = rest.to_vec();
            }
            // The reader hears of what came; of a socket that cannot be written, who writes.
            _ = self.poll_send(cx);
        }
        Poll::Ready(Ok(received))
    }

    /// Decrypts the whole records at the beginning of `incoming`. Returns how much of it is done with.
    fn decrypt(&mut self, incoming: &mut [u8], buf: &mut ReadBuf<'_>) -> usize {
        let unread = &mut self.unread;
        let mut plaintext = |bytes: &[u8]| {
            let (fits, rest) = bytes.split_at(bytes.len().min(buf.remaining()));
            buf.put_slice(fits);
            unread.bytes.extend_from_slice(rest);
        };
        let replies = &mut self.unsent.bytes;
        let decrypted = self.session.decrypt(incoming, &mut plaintext, replies);
        match decrypted.outcome {
            Ok(Next::More) => return decrypted.consumed,
            Ok(Next::Nothing) => self.is_ended = true,
            Err(error) => self.failure = Some(Box::new(error)),
        }
        incoming.len() // what comes behind the end means nothing
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some(error) => Err(invalid((**error).clone())),
            None => Ok(()),
        }
    }

    /// Sends what is left of earlier writes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.unsent.rest()))?;
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.unsent.consume(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    /// Fails with `UnexpectedEof` if the connection ends without a `close_notify`: there may have been more.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if !self.unread.is_empty() {
                let length = self.unread.rest().len().min(buf.remaining());
                buf.put_slice(&self.unread.rest()[..length]);
                self.unread.consume(length);
                return Poll::Ready(Ok(()));
            }
            if buf.filled().len() > before || self.is_ended {
                return Poll::Ready(Ok(()));
            }
            self.check()?;
            if ready!(self.poll_receive(cx, buf))? == 0 {
                return Poll::Ready(Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the peer closed the connection without a close_notify",
                )));
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.is_closed {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_send(cx))?;
        let this = &mut *self;
        let mut scratch = Scratch::take(&SPACE, SCRATCH);
        let replies = &mut this.unsent.bytes;
        let encrypted = this
            .session
            .encrypt(&mut this.held, bufs, &mut scratch, replies)?;
        let records = &scratch[..encrypted.sealed];
        if !this.unsent.is_empty() {
            this.unsent.bytes.extend_from_slice(records); // behind what had to be said before
            if let Poll::Ready(result) = this.poll_send(cx) {
                result?;
            }
            return Poll::Ready(Ok(encrypted.taken));
        }
        let sent = match Pin::new(&mut this.tcp).poll_write(cx, records) {
            Poll::Ready(result) => result?,
            Poll::Pending => 0,
        };
        if sent < records.len() {
            this.unsent.bytes = records[sent..].to_vec();
        }
        Poll::Ready(Ok(encrypted.taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        self.poll_send(cx)
    }

    /// Says with a `close_notify` that nothing more is sent. Reading goes on.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_closed {
            this.is_closed = true;
            if this.failure.is_none() {
                this.session.close(&mut this.held, &mut this.unsent.bytes);
            }
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.tcp).poll_shutdown(cx)) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())), // it is over already
            result => Poll::Ready(result),
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

/// Bytes that wait to be taken, from the front.
#[derive(Default)]
struct Leftover {
    bytes: Vec<u8>,
    taken: usize,
}

impl Leftover {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Gives the memory back with the last byte.
    fn consume(&mut self, length: usize) {
        self.taken += length;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }
}
