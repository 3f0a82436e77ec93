use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn an_address_is_written_as_usual() {
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "10.20.3.100",
        "2001:db8::1",
    ] {
        let (text, length) = text_of(address.parse().unwrap());
        assert_eq!(&text[..length], address.as_bytes());
    }
    let longest = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
    assert_eq!(text_of(longest).1, 39);
}

fn trusted() -> TrustedProxies {
    TrustedProxies::new(vec![
        "10.0.0.0/8".parse().unwrap(),
        "fd00::/8".parse().unwrap(),
    ])
}

fn client_of(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
    let trusted = trusted();
    Hop::new(peer.parse().unwrap(), &trusted, false)
        .client(&headers(lines), &trusted)
        .to_string()
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_says() {
    assert_eq!(
        client_of("192.0.2.1:5", &[("x-forwarded-for", "198.51.100.7")]),
        "192.0.2.1"
    );
}

#[test]
fn trusted_hops_are_walked_from_the_right() {
    let cases: &[(&[(&'static str, &'static str)], &str)] = &[
        (&[], "10.0.0.1"),
        (&[("x-forwarded-for", "198.51.100.7")], "198.51.100.7"),
        (
            &[("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.2.3.4")],
            "198.51.100.7",
        ),
        (
            &[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-for", "10.2.3.4"),
            ],
            "198.51.100.7",
        ),
        (
            &[("x-forwarded-for", "198.51.100.7, nonsense, 10.2.3.4")],
            "10.2.3.4",
        ),
        (&[("x-forwarded-for", "198.51.100.7, , ")], "198.51.100.7"),
        (&[("forwarded", "for=198.51.100.7,, ")], "198.51.100.7"),
        (&[("x-forwarded-for", "10.9.9.9")], "10.9.9.9"),
        (&[("x-forwarded-for", "198.51.100.7:4711")], "198.51.100.7"),
        (
            &[(
                "forwarded",
                "for=198.51.100.7;proto=https, for=\"[fd00::1]:80\"",
            )],
            "198.51.100.7",
        ),
        (
            &[("forwarded", "For=\"[2001:db8::1]:4711\"")],
            "2001:db8::1",
        ),
    ];
    for (lines, client) in cases {
        assert_eq!(client_of("10.0.0.1:5", lines), *client, "{lines:?}");
    }
}

/// What a trusted proxy has appended counts, whatever is before it.
#[test]
fn what_cannot_be_read_ends_the_walk() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("x-forwarded-for", b"\xff, 203.0.113.5", "203.0.113.5"),
        ("x-forwarded-for", b"1.1.1.1, \xff, 10.2.3.4", "10.2.3.4"),
        ("x-forwarded-for", b"203.0.113.5\xff", "10.0.0.1"),
        ("forwarded", b"\xff, for=203.0.113.5", "203.0.113.5"),
        ("forwarded", b"for=1.1.1.1, \xff, for=10.2.3.4", "10.2.3.4"),
        ("forwarded", b"for=\xff", "10.0.0.1"),
    ];
    for (name, value, client) in cases {
        let mut headers = HeaderMap::new();
        headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        let trusted = trusted();
        let hop = Hop::new("10.0.0.1:5".parse().unwrap(), &trusted, false);
        let shown = String::from_utf8_lossy(value);
        assert_eq!(
            hop.client(&headers, &trusted).to_string(),
            *client,
            "{shown}"
        );
    }
}

