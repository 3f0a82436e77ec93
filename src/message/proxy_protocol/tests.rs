//! Headers of both versions: what the specification shows, what it forbids, and what no input may do.

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn between(client: &str, destination: &str) -> Source {
    Source::Proxied {
        client: address(client),
        destination: address(destination),
    }
}

/// A header of version 2 with this command, this family and transport, and this behind them.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

const V4_ADDRESSES: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 187];

/// A header of version 2 over IPv4, with extensions.
fn extended(extensions: &[&[u8]]) -> Vec<u8> {
    v2(1, 0x11, &[&V4_ADDRESSES[..], &extensions.concat()].concat())
}

/// `header` with the right checksum in its last four bytes.
fn summed(mut header: Vec<u8>) -> Vec<u8> {
    let at = header.len() - 4;
    let sum = crc32c::checksum([&header[..at], &[0; 4], b""]);
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

/// That `header` says `source`, however much of it there is, and whatever follows.
fn assert_says(header: &[u8], source: Source) {
    let text = header.escape_ascii();
    for cut in 0..header.len() {
        match parse(&header[..cut]) {
            Ok(Parsed::Incomplete(missing)) => {
                assert!(missing > 0 && cut + missing <= header.len(), "{text} {cut}");
            }
            other => panic!("{text} cut at {cut}: {other:?}"),
        }
    }
    let length = header.len();
    for after in [&b""[..], b"\n", b"\r\n", b"GET / HTTP/1.1\r\n", &[0; 5000]] {
        let parsed = parse(&[header, after].concat());
        assert_eq!(parsed, Ok(Parsed::Complete { length, source }), "{text}");
    }
}

#[test]
fn lines_of_version_1_are_read() {
    let v4 = between("192.168.0.1:56324", "192.168.0.11:443");
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let cases = [
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", v4),
        (
            "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            between("255.255.255.255:65535", "0.0.0.0:0"),
        ),
        (
            "PROXY TCP6 2001:DB8::1 :: 1 2\r\n",
            between("[2001:db8::1]:1", "[::]:2"),
        ),
        (
            &format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n"),
            between(&format!("[{longest}]:65535"), &format!("[{longest}]:65535")),
        ),
        // As HAProxy writes a client over IPv4 and a destination over IPv6; the client has one address all the same.
        (
            "PROXY TCP6 ::ffff:192.168.0.1 ::ffff:c0a8:b 56324 443\r\n",
            v4,
        ),
        ("PROXY UNKNOWN\r\n", Source::Unknown),
        ("PROXY UNKNOWN what \0 ever\r\n", Source::Unknown),
        (
            &format!("PROXY UNKNOWN {}\r\n", "f".repeat(91)),
            Source::Unknown,
        ),
    ];
    for (line, source) in cases {
        assert_says(line.as_bytes(), source);
    }
}

#[test]
fn what_is_no_line_of_version_1_is_refused_as_soon_as_it_is_seen() {
    use InvalidHeader::{Line, LineTooLong, Signature, Transport};
    let long = "1".repeat(20);
    let cases = [
        ("G", Signature),
        ("\r\n\r\nG", Signature),
        (" ", Signature),
        ("p", Signature),
        ("PROXY\t", Signature),
        ("PROXY  ", Transport),
        ("PROXY TCP5", Transport),
        ("PROXY TCP4\r", Transport),
        ("PROXY UD", Transport),
        ("PROXY UNKNOWNS", Transport),
        ("PROXY UNKNOWN\n", Transport),
        ("PROXY UNKNOWN \n", Line),
        ("PROXY UNKNOWN\rx", Line),
        ("PROXY TCP4  ", Line),
        ("PROXY TCP4 a", Line),
        ("PROXY TCP4 1.2.3 ", Line),
        ("PROXY TCP4 1.2.3.4.5 ", Line),
        ("PROXY TCP4 1.2.3.256 ", Line),
        ("PROXY TCP4 1.2.3.04 ", Line),
        ("PROXY TCP4 :", Line),
        ("PROXY TCP6 1.2.3.4 ", Line),
        ("PROXY TCP6 ::1%", Line),
        ("PROXY TCP6 [", Line),
        ("PROXY TCP6 1::2::3 ", Line),
        ("PROXY TCP6 :::: ", Line),
        ("PROXY TCP6 00001::1 ", Line),
        (&format!("PROXY TCP4 {}", &long[..16]), Line),
        ("PROXY TCP4 1.2.3.4\t", Line),
        ("PROXY TCP4 1.2.3.4\r", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4  ", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 ", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 ", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 111111", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r", Line),
        (&format!("PROXY UNKNOWN {}", "f".repeat(92)), LineTooLong),
        (&format!("PROXY UNKNOWN {}\r", "f".repeat(92)), LineTooLong),
    ];
    for (line, error) in cases {
        let line = line.as_bytes();
        assert_eq!(parse(line), Err(error), "{}", line.escape_ascii());
        let after = [line, &b"\r\n".repeat(60)].concat();
        assert_eq!(parse(&after), Err(error), "{}", line.escape_ascii());
        if error != LineTooLong {
            let before = parse(&line[..line.len() - 1]);
            assert!(
                matches!(before, Ok(Parsed::Incomplete(_))),
                "{} is refused too late",
                line.escape_ascii()
            );
        }
    }
}

#[test]
fn headers_of_version_2_are_read() {
    let v4 = between("192.0.2.1:56324", "198.51.100.7:443");
    let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let v6 = |client, destination| {
        let ports = [0xdc, 4, 1, 187];
        let addresses = [&ip(client)[..], &ip(destination), &ports].concat();
        v2(1, 0x21, &addresses)
    };
    let noop = [4, 0, 1, 9];
    // As long as a header may be.
    let padding = [&[4, 0x0f, 0xea][..], &[0; 4096 - 12 - 3 - 7]].concat();
    let sum = [3, 0, 4, 0, 0, 0, 0];
    let cases = [
        (extended(&[]), v4),
        (extended(&[&noop, &[0xee, 0, 0], &noop]), v4),
        (summed(extended(&[&noop, &sum])), v4),
        (summed(extended(&[&padding, &sum])), v4),
        (
            v6("2001:db8::1", "2001:db8::2"),
            between("[2001:db8::1]:56324", "[2001:db8::2]:443"),
        ),
        (v6("::ffff:192.0.2.1", "::ffff:198.51.100.7"), v4),
        (v2(0, 0, b""), Source::Own),
        (v2(0, 0xff, b"whatever"), Source::Own),
        (v2(0, 0x11, &V4_ADDRESSES), Source::Own),
        (v2(1, 0, b"whatever"), Source::Unknown),
        (v2(1, 0x10, b""), Source::Unknown),
        (v2(1, 0x01, b""), Source::Unknown),
        (v2(1, 0x12, &V4_ADDRESSES), Source::Unknown),
        (v2(1, 0x22, &[0; 36]), Source::Unknown),
        (v2(1, 0x31, &[b'/'; 216]), Source::Unknown),
        (
            v2(1, 0x32, &[&[b'/'; 216][..], &noop].concat()),
            Source::Unknown,
        ),
    ];
    for (header, source) in cases {
        assert_says(&header, source);
    }
}

#[test]
fn what_is_no_header_of_version_2_is_refused_as_soon_as_it_is_seen() {
    use InvalidHeader::{Command, Family, Signature, TooLong, TooShort, Version};
    let fixed = |version, family, length: u16| {
        let length = length.to_be_bytes();
        [v2::SIGNATURE, &[version, family], &length].concat()
    };
    let cases = [
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Signature),
        (b"\r\n\r\n\0\r\nQUIt".to_vec(), Signature),
        (fixed(0x11, 0, 0)[..13].to_vec(), Version),
        (fixed(0x31, 0, 0)[..13].to_vec(), Version),
        (fixed(0x22, 0, 0)[..13].to_vec(), Command),
        (fixed(0x2f, 0, 0)[..13].to_vec(), Command),
        (fixed(0x21, 0x41, 0)[..14].to_vec(), Family),
        (fixed(0x21, 0x13, 0)[..14].to_vec(), Family),
        (fixed(0x21, 0xff, 0)[..14].to_vec(), Family),
        (fixed(0x21, 0x11, 4097), TooLong),
        (fixed(0x20, 0x00, u16::MAX), TooLong),
        (fixed(0x21, 0x11, 11), TooShort),
        (fixed(0x21, 0x12, 0), TooShort),
        (fixed(0x21, 0x21, 35), TooShort),
        (fixed(0x21, 0x31, 215), TooShort),
    ];
    for (header, error) in cases {
        let text = header.escape_ascii();
        assert_eq!(parse(&header), Err(error), "{text}");
        let after = [&header[..], &[0; 5000]].concat();
        assert_eq!(parse(&after), Err(error), "{text}");
        let before = parse(&header[..header.len() - 1]);
        assert!(matches!(before, Ok(Parsed::Incomplete(_))), "{text}");
    }
}

#[test]
fn malformed_extensions_are_refused() {
    use InvalidHeader::{Checksum, Extension};
    let sum = [3, 0, 4, 0, 0, 0, 0];
    let mut right = summed(extended(&[&sum]));
    let cases = [
        (extended(&[&[4]]), Extension),
        (extended(&[&[4, 0]]), Extension),
        (extended(&[&[4, 0, 1]]), Extension),
        (extended(&[&[4, 0, 0, 4, 0xff, 0xff]]), Extension),
        (extended(&[&[3, 0, 3, 0, 0, 0]]), Extension),
        (extended(&[&[3, 0, 5, 0, 0, 0, 0, 0]]), Extension),
        (summed(extended(&[&sum, &sum])), Extension),
        (v2(1, 0x31, &[&[0; 216][..], &[4]].concat()), Extension),
        (extended(&[&sum]), Checksum),
        (
            {
                right[16] ^= 1;
                right
            },
            Checksum,
        ),
    ];
    for (header, error) in cases {
        assert_eq!(parse(&header), Err(error), "{}", header.escape_ascii());
    }
}

#[test]
fn headers_are_written_as_the_specification_shows() {
    let line = |client, destination| {
        let mut out = b"before ".to_vec();
        write_v1(&mut out, address(client), address(destination));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        line("192.0.2.1:56324", "198.51.100.7:443"),
        "before PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
    );
    assert_eq!(
        line("[::ffff:192.0.2.1]:56324", "198.51.100.7:443"),
        "before PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
    );
    assert_eq!(
        line("[2001:db8::1%3]:1", "[::1]:2"),
        "before PROXY TCP6 2001:db8::1 ::1 1 2\r\n"
    );
    assert_eq!(
        line("192.0.2.1:1", "[2001:db8::1]:2"),
        "before PROXY TCP6 ::ffff:c000:201 2001:db8::1 1 2\r\n"
    );
    let mut out = Vec::new();
    write_v2(
        &mut out,
        address("192.0.2.1:56324"),
        address("198.51.100.7:443"),
    );
    assert_eq!(out, extended(&[]));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let mapped = any::<std::net::Ipv4Addr>().prop_map(|ip| IpAddr::V6(ip.to_ipv6_mapped()));
    let ip = prop_oneof![any::<IpAddr>(), mapped];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn what_is_written_is_read(client in any_address(), destination in any_address()) {
        for write in [write_v1, write_v2] {
            let mut header = Vec::new();
            write(&mut header, client, destination);
            let source = proxied([client, destination]);
            assert_says(&header, source);
        }
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic_or_wait_for_too_much(
        client in any_address(),
        destination in any_address(),
        byte in any::<u8>(),
    ) {
        let mut headers = vec![summed(extended(&[&[4, 0, 1, 9], &[3, 0, 4, 0, 0, 0, 0]]))];
        for write in [write_v1, write_v2] {
            let mut header = Vec::new();
            write(&mut header, client, destination);
            headers.push(header);
        }
        for header in headers {
            for at in 0..header.len() {
                let mut header = header.clone();
                header[at] = byte;
                if let Ok(Parsed::Incomplete(missing)) = parse(&header) {
                    prop_assert!(missing > 0 && header.len() + missing <= MAX_LENGTH);
                }
            }
        }
    }

    #[test]
    fn a_verdict_stands_whatever_follows(
        start in prop::sample::select(vec![v1::SIGNATURE, b"PROXY TCP4 ", v2::SIGNATURE, b""]),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let input = [start, &rest].concat();
        let whole = parse(&input);
        for cut in 0..input.len() {
            match parse(&input[..cut]) {
                Ok(Parsed::Incomplete(missing)) => {
                    if let Ok(Parsed::Complete { length, .. }) = whole {
                        prop_assert!(cut + missing <= length);
                    }
                }
                decided => prop_assert_eq!(decided, whole),
            }
        }
    }
}

#[test]
fn the_headers_that_tell_of_nobody_do() {
    for (header, source) in [
        (super::UNKNOWN, Source::Unknown),
        (super::LOCAL, Source::Own),
    ] {
        let length = header.len();
        assert_eq!(parse(header), Ok(Parsed::Complete { length, source }));
    }
}
