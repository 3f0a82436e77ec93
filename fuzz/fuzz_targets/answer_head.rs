//! Heads of answers: what is accepted does not depend on how it arrives, and is accepted again when it is written.
#![no_main]

use bytes::BytesMut;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use loadbalancer::message::h1::write_answer::{self, Afterwards, Ending};
use loadbalancer::message::h1::{Answer, Framing, Invalid, Scan, read_answer};

fuzz_target!(|input: &[u8]| {
    for to_head in [false, true] {
        let whole = read([input], to_head);
        let cut = input.len() / 2;
        for pieces in [
            read(input.chunks(1), to_head),
            read([&input[..cut], &input[cut..]], to_head),
        ] {
            match (&whole, &pieces) {
                (Ok(Some((answer, length))), Ok(Some((same, same_length)))) => {
                    assert_eq!(format!("{answer:?}"), format!("{same:?}"));
                    assert_eq!(length, same_length);
                }
                (Ok(Some(_)), _) | (_, Ok(Some(_))) => panic!("{whole:?} or {pieces:?}?"),
                // What is wrong may be seen only at the end of the head.
                _ => {}
            }
        }
        if let Ok(Some((answer, _))) = whole {
            write_again(&answer);
        }
    }
});

/// The answer in `pieces`, and how many bytes came up to the end of its head.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    to_head: bool,
) -> Result<Option<(Answer, usize)>, Invalid> {
    let (mut scan, mut input) = (Scan::default(), BytesMut::new());
    let mut arrived = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        arrived += piece.len();
        if let Some(answer) = read_answer::read(&mut scan, &mut input, to_head)? {
            return Ok(Some((answer, arrived - input.len())));
        }
    }
    Ok(None)
}

fn write_again(answer: &Answer) {
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        return; // what it switches to is written by others
    }
    let ending = match answer.framing {
        Framing::Empty => Ending::Length(0),
        Framing::Length(length) => Ending::Length(length),
        Framing::Chunked => Ending::Chunked,
        Framing::UntilClose => Ending::Close,
    };
    let mut text = Vec::new();
    let afterwards = Afterwards::AsUsual;
    write_answer::write(
        &mut text,
        answer.status,
        &answer.fields,
        ending,
        afterwards,
        |out| {
            out.extend_from_slice(b"Sun, 06 Nov 1994 08:49:37 GMT");
        },
    );
    let again = read([&text[..]], false).expect("what was accepted is valid");
    let (again, length) = again.expect("a head that was ended is complete");
    assert_eq!(length, text.len());
    assert_eq!(again.status, answer.status);
    assert_eq!(again.framing, answer.framing);
    assert_eq!(again.trailers, answer.trailers);
    assert!(again.fields.has_date);
}
