//! PROXY headers: a verdict stands whatever follows, and what is accepted is written and accepted again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadbalancer::message::proxy_protocol::{
    MAX_LENGTH, Parsed, Source, parse, write_v1, write_v2,
};

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    match whole {
        Ok(Parsed::Complete { length, source }) => {
            assert!(length <= input.len() && length <= MAX_LENGTH);
            assert_eq!(parse(&input[..length]), whole);
            write_again(source);
        }
        Ok(Parsed::Incomplete(missing)) => {
            assert!(missing > 0 && input.len() + missing <= MAX_LENGTH);
        }
        Err(_) => {}
    }
    for cut in 0..input.len() {
        match parse(&input[..cut]) {
            Ok(Parsed::Incomplete(missing)) => {
                if let Ok(Parsed::Complete { length, .. }) = whole {
                    assert!(cut + missing <= length, "what follows would be read too");
                }
            }
            Ok(complete) => {
                assert_eq!(Ok(complete), whole);
                break;
            }
            // Too long and malformed may come to the same.
            Err(_) => {
                assert!(whole.is_err());
                break;
            }
        }
    }
});

fn write_again(source: Source) {
    let Source::Proxied {
        client,
        destination,
    } = source
    else {
        return;
    };
    for write in [write_v1, write_v2] {
        let mut header = Vec::new();
        write(&mut header, client, destination);
        let length = header.len();
        assert_eq!(parse(&header), Ok(Parsed::Complete { length, source }));
    }
}
