//! ClientHellos: what is said of one does not depend on the pieces that it comes in, and all bytes are kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadbalancer::message::client_hello::Incoming;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = Incoming::default().read(bytes);
    let mut incoming = Incoming::default();
    let mut read = 0;
    let mut pieces = Ok(None);
    for part in bytes.chunks(usize::from(piece).max(1)) {
        read += part.len();
        pieces = incoming.read(part);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(incoming.bytes(), &bytes[..read]);
    assert_eq!(pieces, whole);
    if let Ok(Some(hello)) = whole {
        let name = hello.name.unwrap_or_default();
        assert!(name.len() <= 253 && !name.ends_with('\0'));
        assert!(hello.protocols.iter().all(|protocol| !protocol.is_empty()));
    }
});
