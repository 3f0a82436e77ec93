//! Bodies in chunks: what is in them does not depend on how they arrive, and is read again when it is written.
#![no_main]

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use loadbalancer::message::h1::body::Part;
use loadbalancer::message::h1::write_request::{write_chunk_size, write_trailers};
use loadbalancer::message::h1::{Body, Framing, Invalid};

/// What was found.
#[derive(Debug, Default, PartialEq)]
struct Content {
    data: Vec<u8>,
    trailers: HeaderMap,
    ended: bool,
    /// How many bytes came up to its end.
    length: usize,
    invalid: Option<Invalid>,
}

fuzz_target!(|input: &[u8]| {
    let whole = read([input]);
    let cut = input.len() / 2;
    assert_eq!(read(input.chunks(1)), whole);
    assert_eq!(read([&input[..cut], &input[cut..]]), whole);
    if whole.ended {
        let again = read([&write(&whole)[..]]);
        assert!(again.ended);
        assert_eq!(again.data, whole.data);
        assert_eq!(again.trailers, whole.trailers);
    }
});

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Content {
    let (mut body, mut input) = (Body::new(Framing::Chunked), BytesMut::new());
    let mut content = Content::default();
    let mut arrived = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        arrived += piece.len();
        loop {
            match body.take(&mut input) {
                Ok(Some(Part::Data(data))) => content.data.extend_from_slice(&data),
                Ok(Some(Part::Trailers(trailers))) => content.trailers = trailers,
                Ok(Some(Part::End)) => {}
                Ok(None) => break,
                Err(error) => {
                    content.invalid = Some(error);
                    return content;
                }
            }
            if body.ended() {
                content.ended = true;
                content.length = arrived - input.len();
                return content;
            }
        }
    }
    content
}

fn write(content: &Content) -> Bytes {
    let mut out = Vec::new();
    for chunk in content.data.chunks(100) {
        write_chunk_size(&mut out, chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    write_trailers(&mut out, &content.trailers, |_| true);
    out.into()
}
