//! What the test server answers: one function a path. [`PATHS`] is the list.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use xxhash_rust::xxh3::Xxh3Default;

use super::body::{self, AnswerBody, BodyWriter, ClientGone, Error};
use super::peer::Peer;
use super::requirement::Requirement;

/// The paths, for `--help`.
pub const PATHS: &str = "\
Paths, with any method. The request's body is read to its end before the answer unless it says otherwise:
  /              Hello from NAME
  /health        ok, with --health-status after --health-delay
  /bytes/N       N bytes, streamed; the byte at offset i is i % 251. N is a number, or one with KiB, MiB or GiB
  /slow/N/RATE   the same at RATE bytes a second
  /chunked/N     N chunks, one every 10 ms, of no declared length
  /trailers      a chunked body and the trailer x-checksum: abc, for requests that say TE: trailers
  /status/CODE   this status
  /delay/MS      an answer after MS milliseconds
  /headers       the request as JSON: method, uri, version, headers, body_bytes
  /upload        the request's body as JSON: bytes, xxh3
  /echo          the request's body (and its trailers), streamed back while it arrives
  /early         an answer before the body is read, which is read afterwards
  /reset         closes the connection without an answer or a look at the body
  /cut/N         declares N bytes, sends half of them and closes the connection
  /hang          never answers, never reads the body; ends with its connection
  /ws            101 to a request with `Upgrade: echo`, then every byte back
  /faults        the faults as JSON; a POST sets them: --faults has what they are. They are not for /faults itself

