//! How much of what a client may send.
//!
//! Each number is far above what clients do, and far below what makes the worker slow: frames that cost nothing to send
//! cost 50 to 500 ns to take, so the rates here are worth a few percent of a core at most. What the clients do:
//!
//! * A browser sends a few hundred frames in ten seconds. One that leaves a page, or pans over a map, resets all that it
//!   has asked for, at most a hundred streams at once.
//! * A gRPC client pings to find out how fast the way is: grpc-go and grpc-java once a round trip for as long as data
//!   comes, which next door is several thousand times a second, and set a new window a dozen times.
//! * A client that downloads grants new room with two WINDOW_UPDATEs for each frame that it gets (Python's h2), or each
//!   4 KiB (Go): a quarter of a million of each in a second at 1 GB/s.
//! * h2load and ghz open up to some ten thousand streams a second.
//! * Chrome sends frames of unknown types before others ("grease"), and PRIORITY_UPDATE; older browsers a few PRIORITY
//!   for each stream.
//!
//! Others: Envoy closes when half of the streams, of at least 500, were reset within a second (`premature_reset_*`),
//! at the second empty frame in a row, at 100 PRIORITY a stream, and at ten WINDOW_UPDATEs for each DATA frame sent;
//! nghttp2 at 33 resets a second after the first 1000, and at nine CONTINUATIONs.

use std::time::Duration;

/// The most that a client may send within [`window`](Self::window), but for header blocks, which count one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long is counted until all counts begin again at 0: 10 s.
    pub window: Duration,
    /// RST_STREAM: 10,000.
    pub resets: u32,
    /// Once so many streams were opened, no more than half of them may be reset within a second or two: 1000. Go's client
    /// resets streams whose bodies nobody reads to the end; nothing that a person does comes near it.
    pub streams_for_ratio: u32,
    /// SETTINGS, acknowledgements included: 100.
    pub settings: u32,
    /// PING beyond one for each stream opened, acknowledgements included: 50,000.
    pub pings: u32,
    /// DATA without content that does not end its stream: 1000. It is of use to nobody; the h2 crate bears with a hundred
    /// on a connection, so that this is for those that come all at once.
    pub empty_data: u32,
    /// WINDOW_UPDATE: 5,000,000. How many are right depends on how much is sent to the client, and by what steps it takes
    /// it, neither of which can be seen here.
    pub window_updates: u32,
    /// PRIORITY and PRIORITY_UPDATE (RFC 9218) beyond one for each stream opened: 10,000.
    pub priorities: u32,
    /// HEADERS: 1,000,000, ten times as many as a worker can answer. This is for those that ask for more streams at once
    /// than they may have.
    pub headers: u32,
    /// Frames of other types beyond one for each stream opened: 10,000.
    pub others: u32,
    /// CONTINUATION frames in one header block: 5, which is what the h2 crate takes of a header list of 32 KiB. Clients
    /// fill their frames, and need two.
    pub continuations: u32,
    /// Bytes in one header block: 128 KiB. Header lists of more than 32 KiB are refused, more kindly, once they are there.
    pub header_block: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            resets: 10_000,
            streams_for_ratio: 1000,
            settings: 100,
            pings: 50_000,
            empty_data: 1000,
            window_updates: 5_000_000,
            priorities: 10_000,
            headers: 1_000_000,
            others: 10_000,
            continuations: 5,
            header_block: 128 * 1024,
        }
    }
}
