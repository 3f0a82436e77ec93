//! Answer bodies on their way from a server to the client.
//!
//! Everything that must live exactly as long as the answer rides in its body: the record of the exchange, the try that
//! counts as the server's load, and the server's connection, which goes back to its pool when the body has ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body as _, Frame, SizeHint};
use thiserror::Error;

use super::attempt::Attempt;
use super::exchange::Exchange;
use crate::message::h1::Body;
use crate::message::h1::body::Part;
use crate::net::throttle::Paced;
use crate::net::{Stall, Throttle};
use crate::upstream::Connection;
use crate::upstream::connection::AnswerError;

/// Why an answer's body was cut off. The client's connection is closed, so that it cannot take it for whole.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// The server closed the connection or sent what is not HTTP.
    #[error("the server's answer broke off")]
    Broken(#[source] AnswerError),
    /// The server sent nothing for the upstream's idle timeout.
    #[error("the server's answer stalled")]
    Stalled,
}

impl DownloadError {
    /// A word for programs.
    fn code(&self) -> &'static str {
        match self {
            Self::Broken(_) => "answer_broken",
            Self::Stalled => "answer_stalled",
        }
    }
}

/// An answer's body.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Bytes),
    Download(Box<Download>),
}

/// A server's answer as it arrives.
#[derive(Debug)]
pub struct Download {
    body: Body,
    /// Gone when the body has ended.
    connection: Option<Connection>,
    attempt: Attempt,
    stall: Stall,
    /// There if the answer is under limits of bytes a second.
    paced: Option<Box<Paced>>,
}

impl ResponseBody {
    /// No body.
    pub fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            exchange: None,
        }
    }

    /// A body of our own.
    pub fn full(bytes: Bytes) -> Self {
        Self {
            kind: if bytes.is_empty() {
                Kind::Empty
            } else {
                Kind::Full(bytes)
            },
            exchange: None,
        }
    }

    /// A server's body, which may pause for at most `idle`.
    pub fn download(body: Body, connection: Connection, attempt: Attempt, idle: Duration) -> Self {
        let download = Download {
            body,
            connection: Some(connection),
            attempt,
            stall: Stall::new(idle),
            paced: None,
        };
        Self {
            kind: Kind::Download(Box::new(download)),
            exchange: None,
        }
    }

    /// Has a server's body be under these limits.
    pub fn pace(&mut self, throttle: Box<Throttle>) {
        if let Kind::Download(download) = &mut self.kind {
            let paced = download.paced.get_or_insert_default();
            paced.set(Some(throttle));
        }
    }

    /// A body of our own, as it is.
    pub fn into_bytes(self) -> Bytes {
        match self.kind {
            Kind::Full(bytes) => bytes,
            Kind::Empty | Kind::Download(_) => Bytes::new(),
        }
    }

    /// Has `exchange` end with this body. An answer to HEAD is complete without it.
    pub fn attach(&mut self, mut exchange: Box<Exchange>, to_head: bool) {
        exchange.complete = to_head || matches!(self.kind, Kind::Empty);
        self.exchange = Some(exchange);
    }

    /// Takes the exchange back: another body will end it.
    pub fn detach(&mut self) -> Option<Box<Exchange>> {
        self.exchange.take()
    }

    /// The id of the exchange that it ends, if it ends one.
    pub fn id(&self) -> Option<&HeaderValue> {
        self.exchange.as_ref().map(|exchange| &exchange.id)
    }

    fn failed(&mut self, error: &DownloadError) {
        if let (Some(exchange), Kind::Download(download)) = (&mut self.exchange, &self.kind) {
            exchange.error = error.code();
            let server = download.attempt.endpoint().shared.id();
            tracing::debug!(server, request_id = ?exchange.id, %error, "an answer was cut off");
        }
    }

    /// Notes what was handed on, and whether that was all.
    fn record(&mut self, frame: &Frame<Bytes>) {
        let ended = frame.is_trailers() || self.is_end_stream();
        if let Some(exchange) = &mut self.exchange {
            exchange.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            exchange.complete = ended;
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let this = &mut *self;
        let polled = match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Download(download) => download.poll_frame(cx),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => this.record(frame),
            Poll::Ready(None) => {
                if let Some(exchange) = &mut this.exchange {
                    exchange.complete = true;
                }
            }
            Poll::Ready(Some(Err(error))) => this.failed(error),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Download(download) => download.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Download(download) => download.size_hint(),
        }
    }
}

impl Download {
    /// What comes from the server, when it may go on to the client. While that waits nothing more is read.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        loop {
            if let Some(paced) = &mut self.paced
                && let Some(data) = ready!(paced.poll_next(cx))
            {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            let polled = self.poll_server(cx);
            match (polled, &mut self.paced) {
                (Poll::Ready(Some(Ok(frame))), Some(paced)) => match frame.into_data() {
                    Ok(data) => paced.hold(data),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                (polled, _) => return polled,
            }
        }
    }

    fn poll_server(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let Some(connection) = &self.connection else {
            return Poll::Ready(None);
        };
        match connection.poll_body(cx, &mut self.body) {
            Poll::Ready(Ok(part)) => {
                self.stall.progress();
                if self.body.ended() || part == Part::End {
                    self.release(cx);
                }
                Poll::Ready(match part {
                    Part::Data(data) => Some(Ok(Frame::data(data))),
                    Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
                    Part::End => None,
                })
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(DownloadError::Broken(error)))),
            Poll::Pending => self
                .stall
                .poll_stalled(cx)
                .map(|()| Some(Err(DownloadError::Stalled))),
        }
    }

    /// Whether all of it has been handed on.
    fn is_over(&self) -> bool {
        self.connection.is_none() && self.held() == 0
    }

    /// What has come from the server and waits.
    fn held(&self) -> usize {
        self.paced.as_ref().map_or(0, |it| it.held())
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = self.body.remaining();
        remaining.map_or_else(SizeHint::default, |remaining| {
            SizeHint::with_exact(remaining + self.held() as u64)
        })
    }

    /// The answer has been read: its connection can serve another request, before the client has taken the last bytes.
    fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = self.connection.take() {
            self.attempt.endpoint().release(connection, cx);
        }
    }
}
