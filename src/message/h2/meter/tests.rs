//! What passes and what does not, however the bytes are cut.

use proptest::prelude::*;

use super::*;

/// A type that no RFC defines.
const GREASE: u8 = 0x0b + 0x1f;

fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    // Payloads that look like the headers of frames to who loses count.
    frame.extend([0, 0, 0, RST_STREAM].into_iter().cycle().take(payload));
    frame
}

fn headers(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, 20)
}

/// A meter, and the time that passes at it.
struct Client {
    meter: Meter,
    now: Instant,
    next: u32,
}

impl Client {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let mut client = Self {
            meter: Meter::new(limits),
            now: Instant::now(),
            next: 1,
        };
        assert_eq!(client.sends(&frame(SETTINGS, 0, 0, 0)), Ok(()));
        client.waits(limits.window); // so that they do not count
        client
    }

    fn waits(&mut self, time: Duration) {
        self.now += time;
    }

    fn sends(&mut self, frames: &[u8]) -> Result<(), Fault> {
        self.meter.observe(frames, self.now)
    }

    fn asks(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        assert_eq!(self.sends(&headers(stream)), Ok(()));
        stream
    }

    fn resets(&mut self, stream: u32) -> Result<(), Fault> {
        self.sends(&frame(RST_STREAM, 0, stream, 4))
    }

    /// How often it can send `frames` at once.
    fn times(&mut self, frames: &[u8], flood: Flood) -> u32 {
        let mut times = 0;
        loop {
            match self.sends(frames) {
                Ok(()) => times += 1,
                Err(found) => {
                    assert_eq!(found, Fault::from(flood));
                    return times;
                }
            }
        }
    }
}

/// Small limits of which no two are alike.
fn small() -> Limits {
    Limits {
        window: Duration::from_secs(10),
        resets: 50,
        streams_for_ratio: 20,
        settings: 3,
        pings: 4,
        empty_data: 5,
        window_updates: 6,
        priorities: 7,
        headers: 40,
        others: 9,
        continuations: 10,
        header_block: 1000,
    }
}

#[test]
fn each_flood_is_named() {
    let cases = [
        (frame(RST_STREAM, 0, 1, 4), Flood::Resets, 50),
        (frame(SETTINGS, 0, 0, 6), Flood::Settings, 3),
        (frame(SETTINGS, ACK, 0, 0), Flood::Settings, 3),
        (frame(PING, 0, 0, 8), Flood::Pings, 4),
        (frame(PING, ACK, 0, 8), Flood::Pings, 4),
        (frame(DATA, 0, 1, 0), Flood::EmptyData, 5),
        (frame(WINDOW_UPDATE, 0, 0, 4), Flood::WindowUpdates, 6),
        (frame(PRIORITY, 0, 1, 5), Flood::Priorities, 7),
        (frame(PRIORITY_UPDATE, 0, 0, 9), Flood::Priorities, 7),
        (frame(HEADERS, END_HEADERS, 0, 1), Flood::Headers, 40),
        (frame(GREASE, 0, 0, 3), Flood::Others, 9),
        (frame(GOAWAY, 0, 0, 8), Flood::Others, 9),
        (frame(CONTINUATION, 0, 1, 0), Flood::Continuations, 10),
        (frame(CONTINUATION, 0, 1, 300), Flood::Continuations, 3),
    ];
    for (frame, flood, most) in cases {
        let mut client = Client::with(small());
        assert_eq!(client.times(&frame, flood), most, "{flood:?}");

        let mut patient = Client::with(small());
        for _ in 0..most {
            assert_eq!(patient.sends(&frame), Ok(()));
        }
        patient.waits(Duration::from_secs(10));
        // Header blocks do not end with time.
        let again = if flood == Flood::Continuations {
            0
        } else {
            most
        };
        assert_eq!(patient.times(&frame, flood), again, "{flood:?}, later");
    }
}

#[test]
fn names_are_for_labels_and_no_two_are_alike() {
    let mut names: Vec<_> = Flood::ALL.iter().map(|flood| flood.name()).collect();
    assert!(names.iter().all(|name| {
        let mut bytes = name.bytes();
        bytes.all(|b| b.is_ascii_lowercase() || b == b'_')
    }));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Flood::ALL.len());
}