Faults, all optional; a ratio is from 0 to 1:
  {\"delay_ms\": 5, \"slow\": {\"ratio\": 0.05, \"ms\": 1000}, \"errors\": {\"ratio\": 0.5, \"status\": 500},
   \"reset\": RATIO, \"hang\": RATIO, \"garbage\": RATIO, \"reset_at\": BYTES OF THE BODY, \"body_rate\": BYTES A SECOND,
   \"capacity\": {\"requests\": AT ONCE, \"ms\": EACH TAKES}, \"health\": WHETHER /health HAS THEM TOO, \"seed\": NUMBER}";

/// Named once because the crate `http` has no constant for it.
const X_BACKEND: HeaderName = HeaderName::from_static("x-backend");

/// Between the chunks of `/chunked`, and between the pieces of `/slow`.
const TICK: Duration = Duration::from_millis(10);

/// What of an aborted body was written before the abort is flushed while the body waits, not by the abort.
pub const FLUSH_TIME: Duration = Duration::from_millis(50);

/// An answer of a path, or of a fault.
pub type Answer = Response<AnswerBody>;

/// What every answer depends on.
pub struct Server {
    name: HeaderValue,
    greeting: Bytes,
    delay: Duration,
    health_status: StatusCode,
    health_delay: Duration,
    required: Option<Requirement>,
}

/// Why a path gives no answer of its own.
enum Refusal {
    /// 404.
    NoSuchPath,
    /// 400: a part of the path is not what it should be.
    Malformed(&'static str),
    /// 403: the request lacks what is required.
    Forbidden,
    /// 426: only `Upgrade: echo` is spoken.
    UpgradeRequired,
    /// None at all; the connection is closed.
    Close(Error),
}

impl From<hyper::Error> for Refusal {
    fn from(error: hyper::Error) -> Self {
        Self::Close(error.into())
    }
}

impl Server {
    /// `name` must be visible ASCII, `delay` precedes all answers and `health_delay` those of `/health` in addition. What
    /// is `required` of requests is not of `/health`, so that anybody can see whether it runs.
    pub fn new(
        name: HeaderValue,
        delay: Duration,
        health_status: StatusCode,
        health_delay: Duration,
        required: Option<Requirement>,
    ) -> Self {
        let greeting = format!("Hello from {}\n", visible(&name)).into();
        Self {
            name,
            greeting,
            delay,
            health_status,
            health_delay,
            required,
        }
    }

    /// The name in the answers.
    pub fn name(&self) -> &str {
        visible(&self.name)
    }

    /// Answers a request.
    ///
    /// # Errors
    /// When the connection shall be closed without an answer.
    pub async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Result<Answer, Error> {
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        let mut answer = match self.dispatch(request, peer).await {
            Ok(answer) => answer,
            Err(Refusal::NoSuchPath) => {
                text(StatusCode::NOT_FOUND, "no such path; --help lists them\n")
            }
            Err(Refusal::Malformed(expected)) => {
                text(StatusCode::BAD_REQUEST, format!("expected {expected}\n"))
            }
            Err(Refusal::Forbidden) => text(StatusCode::FORBIDDEN, "a required field is missing\n"),
            Err(Refusal::UpgradeRequired) => {
                let mut answer = text(StatusCode::UPGRADE_REQUIRED, "expected `Upgrade: echo`\n");
                offer_upgrade(answer.headers_mut());
                answer
            }
            Err(Refusal::Close(error)) => return Err(error),
        };
        answer.headers_mut().insert(X_BACKEND, self.name.clone());
        Ok(answer)
    }

    /// A text that is not a path's.
    pub fn text(&self, status: StatusCode, content: impl Into<Bytes>) -> Answer {
        let mut answer = text(status, content);
        answer.headers_mut().insert(X_BACKEND, self.name.clone());
        answer
    }

    /// JSON that is not a path's.
    pub fn json(&self, value: &serde_json::Value) -> Answer {
        let mut answer = json(value);
        answer.headers_mut().insert(X_BACKEND, self.name.clone());
        answer
    }

    async fn dispatch(&self, request: Request<Incoming>, peer: &Peer) -> Result<Answer, Refusal> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();

        let required = self.required.as_ref().filter(|_| segments != ["health"]);
        if required.is_some_and(|required| !required.is_met(request.headers())) {
            return Err(Refusal::Forbidden);
        }

        // The paths that treat the request's body in their own way.
        match segments[..] {
            ["echo"] => return echo(request).await,
            ["upload"] => return upload(request.into_body()).await,
            ["early"] => return Ok(early(request.into_body())),
            ["reset"] => return Err(Refusal::Close("/reset was asked for".into())),
            ["hang"] => {
                // Thousands of requests that were given up would leave no file descriptors for others.
                peer.gone().await;
                return Err(Refusal::Close("nobody waits any more".into()));
            }
            ["ws"] => return upgrade(request),
            _ => {}
        }

        let (request, body) = request.into_parts();
        let body_bytes = read_to_end(body, |_| {}).await?;
        match segments[..] {
            [""] => Ok(text(StatusCode::OK, self.greeting.clone())),
            ["health"] => {
                sleep(self.health_delay).await;
                Ok(text(self.health_status, "ok"))
            }
            ["bytes", count] => Ok(binary(body::pattern(length(count)?))),
            ["slow", count, rate] => slow(length(count)?, length(rate)?),
            ["chunked", count] => Ok(chunked(length(count)?)),
            ["trailers"] => Ok(trailers()),
            ["status", code] => {
                let code = status(code).map_err(Refusal::Malformed)?;
                Ok(text(code, format!("status {code}\n")))
            }
            ["delay", ms] => {
                let ms = ms.parse().map_err(|_| Refusal::Malformed("milliseconds"))?;
                sleep(Duration::from_millis(ms)).await;
                Ok(text(StatusCode::OK, self.greeting.clone()))
            }
            ["headers"] => Ok(describe(&request, body_bytes)),
            ["cut", count] => Ok(cut(length(count)?)),
            _ => Err(Refusal::NoSuchPath),
        }
    }
}

/// A status that an answer may end with: 200 to 999.
pub fn status(text: &str) -> Result<StatusCode, &'static str> {
    match text.parse::<StatusCode>() {
        Ok(code) if !code.is_informational() => Ok(code),
        _ => Err("a status from 200 to 999"),
    }
}

fn visible(name: &HeaderValue) -> &str {
    name.to_str()
        .expect("the flag's parser admits visible ASCII only")
}

fn length(text: &str) -> Result<u64, Refusal> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (digits, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
        .unwrap_or((text, 1));
    let count = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit));
    count.ok_or(Refusal::Malformed(
        "a number of bytes such as 1000 or 64KiB",
    ))
}

/// Counts the bytes of a body while `each` looks at them.
async fn read_to_end(
    mut body: Incoming,
    mut each: impl FnMut(&Bytes),
) -> Result<u64, hyper::Error> {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            count += data.len() as u64;
            each(&data);
        }
    }
    Ok(count)
}

fn with_type(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn text(status: StatusCode, content: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain", body::whole(content))
}

fn binary(body: AnswerBody) -> Answer {
    with_type(StatusCode::OK, "application/octet-stream", body)
}

fn json(value: &serde_json::Value) -> Answer {
    with_type(
        StatusCode::OK,
        "application/json",
        body::whole(format!("{value}\n")),
    )
}

fn describe(request: &http::request::Parts, body_bytes: u64) -> Answer {
    let headers: serde_json::Map<_, _> = request
        .headers
        .keys()
        .map(|name| {
            let values = request
                .headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()));
            (name.to_string(), values.collect())
        })
        .collect();
    json(&json!({
        "method": request.method.as_str(),
        "uri": request.uri.to_string(),
        "version": format!("{:?}", request.version),
        "headers": headers,
        "body_bytes": body_bytes,
    }))
}

