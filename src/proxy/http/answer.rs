//! Sending a client the answer to its request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use http::{Method, StatusCode, Version};
use http_body::Body;
use tokio::task::coop;
use tokio::time::Instant;

use super::client::Client;
use super::download::ResponseBody;
use super::error::{Form, ProxyError};
use super::exchange;
use super::interim::Interim;
use super::reply::Reply;
use super::request_id::X_REQUEST_ID;
use super::service;
use super::tunnel::Tunnel;
use crate::message::Head;
use crate::message::Upload;
use crate::message::h1::write_answer::{self, Afterwards, Ending};
use crate::message::h1::{Wire, write_request};
use crate::message::headers::Trailers;

/// Largest buffer for heads that a worker keeps, in bytes.
const MAX_KEPT: usize = 64 * 1024;

/// How sending an answer went.
pub enum Sent {
    /// It was sent.
    Whole {
        /// Whether the client has been led to expect that the connection stays open.
        keep_alive: bool,
    },
    /// It broke off.
    Broken,
    /// It was the last word before another protocol.
    Switched(Box<Tunnel>),
}

/// Has a request answered, and sends the answer.
pub async fn answer(
    client: Rc<Client>,
    wire: Rc<RefCell<Wire>>,
    mut head: Head,
    upload: Option<Rc<Upload>>,
    keep_alive: bool,
) -> Sent {
    let (version, to_head) = (head.version, head.method == Method::HEAD);
    let takes_trailers = version == Version::HTTP_11 && head.takes_trailers();
    let (reply, tunnel) = {
        let interim = Interim::http1(&wire);
        let interim = (version == Version::HTTP_11).then_some(&interim);
        service::serve(&client, &mut head, upload.clone(), interim).await
    };
    drop(head);
    let (ending, has_body) = ending(version, to_head, &reply);
    let Reply {
        status,
        fields,
        trailers,
        closes,
        body,
        ..
    } = reply;
    let mut sending = Sending {
        wire,
        body: Some(body).filter(|_| has_body),
        chunked: ending == Ending::Chunked,
        must_end: version == Version::HTTP_10,
        trailers: match takes_trailers {
            true => trailers,
            false => Trailers::NONE,
        },
        stalled: false,
    };

    let mut keep_alive = keep_alive && !closes && ending != Ending::Close && !client.is_ending();
    if let Some(upload) = &upload {
        upload.answered();
        keep_alive &= poll_fn(|cx| Poll::Ready(will_be_taken(upload, cx))).await;
    }
    let afterwards = match (keep_alive, version) {
        _ if tunnel.is_some() => Afterwards::AsUsual,
        (false, _) => Afterwards::Close,
        (true, Version::HTTP_10) => Afterwards::KeepAlive,
        (true, _) => Afterwards::AsUsual,
    };
    {
        let out = &mut sending.wire.borrow_mut().output.head;
        if out.capacity() == 0 {
            // The worker's, which is given back below: most answers leave at once.
            std::mem::swap(out, &mut client.local.head.borrow_mut());
            out.clear();
        }
        write_answer::write(out, status, &fields, ending, afterwards, |out| {
            client.local.date.write(out);
        });
    }
    drop(fields);

    let sent = poll_fn(|cx| sending.poll(cx)).await;
    if sending.stalled {
        let listener = client.listener();
        let stats = listener.stats.shard(client.local.worker);
        stats.stalled_answers.increment();
    }
    {
        let output = &mut sending.wire.borrow_mut().output;
        if output.is_empty() && output.head.capacity() <= MAX_KEPT {
            client.local.head.replace(std::mem::take(&mut output.head));
        }
    }
    match (sent, tunnel) {
        (Err(Broken), _) => Sent::Broken,
        (Ok(()), Some(tunnel)) => Sent::Switched(tunnel),
        (Ok(()), None) => Sent::Whole { keep_alive },
    }
}

