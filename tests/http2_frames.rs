//! Frames of HTTP/2, right and wrong, on streams that are open and closed (RFC 9113, sections 3 to 6).

use crate::support::backend::Backend;
use crate::support::client::{self, message};
use crate::support::frames::*;
use crate::support::proxy::{self, Proxy, RunningProxy};

/// A proxy that answers by itself, which is all that these need.
pub fn answering() -> RunningProxy {
    Proxy::new()
        .extra("[[routes]]\nrespond = { status = 200 }")
        .start()
}

/// What becomes of a connection on which these bytes are sent once it has begun as it should.
pub fn end_after(proxy: &RunningProxy, bytes: impl AsRef<[u8]>) -> End {
    let mut client = Frames::connect(proxy.addr());
    client.send(bytes);
    client.end()
}

/// The same of stream 1, and whether the connection can go on.
pub fn end_of_stream_after(proxy: &RunningProxy, bytes: impl AsRef<[u8]>) -> End {
    let mut client = Frames::connect(proxy.addr());
    client.send(bytes);
    let end = client.end_of(1);
    client.is_usable(11);
    end
}

pub fn headers(flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(HEADERS, flags, stream, payload)
}

/// A POST whose body is to come.
pub fn begun(stream: u32) -> Vec<u8> {
    headers(END_HEADERS, stream, post())
}

#[test]
fn what_is_no_preface_is_no_http_2() {
    let proxy = answering();
    let mut client = proxy.connect();
    let answer = client
        .request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX")
        .expect("an answer");
    assert_eq!(answer.status, 505);
    let answer = client::request(proxy.addr(), message("GET", "/", &[], b""));
    assert_eq!(answer.status, 200, "HTTP/1.1 is spoken at the same port");
}

#[test]
fn settings_come_first_on_both_sides() {
    let proxy = answering();
    for first in [
        frame(PING, 0, 0, [0; 8]),
        headers(WHOLE, 1, get()),
        frame(SETTINGS, ACK, 0, b""),
    ] {
        let mut client = Frames::open(proxy.addr());
        client.send([PREFACE, &first].concat());
        assert_eq!(client.read().expect("a frame").kind, SETTINGS);
        assert_eq!(client.end(), End::Goaway(PROTOCOL_ERROR), "{first:?}");
    }
}

#[test]
fn frames_have_the_size_that_their_type_says() {
    let proxy = answering();
    for (kind, flags, stream, length) in [
        (DATA, 0, 1, 16_385),
        (HEADERS, END_HEADERS, 1, 16_385),
        (PRIORITY, 0, 1, 4),
        (PRIORITY, 0, 1, 6),
        (RST_STREAM, 0, 1, 3),
        (RST_STREAM, 0, 1, 5),
        (SETTINGS, 0, 0, 5),
        (SETTINGS, ACK, 0, 6),
        (PING, 0, 0, 7),
        (PING, 0, 0, 9),
        (GOAWAY, 0, 0, 7),
        (WINDOW_UPDATE, 0, 0, 3),
        (WINDOW_UPDATE, 0, 1, 5),
        (0x20, 0, 0, 16_385),
    ] {
        let bytes = [begun(1), frame(kind, flags, stream, vec![0; length])];
        let end = end_after(&proxy, bytes.concat());
        assert_eq!(
            end,
            End::Goaway(FRAME_SIZE_ERROR),
            "type {kind}, {length} bytes"
        );
    }
    let longest = [begun(1), frame(DATA, END_STREAM, 1, [0; 16_384])];
    assert_eq!(
        end_of_stream_after(&proxy, longest.concat()),
        End::Answer(200)
    );
}

#[test]
fn unknown_types_flags_settings_and_the_reserved_bit_are_ignored() {
    let proxy = answering();
    let bytes = [
        frame(0x1f, 0xff, 0, b"grease"),
        frame(0x1f, 0xff, 9, b"grease"),
        settings(&[(0x1a2a, 7)]),
        frame(PING, 0xfe, 0, b"whatever"),
        headers(WHOLE | 0xc2, 1 | 0x8000_0000, get()),
    ];
    assert_eq!(
        end_of_stream_after(&proxy, bytes.concat()),
        End::Answer(200)
    );
}

