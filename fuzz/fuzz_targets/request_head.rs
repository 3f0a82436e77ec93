//! Heads of requests: what is accepted does not depend on how it arrives, and is accepted again when it is written.
#![no_main]

use bytes::BytesMut;
use http::Version;
use libfuzzer_sys::fuzz_target;
use loadbalancer::message::h1::{Invalid, Request, RequestHead, Scan, read_request};

fuzz_target!(|input: &[u8]| {
    let whole = read([input]);
    let cut = input.len() / 2;
    for pieces in [read(input.chunks(1)), read([&input[..cut], &input[cut..]])] {
        match (&whole, &pieces) {
            (Ok(Some((request, length))), Ok(Some((same, same_length)))) => {
                assert_eq!(format!("{request:?}"), format!("{same:?}"));
                assert_eq!(length, same_length);
            }
            (Ok(Some(_)), _) | (_, Ok(Some(_))) => panic!("{whole:?} or {pieces:?}?"),
            // What is wrong may be seen only at the end of the head.
            _ => {}
        }
    }
    if let Ok(Some((request, _))) = whole {
        write_again(&request);
    }
});

/// The request in `pieces`, and how many bytes its head had.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<(Request, usize)>, Invalid> {
    let (mut scan, mut input) = (Scan::default(), BytesMut::new());
    let mut arrived = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        arrived += piece.len();
        if let Some(request) = read_request::read(&mut scan, &mut input)? {
            return Ok(Some((request, arrived - input.len())));
        }
    }
    Ok(None)
}

fn write_again(request: &Request) {
    let head = &request.head;
    let mut text = Vec::new();
    let target = head.uri.to_string();
    let mut out = RequestHead::begin(&mut text, &head.method, [&target, ""]);
    for (name, value) in &head.headers {
        out.field(name, value);
    }
    out.end();
    let again = read([&text[..]]).expect("what was accepted is valid");
    let (again, length) = again.expect("a head that was ended is complete");
    assert_eq!(length, text.len());
    assert_eq!(again.head.method, head.method);
    assert_eq!(again.head.uri, head.uri);
    assert_eq!(again.head.headers, head.headers);
    assert_eq!(again.framing, request.framing);
    // It is always written as 1.1, in which connections stay open by themselves.
    if head.version == Version::HTTP_11 {
        assert_eq!(again.keep_alive, request.keep_alive);
    }
}
