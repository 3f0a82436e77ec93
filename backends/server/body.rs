//! The bodies of the test server's answers: whole, generated, or written by a task of their own.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Why a body or an answer ends early.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The body of any answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, Error>;

/// A body that is in memory as a whole.
pub fn whole(content: impl Into<Bytes>) -> AnswerBody {
    Full::new(content.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Content whose byte at offset `i` is `i % 251`: 251 is prime, so a block that a buffer of the usual sizes drops,
/// repeats or misplaces shows.
const PERIOD: usize = 251;

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    (0..=250)
        .cycle()
        .take(PERIOD * 1024)
        .collect::<Vec<u8>>()
        .into()
});

/// The longest piece of the pattern content that begins at `range.start` and is in memory in one stretch.
pub fn piece(range: Range<u64>) -> Bytes {
    let start = (range.start % PERIOD as u64) as usize;
    let length = (range.end - range.start).min((PATTERN.len() - start) as u64) as usize;
    PATTERN.slice(start..start + length)
}

/// The first `length` bytes of the pattern, without ever holding them.
pub fn pattern(length: u64) -> AnswerBody {
    Pattern { rest: 0..length }
        .map_err(|never| match never {})
        .boxed_unsync()
}

struct Pattern {
    rest: Range<u64>,
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let data = piece(self.rest.clone());
        self.rest.start += data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}

/// A body that `write` produces in a task of its own, at the pace at which it is sent.
pub fn written<W>(write: impl FnOnce(BodyWriter) -> W) -> AnswerBody
where
    W: Future<Output = Result<(), ClientGone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    // The task ends by itself when the client goes: the next write fails.
    tokio::spawn(write(BodyWriter(sender)));
    Written(receiver).boxed_unsync()
}

/// Nobody reads the body any more.
pub struct ClientGone;

/// The writing end of a [`written`] body.
pub struct BodyWriter(mpsc::Sender<Result<Frame<Bytes>, Error>>);

impl BodyWriter {
    /// Waits until the piece before this one was taken.
    pub async fn data(&self, data: impl Into<Bytes>) -> Result<(), ClientGone> {
        self.frame(Frame::data(data.into())).await
    }

    /// The same with a piece, or with the trailers that end a body.
    pub async fn frame(&self, frame: Frame<Bytes>) -> Result<(), ClientGone> {
        self.send(Ok(frame)).await
    }

    /// Ends the body, and with it the connection, before its time.
    pub async fn cut(self) -> Result<(), ClientGone> {
        self.send(Err("the body was cut".into())).await
    }

    async fn send(&self, frame: Result<Frame<Bytes>, Error>) -> Result<(), ClientGone> {
        self.0.send(frame).await.map_err(|_| ClientGone)
    }
}

struct Written(mpsc::Receiver<Result<Frame<Bytes>, Error>>);

impl Body for Written {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx)
    }
}