#[test]
fn each_type_belongs_to_the_connection_or_to_a_stream() {
    let proxy = answering();
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[0; 8]), (GOAWAY, &[0; 8])] {
        let bytes = [begun(1), frame(kind, 0, 1, payload)];
        let end = end_after(&proxy, bytes.concat());
        assert_eq!(end, End::Goaway(PROTOCOL_ERROR), "type {kind} on a stream");
    }
    for (kind, payload) in [
        (DATA, &b"x"[..]),
        (HEADERS, &get()),
        (PRIORITY, &[0, 0, 0, 3, 1]),
        (RST_STREAM, &[0, 0, 0, 8]),
        (CONTINUATION, &get()),
    ] {
        let end = end_after(&proxy, frame(kind, END_HEADERS, 0, payload));
        assert_eq!(end, End::Goaway(PROTOCOL_ERROR), "type {kind} on none");
    }
}

#[test]
fn an_idle_stream_takes_headers_and_priority_only() {
    let proxy = answering();
    for bytes in [
        frame(DATA, END_STREAM, 1, b"x"),
        reset(1),
        window_update(1, 1),
        frame(CONTINUATION, END_HEADERS, 1, get()),
    ] {
        assert_eq!(
            end_after(&proxy, &bytes),
            End::Goaway(PROTOCOL_ERROR),
            "{bytes:?}"
        );
    }
    let bytes = [
        frame(PRIORITY, 0, 7, [0, 0, 0, 3, 1]),
        headers(WHOLE, 1, get()),
    ];
    assert_eq!(
        end_of_stream_after(&proxy, bytes.concat()),
        End::Answer(200)
    );
}

#[test]
fn a_stream_that_has_ended_takes_no_more_of_a_request() {
    let proxy = answering();
    // Ended by its client: half closed, or closed by the answer.
    let ended = headers(WHOLE, 1, get());
    for after in [frame(DATA, END_STREAM, 1, b"x"), headers(WHOLE, 1, get())] {
        let mut client = Frames::connect(proxy.addr());
        client.send([&ended[..], &after].concat());
        let end = match client.end_of(1) {
            End::Answer(200) => client.end_of(1), // it came first
            end => end,
        };
        let refused = [
            End::Reset(STREAM_CLOSED),
            End::Goaway(STREAM_CLOSED),
            End::Goaway(PROTOCOL_ERROR),
        ];
        assert!(refused.contains(&end), "{after:?}: {end:?}");
    }
    // These may have crossed with the end.
    for after in [
        reset(1),
        window_update(1, 1),
        frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1]),
    ] {
        let mut client = Frames::connect(proxy.addr());
        client.send(&ended);
        assert_eq!(client.end_of(1), End::Answer(200));
        client.send(after);
        client.is_usable(3);
    }
}

#[test]
fn a_stream_that_its_client_has_reset_takes_nothing() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    for after in [frame(DATA, END_STREAM, 1, b"x"), headers(WHOLE, 1, get())] {
        let mut client = Frames::connect(proxy.addr());
        client.send([&begun(1)[..], &reset(1), &after].concat());
        let end = client.end_of(1);
        let refused = [
            End::Reset(STREAM_CLOSED),
            End::Goaway(STREAM_CLOSED),
            End::Goaway(PROTOCOL_ERROR),
        ];
        assert!(refused.contains(&end), "{after:?}: {end:?}");
    }
}

#[test]
fn numbers_of_streams_are_odd_and_rise() {
    let proxy = answering();
    for numbers in [&[2][..], &[5, 3], &[5, 4]] {
        let asked = numbers.iter().map(|stream| headers(WHOLE, *stream, get()));
        let end = end_after(&proxy, asked.collect::<Vec<_>>().concat());
        assert_eq!(end, End::Goaway(PROTOCOL_ERROR), "{numbers:?}");
    }
    let mut client = Frames::connect(proxy.addr());
    for stream in [3, 7, 0x7fff_ffff] {
        client.is_usable(stream);
    }
}

