//! Counts the frames that a client sends, to tell one that floods from one that is busy.
//!
//! It sees the bytes as they come from the socket, before the h2 crate does, and looks at nothing but the nine bytes in
//! front of each frame (RFC 9113, section 4.1). Whether frames are allowed where they are is not asked: the h2 crate
//! does.
//!
//! ```text
//!   ┌──────────┐ 9 bytes: counted ┌─────────┐
//!   │ Header   │─────────────────▶│ Payload │  skipped
//!   │ so far n │◀─────────────────│ left n  │
//!   └──────────┘                  └─────────┘
//! ```
//!
//! Streams that *we* are made to reset (CVE-2025-8671) cannot be seen here; the h2 crate counts those.

use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::Limits;

/// Length of what stands in front of each frame, in bytes.
const FRAME_HEADER: usize = 9;

/// A stream that is reset within this time, or twice this time, was opened in vain.
const YOUTH: Duration = Duration::from_secs(1);

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const PRIORITY_UPDATE: u8 = 0x10;

/// The flag of DATA that ends its stream.
const END_STREAM: u8 = 0x1;

/// What a client has sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Flood {
    /// RST_STREAM: too many, or for most of the streams that it opened (CVE-2023-44487).
    #[error("it resets too many streams")]
    Resets,
    /// SETTINGS (CVE-2019-9515).
    #[error("it sends too many SETTINGS")]
    Settings,
    /// PING (CVE-2019-9512).
    #[error("it sends too many PINGs")]
    Pings,
    /// DATA without content (CVE-2019-9518).
    #[error("it sends too much DATA without content")]
    EmptyData,
    /// Header blocks in too many frames, or too large (CVE-2024-27316).
    #[error("it sends endless CONTINUATIONs")]
    Continuations,
    /// WINDOW_UPDATE.
    #[error("it sends too many WINDOW_UPDATEs")]
    WindowUpdates,
    /// PRIORITY (CVE-2019-9513) and PRIORITY_UPDATE.
    #[error("it sends too many PRIORITYs")]
    Priorities,
    /// HEADERS.
    #[error("it sends too many HEADERS")]
    Headers,
    /// Other frames.
    #[error("it sends too many frames that mean nothing")]
    Others,
}

impl Flood {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Resets,
        Self::Settings,
        Self::Pings,
        Self::EmptyData,
        Self::Continuations,
        Self::WindowUpdates,
        Self::Priorities,
        Self::Headers,
        Self::Others,
    ];

    /// Its name as the value of a metric's label: `rst_stream`, `settings`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::Resets => "rst_stream",
            Self::Settings => "settings",
            Self::Pings => "ping",
            Self::EmptyData => "empty_data",
            Self::Continuations => "continuation",
            Self::WindowUpdates => "window_update",
            Self::Priorities => "priority",
            Self::Headers => "headers",
            Self::Others => "other",
        }
    }
}

/// Counts the frames of one connection.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    state: State,
    counts: Counts,
    /// When counting began; nothing has come before that.
    since: Option<Instant>,
    streams: Streams,
    block: Block,
}

/// Where in the frames the next byte is.
#[derive(Debug, Clone, Copy)]
enum State {
    /// So many bytes of a frame's header are there.
    Header([u8; FRAME_HEADER], usize),
    /// So many bytes of a frame's payload are to come, at least one.
    Payload(u32),
}

const START: State = State::Header([0; FRAME_HEADER], 0);

/// What has come in this window.
#[derive(Debug, Default)]
struct Counts {
    opened: u32,
    resets: u32,
    /// Resets of young streams.
    in_vain: u32,
    settings: u32,
    pings: u32,
    empty_data: u32,
    window_updates: u32,
    priorities: u32,
    headers: u32,
    others: u32,
}

/// Which streams there were. Their numbers rise (RFC 9113, section 5.1.1), so that two numbers tell the young ones.
#[derive(Debug, Default)]
struct Streams {
    highest: u32,
    /// The streams above this one were opened a second or two ago, at most.
    old: u32,
    /// This one will be the highest of the old.
    ageing: u32,
    aged: Option<Instant>,
}

/// The header block that is being sent, or was last.
#[derive(Debug, Default)]
struct Block {
    continuations: u32,
    bytes: u32,
}

/// What is in front of a frame.
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    fn new([a, b, c, kind, flags, stream @ ..]: [u8; FRAME_HEADER]) -> Self {
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }
}