#[test]
fn commas_and_semicolons_within_quotes_are_no_separators() {
    for (line, client) in [
        (
            r#"for=203.0.113.5;proto=http;host="x,for=9.9.9.9""#,
            "203.0.113.5",
        ),
        (r#"host="x;for=9.9.9.9";for=203.0.113.5"#, "203.0.113.5"),
        (r#"host="x\",for=9.9.9.9";for=203.0.113.5"#, "203.0.113.5"),
        (r#"host="x\";for=9.9.9.9";for=203.0.113.5"#, "203.0.113.5"),
        (r#"host="x\\";for=203.0.113.5"#, "203.0.113.5"),
        (r#"host="x=\"";for=203.0.113.5"#, "203.0.113.5"),
        (
            r#"for=203.0.113.5;host="x\\", for=10.2.3.4;host="a,b""#,
            "203.0.113.5",
        ),
        (
            r#"for="203.0.113.5:80";host="", for="[fd00::1]""#,
            "203.0.113.5",
        ),
        // The first one counts.
        ("for=203.0.113.5;for=9.9.9.9", "203.0.113.5"),
        ("by=9.9.9.9 ; For=203.0.113.5", "203.0.113.5"),
        ("secret;for=203.0.113.5", "203.0.113.5"),
        (r#"for="203.0.113.5"#, "10.0.0.1"),
        (r#"for=203.0.113.5""#, "10.0.0.1"),
        (r#"for=""203.0.113.5"""#, "10.0.0.1"),
        ("for=unknown, for=10.2.3.4", "10.2.3.4"),
        ("for=_hidden, for=10.2.3.4", "10.2.3.4"),
        ("for=9.9.9.9, host=a, for=10.2.3.4", "10.2.3.4"),
    ] {
        assert_eq!(
            client_of("10.0.0.1:5", &[("forwarded", line)]),
            client,
            "{line}"
        );
    }
}

#[test]
fn a_quote_that_does_not_end_hides_nothing_behind_it() {
    for before in [
        r#"for=""#,
        r#"for="\"#,
        r#"for=9.9.9.9;host=""#,
        r#"for=9.9.9.9;host="\"#,
        r#"for=9.9.9.9, for=""#,
        r#"""#,
        r#"\"#,
    ] {
        for member in [
            "for=203.0.113.5",
            r#"for="203.0.113.5:80""#,
            r#"for=203.0.113.5;proto=http;host="a.example""#,
            r#"for=203.0.113.5;host="a,for=9.9.9.9""#,
            r#"for=203.0.113.5;host="a\"b""#,
            r#"host=";for=9.9.9.9;a=\"b";for=203.0.113.5"#,
            r#"host="\",for=9.9.9.9;a=";for=203.0.113.5"#,
        ] {
            let line = format!("{before}, {member}");
            let hop = Hop::new("10.0.0.1:5".parse().unwrap(), &trusted(), false);
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED, HeaderValue::from_str(&line).unwrap());
            let client = hop.client(&headers, &trusted());
            assert_eq!(client.to_string(), "203.0.113.5", "{line}");
        }
        // Who was believed no more before is not believed because of it.
        let line = format!("{before}, for=10.2.3.4");
        let hop = Hop::new("10.0.0.1:5".parse().unwrap(), &trusted(), false);
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED, HeaderValue::from_str(&line).unwrap());
        assert_eq!(
            hop.client(&headers, &trusted()).to_string(),
            "10.2.3.4",
            "{line}"
        );
    }
}

/// The forwarding fields that a server gets of what `peer` sent, in lines.
fn sent(peer: &str, lines: &[(&'static str, &'static str)], host: Option<&str>) -> Vec<String> {
    let hop = Hop::new(peer.parse().unwrap(), &trusted(), false);
    let fields = headers(lines);
    let mut out = Vec::new();
    let mut head = RequestHead::begin(&mut out, &http::Method::GET, ["/", ""]);
    for (name, value) in fields.iter().filter(|(name, _)| !hop.replaces(name)) {
        head.field(name, value);
    }
    let host = host.map(|host| HeaderValue::from_str(host).unwrap());
    hop.write(&mut head, &fields, host.as_ref(), |_| false);
    let text = String::from_utf8(out).unwrap();
    let mut lines: Vec<_> = text.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn an_untrusted_peers_fields_are_replaced() {
    let evil = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
    ];
    assert_eq!(
        sent("[2001:db8::1]:5", &evil, Some("a:80")),
        [
            "forwarded: for=\"[2001:db8::1]\";proto=http;host=\"a:80\"",
            "x-forwarded-for: 2001:db8::1",
            "x-forwarded-host: a:80",
            "x-forwarded-proto: http",
        ]
    );
}

#[test]
fn a_host_that_would_need_escapes_stays_out_of_forwarded() {
    assert_eq!(
        sent("192.0.2.1:5", &[], Some("a\"b")),
        [
            "forwarded: for=192.0.2.1;proto=http",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: a\"b",
            "x-forwarded-proto: http",
        ]
    );
}

#[test]
fn a_trusted_peers_fields_are_continued() {
    let outer = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
    ];
    assert_eq!(
        sent("10.0.0.1:5", &outer, None),
        [
            "forwarded: for=1.1.1.1, for=10.0.0.1;proto=http",
            "x-forwarded-for: 1.1.1.1, 10.0.0.1",
            "x-forwarded-host: outer",
            "x-forwarded-proto: https",
            "x-real-ip: 1.1.1.1",
        ]
    );
}

#[test]
fn a_trusted_peer_is_continued_in_the_form_that_it_speaks() {
    let x = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(
        sent("10.0.0.1:5", &x, None),
        [
            "x-forwarded-for: 1.1.1.1, 10.0.0.1",
            "x-forwarded-proto: https"
        ]
    );
    let standard = [("forwarded", "for=1.1.1.1;proto=https")];
    assert_eq!(
        sent("10.0.0.1:5", &standard, None),
        ["forwarded: for=1.1.1.1;proto=https, for=10.0.0.1;proto=http"]
    );
}

#[test]
fn only_a_trusted_peer_may_tell_of_earlier_hops_and_nobody_of_proxies_to_use() {
    let replaces = |peer: &str, name| {
        let hop = Hop::new(peer.parse().unwrap(), &trusted(), false);
        hop.replaces(&HeaderName::from_static(name))
    };
    let (trusted, other) = ("10.0.0.1:5", "192.0.2.1:5");
    for name in [
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-forwarded-scheme",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-forwarded-uri",
        "x-forwarded-method",
        "x-forwarded-by",
        "x-forwarded-",
        "x-real-ip",
        "front-end-https",
        "x-original-url",
        "x-rewrite-url",
        "client-cert",
        "client-cert-chain",
        "x-client-cert-subject",
    ] {
        assert!(replaces(other, name) && !replaces(trusted, name), "{name}");
    }
    for name in ["forwarded", "x-forwarded-for", "proxy"] {
        assert!(replaces(other, name) && replaces(trusted, name), "{name}");
    }
    for name in [
        "from",
        "proxy-status",
        "x-forwarded",
        "x-original",
        "cookie",
        "f",
        "x",
    ] {
        assert!(!replaces(other, name) && !replaces(trusted, name), "{name}");
    }
}

#[test]
fn nothing_is_believed_of_somebody_whom_a_trusted_peer_does_not_name() {
    let trusted = trusted();
    let mut hop = Hop::new("10.0.0.1:5".parse().unwrap(), &trusted, false);
    let claim = headers(&[("x-forwarded-for", "198.51.100.7")]);
    assert_eq!(hop.client(&claim, &trusted).to_string(), "198.51.100.7");
    hop.distrust();
    assert_eq!(hop.client(&claim, &trusted), hop.peer());
    assert!(!hop.is_trusted() && hop.replaces(&X_FORWARDED_PROTO));
}