/// Where the answer ends, and whether there is a body to send.
pub fn ending(version: Version, to_head: bool, reply: &Reply) -> (Ending, bool) {
    let status = reply.status;
    let length = reply.body.size_hint().exact();
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return (Ending::NoBody(None), false);
    }
    if to_head || status == StatusCode::NOT_MODIFIED {
        // Of our own answers the body is there to tell.
        let of_body = length.filter(|length| to_head && *length > 0);
        return (Ending::NoBody(reply.length.or(of_body)), false);
    }
    match (length, version) {
        (Some(length), _) => (Ending::Length(length), length > 0),
        (None, Version::HTTP_10) => (Ending::Close, true),
        (None, _) => (Ending::Chunked, true),
    }
}

/// Whether all of a request's body was read or will be, so that another request can follow it. What has arrived already
/// is thrown away if nobody wants it.
fn will_be_taken(upload: &Upload, cx: &mut Context<'_>) -> bool {
    while !upload.is_taken() && !upload.received_all() {
        match upload.poll_frame(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            _ => return false,
        }
    }
    upload.error().is_none()
}

/// The client went away, or the server's answer did.
struct Broken;

/// An answer on its way.
struct Sending {
    wire: Rc<RefCell<Wire>>,
    body: Option<ResponseBody>,
    chunked: bool,
    /// Whether the client may take the connection's end for the answer's: until that is reached, only a reset differs.
    must_end: bool,
    /// The trailers that were announced to a client that takes them.
    trailers: Trailers,
    /// Whether the client has taken nothing for too long.
    stalled: bool,
}

impl Sending {
    /// Sends what there is; ready when that was all.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let waiting = match self.take(cx) {
                Ok(waiting) => waiting,
                Err(Broken) => {
                    // What came before it broke off is worth having.
                    _ = self.wire.borrow_mut().poll_flush(cx);
                    return Poll::Ready(Err(Broken));
                }
            };
            let flushed = ready!(self.wire.borrow_mut().poll_flush(cx));
            if let Err(error) = flushed {
                self.stalled = error.kind() == io::ErrorKind::TimedOut;
                return Poll::Ready(Err(Broken));
            }
            if self.body.is_none() {
                self.must_end = false;
                return Poll::Ready(Ok(()));
            }
            if waiting {
                return Poll::Pending;
            }
        }
    }

    /// Takes what there is of the body, up to a reasonable amount; whether more is to be waited for. A part counts like a
    /// read of a socket, so that a body in crumbs does not keep others waiting.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        while let Some(body) = &mut self.body {
            if self.wire.borrow().output.is_full() {
                return Ok(false);
            }
            let Poll::Ready(turn) = coop::poll_proceed(cx) else {
                return Ok(true);
            };
            let polled = Pin::new(&mut *body).poll_frame(cx);
            if polled.is_ready() {
                turn.made_progress();
            }
            let output = &mut self.wire.borrow_mut().output;
            match polled {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(_))) => return Err(Broken),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        output.add(data, self.chunked);
                        if !self.chunked && body.is_end_stream() {
                            self.body = None;
                        }
                    }
                    Err(frame) => {
                        if let (Ok(fields), true) = (frame.into_trailers(), self.chunked) {
                            let wanted = |name: &HeaderName| self.trailers.has(name);
                            write_request::write_trailers(&mut output.head, &fields, wanted);
                        }
                        self.body = None;
                    }
                },
                Poll::Ready(None) => {
                    output.end(self.chunked);
                    self.body = None;
                }
            }
        }
        Ok(false)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.must_end
            && let Ok(wire) = self.wire.try_borrow_mut()
            && let Some(socket) = wire.stream.tcp().socket()
        {
            _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

/// Writes the answer to what came since `since`, and is no request.
pub fn refusal(client: &Client, error: ProxyError, since: Instant, out: &mut Vec<u8>) {
    let id = client.local.request_ids.id_of(&HeaderMap::new());
    let code = error.code();
    let mut reply = error.into_reply(Form::Text, &id);
    reply.fields.add(X_REQUEST_ID.as_str(), id.as_bytes());
    let (status, body) = (reply.status, reply.body.into_bytes());
    exchange::record_refusal(client, status, code, &id, body.len(), since);
    let ending = Ending::Length(body.len() as u64);
    write_answer::write(
        out,
        status,
        &reply.fields,
        ending,
        Afterwards::Close,
        |out| {
            client.local.date.write(out);
        },
    );
    out.extend_from_slice(&body);
}
