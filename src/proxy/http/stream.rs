//! A stream of a client's HTTP/2 connection: a request and its answer (RFC 9113, section 8.1).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, COOKIE, DATE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::task::coop;

use super::answer::ending;
use super::client::Client;
use super::download::ResponseBody;
use super::error::{Form, ProxyError};
use super::interim::Interim;
use super::reply::Reply;
use super::request_id::X_REQUEST_ID;
use super::service;
use super::websocket::{self, StreamIo};
use crate::message::Upload;
use crate::message::h1::write_answer::{Ending, Fields};
use crate::message::h1::write_request::decimal;
use crate::message::h2::{self as h2_rules, Malformed};
use crate::message::{Field, Head};
use crate::net::Stall;

/// Answers a request, unless the client takes it back. It may be the first of its connection. Nothing is left to do for one
/// that is malformed.
pub fn answer(
    client: Rc<Client>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    is_first: bool,
) -> Option<impl Future<Output = ()>> {
    let (head, body) = request.into_parts();
    let mut head = Head::from(head);
    if let Err(malformed) = h2_rules::check(&head) {
        refuse_malformed(&client, malformed, respond);
        return None;
    }
    name_host(&mut head);
    join_cookies(&mut head);
    let to_head = head.method == Method::HEAD;
    let respond = Rc::new(RefCell::new(respond));
    let (mut upload, mut websocket) = (None, None);
    let rng = &client.local.rng;
    if head.method == Method::CONNECT
        && head.edit(|it| websocket::upgrade(it, &mut rng.borrow_mut()))
    {
        websocket = Some(body);
    } else if !body.is_end_stream() {
        let length = head.content_length().unwrap_or_default();
        let expected = head.expects_continue().then(|| Rc::clone(&respond));
        let listener = client.listener();
        let body = Upload::http2(body, length, expected, listener.timeouts.idle);
        listener.min_body_rate.inspect(|rate| body.hurry(*rate));
        upload = Some(body);
    }
    // A block and no `async fn`, which would have room for its arguments twice.
    Some(async move {
        let answered = {
            let interim = Interim::http2(&respond);
            let mut work = pin!(service::serve(
                &client,
                &mut head,
                upload.clone(),
                Some(&interim)
            ));
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                // Taken back, or the connection has ended.
                Poll::Pending => respond.borrow_mut().poll_reset(cx).map(|_| None),
            })
            .await
        };
        drop(head);
        let Some((mut reply, tunnel)) = answered else {
            return;
        };
        // Any 2xx would say that there is a WebSocket now (RFC 8441, section 5).
        if websocket.is_some() && tunnel.is_none() && reply.status.is_success() {
            reply = no_websocket(reply);
        }
        if let (Some(tunnel), Some(receive)) = (tunnel, websocket) {
            websocket::accept(&mut reply.fields);
            reply.status = StatusCode::OK;
            let id = Some(tunnel.exchange.id.clone());
            let response = head_of(&client, (id, is_first), reply.status, reply.fields, None);
            let stream = respond.borrow_mut().send_response(response, false);
            if let Ok(send) = stream {
                let idle = client.listener().timeouts.idle;
                let io = StreamIo::new(receive, send);
                // Boxed: most streams need no room for this.
                Box::pin(tunnel.run(io, Bytes::new(), idle)).await;
            }
            return;
        }
        if let Some(upload) = &upload {
            upload.answered();
        }
        let sent = match begin(&client, is_first, reply, to_head, &respond) {
            Ok(Some(mut sending)) => poll_fn(|cx| sending.poll(cx, &client)).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(upload) = upload {
            match sent {
                // Its server may still take the rest of it, whatever it has answered.
                Ok(()) => upload.taken().await,
                Err(_) => upload.stop().await,
            }
        }
    })
}

/// What a client is told whose WebSocket the server has answered with a page.
fn no_websocket(mut page: Reply) -> Reply {
    let exchange = page.body.detach();
    let id = exchange.as_ref().map(|exchange| exchange.id.clone());
    let id = id.unwrap_or(HeaderValue::from_static(""));
    let mut reply = ProxyError::BadAnswer.into_reply(Form::Text, &id);
    if let Some(mut exchange) = exchange {
        exchange.status = reply.status.as_u16();
        exchange.error = ProxyError::BadAnswer.code();
        reply.body.attach(exchange, false);
    }
    reply
}

/// Resets a stream (RFC 9113, section 8.1.1).
fn refuse_malformed(client: &Client, malformed: Malformed, mut respond: SendResponse<Bytes>) {
    let listener = client.listener();
    let stats = listener.stats.shard(client.local.worker);
    stats.malformed.increment();
    tracing::debug!(listener = %listener.name, peer = %client.peer, %malformed, "a request is malformed");
    respond.send_reset(Reason::PROTOCOL_ERROR);
}

