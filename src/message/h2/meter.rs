//! Counts the frames that a client sends, to tell one that floods from one that is busy.
//!
//! It sees the bytes as they come from the socket, before the h2 crate does, and looks at nothing but the nine bytes in
//! front of each frame (RFC 9113, section 4.1). Whether frames are allowed where they are is for the h2 crate to ask, but
//! for two rules that it does not keep: that the first frame is SETTINGS, and what error a frame of a wrong size is.
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

use tokio::time::Instant;

use super::{Fault, Flood, Limits};

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
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const PRIORITY_UPDATE: u8 = 0x10;

/// The flag of DATA that ends its stream.
const END_STREAM: u8 = 0x1;
/// The same bit says that SETTINGS acknowledge others.
const ACK: u8 = 0x1;
/// The flag of HEADERS and CONTINUATION that ends a header block.
const END_HEADERS: u8 = 0x4;

/// Counts the frames of one connection.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    state: State,
    counts: Counts,
    /// When counting began; nothing has come before that.
    since: Option<Instant>,
    /// Whether the first frame has begun.
    begun: bool,
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
    /// Whether there is more of it to come.
    is_open: bool,
    /// Whether the frame that is being sent is its last.
    ends: bool,
    /// Since when it, or what stands in front of any frame, has been waited for.
    since: Option<Instant>,
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
            begun: false,
            streams: Streams::default(),
            block: Block::default(),
        }
    }

    /// Takes in what was read at `now`: all that follows the connection preface (RFC 9113, section 3.4), in order, cut
    /// anywhere.
    ///
    /// # Errors
    /// The connection should be closed for that reason. No more may be taken in then: the rest of these bytes was not
    /// looked at.
    pub fn observe(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.pass_time(now);
        self.take(bytes)?;
        self.block.since = match self.state {
            State::Header(_, 1..) => self.block.since.or(Some(now)),
            _ if self.block.is_open => self.block.since.or(Some(now)),
            _ => None,
        };
        Ok(())
    }

    /// Since when a header block has not been complete, if there is such a one: a client that takes long for it may never
    /// mean to end it.
    pub fn unfinished_since(&self) -> Option<Instant> {
        self.block.since
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
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
                    self.block.end_frame();
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
                    self.check(&frame)?;
                    self.count(&frame)?;
                    self.state = match frame.length {
                        0 => START,
                        length => State::Payload(length),
                    };
                    if frame.length == 0 {
                        self.block.end_frame();
                    }
                }
            }
        }
    }

    /// Checks the rules that the h2 crate does not keep.
    fn check(&mut self, frame: &Frame) -> Result<(), Fault> {
        let acknowledges = frame.flags & ACK != 0;
        if !self.begun && (frame.kind != SETTINGS || acknowledges) {
            return Err(Fault::Preface);
        }
        self.begun = true;
        let fits = match frame.kind {
            PRIORITY => frame.length == 5,
            RST_STREAM | WINDOW_UPDATE => frame.length == 4,
            SETTINGS if acknowledges => frame.length == 0,
            SETTINGS => frame.length.is_multiple_of(6),
            PING => frame.length == 8,
            GOAWAY => frame.length >= 8,
            _ => true,
        };
        if fits { Ok(()) } else { Err(Fault::Size) }
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
                    is_open: true,
                    ends: frame.flags & END_HEADERS != 0,
                    since: self.block.since,
                };
                add(&mut counts.headers, limits.headers, Flood::Headers)
            }
            CONTINUATION => {
                self.block.ends = frame.flags & END_HEADERS != 0;
                self.block.grow(frame.length, limits)
            }
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
    /// A frame has ended, of the block or another.
    fn end_frame(&mut self) {
        self.is_open &= !self.ends;
        if !self.is_open {
            self.since = None;
        }
    }

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
