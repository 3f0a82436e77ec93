//! Whether a text is a host with or without a port, as in Host and in a target (RFC 9110, section 7.2).

use std::net::Ipv6Addr;

/// Whether `text` is a name, an IPv4 address, or an IPv6 address in brackets, with or without a port.
///
/// It is stricter than RFC 3986, which lets a name hold escapes and punctuation: no name in use has any, one server takes
/// `%61` for `a` and another does not, and a comma would make a list of the fields in which a host is passed on. Labels
/// are not empty, but for the one behind a final dot. A name has at most 255 bytes (RFC 1035, section 2.3.4): rules are not
/// asked about longer ones. A port may be empty, as RFC 3986 says, and is at most 65535.
pub fn is_valid(text: &[u8]) -> bool {
    if let [b'[', rest @ ..] = text {
        return rest.iter().position(|b| *b == b']').is_some_and(|end| {
            is_ipv6(&rest[..end]) && (rest.len() == end + 1 || is_port(&rest[end + 1..]))
        });
    }
    let mut label = 0;
    for (place, byte) in text.iter().enumerate() {
        if IN_LABEL[usize::from(*byte)] {
            continue;
        }
        let is_empty = place == label;
        match byte {
            b'.' if !is_empty => label = place + 1,
            b':' if place > 0 => return place <= LONGEST && is_port(&text[place..]),
            _ => return false,
        }
    }
    (1..=LONGEST).contains(&text.len())
}

/// Of the longest name, in bytes.
const LONGEST: usize = 255;

/// What a label is made of.
const IN_LABEL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric() || matches!(character, b'-' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// A colon, and digits.
fn is_port(text: &[u8]) -> bool {
    let [b':', digits @ ..] = text else {
        return false;
    };
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some(number * 10 + digit).filter(|number| *number <= u32::from(u16::MAX))
    });
    number.is_some()
}

fn is_ipv6(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text);
    text.is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        for host in [
            "a",
            "Example.COM",
            "example.com.",
            "xn--bcher-kva.example",
            "_dmarc.a-b.example",
            "192.0.2.1",
            "[::1]",
            "[2001:DB8:0:0:0:0:0:1]:8080",
            "[::ffff:192.0.2.1]",
            "a:0",
            "a:65535",
            "a:00080",
            "a:",
            "[::1]:",
        ] {
            assert!(is_valid(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_name_has_255_bytes_and_a_port_is_no_part_of_it() {
        for end in ["", ":", ":80", ":00000000000080"] {
            for (length, valid) in [(254, true), (255, true), (256, false), (3000, false)] {
                let host = "a.".repeat(length / 2) + &"b"[..length % 2] + end;
                assert_eq!(is_valid(host.as_bytes()), valid, "{length} {end}");
            }
        }
        assert!(is_valid(
            b"[1111:2222:3333:4444:5555:6666:123.123.123.123]:65535"
        ));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ".",
            ".a",
            "a..b",
            "a..",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:-1",
            "a:+1",
            "a: 80",
            "a:0x50",
            "a:99999999999",
            "a b",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "a,b",
            "a%41",
            "a\tb",
            "a\0",
            "\u{fc}.example",
            "[::1",
            "::1]",
            "::1",
            "[::1]80",
            "[::1]a",
            "[]",
            "[:::]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[[::1]]",
            "[v1.x]",
            "http://a",
            "a;b",
            "a'b",
            "a\"b",
            "<a>",
        ] {
            assert!(!is_valid(host.as_bytes()), "{host}");
        }
    }
}