#[test]
fn each_header_block_begins_anew() {
    let mut client = Client::with(small());
    let mut block = frame(HEADERS, 0, 1, 900);
    block.extend(frame(CONTINUATION, 0, 1, 50));
    block.extend(frame(CONTINUATION, END_HEADERS, 1, 50));
    for _ in 0..40 {
        assert_eq!(client.sends(&block), Ok(()));
    }
    client.waits(Duration::from_secs(10));
    block.extend(frame(CONTINUATION, END_HEADERS, 1, 1));
    assert_eq!(client.sends(&block), Err(Flood::Continuations.into()));
}

#[test]
fn data_that_says_something_is_never_a_flood() {
    let mut client = Client::with(small());
    for _ in 0..1000 {
        assert_eq!(client.sends(&frame(DATA, 0, 1, 1)), Ok(()));
        assert_eq!(client.sends(&frame(DATA, END_STREAM, 1, 0)), Ok(()));
    }
}

#[test]
fn rapid_reset_is_seen_long_before_the_window_is_full() {
    let mut client = Client::new();
    let flood = (1..10_000).find(|_| {
        let stream = client.asks();
        client.resets(stream).is_err()
    });
    assert_eq!(flood, Some(1000));
}

#[test]
fn half_of_the_streams_may_be_reset() {
    let mut client = Client::new();
    for _ in 0..2000 {
        let stream = client.asks();
        client.asks();
        assert_eq!(client.resets(stream), Ok(()));
    }
    let stream = client.next - 2;
    assert_eq!(client.resets(stream), Err(Flood::Resets.into()));
}

#[test]
fn streams_that_were_given_time_may_be_reset() {
    // As by deadlines, or by people who close a page that does not end.
    let mut client = Client::with(Limits {
        streams_for_ratio: 90,
        ..Limits::default()
    });
    for _ in 0..100 {
        let streams: Vec<_> = (0..90).map(|_| client.asks()).collect();
        client.waits(2 * YOUTH);
        for stream in streams {
            assert_eq!(client.resets(stream), Ok(()));
        }
    }
    // And those that were not may not, on the same connection.
    let flood = (0..1000).find(|_| {
        let stream = client.asks();
        client.resets(stream).is_err()
    });
    assert!(flood.is_some());
}

#[test]
fn a_browser_that_leaves_page_after_page_is_no_flood() {
    let mut client = Client::new();
    for _ in 0..100 {
        let streams: Vec<_> = (0..90).map(|_| client.asks()).collect();
        for stream in streams {
            assert_eq!(client.sends(&frame(PRIORITY_UPDATE, 0, 0, 9)), Ok(()));
            assert_eq!(client.sends(&frame(GREASE, 0, 0, 5)), Ok(()));
            assert_eq!(client.resets(stream), Ok(()));
        }
        client.waits(Duration::from_secs(1));
    }
}

#[test]
fn twenty_thousand_calls_a_second_pass() {
    // A gRPC client next door: each call with a message, an end, a ping and new room for the answer; one in ten is given
    // up, and a new window is set now and then.
    let mut client = Client::new();
    for call in 0..600_000 {
        client.waits(Duration::from_micros(50));
        let stream = client.asks();
        let mut frames = frame(DATA, 0, stream, 12);
        frames.extend(frame(DATA, END_STREAM, stream, 0));
        frames.extend(frame(WINDOW_UPDATE, 0, 0, 4));
        frames.extend(frame(WINDOW_UPDATE, 0, stream, 4));
        frames.extend(frame(PING, 0, 0, 8));
        if call % 50_000 == 0 {
            frames.extend(frame(SETTINGS, 0, 0, 6));
        }
        if call % 40 == 0 {
            frames.extend(frame(RST_STREAM, 0, stream, 4));
        }
        assert_eq!(client.sends(&frames), Ok(()));
    }
}

