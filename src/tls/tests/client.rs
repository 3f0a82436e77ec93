//! What TLS towards servers does in handshakes.

use super::*;

/// A server of `authority` for `a.example`.
fn server(dir: &Dir, authority: &Authority) -> ServerTls {
    let files = vec![dir.certificate("server", &authority.sign(&["a.example", "127.0.0.1"]))];
    ServerTls::load(settings(files)).unwrap()
}

#[test]
fn servers_must_be_of_the_authority_and_of_the_name() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let server = server(&dir, &authority);
    let client = client_of(&dir, &authority);
    for (name, is_fine) in [
        ("a.example", true),
        ("127.0.0.1", true),
        ("b.example", false),
    ] {
        let connected = connect(client.current(), server.current(), name);
        assert_eq!(connected.is_ok(), is_fine, "{name}");
    }
    let stranger = client_of(&dir, &Authority::new("Other"));
    let error = connect(stranger.current(), server.current(), "a.example").err();
    let error = error.unwrap().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    // Without a file it is the system that says whom to trust, and it has never heard of this authority.
    let system = ClientTls::load(ClientSettings {
        ca: None,
        ..trusting(Path::new(""))
    });
    if let Ok(system) = system {
        assert!(connect(system.current(), server.current(), "a.example").is_err());
    }
}

#[test]
fn nothing_is_verified_only_when_that_is_wished_and_warned_of() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let server = server(&dir, &authority);
    let client = ClientTls::load(ClientSettings {
        ca: None,
        insecure_skip_verify: true,
        ..trusting(Path::new(""))
    })
    .unwrap();
    assert!(connect(client.current(), server.current(), "other.example").is_ok());
    assert!(client.warnings()[0].starts_with("insecure_skip_verify: "));
    assert!(client_of(&dir, &authority).warnings().is_empty());
}

#[test]
fn the_name_is_the_hosts_unless_one_is_set() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let client = client_of(&dir, &authority);
    for (host, name) in [
        ("a.example", "a.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(client.server_name(host).unwrap().to_str(), name);
    }
    let error = client.server_name("a b").unwrap_err().to_string();
    assert!(error.contains("\"a b\" is neither a host name"), "{error}");

    let settings = ClientSettings {
        server_name: Some("set.example".to_owned()),
        ..trusting(&dir.path("client-ca.crt"))
    };
    let client = ClientTls::load(settings.clone()).unwrap();
    assert_eq!(
        client.server_name("192.0.2.7").unwrap().to_str(),
        "set.example"
    );
    let wrong = ClientTls::load(ClientSettings {
        server_name: Some(String::new()),
        ..settings
    });
    assert!(wrong.is_err());
}

#[test]
fn protocols_are_offered() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let server = server(&dir, &authority);
    let ca = dir.save("ca.crt", authority.pem());
    for (alpn, chosen) in [
        (Alpn::Http1, "http/1.1"),
        (Alpn::Http2, "h2"),
        (Alpn::Http2OrHttp1, "h2"),
    ] {
        let client = ClientTls::load(ClientSettings {
            alpn,
            ..trusting(&ca)
        })
        .unwrap();
        let connected = connect(client.current(), server.current(), "a.example").unwrap();
        assert_eq!(connected.client.alpn_protocol(), Some(chosen.as_bytes()));
    }
}
