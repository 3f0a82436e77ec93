//! What happens around an answer: the faults, the limit of what is served at once, and the journal.

use std::convert::identity;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::time::{Instant, sleep, sleep_until};

use super::answers::{Answer, FLUSH_TIME, Server};
use super::body::{self, AnswerBody, BodyWriter, ClientGone, Error};
use super::faults::{BodyFault, End, Faults};
use super::gate::Gate;
use super::journal::Journal;
use super::peer::Peer;

/// The largest body of `POST /faults`.
const MAX_FAULTS: usize = 64 * 1024;

/// Of a body with a rate, how much is sent at once: what comes in 10 ms.
const PIECES_A_SECOND: u64 = 100;

/// A server, and what is wrong with it.
pub struct Service {
    server: Server,
    faults: Mutex<Drawn>,
    gate: Gate,
    journal: Option<Journal>,
    leaving: AtomicBool,
}

/// The faults, with the random numbers that decide.
struct Drawn {
    faults: Faults,
    rng: Rng,
}

impl Service {
    /// Requests with an `x-chaos-id` are written to the journal when they are executed.
    pub fn new(server: Server, faults: Faults, journal: Option<Journal>) -> Self {
        let service = Self {
            server,
            faults: Mutex::new(Drawn {
                faults: Faults::default(),
                rng: Rng::with_seed(0),
            }),
            gate: Gate::open(),
            journal,
            leaving: AtomicBool::new(false),
        };
        service.set(faults);
        service
    }

    /// The name in the answers.
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// From now on answers say that their connections will be closed.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Answers a request, or does to it what faults say.
    ///
    /// # Errors
    /// When the connection shall be closed without an answer.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Arc<Peer>,
    ) -> Result<Answer, Error> {
        let mut answer = match request.uri().path() {
            "/faults" => self.faults(request).await,
            "/health" if !self.lock().faults.health => self.server.answer(request, peer).await,
            _ => self.faulty(request, peer).await,
        }?;
        if self.leaving.load(Ordering::Relaxed)
            && answer.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(answer)
    }

    async fn faulty(&self, request: Request<Incoming>, peer: &Arc<Peer>) -> Result<Answer, Error> {
        let (fate, capacity) = {
            let mut drawn = self.lock();
            let Drawn { faults, rng } = &mut *drawn;
            (faults.draw(rng), faults.capacity)
        };
        if !fate.delay.is_zero() {
            sleep(fate.delay).await;
        }
        match fate.end {
            End::Answer => {}
            End::Status(status) => return Ok(self.server.text(status, "a fault\n")),
            End::Hang => {
                peer.gone().await;
                return Err("a fault: hang".into());
            }
            End::Reset => {
                peer.reset();
                return Err("a fault: reset".into());
            }
            End::Garbage => {
                peer.garble();
                return Err("a fault: garbage".into());
            }
        }
        // Held until the answer's headers are there; others wait for that.
        let _pass = match capacity {
            Some(_) => Some(self.gate.enter().await),
            None => None,
        };
        let mut answer = self
            .execute(request, peer, capacity.map_or(0, |it| it.ms))
            .await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS && !fate.body.is_none() {
            // Bodies that are written piece by piece do not know their length.
            if let Some(length) = answer.body().size_hint().exact() {
                answer
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, length.into());
            }
            let peer = Arc::clone(peer);
            answer = answer.map(|body| impaired(body, fate.body, peer));
        }
        Ok(answer)
    }

    async fn execute(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        ms: u64,
    ) -> Result<Answer, Error> {
        let journal = self.journal.as_ref();
        let entry = journal.map(|it| it.begin(request.method(), request.headers()));
        let entry = entry.transpose()?.and_then(identity);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        let answer = self.server.answer(request, peer).await?;
        entry.map_or(io::Result::Ok(()), |entry| entry.end())?;
        Ok(answer)
    }

    /// Shows the faults, those that the request brings if it is a POST.
    async fn faults(&self, request: Request<Incoming>) -> Result<Answer, Error> {
        if request.method() == Method::POST {
            let body = http_body_util::Limited::new(request.into_body(), MAX_FAULTS);
            match serde_json::from_slice(&body.collect().await?.to_bytes()) {
                Ok(faults) => self.set(faults),
                Err(error) => {
                    let message = format!("{error}\n");
                    return Ok(self.server.text(StatusCode::BAD_REQUEST, message));
                }
            }
        }
        let shown = serde_json::to_value(&self.lock().faults)?;
        Ok(self.server.json(&shown))
    }

    fn set(&self, faults: Faults) {
        let limit = faults.capacity.map(|it| it.requests.get() as usize);
        let rng = Rng::with_seed(faults.seed);
        *self.lock() = Drawn { faults, rng };
        self.gate.limit(limit.unwrap_or(usize::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Drawn> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that comes slowly, or ends in a reset.
fn impaired(mut body: AnswerBody, fault: BodyFault, peer: Arc<Peer>) -> AnswerBody {
    body::written(async move |writer: BodyWriter| {
        let mut pace = fault.rate.map(|rate| Pace::new(rate.get()));
        let mut left = fault.reset_at.unwrap_or(u64::MAX);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return writer.cut().await;
            };
            let mut data = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return writer.frame(trailers).await,
            };
            while !data.is_empty() {
                if left == 0 {
                    sleep(FLUSH_TIME).await;
                    peer.reset();
                    return writer.cut().await;
                }
                let step = pace.as_ref().map_or(u64::MAX, |pace| pace.step);
                let piece = data.split_to(left.min(step).min(data.len() as u64) as usize);
                left -= piece.len() as u64;
                if let Some(pace) = &mut pace {
                    pace.wait(piece.len()).await;
                }
                writer.data(piece).await?;
            }
        }
        Ok::<(), ClientGone>(())
    })
}

/// Keeps a body at its rate.
struct Pace {
    rate: u64,
    step: u64,
    start: Instant,
    sent: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self {
            rate,
            step: (rate / PIECES_A_SECOND).max(1),
            start: Instant::now(),
            sent: 0,
        }
    }

    /// Until so many more bytes are due.
    async fn wait(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        let due = self.sent as f64 / self.rate as f64;
        sleep_until(self.start + Duration::from_secs_f64(due)).await;
    }
}