impl Meter {
    /// A meter for a connection of which nothing has come but its preface.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: START,
            counts: Counts::default(),
            since: None,
            streams: Streams::default(),
            block: Block::default(),
        }
    }

    /// Takes in what was read at `now`: all that follows the connection preface (RFC 9113, section 3.4), in order, cut
    /// anywhere.
    ///
    /// # Errors
    /// It is too much, and the connection should be closed with ENHANCE_YOUR_CALM. No more may be taken in then: the rest of these bytes
    /// was not looked at.
    pub fn observe(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        self.pass_time(now);
        loop {
            match &mut self.state {
                State::Payload(left) => {
                    let skipped = bytes.len().min(*left as usize);
                    bytes = &bytes[skipped..];
                    *left -= skipped as u32;
                    if *left > 0 {
                        return Ok(());
                    }
                    self.state = START;
                }
                State::Header(header, filled) => {
                    let taken = bytes.len().min(FRAME_HEADER - *filled);
                    header[*filled..*filled + taken].copy_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    *filled += taken;
                    if *filled < FRAME_HEADER {
                        return Ok(());
                    }
                    let frame = Frame::new(*header);
                    self.state = match frame.length {
                        0 => START,
                        length => State::Payload(length),
                    };
                    self.count(&frame)?;
                }
            }
        }
    }

    fn pass_time(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= self.limits.window {
            self.since = Some(now);
            self.counts = Counts::default();
        }
        self.streams.age(now);
    }

    fn count(&mut self, frame: &Frame) -> Result<(), Flood> {
        let (counts, limits) = (&mut self.counts, &self.limits);
        // One for each stream opened is no flood.
        let opened = counts.opened;
        match frame.kind {
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => Ok(()),
            DATA => add(&mut counts.empty_data, limits.empty_data, Flood::EmptyData),
            HEADERS => {
                if self.streams.open(frame.stream) {
                    counts.opened = opened.saturating_add(1);
                }
                self.block = Block {
                    continuations: 0,
                    bytes: frame.length,
                };
                add(&mut counts.headers, limits.headers, Flood::Headers)
            }
            CONTINUATION => self.block.grow(frame.length, limits),
            RST_STREAM => {
                if self.streams.is_young(frame.stream) {
                    counts.in_vain = counts.in_vain.saturating_add(1);
                }
                if opened >= limits.streams_for_ratio && counts.in_vain > opened / 2 {
                    return Err(Flood::Resets);
                }
                add(&mut counts.resets, limits.resets, Flood::Resets)
            }
            SETTINGS => add(&mut counts.settings, limits.settings, Flood::Settings),
            PING => {
                let limit = limits.pings.saturating_add(opened);
                add(&mut counts.pings, limit, Flood::Pings)
            }
            WINDOW_UPDATE => {
                let limit = limits.window_updates;
                add(&mut counts.window_updates, limit, Flood::WindowUpdates)
            }
            PRIORITY | PRIORITY_UPDATE => {
                let limit = limits.priorities.saturating_add(opened);
                add(&mut counts.priorities, limit, Flood::Priorities)
            }
            _ => {
                let limit = limits.others.saturating_add(opened);
                add(&mut counts.others, limit, Flood::Others)
            }
        }
    }
}

/// Counts one more.
fn add(count: &mut u32, limit: u32, flood: Flood) -> Result<(), Flood> {
    *count = count.saturating_add(1);
    if *count > limit { Err(flood) } else { Ok(()) }
}

impl Streams {
    /// Whether HEADERS for this stream open it; otherwise they are trailers.
    fn open(&mut self, stream: u32) -> bool {
        let opens = stream > self.highest;
        self.highest = self.highest.max(stream);
        opens
    }

    fn is_young(&self, stream: u32) -> bool {
        stream > self.old
    }

    fn age(&mut self, now: Instant) {
        let aged = *self.aged.get_or_insert(now);
        let passed = now.duration_since(aged);
        if passed >= YOUTH {
            // After so long without a byte, even the last ones are old.
            let long = passed >= 2 * YOUTH;
            self.old = if long { self.highest } else { self.ageing };
            self.ageing = self.highest;
            self.aged = Some(now);
        }
    }
}

impl Block {
    fn grow(&mut self, bytes: u32, limits: &Limits) -> Result<(), Flood> {
        self.continuations = self.continuations.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.continuations > limits.continuations || self.bytes > limits.header_block {
            return Err(Flood::Continuations);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
