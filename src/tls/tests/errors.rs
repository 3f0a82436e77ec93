//! What is wrong with files, and which.

use rcgen::date_time_ymd;

use super::*;

/// All that is wrong with these settings.
fn errors(settings: ServerSettings) -> Vec<String> {
    let errors = ServerTls::load(settings).expect_err("it has errors");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_error_names_its_file() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let pair = authority.sign(&["a.example"]);
    let good = dir.certificate("good", &pair);
    let other = dir.certificate("other", &authority.sign(&["a.example"]));
    let broken = pair.cert.replace("MII", "M!I");
    let truncated = pair.key.replace("-----END", "");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,0\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let strange = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (cert, key, message) in [
        (None, Some("-"), "x.key: cannot be read: No such file"),
        (Some("-"), None, "x.crt: cannot be read: No such file"),
        (Some(""), None, "x.crt: has no certificate in it"),
        (
            Some(pair.key.as_str()),
            None,
            "x.crt: has no certificate in it",
        ),
        (Some(broken.as_str()), None, "x.crt: is not right as PEM"),
        (
            Some(nonsense),
            None,
            "x.crt: has a certificate that cannot be read",
        ),
        (None, Some(""), "x.key: has no private key in it"),
        (
            None,
            Some(pair.cert.as_str()),
            "x.key: has no private key in it",
        ),
        (None, Some(truncated.as_str()), "x.key: is not right as PEM"),
        (None, Some(encrypted), "x.key: has an encrypted key"),
        (None, Some(old), "x.key: has an encrypted key"),
        (
            None,
            Some(strange),
            "x.key: has a key of a kind that is not supported",
        ),
    ] {
        let file = |name: &str, text: Option<&str>, good: &Path| match text {
            None => good.to_owned(),
            Some("-") => dir.path(name).with_file_name(format!("missing-{name}")),
            Some(text) => dir.save(name, text),
        };
        let files = CertificateFiles {
            cert: file("x.crt", cert, &good.cert),
            key: file("x.key", key, &good.key),
            ocsp: None,
        };
        let errors = errors(settings(vec![files]));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(message), "{message}: {errors:?}");
    }
    let files = CertificateFiles {
        key: other.key.clone(),
        ..good
    };
    let mismatch = format!(
        "{}: is not the key of the (first) certificate in {}",
        files.key.display(),
        files.cert.display()
    );
    assert_eq!(errors(settings(vec![files])), [mismatch]);
}

#[test]
fn all_errors_are_reported_at_once() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let errors = errors(ServerSettings {
        client_auth: ClientAuth::Required(dir.save("ca.crt", "")),
        ..settings(vec![
            CertificateFiles {
                cert: dir.path("none.crt"),
                key: dir.path("none.key"),
                ocsp: Some(dir.save("a.ocsp", "-----BEGIN OCSP RESPONSE-----")),
            },
            dir.certificate("a", &authority.sign(&["a.example"])),
        ])
    });
    for (error, part) in errors.iter().zip([
        "none.crt: cannot be read",
        "none.key: cannot be read",
        "a.ocsp: is not a successful OCSP response in DER",
        "ca.crt: has no certificate in it",
    ]) {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(errors.len(), 4, "{errors:?}");
}

#[test]
fn no_bytes_are_taken_for_an_ocsp_response_by_mistake() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let files = dir.certificate("a", &authority.sign(&["a.example"]));
    for (bytes, is_fine) in [
        (&[0x30, 4, 0x0a, 1, 0, 0][..], true),
        (&[0x30, 0x82, 0, 4, 0x0a, 1, 0, 0], true),
        // It says that the responder could not answer.
        (&[0x30, 3, 0x0a, 1, 6], false),
        (&[0x30, 3, 0x0a, 1, 0], false),
        (&[0x30, 5, 0x0a, 1, 0, 0], false),
        (&[0x30, 0x84, 0], false),
        (&[0x30, 0x89], false),
        (&[0x30], false),
        (&[], false),
    ] {
        let files = CertificateFiles {
            ocsp: Some(dir.save("a.ocsp", bytes)),
            ..files.clone()
        };
        let loaded = ServerTls::load(settings(vec![files]));
        assert_eq!(loaded.is_ok(), is_fine, "{bytes:?}");
    }
}

#[test]
fn what_is_out_of_date_is_used_and_warned_of() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let key = KeyPair::generate().unwrap();
    let expired = authority.sign_with(&["a.example"], &key, |params| {
        params.not_after = date_time_ymd(2020, 1, 31);
    });
    let early = authority.sign_with(&["b.example"], &key, |params| {
        params.not_before = date_time_ymd(2999, 1, 31);
    });
    let nameless = authority.sign(&[]);
    let server = ServerTls::load(settings(vec![
        dir.certificate("expired", &expired),
        dir.certificate("early", &early),
        dir.certificate("nameless", &nameless),
    ]))
    .unwrap();
    let warnings = server.warnings();
    for (warning, part) in warnings.iter().zip([
        "expired.crt: expired at 2020-01-31T00:00:00Z",
        "early.crt: is not valid before 2999-01-31T00:00:00Z",
        "nameless.crt (no DNS names; until ",
    ]) {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}
