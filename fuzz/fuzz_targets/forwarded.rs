//! Forwarding fields, in the head of a request: whom they are believed from, and what a server gets of them.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use http::header::HOST;
use libfuzzer_sys::fuzz_target;
use loadbalancer::message::forwarded::{Hop, TrustedProxies};
use loadbalancer::message::h1::{RequestHead, Scan, read_request};

fuzz_target!(|input: &[u8]| {
    let mut buffer = BytesMut::from(input);
    let Ok(Some(request)) = read_request::read(&mut Scan::default(), &mut buffer) else {
        return;
    };
    let fields = &request.head.headers;
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
    let trusted = TrustedProxies::new(networks.into());
    for (peer, believed) in [
        ("192.0.2.1:1", false),
        ("10.0.0.1:1", true),
        ("[fd00::1]:1", true),
        ("[2001:db8::1]:1", false),
    ] {
        let peer: SocketAddr = peer.parse().expect("an address");
        let hop = Hop::new(peer, &trusted, false);
        let client = hop.client(fields, &trusted);
        assert!(
            believed || client == peer.ip(),
            "an untrusted peer chose its address"
        );

        let mut text = Vec::new();
        let mut head = RequestHead::begin(&mut text, &request.head.method, ["/", ""]);
        hop.write(&mut head, fields, fields.get(HOST), |_| false);
        head.end();
        let mut written = BytesMut::from(&text[..]);
        let sent = read_request::read(&mut Scan::default(), &mut written);
        let sent = sent.expect("it is valid").expect("it is complete").head;
        assert!(written.is_empty(), "a value broke out of its line");
        let list = sent
            .headers
            .get("x-forwarded-for")
            .or(sent.headers.get("forwarded"));
        let list = list.expect("one of them is always sent");
        let last = String::from_utf8_lossy(list.as_bytes());
        let last = last.rsplit(',').next().unwrap_or_default();
        assert!(
            last.contains(&peer.ip().to_string()),
            "{last:?} is not about {peer}"
        );
        if !believed {
            let again = Hop::new(SocketAddr::from(([10, 0, 0, 2], 1)), &trusted, false);
            let seen: IpAddr = again.client(&sent.headers, &trusted);
            assert_eq!(seen, peer.ip(), "the next proxy sees another client");
        }
    }
});
