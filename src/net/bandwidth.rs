//! Limits of bytes a second: the arithmetic, on a clock that is given.
//!
//! Who shares a limit stands in a [`Line`]. All that is kept of it is until when it is busy with what was granted; a grant
//! pushes that on by the time that its bytes take, and may be used as soon as what is before it has had its time:
//!
//! ```text
//!   now          usable              busy until
//!    ├── waits ───┼── burst ───────────┤
//! ```
//!
//! Grants are small, and whoever wants more comes again, behind all who have come meanwhile: so a limit is shared in turns,
//! by those who want much and those who want little. Time that nobody has asked for is lost but for the burst. It is the
//! generic cell rate algorithm (ITU-T I.371) with reservations: one atomic, no lock, and nobody to be woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// What may move at once after a pause: so much of a second's bytes, and these at least.
const BURST: Duration = Duration::from_millis(50);
const MIN_BURST: u64 = 16 * 1024;

/// What is granted at a time: so much of a second's bytes, and no less and no more than these.
const GRANT: Duration = Duration::from_millis(10);
const MIN_GRANT: u64 = 1024;
const MAX_GRANT: u64 = 64 * 1024;

/// Where more than this is waited for, grants become smaller: the more stand in line, the sooner each has its turn.
const ROUND: Duration = Duration::from_millis(100);

const SECOND: u64 = 1_000_000_000;

/// The way of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients.
    Upload,
    /// To clients.
    Download,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Upload, Self::Download];

    /// As metrics and the configuration call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}

/// A limit, and what it has done. The lines of one limit are each given the whole rate.
#[derive(Debug)]
pub struct Limit {
    /// Bytes a second; 0 is no limit.
    rate: AtomicU64,
    /// The zero of its lines.
    start: Instant,
    delayed: AtomicU64,
    waited_micros: AtomicU64,
    waiting: AtomicU64,
}

/// Those who share a limit.
#[derive(Debug, Default)]
pub struct Line {
    /// Until when it is busy with what was granted.
    busy: AtomicU64,
    /// The same of what could not wait, at half the rate.
    hasty: AtomicU64,
}

/// The two lines, one a [`Direction`], of those who share limits.
#[derive(Debug, Default)]
pub struct Lines([Line; 2]);

/// A place to ask for bytes: a line of a limit.
#[derive(Debug, Clone)]
pub struct Bucket {
    limit: Arc<Limit>,
    lines: Arc<Lines>,
    direction: Direction,
}

/// Bytes that were granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many.
    pub bytes: u64,
    /// From when on.
    pub at: Instant,
}

impl Limit {
    /// A limit of `rate` bytes a second; 0 is none.
    pub fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self {
            rate: AtomicU64::new(rate),
            start: Instant::now(),
            delayed: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        })
    }

    /// Bytes a second; 0 is no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Relaxed)
    }

    /// Has what is asked for from now on be under this rate.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Relaxed);
    }

    /// Bytes that had to wait so far.
    pub fn delayed(&self) -> u64 {
        self.delayed.load(Relaxed)
    }

    /// How long they did, those of all connections added up.
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_micros.load(Relaxed))
    }

    /// How many directions of connections wait now.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Somebody begins to wait for so many bytes.
    pub(super) fn wait_begins(&self, bytes: u64) {
        self.delayed.fetch_add(bytes, Relaxed);
        self.waiting.fetch_add(1, Relaxed);
    }

    /// Somebody has waited for so long.
    pub(super) fn wait_ends(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_micros.fetch_add(micros, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }
}

impl Lines {
    /// Whether a line of these is busy: it says something that a new one does not.
    pub fn are_busy(&self, limits: [&Limit; 2], now: Instant) -> bool {
        let lines = self.0.iter().zip(limits);
        let mut busy = lines.map(|(line, limit)| line.busy.load(Relaxed) > limit.nanos(now));
        busy.any(|busy| busy)
    }
}

impl Bucket {
    /// The place of those who share `lines` under a limit.
    pub fn new(limit: &Arc<Limit>, lines: &Arc<Lines>, direction: Direction) -> Self {
        Self {
            limit: Arc::clone(limit),
            lines: Arc::clone(lines),
            direction,
        }
    }