#[test]
fn streams_beyond_the_hundredth_are_refused_and_the_others_go_on() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    let mut client = Frames::connect(proxy.addr());
    for stream in 0..101 {
        client.ask(
            1 + 2 * stream,
            fields_with(&[(":path", Some("/delay/300"))]),
        );
    }
    assert_eq!(client.end_of(201), End::Reset(REFUSED_STREAM));
    let mut answers = 0;
    while answers < 100 {
        client.wait_for("answers", |frame| frame.kind == HEADERS);
        answers += 1;
    }
    client.is_usable(203);
}

#[test]
fn header_blocks_are_not_interrupted() {
    let proxy = answering();
    let block = get();
    let (one, rest) = block.split_at(5);
    let (two, three) = rest.split_at(5);
    let pieces = [
        headers(END_STREAM, 1, one),
        frame(CONTINUATION, 0, 1, two),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 1, three),
    ];
    assert_eq!(
        end_of_stream_after(&proxy, pieces.concat()),
        End::Answer(200)
    );
    for between in [
        frame(PING, 0, 0, [0; 8]),
        frame(DATA, 0, 1, b"x"),
        headers(WHOLE, 3, get()),
        frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1]),
        frame(0x1f, 0, 0, b"grease"),
        frame(CONTINUATION, END_HEADERS, 3, rest),
        settings(&[]),
    ] {
        let bytes = [headers(END_STREAM, 1, one), between.clone()];
        let end = end_after(&proxy, bytes.concat());
        assert_eq!(end, End::Goaway(PROTOCOL_ERROR), "{between:?}");
    }
    for bytes in [
        [
            headers(WHOLE, 1, get()),
            frame(CONTINUATION, END_HEADERS, 1, get()),
        ],
        [begun(1), frame(DATA, 0, 1, b"x")],
    ] {
        let bytes = [bytes.concat(), frame(CONTINUATION, END_HEADERS, 1, get())];
        assert_eq!(
            end_after(&proxy, bytes.concat()),
            End::Goaway(PROTOCOL_ERROR)
        );
    }
}

#[test]
fn padding_is_taken_off_and_fits_into_its_frame() {
    let proxy = answering();
    let padded =
        |payload: &[u8], padding: usize| [&[padding as u8], payload, &vec![0; padding]].concat();
    let bytes = [
        headers(END_HEADERS | PADDED, 1, padded(&post(), 200)),
        frame(DATA, PADDED, 1, padded(b"x", 255)),
        frame(DATA, PADDED | END_STREAM, 1, padded(b"", 3)),
    ];
    assert_eq!(
        end_of_stream_after(&proxy, bytes.concat()),
        End::Answer(200)
    );
    for bytes in [
        frame(DATA, PADDED, 1, [5, 0, 0, 0, 0]),
        frame(DATA, PADDED, 1, b""),
        headers(WHOLE | PADDED, 3, [&[255], &get()[..]].concat()),
        headers(WHOLE | PADDED, 3, b""),
        headers(WHOLE | PRIORITIZED, 3, [0; 4]),
    ] {
        let end = end_after(&proxy, [&begun(1)[..], &bytes].concat());
        assert_eq!(end, End::Goaway(PROTOCOL_ERROR), "{bytes:?}");
    }
}

#[test]
fn priorities_are_read_and_a_stream_does_not_depend_on_itself() {
    let proxy = answering();
    let block = [&[0x80, 0, 0, 0, 16][..], &get()].concat();
    let end = end_of_stream_after(&proxy, headers(WHOLE | PRIORITIZED, 1, block));
    assert_eq!(end, End::Answer(200));
    let depends = [0, 0, 0, 1, 16];
    let frames = [
        headers(WHOLE | PRIORITIZED, 1, [&depends[..], &get()].concat()),
        [
            headers(END_HEADERS, 1, post()),
            frame(PRIORITY, 0, 1, depends),
        ]
        .concat(),
    ];
    for bytes in frames {
        let end = end_of_stream_after(&proxy, &bytes);
        assert_eq!(end, End::Reset(PROTOCOL_ERROR), "{bytes:?}");
    }
}
