//! A stream that is read no faster than limits of bytes a second allow.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Throttle;
use super::throttle::Paced;

/// What is read ahead of its turn, in bytes.
const PIECE: usize = 8 * 1024;

/// A stream whose reads wait for their turn.
#[derive(Debug)]
pub struct Throttled<S> {
    stream: S,
    paced: Paced,
    waiting: Rc<Cell<bool>>,
}

impl<S> Throttled<S> {
    /// A stream under these limits, or none.
    pub fn new(stream: S, throttle: Option<Box<Throttle>>) -> Self {
        let mut paced = Paced::default();
        paced.set(throttle);
        Self {
            stream,
            paced,
            waiting: Rc::default(),
        }
    }

    /// Whether a read waits for its turn, where others can see it.
    pub fn waiting(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.waiting)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.paced.is_used() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        loop {
            let polled = this.paced.poll_next(cx);
            this.waiting.set(polled.is_pending());
            if let Some(bytes) = ready!(polled) {
                buf.put_slice(&bytes);
                return Poll::Ready(Ok(()));
            }
            let mut piece = BytesMut::zeroed(PIECE.min(buf.remaining()));
            let mut space = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut space))?;
            let read = space.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            piece.truncate(read);
            this.paced.hold(piece.freeze());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