    /// The limit.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Asks for bytes, of which there may be less than were asked for.
    pub fn reserve(&self, wanted: u64, now: Instant) -> Grant {
        let rate = self.limit.rate();
        if rate == 0 {
            return Grant {
                bytes: wanted,
                at: now,
            };
        }
        let line = &self.line().busy;
        let clock = self.limit.nanos(now);
        let burst = burst_of(rate);
        let most = share_of(GRANT, rate).clamp(MIN_GRANT, MAX_GRANT);
        let mut busy = line.load(Relaxed);
        loop {
            let ahead = busy.saturating_sub(clock.saturating_add(burst));
            let bytes = wanted.min(smaller_in_a_crowd(most, ahead));
            let next = busy.max(clock).saturating_add(time_of(bytes, rate));
            match line.compare_exchange_weak(busy, next, Relaxed, Relaxed) {
                Ok(_) => {
                    let waits = next.saturating_sub(burst).saturating_sub(clock);
                    let at = now + Duration::from_nanos(waits);
                    return Grant { bytes, at };
                }
                Err(other) => busy = other,
            }
        }
    }

    /// Takes bytes that cannot wait: all of them now, or none. At a line that nobody stands in there are any number. Where
    /// others always stand in line, those who cannot have half of the rate, and the others wait for that.
    pub fn take(&self, bytes: u64, now: Instant) -> bool {
        let rate = self.limit.rate();
        if rate == 0 {
            return true;
        }
        let (line, clock) = (self.line(), self.limit.nanos(now));
        let soon = clock.saturating_add(burst_of(rate));
        let time = time_of(bytes, rate);
        let twice = time.saturating_mul(2);
        let pushed = |busy: u64, time: u64| busy.max(clock).saturating_add(time);
        let within = |busy: u64, time: u64| {
            let next = pushed(busy, time);
            (busy <= clock || next <= soon).then_some(next)
        };
        let free = |busy: u64| within(busy, time);
        if line.busy.fetch_update(Relaxed, Relaxed, free).is_ok() {
            // Among themselves they get all of it, which gives them no right to more later, nor takes it.
            let used = |hasty: u64| Some(hasty.max(pushed(hasty, twice).min(soon)));
            _ = line.hasty.fetch_update(Relaxed, Relaxed, used); // it never fails
            return true;
        }
        let half = |hasty: u64| within(hasty, twice);
        if line.hasty.fetch_update(Relaxed, Relaxed, half).is_err() {
            return false;
        }
        let behind = |busy: u64| Some(pushed(busy, time));
        _ = line.busy.fetch_update(Relaxed, Relaxed, behind); // it never fails
        true
    }

    /// Whether so many bytes could be taken if nobody else wanted any.
    pub fn has_room(&self, bytes: u64, now: Instant) -> bool {
        let rate = self.limit.rate();
        if rate == 0 {
            return true;
        }
        let clock = self.limit.nanos(now);
        let busy = self.line().busy.load(Relaxed);
        let next = busy.max(clock).saturating_add(time_of(bytes, rate));
        busy <= clock || next <= clock.saturating_add(burst_of(rate))
    }

    /// Gives bytes back that were taken, at once.
    pub fn untake(&self, bytes: u64) {
        let rate = self.limit.rate();
        if rate > 0 {
            let twice = time_of(bytes, rate).saturating_mul(2);
            let sooner = |hasty: u64| Some(hasty.saturating_sub(twice));
            _ = self.line().hasty.fetch_update(Relaxed, Relaxed, sooner); // it never fails
        }
        self.give_back(bytes);
    }

    /// Gives bytes back that were granted and not used.
    pub fn give_back(&self, bytes: u64) {
        let rate = self.limit.rate();
        if rate > 0 && bytes > 0 {
            let time = time_of(bytes, rate);
            let sooner = |busy: u64| Some(busy.saturating_sub(time));
            _ = self.line().busy.fetch_update(Relaxed, Relaxed, sooner); // it never fails
        }
    }

    fn line(&self) -> &Line {
        &self.lines.0[self.direction as usize]
    }
}

/// How long the bytes take that may move at once.
fn burst_of(rate: u64) -> u64 {
    nanos(BURST).max(time_of(MIN_BURST, rate))
}

/// What is granted at most, if so many nanoseconds are to be waited for.
fn smaller_in_a_crowd(most: u64, ahead: u64) -> u64 {
    let round = nanos(ROUND);
    match ahead > round {
        true => (u128::from(most) * u128::from(round) / u128::from(ahead)) as u64,
        false => most,
    }
    .max(MIN_GRANT)
}

/// How many nanoseconds bytes take; rounded up, so that the rate is never above the limit.
fn time_of(bytes: u64, rate: u64) -> u64 {
    let time = (u128::from(bytes) * u128::from(SECOND)).div_ceil(u128::from(rate));
    u64::try_from(time).unwrap_or(u64::MAX)
}

/// The bytes of so much time.
fn share_of(time: Duration, rate: u64) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / u128::from(SECOND);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
