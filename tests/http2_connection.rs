//! What belongs to a connection of HTTP/2: settings, pings, its end, and windows (RFC 9113, sections 5.2 and 6).

use std::time::{Duration, Instant};

use crate::support::backend::{Backend, RawBackend};
use crate::support::frames::*;
use crate::support::proxy::{self, Proxy};

use crate::http2_frames::{answering, begun, end_after, end_of_stream_after, headers};

#[test]
fn settings_have_values_that_can_be() {
    let proxy = answering();
    for (name, value) in [
        (ENABLE_PUSH, 2),
        (INITIAL_WINDOW_SIZE, 0x8000_0000),
        (INITIAL_WINDOW_SIZE, u32::MAX),
        (MAX_FRAME_SIZE, 16_383),
        (MAX_FRAME_SIZE, 0x0100_0000),
    ] {
        let end = end_after(&proxy, settings(&[(name, value)]));
        assert!(
            matches!(end, End::Goaway(PROTOCOL_ERROR | FLOW_CONTROL_ERROR)),
            "{name}: {end:?}"
        );
    }
    let mut client = Frames::connect(proxy.addr());
    client.send(settings(&[
        (HEADER_TABLE_SIZE, 0),
        (ENABLE_PUSH, 0),
        (INITIAL_WINDOW_SIZE, 0x7fff_ffff),
        (MAX_FRAME_SIZE, 0x00ff_ffff),
        (INITIAL_WINDOW_SIZE, 1),
    ]));
    let answer = client.wait_for("an acknowledgement", |frame| frame.kind == SETTINGS);
    assert_eq!((answer.flags, answer.payload.len()), (ACK, 0));
    client.is_usable(1);
}

#[test]
fn a_ping_is_answered_with_what_it_says() {
    let proxy = answering();
    let mut client = Frames::connect(proxy.addr());
    client.send(
        [
            frame(PING, ACK, 0, b"unasked!"),
            frame(PING, 0, 0, b"hello??!"),
        ]
        .concat(),
    );
    let answer = client.wait_for("a ping", |frame| frame.kind == PING);
    assert_eq!((answer.flags, &answer.payload[..]), (ACK, &b"hello??!"[..]));
    client.is_usable(1);
}

#[test]
fn a_client_that_goes_away_gets_its_answers_and_the_end() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    let mut client = Frames::connect(proxy.addr());
    client.ask(1, fields_with(&[(":path", Some("/delay/100"))]));
    client.send(frame(GOAWAY, 0, 0, [0; 8]));
    assert_eq!(client.end_of(1), End::Answer(200));
    client.finish();
    client.end();
}

#[test]
fn a_connection_may_be_idle_from_the_end_of_its_last_stream_on() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .listener("timeouts = { keep_alive = \"500ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    let mut client = Frames::connect(proxy.addr());
    client.ask(1, fields_with(&[(":path", Some("/delay/700"))]));
    assert_eq!(client.end_of(1), End::Answer(200));
    let answered = Instant::now();
    client.wait_for("a goodbye", |frame| frame.kind == GOAWAY);
    let idle = answered.elapsed();
    assert!(idle > Duration::from_millis(400), "{idle:?}");
}

#[test]
fn a_client_pushes_nothing() {
    let proxy = answering();
    let push = [&[0, 0, 0, 2][..], &get()].concat();
    let bytes = [begun(1), frame(PUSH_PROMISE, END_HEADERS, 1, push)];
    assert_eq!(
        end_after(&proxy, bytes.concat()),
        End::Goaway(PROTOCOL_ERROR)
    );
}

#[test]
fn windows_do_not_overflow_and_grow_by_something() {
    let proxy = answering();
    let end = end_after(&proxy, window_update(0, 0x7fff_ffff));
    assert_eq!(
        end,
        End::Goaway(FLOW_CONTROL_ERROR),
        "the connection's window"
    );
    let bytes = [begun(1), window_update(1, 0x7fff_ffff)];
    let end = end_of_stream_after(&proxy, bytes.concat());
    assert_eq!(end, End::Reset(FLOW_CONTROL_ERROR), "a stream's window");
    let bytes = [
        begun(1),
        window_update(1, 0x7fff_0000),
        settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]),
    ];
    let end = end_after(&proxy, bytes.concat());
    assert_eq!(
        end,
        End::Goaway(FLOW_CONTROL_ERROR),
        "a stream's window, by settings"
    );
    for stream in [0, 1] {
        let bytes = [begun(1), window_update(stream, 0)];
        let end = end_after(&proxy, bytes.concat());
        assert_eq!(end, End::Goaway(PROTOCOL_ERROR), "nothing for {stream}");
    }
}

#[test]
fn an_answer_waits_for_room_and_fits_into_it() {
    let backend = RawBackend::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789");
    let proxy = proxy::before_script(&backend);
    let mut client = Frames::connect_with(proxy.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
    client.ask(1, get());
    client.wait_for("a head", |frame| frame.kind == HEADERS);
    let data = |frame: &Frame| frame.kind == DATA;
    for (room, expected) in [(1, "0"), (4, "1234")] {
        client.send(window_update(1, room));
        assert_eq!(client.wait_for("data", data).payload, expected.as_bytes());
    }
    // New settings change the room of streams that are there, even to less than none.
    client.send(
        [
            settings(&[(INITIAL_WINDOW_SIZE, 3)]),
            settings(&[(INITIAL_WINDOW_SIZE, 3)]),
        ]
        .concat(),
    );
    assert_eq!(client.wait_for("data", data).payload, b"567");
    client.send([settings(&[(INITIAL_WINDOW_SIZE, 0)]), window_update(1, 3)].concat());
    client.send(frame(PING, 0, 0, [0; 8]));
    let next = client.wait_for("a ping, and no data", |frame| {
        matches!(frame.kind, DATA | PING)
    });
    assert_eq!(next.kind, PING);
    client.send(window_update(1, 100));
    let last = client.wait_for("data", data);
    assert_eq!((&last.payload[..], last.flags), (&b"89"[..], END_STREAM));
}

#[test]
fn who_sends_more_than_there_is_room_for_is_stopped() {
    let backend = Backend::start();
    let proxy = proxy::before(&backend);
    let mut client = Frames::connect(proxy.addr());
    client.send(headers(
        END_HEADERS,
        1,
        fields_with(&[(":method", Some("POST")), (":path", Some("/hang"))]),
    ));
    // The server takes nothing, and so gives no room.
    let data = frame(DATA, 0, 1, [0; 16_384]);
    let mut sent = 0;
    let end = loop {
        if sent > 4096 || client.try_send(&data).is_err() {
            break client.end_of(1);
        }
        sent += 1;
        if sent == 1024 {
            break client.end_of(1);
        }
    };
    let stopped = [
        End::Reset(FLOW_CONTROL_ERROR),
        End::Goaway(FLOW_CONTROL_ERROR),
    ];
    assert!(stopped.contains(&end), "{end:?} after {sent} frames");
}
