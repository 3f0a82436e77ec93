//! One try of a request on one server, and what becomes of the answer: it is passed on, or thrown away.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::attempt::{self, Attempt, Failure, Patience};
use super::download::ResponseBody;
use super::reply::Reply;
use super::rewrite::Rewrite;
use super::service::Answered;
use super::tunnel::ServerSide;
use crate::message::Upload;
use crate::message::h1::body::Part;
use crate::message::h1::{Answer, Framing, Invalid};
use crate::message::headers;
use crate::net::clock;
use crate::upstream::connection::SendError;
use crate::upstream::{Connection, LocalEndpoint, LocalUpstream, RetryReason, Wish};

/// Of an answer that nobody wants, so many bytes are read for its connection to be used again, and for so long.
const DRAINED: u64 = 64 * 1024;
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What a try comes to.
pub type Outcome = Result<(Connection, Answer), Failure>;

/// A server that has answered.
pub struct Reached {
    /// The try.
    pub attempt: Attempt,
    /// What the rest of the answer comes over.
    pub connection: Connection,
    /// The answer's head.
    pub answer: Answer,
}

/// A request on its way to a server.
pub struct Outgoing<'a> {
    /// The request.
    pub rewrite: Rewrite<'a>,
    /// Where it goes.
    pub upstream: &'a LocalUpstream,
    /// How long its answer is waited for.
    pub patience: Patience,
}

impl Outgoing<'_> {
    /// The same request with another body of the same content.
    pub fn with_upload<'b>(&'b self, upload: Option<&'b Rc<Upload>>) -> Outgoing<'b> {
        let rewrite = Rewrite {
            upload,
            upgrade: None,
            ..self.rewrite
        };
        Outgoing { rewrite, ..*self }
    }

    /// Tries one server. A pooled connection that turns out to be closed costs no try: a fresh one takes its place.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn try_on(&self, attempt: &mut Attempt) -> Outcome {
        let endpoint = Rc::clone(attempt.endpoint());
        let is_idempotent = self.rewrite.head.method.is_idempotent();
        let (patience, now) = (self.patience, clock::now());
        let rest = (patience.since + patience.connect).saturating_duration_since(now);
        let mut wish = Wish {
            announced: self.rewrite.client.announced(self.rewrite.view),
            fresh: false,
            upgrade: self.rewrite.upgrade.is_some(),
            certain: !is_idempotent,
            within: Some((now, rest.min(patience.limit))),
        };
        loop {
            let connection = match self.upstream.connect(&endpoint, wish).await {
                Ok(connection) => connection,
                Err(error) => return Err(attempt.failed(Failure::Connect(error))),
            };
            let server = endpoint.shared.host();
            let sent = attempt::send(&connection, &self.rewrite, server, self.patience).await;
            let failure = match sent {
                Ok(answer) if self.accepts(&answer) => {
                    attempt.answered(answer.status.as_u16());
                    return Ok((connection, answer));
                }
                Ok(_) => return Err(attempt.failed(Failure::BadAnswer(Invalid::Syntax))),
                Err(failure) => failure,
            };
            let is_stale = matches!(failure, Failure::Unsent | Failure::Reset)
                && connection.may_be_stale()
                && !wish.fresh;
            let may_repeat = failure
                .reason()
                .is_some_and(|reason| may_repeat(&self.rewrite, reason));
            if !is_stale || !may_repeat {
                if is_stale && !is_idempotent && matches!(failure, Failure::Reset) {
                    self.lost_on_close(&endpoint);
                }
                return Err(attempt.failed(failure));
            }
            rewind(self.rewrite.upload);
            wish.fresh = true;
        }
    }

    /// Nobody knows whether the server has acted on the request before it closed the connection.
    fn lost_on_close(&self, endpoint: &LocalEndpoint) {
        let worker = self.rewrite.client.local.worker;
        let stats = self.upstream.shared.stats.shard(worker);
        stats.lost_on_close.increment();
        tracing::info!(
            server = endpoint.shared.id(), request_id = ?self.rewrite.id, method = %self.rewrite.head.method,
            "a request that must not be made twice met the close of a used connection"
        );
    }

    /// Whether this can be an answer: protocols are switched only to what was asked for.
    fn accepts(&self, answer: &Answer) -> bool {
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            return true;
        }
        let both = self.rewrite.upgrade.as_ref().zip(answer.upgrade.as_ref());
        both.is_some_and(|(asked, answered)| headers::answers_upgrade(asked, answered))
    }
}