async fn upload(body: Incoming) -> Result<Answer, Refusal> {
    let mut hash = Xxh3Default::new();
    let bytes = read_to_end(body, |data| hash.update(data)).await?;
    Ok(json(
        &json!({ "bytes": bytes, "xxh3": format!("{:016x}", hash.digest()) }),
    ))
}

async fn echo(request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (request, mut incoming) = request.into_parts();
    // An answer before the body's first bytes would take the place of 100 (Continue).
    let body = match incoming.frame().await.transpose()? {
        None => body::whole(""),
        Some(first) => body::written(async move |writer: BodyWriter| {
            writer.frame(first).await?;
            while let Some(frame) = incoming.frame().await {
                match frame {
                    Ok(frame) => writer.frame(frame).await?,
                    Err(_) => return writer.cut().await,
                }
            }
            Ok(())
        }),
    };
    let mut answer = Response::new(body);
    for name in [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::TRAILER,
    ] {
        if let Some(value) = request.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    Ok(answer)
}

fn early(body: Incoming) -> Answer {
    // Read on, or hyper would close the connection and perhaps lose the answer with it.
    tokio::spawn(read_to_end(body, |_| {}));
    text(StatusCode::OK, "early\n")
}

fn upgrade(request: Request<Incoming>) -> Result<Answer, Refusal> {
    let asked = request.headers().get(header::UPGRADE);
    if request.method() != Method::GET
        || !asked.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"echo"))
    {
        return Err(Refusal::UpgradeRequired);
    }
    tokio::spawn(async move {
        // Either side may go away at any time; that ends the tunnel.
        if let Ok(tunnel) = hyper::upgrade::on(request).await {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(tunnel));
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
        }
    });
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    offer_upgrade(answer.headers_mut());
    Ok(answer)
}

fn offer_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
}

fn chunked(count: u64) -> Answer {
    let body = body::written(async move |writer: BodyWriter| {
        for number in 0..count {
            if number > 0 {
                sleep(TICK).await;
            }
            writer.data(format!("chunk {number}\n")).await?;
        }
        Ok(())
    });
    with_type(StatusCode::OK, "text/plain", body)
}

fn trailers() -> Answer {
    let body = body::written(async |writer: BodyWriter| {
        writer.data("a body with a trailer\n").await?;
        let checksum = (
            HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("abc"),
        );
        writer
            .frame(Frame::trailers(HeaderMap::from_iter([checksum])))
            .await
    });
    let mut answer = with_type(StatusCode::OK, "text/plain", body);
    answer
        .headers_mut()
        .insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    answer
}

fn slow(count: u64, rate: u64) -> Result<Answer, Refusal> {
    if rate == 0 {
        return Err(Refusal::Malformed("a rate above 0"));
    }
    let step = (rate / 100).max(1);
    let body = body::written(async move |writer: BodyWriter| {
        let start = Instant::now();
        let mut sent = 0;
        while sent < count {
            let end = count.min(sent.saturating_add(step));
            sleep_until(start + Duration::from_secs_f64(end as f64 / rate as f64)).await;
            sent += send_piece(&writer, sent, end).await?;
        }
        Ok(())
    });
    Ok(declare(count, body))
}

fn cut(count: u64) -> Answer {
    let body = body::written(async move |writer: BodyWriter| {
        let mut sent = 0;
        while sent < count / 2 {
            sent += send_piece(&writer, sent, count / 2).await?;
        }
        sleep(FLUSH_TIME).await;
        writer.cut().await
    });
    declare(count, body)
}

/// Sends a stretch of the pattern that begins at `start` and ends at `end` or before; returns its length.
async fn send_piece(writer: &BodyWriter, start: u64, end: u64) -> Result<u64, ClientGone> {
    let piece = body::piece(start..end);
    let length = piece.len() as u64;
    writer.data(piece).await.map(|()| length)
}

/// An answer with `Content-Length: count`, which a written body cannot know by itself.
fn declare(count: u64, body: AnswerBody) -> Answer {
    let mut answer = binary(body);
    answer
        .headers_mut()
        .insert(header::CONTENT_LENGTH, count.into());
    answer
}
