//! Files that are replaced while they are in use.

use std::os::unix::fs::symlink;

use rustls::HandshakeKind;

use super::*;

#[test]
fn a_file_saved_by_rename_is_noticed() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let (first, second) = (
        authority.sign(&["a.example"]),
        authority.sign(&["a.example"]),
    );
    let server = ServerTls::load(settings(vec![dir.certificate("a", &first)])).unwrap();
    // A new client each time: one that resumes a session is shown nothing.
    let shown = || {
        let client = client_of(&dir, &authority);
        let connected = connect(client.current(), server.current(), "a.example").unwrap();
        connected.shown()
    };
    assert_eq!(shown(), der(&first.cert));
    assert!(matches!(server.refresh(), Refresh::Unchanged));
    dir.certificate("a", &second);
    let Refresh::Reloaded(what) = server.refresh() else {
        panic!("it was not noticed");
    };
    assert!(what.contains("a.crt (a.example; until "), "{what}");
    assert_eq!(shown(), der(&second.cert));
    assert!(matches!(server.refresh(), Refresh::Unchanged));
}

#[test]
fn a_symbolic_link_that_is_swapped_is_noticed() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let (first, second) = (
        authority.sign(&["a.example"]),
        authority.sign(&["a.example"]),
    );
    // As Kubernetes mounts secrets: the directory is the link.
    for (version, pair) in [("v1", &first), ("v2", &second)] {
        fs::create_dir(dir.path(version)).unwrap();
        fs::write(dir.path(version).join("a.crt"), &pair.cert).unwrap();
        fs::write(dir.path(version).join("a.key"), &pair.key).unwrap();
    }
    symlink("v1", dir.path("data")).unwrap();
    let files = CertificateFiles {
        cert: dir.path("data/a.crt"),
        key: dir.path("data/a.key"),
        ocsp: None,
    };
    let server = ServerTls::load(settings(vec![files])).unwrap();
    assert!(matches!(server.refresh(), Refresh::Unchanged));
    symlink("v2", dir.path("data.new")).unwrap();
    fs::rename(dir.path("data.new"), dir.path("data")).unwrap();
    assert!(matches!(server.refresh(), Refresh::Reloaded(_)));
    let client = client_of(&dir, &authority);
    let connected = connect(client.current(), server.current(), "a.example").unwrap();
    assert_eq!(connected.shown(), der(&second.cert));
}

#[test]
fn a_bad_file_keeps_what_was_in_use_and_is_reported_once() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let (first, second) = (
        authority.sign(&["a.example"]),
        authority.sign(&["a.example"]),
    );
    let server = ServerTls::load(settings(vec![dir.certificate("a", &first)])).unwrap();
    let works = || {
        let client = client_of(&dir, &authority);
        let connected = connect(client.current(), server.current(), "a.example").unwrap();
        connected.shown() == der(&first.cert)
    };
    // The certificate is there, its key not yet.
    dir.save("a.crt", &second.cert);
    let Refresh::Failed(errors) = server.refresh() else {
        panic!("the key is another one's");
    };
    assert!(
        errors.to_string().contains("a.key: is not the key of"),
        "{errors}"
    );
    assert!(works());
    assert!(matches!(server.refresh(), Refresh::Unchanged));
    fs::remove_file(dir.path("a.key")).unwrap();
    assert!(matches!(server.refresh(), Refresh::Failed(_)));
    assert!(works());

    dir.save("a.key", &second.key);
    assert!(matches!(server.refresh(), Refresh::Reloaded(_)));
    assert!(!works());
}

#[test]
fn tickets_outlive_certificates_but_not_the_authorities_of_clients() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let sign = || authority.sign(&["a.example"]);
    let clients = dir.save("clients.crt", authority.pem());
    let server = ServerTls::load(ServerSettings {
        client_auth: ClientAuth::Optional(clients),
        ..settings(vec![dir.certificate("a", &sign())])
    })
    .unwrap();
    let client = client_of(&dir, &authority);
    let is_resumed = || {
        let connected = connect(client.current(), server.current(), "a.example").unwrap();
        connected.server.handshake_kind() == Some(HandshakeKind::Resumed)
    };
    assert!(!is_resumed());
    assert!(is_resumed());
    dir.certificate("a", &sign());
    assert!(matches!(server.refresh(), Refresh::Reloaded(_)));
    assert!(is_resumed());
    dir.save("clients.crt", Authority::new("New").pem());
    assert!(matches!(server.refresh(), Refresh::Reloaded(_)));
    assert!(!is_resumed());
    assert!(is_resumed());
}

#[test]
fn the_files_towards_servers_are_looked_at_too() {
    let (dir, authority) = (Dir::new(), Authority::new("CA"));
    let files = vec![dir.certificate("server", &authority.sign(&["a.example"]))];
    let server = ServerTls::load(settings(files)).unwrap();
    let client = client_of(&dir, &Authority::new("Other"));
    let works = || connect(client.current(), server.current(), "a.example").is_ok();
    assert!(!works());
    dir.save("client-ca.crt", "");
    assert!(matches!(client.refresh(), Refresh::Failed(_)));
    assert!(matches!(client.refresh(), Refresh::Unchanged));
    dir.save("client-ca.crt", authority.pem());
    assert!(matches!(client.refresh(), Refresh::Reloaded(_)));
    assert!(works());
    assert!(matches!(client.refresh(), Refresh::Unchanged));
}