/// Makes Host what `:authority` says (RFC 9113, section 8.3.1).
fn name_host(head: &mut Head) {
    if let Some(authority) = head.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.set_host(host);
    }
}

/// Makes one cookie field of those that come in crumbs (RFC 9113, section 8.2.3).
fn join_cookies(head: &mut Head) {
    let crumbs: Vec<&[u8]> = head
        .lines(Field::Cookie)
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1 {
        let whole = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..])));
        let whole = whole.expect("its parts were valid");
        head.edit(|parts| parts.headers.insert(COOKIE, whole));
    }
}

/// Sends the head of an answer. If there is a body, it is still to be sent.
fn begin(
    client: &Client,
    is_first: bool,
    reply: Reply,
    to_head: bool,
    respond: &RefCell<SendResponse<Bytes>>,
) -> Result<Option<Sending>, h2::Error> {
    let (ending, has_body) = ending(Version::HTTP_2, to_head, &reply);
    let length = match ending {
        Ending::Length(length) => Some(length),
        Ending::NoBody(length) => length,
        Ending::Chunked | Ending::Close => None,
    };
    let id = reply.body.id().cloned();
    let response = head_of(client, (id, is_first), reply.status, reply.fields, length);
    let stream = respond.borrow_mut().send_response(response, !has_body)?;
    Ok(has_body.then(|| Sending {
        stream,
        body: reply.body,
        data: None,
        stall: Stall::new(client.listener().timeouts.idle),
    }))
}

/// The head of an answer, with the id of its exchange, the first that the connection sees or another.
fn head_of(
    client: &Client,
    (id, is_first): (Option<HeaderValue>, bool),
    status: StatusCode,
    fields: Fields,
    length: Option<u64>,
) -> Response<()> {
    let Fields { lines, has_date } = fields;
    let mut fields = client.local.recent.borrow_mut().map(&lines, MORE_FIELDS);
    if let Some(mut id) = id {
        // No other answer has it: it would only take room from fields that others have (RFC 7541, section 7.1.3). But one
        // is let in, for its name, to which the others' values can refer.
        id.set_sensitive(!is_first);
        fields.insert(X_REQUEST_ID, id);
    }
    if let Some(length) = length {
        let digits = HeaderValue::from_bytes(decimal(length, &mut [0; 20]));
        fields.insert(CONTENT_LENGTH, digits.expect("digits are text"));
    }
    if !has_date {
        fields.insert(DATE, client.local.date.value());
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// Fields that an answer gets here.
const MORE_FIELDS: usize = 3;

/// An answer's body on its way.
struct Sending {
    stream: SendStream<Bytes>,
    body: ResponseBody,
    /// What the client has no room for yet.
    data: Option<Bytes>,
    stall: Stall,
}

impl Sending {
    /// Sends what there is; ready when that was all.
    fn poll(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Result<(), h2::Error>> {
        let polled = self.poll_body(cx, client);
        if polled.is_pending() && self.stream.poll_reset(cx)?.is_ready() {
            return Poll::Ready(Err(Reason::CANCEL.into()));
        }
        polled
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Some(data) = &self.data {
                let wanted = data.len();
                ready!(self.poll_room(cx, wanted, client))?;
            }
            if let Some(data) = self.data.take() {
                let is_last = self.body.is_end_stream();
                self.stream.send_data(data, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            // A part counts like a read of a socket, so that a body in crumbs does not keep others waiting.
            let turn = ready!(coop::poll_proceed(cx));
            let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
            turn.made_progress();
            match polled {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
                Some(Err(_)) => return Poll::Ready(Err(self.reset(Reason::INTERNAL_ERROR))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.data = Some(data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                },
            }
        }
    }

    /// Waits until the client takes more, be it less than the bytes that are `wanted`.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        client: &Client,
    ) -> Poll<Result<(), h2::Error>> {
        // For all of it at once, as sending it would ask for the rest.
        self.stream.reserve_capacity(wanted);
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                Poll::Pending => {
                    ready!(self.stall.poll_stalled(cx));
                    let listener = client.listener();
                    let stats = listener.stats.shard(client.local.worker);
                    stats.stalled_answers.increment();
                    return Poll::Ready(Err(self.reset(Reason::CANCEL)));
                }
            }
        }
        self.stall.progress();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, reason: Reason) -> h2::Error {
        self.stream.send_reset(reason);
        reason.into()
    }
}
