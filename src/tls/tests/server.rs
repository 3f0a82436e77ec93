//! What a listener's TLS does in handshakes.

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::HandshakeKind::{Full, FullWithHelloRetryRequest, Resumed};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use super::provider::provider;
use super::*;

/// A client that trusts `authority` and speaks only this version.
fn only(
    version: &'static rustls::SupportedProtocolVersion,
    authority: &Authority,
) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&authority.pem())).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn the_name_chooses_the_certificate() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let pairs = [
        authority.sign(&["first.example"]),
        authority.sign(&["*.wild.example", "Exact.Example"]),
        authority.sign(&["a.wild.example"]),
    ];
    let files = pairs.iter().enumerate();
    let files = files.map(|(index, pair)| dir.certificate(&index.to_string(), pair));
    let server = ServerTls::load(settings(files.collect())).unwrap();
    // What is shown is of interest, not whether it verifies.
    let client = ClientTls::load(ClientSettings {
        ca: None,
        insecure_skip_verify: true,
        ..trusting(Path::new(""))
    })
    .unwrap();
    for (name, expected) in [
        ("first.example", 0),
        ("exact.example", 1),
        ("EXACT.example", 1),
        ("b.wild.example", 1),
        ("a.wild.example", 2),
        ("x.b.wild.example", 0),
        ("wild.example", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0),
    ] {
        let connected = connect(client.current(), server.current(), name).unwrap();
        assert_eq!(connected.shown(), der(&pairs[expected].cert), "{name}");
    }
}

#[test]
fn of_two_kinds_of_key_a_client_gets_the_one_it_can_use() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let first = authority.sign_with(&["a.example"], &ed25519, |_| {});
    let second = authority.sign(&["a.example"]);
    let files = vec![
        dir.certificate("ed", &first),
        dir.certificate("ec", &second),
    ];
    let server = ServerTls::load(settings(files)).unwrap();
    let client = client_of(&dir, &authority);
    let connected = connect(client.current(), server.current(), "a.example").unwrap();
    assert_eq!(connected.shown(), der(&first.cert));

    // A client that has never heard of Ed25519.
    let mut old = (*provider()).clone();
    let schemes = old.signature_verification_algorithms;
    let known: Vec<_> = schemes
        .mapping
        .iter()
        .copied()
        .filter(|(scheme, _)| *scheme != rustls::SignatureScheme::ED25519)
        .collect();
    old.signature_verification_algorithms.mapping = known.leak();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&authority.pem())).unwrap();
    let old = ClientConfig::builder_with_provider(Arc::new(old))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connected = connect(Arc::new(old), server.current(), "a.example").unwrap();
    assert_eq!(connected.shown(), der(&second.cert));
}

#[test]
fn versions_suites_groups_and_protocols() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let files = vec![dir.certificate("a", &authority.sign(&["a.example"]))];
    let server = ServerTls::load(settings(files.clone())).unwrap();
    let client = client_of(&dir, &authority);
    let connected = connect(client.current(), server.current(), "a.example").unwrap();
    let server_side = &connected.server;
    assert_eq!(
        server_side.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(
        server_side.negotiated_cipher_suite().unwrap().suite(),
        CipherSuite::TLS13_AES_128_GCM_SHA256
    );
    assert_eq!(
        server_side.negotiated_key_exchange_group().unwrap().name(),
        NamedGroup::X25519MLKEM768
    );
    assert_eq!(server_side.alpn_protocol(), Some(&b"h2"[..]));
    assert!(connect(only(&TLS12, &authority), server.current(), "a.example").is_ok());

    let strict = ServerTls::load(ServerSettings {
        min_version: MinVersion::Tls13,
        alpn: Alpn::Http1,
        ..settings(files)
    })
    .unwrap();
    assert!(connect(only(&TLS12, &authority), strict.current(), "a.example").is_err());
    let connected = connect(client.current(), strict.current(), "a.example").unwrap();
    assert_eq!(connected.server.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn sessions_are_resumed_by_tickets_or_not_at_all() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let files = vec![dir.certificate("a", &authority.sign(&["a.example"]))];
    for session_tickets in [true, false] {
        let server = ServerTls::load(ServerSettings {
            session_tickets,
            ..settings(files.clone())
        })
        .unwrap();
        for version in [&TLS12, &TLS13] {
            let client = only(version, &authority);
            let kinds = [(); 2].map(|()| {
                let client = Arc::clone(&client);
                let connected = connect(client, server.current(), "a.example").unwrap();
                connected.server.handshake_kind().unwrap()
            });
            assert!(matches!(kinds[0], Full | FullWithHelloRetryRequest));
            assert_eq!(kinds[1] == Resumed, session_tickets, "{version:?}");
        }
    }
}

#[test]
fn every_kind_of_key_is_taken() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let client = client_of(&dir, &authority);
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pair = authority.sign_with(&["a.example"], &key, |_| {});
        let server = ServerTls::load(settings(vec![dir.certificate("a", &pair)])).unwrap();
        connect(client.current(), server.current(), "a.example").unwrap();
    }
}

#[test]
fn client_certificates() {
    let (dir, authority, other) = (Dir::new(), Authority::new("CA"), Authority::new("Other"));
    let files = vec![dir.certificate("a", &authority.sign(&["a.example"]))];
    let ca = dir.save("clients.crt", authority.pem());
    let anonymous = client_of(&dir, &authority);
    let known = authority.sign(&["client.example"]);
    let with = |name: &str, pair: &Pair| {
        ClientTls::load(ClientSettings {
            certificate: Some(dir.certificate(name, pair)),
            ..trusting(&ca)
        })
        .unwrap()
    };
    let stranger = with("stranger", &other.sign(&["client.example"]));
    let client = with("client", &known);
    for (auth, without_is_fine) in [
        (ClientAuth::Optional(ca.clone()), true),
        (ClientAuth::Required(ca.clone()), false),
    ] {
        let server = ServerTls::load(ServerSettings {
            client_auth: auth,
            ..settings(files.clone())
        })
        .unwrap();
        let connected = connect(client.current(), server.current(), "a.example").unwrap();
        let shown = connected.server.peer_certificates().unwrap();
        assert_eq!(shown[0], der(&known.cert));
        assert!(connect(stranger.current(), server.current(), "a.example").is_err());
        let without = connect(anonymous.current(), server.current(), "a.example");
        assert_eq!(without.is_ok(), without_is_fine);
    }
    let server = ServerTls::load(settings(files)).unwrap();
    let connected = connect(client.current(), server.current(), "a.example").unwrap();
    assert!(connected.server.peer_certificates().is_none());
}

#[test]
fn an_ocsp_response_is_stapled() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let response = [&[0x30, 0x81, 0x80, 0x0a, 1, 0][..], &[0; 125]].concat();
    let files = CertificateFiles {
        ocsp: Some(dir.save("a.ocsp", &response)),
        ..dir.certificate("a", &authority.sign(&["a.example"]))
    };
    let server = ServerTls::load(settings(vec![files])).unwrap();
    let seen = Arc::new(Stapled::default());
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as _)
        .with_no_client_auth();
    connect(Arc::new(config), server.current(), "a.example").unwrap();
    assert_eq!(*seen.0.lock().unwrap(), response);
}

/// Takes any certificate, and keeps the OCSP response that comes with it.
#[derive(Debug, Default)]
struct Stapled(std::sync::Mutex<Vec<u8>>);

impl rustls::client::danger::ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        response: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = response.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
