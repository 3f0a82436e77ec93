//! What a connection's bytes pass through: the bare socket, or TLS on it (RFC 8446).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Tcp;
use super::splice::Pipe;
use super::tls::TlsStream;

/// A connected socket, with or without TLS.
#[derive(Debug)]
pub enum Transport {
    /// As it is.
    Plain(Tcp),
    /// Encrypted; the handshake is over. Boxed, because most are not.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether its handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        let resumed = Some(HandshakeKind::Resumed);
        matches!(self, Self::Tls(tls) if tls.agreed().handshake_kind() == resumed)
    }

    /// The protocol that both sides have agreed upon (ALPN, RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.agreed().alpn_protocol(),
        }
    }

    /// The certificates that the peer has proved to own, its own first.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.agreed().peer_certificates(),
        }
    }

    /// The socket.
    pub fn tcp(&self) -> &Tcp {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    fn tcp_mut(&mut self) -> &mut Tcp {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp_mut(),
        }
    }

    /// Has the runtime watch the socket from now on.
    pub fn watch(&mut self) {
        self.tcp_mut().watch();
    }

    /// Ready when there may be something to read, or the connection has ended. Costs no system call but to be watched.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_decrypted() {
            return Poll::Ready(Ok(()));
        }
        self.tcp_mut().poll_readable(cx)
    }

    /// Whether the peer has sent nothing and keeps the connection open. Has the task woken when that changes.
    pub fn poll_silent(&mut self, cx: &mut Context<'_>) -> bool {
        if let Self::Plain(tcp) = self {
            return tcp.poll_silent(cx);
        }
        // What has come may concern TLS alone, such as a ticket for the next connection.
        Pin::new(self)
            .poll_read(cx, &mut ReadBuf::new(&mut []))
            .is_pending()
    }

    /// Whether something may have come that nobody has read, as far as that is known without a system call. To be asked
    /// when nobody waits for it any more.
    pub fn has_more(&self) -> bool {
        self.has_decrypted() || self.tcp().has_more()
    }

    /// Whether there is something to read, even if the runtime has not heard of it yet.
    pub fn has_bytes(&self) -> bool {
        self.has_decrypted() || self.tcp().has_bytes()
    }

    /// Whether all that was written has been taken by the kernel.
    pub fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => tls.is_flushed(),
        }
    }

    /// Takes bytes into an empty pipe, where there is no TLS; none if there is something that only a read can take.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        self.tcp_mut().poll_fill(cx, pipe, limit)
    }

    /// Sends what is in a pipe, where there is no TLS.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.tcp_mut().poll_drain(cx, pipe)
    }

    /// Ends this direction. With TLS it is `said` or not that this was all.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>, said: bool) -> Poll<io::Result<()>> {
        match said {
            true => Pin::new(self).poll_shutdown(cx),
            false => Pin::new(self.tcp_mut()).poll_shutdown(cx),
        }
    }

    /// Whether a read would give something without the socket being asked: bytes, or the end.
    fn has_decrypted(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_decrypted(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(_) => Poll::Ready(Ok(())), // nothing is buffered here
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl From<Tcp> for Transport {
    fn from(tcp: Tcp) -> Self {
        Self::Plain(tcp)
    }
}
