//! What certificates of clients are called in header fields.

use rcgen::{DnValue, SanType};

use super::*;

/// The fields for a certificate that `change` has made.
fn fields(change: impl FnOnce(&mut CertificateParams)) -> Vec<(String, String)> {
    let key = KeyPair::generate().unwrap();
    let pair = Authority::new("CA").sign_with(&[], &key, change);
    let identity = identity(&[der(&pair.cert)]).unwrap();
    let fields = identity.fields().iter();
    fields
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}

fn field(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Option<String> {
    let fields = fields(change);
    let found = fields.into_iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value)
}

#[test]
fn all_fields_are_those_that_clients_may_not_send() {
    let fields = fields(|params| {
        params.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())];
    });
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "client-cert",
            "x-client-cert-subject",
            "x-client-cert-san",
            "x-client-cert-fingerprint"
        ]
    );
    for name in names {
        assert!(IDENTITY_FIELDS.iter().any(|it| it == name), "{name}");
    }
    assert!(identity(&[]).is_none());
}

#[test]
fn the_certificate_and_its_fingerprint() {
    let certificate = CertificateDer::from(b"abc".to_vec());
    let identity = identity(&[certificate]).unwrap();
    let values: Vec<&[u8]> = identity
        .fields()
        .iter()
        .map(|(_, value)| value.as_bytes())
        .collect();
    // It is no certificate, so that nothing is known of its subject. The sum is FIPS 180-2's example.
    assert_eq!(
        values,
        [
            &b":YWJj:"[..],
            b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ]
    );
}

#[test]
fn subjects() {
    let subject = |parts: Vec<(DnType, DnValue)>| {
        field("x-client-cert-subject", |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in parts {
                params.distinguished_name.push(kind, value);
            }
        })
    };
    let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
    let cn = |text: &str| vec![(DnType::CommonName, utf8(text))];
    assert_eq!(
        subject(vec![
            (DnType::CountryName, utf8("DE")),
            (DnType::OrganizationName, utf8("Example")),
            (DnType::CommonName, utf8("Ann")),
        ])
        .as_deref(),
        Some("CN=Ann,O=Example,C=DE")
    );
    for (text, written) in [
        ("a,b+c\"d\\e<f>g;h=i", r#"CN=a\,b\+c\"d\\e\<f\>g\;h=i"#),
        (" a b ", r"CN=\ a b\ "),
        (" ", r"CN=\ "),
        ("#a#", r"CN=\#a#"),
        ("ä\r\nX: 1", r"CN=\C3\A4\0D\0AX: 1"),
        ("a\u{0}\u{7f}", r"CN=a\00\7F"),
    ] {
        assert_eq!(subject(cn(text)).as_deref(), Some(written), "{text:?}");
    }
    let bmp = rcgen::string::BmpString::try_from("ä").unwrap();
    assert_eq!(
        subject(vec![(DnType::CommonName, DnValue::BmpString(bmp))]).as_deref(),
        Some(r"CN=\C3\A4")
    );
    let serial_number = DnType::CustomDnType(vec![2, 5, 4, 5]);
    assert_eq!(
        subject(vec![(serial_number, utf8("7"))]).as_deref(),
        Some("2.5.4.5=#0c0137")
    );
    assert_eq!(subject(Vec::new()), None);
}

#[test]
fn alternative_names() {
    let names = |names: Vec<SanType>| {
        field("x-client-cert-san", |params| {
            params.subject_alt_names = names;
        })
    };
    let text = |text: &str| text.try_into().unwrap();
    assert_eq!(
        names(vec![
            SanType::DnsName(text("a.example")),
            SanType::URI(text("spiffe://b/c,d\\e")),
            SanType::Rfc822Name(text("c@example")),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::DnsName(text("x\r\ny, DNS:z")),
        ])
        .as_deref(),
        Some(
            r"DNS:a.example, URI:spiffe://b/c\,d\\e, email:c@example, IP:192.0.2.7, IP:2001:db8::1, DNS:x\0D\0Ay\, DNS:z"
        )
    );
    assert_eq!(names(Vec::new()), None);
}
