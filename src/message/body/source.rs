//! Where a request body comes from: a connection of HTTP/1.1, a stream of HTTP/2, or what was kept of another one.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Response, StatusCode};

use super::UploadError;
use crate::message::h1::body::Part;
use crate::message::h1::{Body, Wire};
use crate::message::h2::has_space;
use crate::message::headers;
use crate::message::pace::Pace;
use crate::net::Stall;
use crate::net::throttle::Paced;

/// What a client that expects it is told when its body is wanted (RFC 9110, section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What gives a body, and who watches over it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) expectation: Expectation,
    pub(super) stall: Stall,
    /// There if it has to come at a rate.
    pub(super) pace: Option<Pace>,
    /// There if it is under limits of bytes a second.
    pub(super) paced: Option<Box<Paced>>,
}

/// What a body is read from.
#[derive(Debug)]
pub(super) enum Origin {
    Http1 {
        body: Body,
        wire: Rc<RefCell<Wire>>,
    },
    /// A stream of HTTP/2. The way to answer it is for a client that waits to be told to go on.
    Http2 {
        body: RecvStream,
        respond: Option<Rc<RefCell<SendResponse<Bytes>>>>,
    },
    /// What was kept of another one.
    Copy {
        has_free_trailers: bool,
    },
}

/// What has become of a client's wish to be told to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    /// There is none, or it is too late.
    None,
    /// It will be told when its body is first asked for.
    Due,
    /// It is being told.
    Sending,
}

impl Source {
    /// Whether all of it has come, and been handed on.
    pub(super) fn ended(&self) -> bool {
        self.origin.ended() && !self.holds()
    }

    /// Whether something has come that waits for its turn.
    pub(super) fn holds(&self) -> bool {
        self.paced.as_ref().is_some_and(|it| it.held() > 0)
    }

    /// What comes from the client, when it may go on. While that waits nothing more is read.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, UploadError>> {
        loop {
            if let Some(paced) = &mut self.paced
                && let Some(data) = ready!(paced.poll_next(cx))
            {
                return Poll::Ready(Ok(Part::Data(data)));
            }
            let polled = self.poll_origin(cx);
            match (polled, &mut self.paced) {
                (Poll::Ready(Ok(Part::Data(data))), Some(paced)) => {
                    self.stall.progress();
                    if let Some(pace) = &mut self.pace {
                        pace.came();
                    }
                    paced.hold(data);
                }
                (polled, _) => return polled,
            }
        }
    }

    fn poll_origin(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, UploadError>> {
        match &mut self.origin {
            Origin::Http1 { body, wire } => {
                poll_wire(body, &mut wire.borrow_mut(), &mut self.expectation, cx)
            }
            Origin::Http2 { body, respond } => {
                if self.expectation == Expectation::Due
                    && let Some(respond) = respond
                {
                    let mut go_on = Response::new(());
                    *go_on.status_mut() = StatusCode::CONTINUE;
                    _ = respond.borrow_mut().send_informational(go_on); // a failure shows at the next read
                }
                self.expectation = Expectation::None;
                poll_stream(body, cx).map_err(|_| UploadError::Broken)
            }
            Origin::Copy { .. } => Poll::Ready(Ok(Part::End)),
        }
    }
}

impl Origin {
    pub(super) fn ended(&self) -> bool {
        match self {
            Self::Http1 { body, .. } => body.ended(),
            Self::Http2 { body, .. } => body.is_end_stream(),
            Self::Copy { .. } => true,
        }
    }
}

fn poll_wire(
    body: &mut Body,
    wire: &mut Wire,
    expectation: &mut Expectation,
    cx: &mut Context<'_>,
) -> Poll<Result<Part, UploadError>> {
    if *expectation == Expectation::Due {
        // Unless the client has not waited.
        if wire.input.is_empty() {
            wire.output.head.extend_from_slice(CONTINUE);
        }
        *expectation = Expectation::Sending;
    }
    if *expectation == Expectation::Sending && wire.poll_flush(cx).is_ready() {
        *expectation = Expectation::None; // a failure shows at the next read
    }
    loop {
        match body.take(&mut wire.input) {
            Ok(Some(part)) => return Poll::Ready(Ok(part)),
            Ok(None) => match wire.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Err(UploadError::Broken)),
                Poll::Pending => return Poll::Pending,
            },
            Err(_) => return Poll::Ready(Err(UploadError::Broken)),
        }
    }
}

/// The next part of a stream's body. Who asks for it has passed on the one before, so that the peer may send more.
fn poll_stream(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Part, h2::Error>> {
    if let Some(data) = ready!(body.poll_data(cx)?) {
        body.flow_control().release_capacity(data.len())?;
        return Poll::Ready(Ok(Part::Data(data)));
    }
    let trailers = ready!(body.poll_trailers(cx)?);
    Poll::Ready(Ok(match trailers {
        // Malformed (RFC 9113, section 8.2.1).
        Some(trailers) if has_space(&trailers) => {
            return Poll::Ready(Err(Reason::PROTOCOL_ERROR.into()));
        }
        Some(mut trailers) => {
            headers::keep_trailers(&mut trailers);
            Part::Trailers(trailers)
        }
        None => Part::End,
    }))
}
