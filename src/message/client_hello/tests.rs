//! Hellos whole and in pieces, of real clients and of nobody.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What a real client says first.
fn spoken(name: &str, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A message in records of at most `length` bytes.
fn records(message: &[u8], length: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, 3, 1][..], &length, part].concat()
    };
    message.chunks(length).flat_map(record).collect()
}

/// A message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length, bytes].concat()
    };
    let suites = sized(&[0x13, 1]);
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &suites,
        &[1, 0],
        &sized(extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO][..], &length[1..], &body].concat()
}

/// The extension that asks for these names of this kind.
fn names(kind: u8, names: &[&[u8]]) -> Vec<u8> {
    let entry = |name: &&[u8]| {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, name].concat()
    };
    let list: Vec<u8> = names.iter().flat_map(entry).collect();
    let length = |add: usize| u16::try_from(list.len() + add).unwrap().to_be_bytes();
    [&[0, 0][..], &length(2), &length(0), &list].concat()
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, Invalid> {
    Incoming::default().read(bytes)
}

#[test]
fn a_clients_hello_tells_its_name_and_protocols_however_it_is_cut() {
    let whole = spoken("A.Example", &["h2", "http/1.1"]);
    let expected = ClientHello {
        name: Some("a.example".to_owned()),
        protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    assert_eq!(read(&whole), Ok(Some(expected.clone())));
    let message = &whole[RECORD_HEADER..];
    for length in [1, 3, 100, 10_000] {
        let bytes = records(message, length);
        let mut incoming = Incoming::default();
        for (index, byte) in bytes.iter().enumerate() {
            let read = incoming.read(&[*byte]).unwrap();
            assert_eq!(
                read.is_some(),
                index == bytes.len() - 1,
                "{length}: {index}"
            );
            assert!(read.is_none_or(|hello| hello == expected));
        }
        assert_eq!(incoming.into_bytes(), bytes);
    }
}

#[test]
fn what_comes_behind_a_hello_is_kept() {
    let bytes = [spoken("a.example", &[]), b"early".to_vec()].concat();
    let mut incoming = Incoming::default();
    assert!(incoming.read(&bytes).unwrap().is_some());
    assert_eq!(incoming.bytes(), bytes);
}

#[test]
fn an_address_is_no_name() {
    let hello = read(&spoken("192.0.2.1", &[])).unwrap().unwrap();
    assert_eq!(hello, ClientHello::default());
}

#[test]
fn what_is_not_tls_is_known_by_its_first_bytes() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"G",
        b"SSH-2.0",
        b"\x16\x02",
        b"\x80\x2e\x01",
        b"\x15\x03\x03",
    ] {
        assert_eq!(read(bytes), Err(Invalid::NotTls), "{bytes:?}");
    }
    let empty = [HANDSHAKE, 3, 1, 0, 0];
    assert_eq!(read(&empty), Err(Invalid::NotTls));
    assert_eq!(
        read(&[HANDSHAKE, 3, 1, 0x40, 1]),
        Err(Invalid::NotTls),
        "too long a record"
    );
    let mut message = message(&[]);
    message[0] = 2;
    assert_eq!(
        read(&records(&message, 1000)),
        Err(Invalid::Malformed),
        "a server's"
    );
}

#[test]
fn a_hello_may_say_nothing_and_must_not_contradict_itself() {
    let of = |extensions: &[u8]| read(&records(&message(extensions), 1000));
    let nothing = Ok(Some(ClientHello::default()));
    assert_eq!(of(&[]), nothing);
    assert_eq!(of(&names(1, &[b"a.example"])), nothing, "no name of a host");
    assert_eq!(of(&names(0, &[b"\xff"])), nothing);
    assert_eq!(of(&names(0, &[b"a b"])), nothing);
    assert_eq!(of(&names(0, &[b""])), nothing);
    assert_eq!(of(&names(0, &[&[b'a'; 300]])), nothing);
    let named = of(&names(0, &[b"a.example."])).unwrap().unwrap();
    assert_eq!(named.name.as_deref(), Some("a.example"));
    assert_eq!(of(&names(0, &[b"a", b"b"])), Err(Invalid::Malformed));
    let twice = [names(0, &[b"a"]), names(0, &[b"b"])].concat();
    assert_eq!(of(&twice), Err(Invalid::Malformed));
    for cut in [
        &[0, 0][..],
        &[0, 0, 0, 9, 1],
        &[0, 16, 0, 3, 0, 1, 0],
        &[0, 16, 0, 0],
    ] {
        assert_eq!(of(cut), Err(Invalid::Malformed), "{cut:?}");
    }
}

#[test]
fn a_hello_of_64_kib_is_read_and_no_longer_one() {
    let padding = |length: usize| {
        let of = |length: usize| {
            [
                &[0, 21][..],
                &u16::try_from(length).unwrap().to_be_bytes(),
                &vec![0; length],
            ]
            .concat()
        };
        [
            names(0, &[b"long.example"]),
            of(length / 2),
            of(length - length / 2),
        ]
        .concat()
    };
    let hello = read(&records(&message(&padding(65_300)), RECORD_MAX)).unwrap();
    assert_eq!(hello.unwrap().name.as_deref(), Some("long.example"));
    let mut claimed = message(&padding(1000));
    claimed[1] = 1;
    assert_eq!(
        read(&records(&claimed, 1000)),
        Err(Invalid::TooLong),
        "it would be"
    );
    let many = records(&message(&padding(30_000)), 1);
    assert_eq!(read(&many), Err(Invalid::TooLong));
}

proptest! {
    #[test]
    fn it_does_not_matter_how_bytes_are_cut(
        changes in proptest::collection::vec((0_usize..600, any::<u8>()), 0..4),
        record in 1_usize..600,
        piece in 1_usize..100,
    ) {
        let whole = spoken("a.example", &["h2"]);
        let mut bytes = records(&whole[RECORD_HEADER..], record);
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        let expected = read(&bytes);
        let mut incoming = Incoming::default();
        let mut read = bytes.chunks(piece).map(|part| incoming.read(part));
        let found = read.find(|read| *read != Ok(None)).unwrap_or(Ok(None));
        prop_assert_eq!(found, expected);
    }
}