#[test]
fn a_download_at_a_gigabyte_a_second_passes() {
    // Go takes 4 KiB at a time, and pings once a round trip of 200 µs.
    let mut client = Client::new();
    client.asks();
    let mut frames = frame(WINDOW_UPDATE, 0, 0, 4);
    frames.extend(frame(WINDOW_UPDATE, 0, 1, 4));
    let mut frames = frames.repeat(49);
    frames.extend(frame(PING, 0, 0, 8));
    for _ in 0..(12 * 5000) {
        client.waits(Duration::from_micros(200));
        assert_eq!(client.sends(&frames), Ok(()));
    }
}

#[test]
fn settings_come_first() {
    for first in [frame(PING, 0, 0, 8), frame(SETTINGS, ACK, 0, 0), headers(1)] {
        let mut meter = Meter::new(Limits::default());
        let seen = meter.observe(&first, Instant::now());
        assert_eq!(seen, Err(Fault::Preface));
    }
}

#[test]
fn frames_of_a_wrong_size_are_seen() {
    for (kind, flags, length) in [
        (PRIORITY, 0, 4),
        (RST_STREAM, 0, 5),
        (SETTINGS, 0, 5),
        (SETTINGS, ACK, 6),
        (PING, 0, 7),
        (GOAWAY, 0, 7),
        (WINDOW_UPDATE, 0, 3),
    ] {
        let mut client = Client::new();
        let seen = client.sends(&frame(kind, flags, 1, length));
        assert_eq!(seen, Err(Fault::Size), "type {kind}");
    }
}

#[test]
fn a_header_block_that_is_not_complete_is_known() {
    let mut client = Client::new();
    let start = client.now;
    let unfinished = |client: &Client| client.meter.unfinished_since();
    let block = [
        frame(HEADERS, 0, 1, 10),
        frame(CONTINUATION, END_HEADERS, 1, 10),
    ];
    let block = block.concat();
    for (place, byte) in block.iter().enumerate() {
        assert_eq!(unfinished(&client), (place > 0).then_some(start));
        assert_eq!(client.sends(&[*byte]), Ok(()));
        client.waits(Duration::from_secs(1));
    }
    assert_eq!(unfinished(&client), None);
    // Who is always in the middle of one, but ends each in time.
    let two = headers(3).repeat(2);
    for cut in 1..two.len() / 2 {
        let began = client.now;
        client.sends(&two[..two.len() / 2 + cut]).unwrap();
        assert_eq!(unfinished(&client), Some(began));
        client.waits(Duration::from_secs(1));
        client.sends(&two[two.len() / 2 + cut..]).unwrap();
        assert_eq!(unfinished(&client), None);
    }
    client.sends(&frame(DATA, 0, 3, 1000)[..500]).unwrap();
    assert_eq!(unfinished(&client), None, "bodies may take their time");
}

/// Any frames, floods among them.
fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let one = (
        0..=PRIORITY_UPDATE,
        any::<u8>(),
        0..100_u32,
        0..40_usize,
        1..8_usize,
    );
    let frames = one.prop_map(|(kind, flags, stream, payload, times)| {
        let payload = match kind {
            PRIORITY => 5,
            RST_STREAM | WINDOW_UPDATE => 4,
            SETTINGS if flags & ACK != 0 => 0,
            SETTINGS => payload / 6 * 6,
            PING | GOAWAY => 8,
            _ => payload,
        };
        frame(kind, flags, stream, payload).repeat(times)
    });
    prop::collection::vec(frames, 1..30).prop_map(|frames| frames.concat())
}

/// The verdict on bytes that come in such pieces, the last of which is what is left.
fn verdict(bytes: &[u8], pieces: &[usize]) -> Result<(), Fault> {
    let mut client = Client::with(small());
    let mut rest = bytes;
    for piece in pieces {
        let (piece, after) = rest.split_at(rest.len().min(*piece));
        client.sends(piece)?;
        rest = after;
    }
    client.sends(rest)
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        bytes in any_frames(),
        pieces in prop::collection::vec(0..50_usize, 0..100),
    ) {
        let whole = verdict(&bytes, &[]);
        prop_assert_eq!(verdict(&bytes, &pieces), whole);
        prop_assert_eq!(verdict(&bytes, &vec![1; bytes.len()]), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..20)) {
        let mut client = Client::with(small());
        for piece in pieces {
            _ = client.sends(&piece);
        }
    }
}
