//! Answers of DNS servers: what is taken for one has the query in it, and its own query is none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadbalancer::health::dns::{answer, query};

fuzz_target!(|message: &[u8]| {
    let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    for name in [".", "example.com"] {
        let query = query(id, name);
        if answer(message, &query).is_ok() {
            assert!(message.len() >= 12 && message != query);
            assert_eq!(message[..2], query[..2]);
            let mut other = message.to_vec();
            other[0] ^= 1;
            assert!(answer(&other, &query).is_err());
        }
    }
});