/// Passes an answer on.
///
/// # Errors
/// It switches protocols, and the connection failed before that.
pub async fn deliver(
    upstream: &LocalUpstream,
    upload: Option<&Upload>,
    reached: Reached,
) -> Result<Answered, Failure> {
    let Reached {
        attempt,
        connection,
        answer,
    } = reached;
    let idle = upstream.settings().idle;
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        // Boxed: most answers need no room for this.
        return Box::pin(switch(upload, connection, attempt, answer, idle)).await;
    }
    let body = connection.body(&answer);
    let is_empty = answer.framing == Framing::Empty;
    let mut reply = reply_of(answer);
    if !connection.all_sent() {
        connection.send_rest();
    }
    if is_empty {
        attempt.endpoint().release_now(connection).await;
    } else {
        reply.body = ResponseBody::download(body, connection, attempt, idle);
    }
    Ok(Answered::Reply(reply))
}

/// Takes a connection over for a tunnel.
async fn switch(
    upload: Option<&Upload>,
    connection: Connection,
    attempt: Attempt,
    answer: Answer,
    idle: Duration,
) -> Result<Answered, Failure> {
    let taken = connection.into_stream().await;
    let (stream, early) = taken.map_err(|error| match error {
        SendError::Upload => Failure::upload(upload),
        SendError::Lost(_) => Failure::Reset,
    })?;
    let side = Box::new(ServerSide {
        stream,
        early,
        attempt,
        idle,
        throttles: [None, None],
    });
    let protocol = answer.upgrade.clone();
    let mut reply = reply_of(answer);
    reply.fields.add("connection", b"upgrade");
    let protocol = protocol.as_ref().map(|it| it.as_bytes());
    reply.fields.add("upgrade", protocol.unwrap_or_default());
    Ok(Answered::Switched(reply, side))
}

/// A server's answer, without its body.
fn reply_of(answer: Answer) -> Reply {
    Reply {
        status: answer.status,
        fields: answer.fields,
        length: answer.length,
        trailers: answer.trailers,
        closes: false,
        body: ResponseBody::empty(),
    }
}

/// Whether a request may be sent again after this: never when part of its body is gone, always when the server cannot
/// have seen it, otherwise only if doing it twice is like doing it once (RFC 9110, section 9.2.2).
pub fn may_repeat(request: &Rewrite<'_>, reason: RetryReason) -> bool {
    let is_unseen = matches!(reason, RetryReason::Connect | RetryReason::Unsent);
    (is_unseen || request.head.method.is_idempotent())
        && request.upload.is_none_or(|upload| upload.can_rewind())
}

/// Has a body begin anew.
pub fn rewind(upload: Option<&Rc<Upload>>) {
    if let Some(upload) = upload {
        upload.rewind();
    }
}

/// Throws an answer away. If it is a short one, its connection is used again.
pub fn discard(endpoint: Rc<LocalEndpoint>, connection: Connection, answer: Answer) {
    let is_long = answer.length.is_some_and(|length| length > DRAINED)
        || answer.framing == Framing::UntilClose && matches!(connection, Connection::Http1(_));
    if is_long || !connection.all_sent() {
        return; // closes it
    }
    spawn_local(async move {
        _ = timeout(DRAIN_LIMIT, drain(&endpoint, connection, &answer, DRAINED)).await;
    });
}

/// Reads an answer's body of at most `limit` bytes, and gives its connection back; whether it came to its end.
pub async fn drain(
    endpoint: &LocalEndpoint,
    connection: Connection,
    answer: &Answer,
    limit: u64,
) -> bool {
    let mut body = connection.body(answer);
    let mut read = 0;
    let mut ended = answer.framing == Framing::Empty;
    while !ended {
        match poll_fn(|cx| connection.poll_body(cx, &mut body)).await {
            Ok(Part::Data(data)) => {
                read += data.len() as u64;
                ended = body.ended();
            }
            Ok(Part::Trailers(_) | Part::End) => ended = true,
            Err(_) => return false,
        }
        if read > limit {
            return false;
        }
    }
    endpoint.release_now(connection).await;
    true
}
