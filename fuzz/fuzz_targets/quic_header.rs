//! The invariants of QUIC: what is read of a packet is in it, and does not depend on what comes behind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadbalancer::message::quic::{Header, Id, MAX_ID, MIN_ID, header};

fuzz_target!(|datagram: &[u8]| {
    let more = [datagram, b"more"].concat();
    match header(datagram) {
        None => {}
        Some(Header::Short(rest)) => {
            assert_eq!(rest, &datagram[1..]);
            assert!(matches!(header(&more), Some(Header::Short(_))));
        }
        Some(long @ Header::Long { destination, source }) => {
            assert_eq!(header(&more), Some(long));
            for id in [destination, source].into_iter().flatten() {
                let bytes = id.as_bytes();
                assert!((MIN_ID..=MAX_ID).contains(&bytes.len()));
                assert!(datagram.windows(bytes.len()).any(|it| it == bytes));
                assert_eq!(Id::new(bytes), Some(id));
            }
        }
    }
});
