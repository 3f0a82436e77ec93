//! TLS in front (RFC 8446): certificates, names, versions of HTTP, clients' certificates, and how connections end.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{self, message};
use crate::support::http2::{connect_over, exchange, get, request, runtime};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::{Authority, Files, TlsConnection, connect};
use crate::support::{DEADLINE, wait_until};

/// A proxy that speaks TLS with these certificates, and these other keys of `tls`.
fn before(backend: &Backend, certificates: &[&Files], tls: &str) -> RunningProxy {
    with_listener(certificates, tls)
        .upstream("app", &[backend.addr()])
        .start()
}

fn with_listener(certificates: &[&Files], tls: &str) -> Proxy {
    let entries: Vec<_> = certificates.iter().map(|files| files.entry()).collect();
    let entries = entries.join(", ");
    Proxy::new()
        .setting("workers = 1")
        .listener(&format!("tls = {{ certificates = [{entries}], {tls} }}"))
}

fn open(proxy: &RunningProxy, config: &ClientConfig) -> TlsConnection {
    connect(proxy.addr(), "localhost", config).expect("a handshake")
}

fn leaf(files: &Files) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.cert).expect("a certificate")
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let first = authority.issue(&["localhost"]);
    let exact = authority.issue(&["a.test.example"]);
    let wildcard = authority.issue(&["*.test.example"]);
    let proxy = before(&backend, &[&first, &wildcard, &exact], "");
    let client = authority.anonymous();
    for (name, files) in [
        ("localhost", &first),
        ("a.test.example", &exact),
        ("b.test.example", &wildcard),
        ("B.TEST.EXAMPLE", &wildcard),
    ] {
        let connection = connect(proxy.addr(), name, &client).expect(name);
        assert_eq!(connection.certificate(), leaf(files), "{name}");
    }
    // Nobody has this one, so the first is shown, which the client does not take for it.
    let error = connect(proxy.addr(), "c.other", &client)
        .err()
        .expect("an error");
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn requests_and_large_bodies_pass_in_http_1() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let proxy = before(&backend, &[&authority.issue(&["localhost"])], "");
    let client = authority.anonymous();
    let answer = open(&proxy, &client)
        .ask("/headers", "")
        .expect("an answer");
    assert!(
        answer.contains(r#""x-forwarded-proto":["https"]"#),
        "{answer}"
    );
    assert!(answer.contains("proto=https"), "{answer}");
    let body: Vec<u8> = (0..5_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut connection = open(&proxy, &client);
    connection
        .send(message("POST", "/upload", &[], &body))
        .expect("sent");
    let answer = connection
        .read_until("}\n")
        .or_else(|_| connection.read_until("}"));
    assert!(answer.expect("an answer").contains("5000000"));
    let answer = open(&proxy, &client)
        .ask("/bytes/5000000", "")
        .expect("a body");
    assert!(answer.len() > 5_000_000);
}

#[test]
fn http_2_is_spoken_with_those_who_offer_it() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let proxy = before(&backend, &[&files], "");
    let mut client = authority.anonymous();
    assert_eq!(open(&proxy, &client).protocol(), None);
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert_eq!(
        open(&proxy, &client).protocol().as_deref(),
        Some("http/1.1")
    );
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    assert_eq!(open(&proxy, &client).protocol().as_deref(), Some("h2"));
    runtime().block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.addr())
            .await
            .expect("a connection");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client.clone()));
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, tcp).await.expect("a handshake");
        let client = connect_over(stream).await;
        let answer = exchange(&client, get("/headers"), b"")
            .await
            .expect("an answer");
        assert_eq!(answer.json()["headers"]["x-forwarded-proto"][0], "https");
        let body = vec![7; 1_000_000];
        let answer = exchange(&client, request("POST", "/echo"), &body).await;
        assert!(answer.expect("an answer").body == body);
    });

    let proxy = with_listener(&[&files], "")
        .listener("http2 = false")
        .upstream("app", &[backend.addr()])
        .start();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    assert_eq!(
        open(&proxy, &client).protocol().as_deref(),
        Some("http/1.1")
    );
}

#[test]
fn http_2_is_spoken_with_nobody_who_did_not_offer_it() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let proxy = before(&backend, &[&authority.issue(&["localhost"])], "");
    let mut client = authority.anonymous();
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        client.alpn_protocols = offered;
        let mut client = open(&proxy, &client);
        client
            .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect("sent");
        let answer = client.read_until("\r\n").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    }
}

#[test]
fn http_without_tls_is_told_so() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let proxy = before(&backend, &[&authority.issue(&["localhost"])], "");
    let answer = client::get(proxy.addr(), "/");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    assert_eq!(proxy.metric("lb_tls_failures_total"), 1);
}

#[test]
fn who_says_nothing_is_closed_in_time() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let proxy = with_listener(&[&files], "")
        .listener("timeouts = { tls_handshake = \"300ms\" }")
        .upstream("app", &[backend.addr()])
        .start();
    for sent in [&b""[..], b"\x16\x03\x01\x02"] {
        let mut tcp = TcpStream::connect(proxy.addr()).expect("a connection");
        tcp.set_read_timeout(Some(DEADLINE)).expect("a socket");
        std::io::Write::write_all(&mut tcp, sent).expect("sent");
        assert_eq!(tcp.read(&mut [0]).expect("the end"), 0);
    }
}

#[test]
fn clients_show_certificates_and_servers_learn_of_them() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let ca = authority.ca();
    let required = format!("client_auth = \"required\", client_ca = {ca:?}");
    let proxy = before(&backend, &[&files], &required);
    let known = authority.with(&authority.issue(&["alice.example"]));
    let forged = "x-client-cert-subject: CN=mallory\r\nclient-cert: :AAAA:\r\n";
    let answer = open(&proxy, &known)
        .ask("/headers", forged)
        .expect("an answer");
    assert!(
        answer.contains(r#""x-client-cert-subject":["CN=alice.example"]"#),
        "{answer}"
    );
    assert!(
        answer.contains(r#""x-client-cert-san":["DNS:alice.example"]"#),
        "{answer}"
    );
    assert!(
        !answer.contains("mallory") && !answer.contains(":AAAA:"),
        "{answer}"
    );

    let stranger = Authority::new();
    let unknown = stranger.issue(&["alice.example"]);
    for client in [authority.anonymous(), authority.with(&unknown)] {
        // In TLS 1.3 a client hears of it only after its own handshake.
        let asked = connect(proxy.addr(), "localhost", &client)
            .and_then(|mut connection| connection.ask("/", ""));
        assert!(asked.is_err(), "{asked:?}");
    }

    let optional = format!("client_auth = \"optional\", client_ca = {ca:?}");
    let proxy = before(&backend, &[&files], &optional);
    let anonymous = authority.anonymous();
    let answer = open(&proxy, &anonymous)
        .ask("/headers", forged)
        .expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("client-cert"),
        "{answer}"
    );
    let answer = open(&proxy, &known).ask("/headers", "").expect("an answer");
    assert!(answer.contains("CN=alice.example"), "{answer}");
}

#[test]
fn a_new_certificate_is_shown_soon_and_open_connections_stay() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let before_it = leaf(&files);
    let proxy = before(&backend, &[&files], "");
    let mut client = authority.anonymous();
    client.resumption = rustls::client::Resumption::disabled();
    let mut old = open(&proxy, &client);
    assert_eq!(old.certificate(), before_it);
    authority.issue(&["localhost"]);
    let after_it = leaf(&files);
    assert_ne!(before_it, after_it);
    wait_until("the new certificate is shown", || {
        open(&proxy, &client).certificate() == after_it
    });
    let answer = old.ask("/", "").expect("it is open");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    std::fs::write(&files.cert, "no certificate").expect("written");
    wait_until("the log says what is wrong", || {
        proxy.process().output().contains("localhost.crt")
    });
    assert_eq!(open(&proxy, &client).certificate(), after_it);
}

#[test]
fn sessions_are_resumed() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let proxy = before(&backend, &[&files], "");
    let client = authority.anonymous();
    for _ in 0..3 {
        open(&proxy, &client).ask("/", "").expect("an answer");
    }
    assert_eq!(proxy.metric("lb_tls_handshakes_total"), 3);
    assert_eq!(proxy.metric("lb_tls_resumptions_total"), 2);
    let proxy = before(&backend, &[&files], "session_tickets = false");
    let client = authority.anonymous();
    for _ in 0..2 {
        open(&proxy, &client).ask("/", "").expect("an answer");
    }
    assert_eq!(proxy.metric("lb_tls_resumptions_total"), 0);
}

#[test]
fn a_parked_connection_goes_on() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let proxy = before(&backend, &[&authority.issue(&["localhost"])], "");
    let mut connection = open(&proxy, &authority.anonymous());
    for _ in 0..2 {
        connection
            .send("GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            .expect("sent");
        let answer = connection.read_until("\r\n\r\n").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        wait_until("it is parked", || {
            proxy.metric("lb_connections_parked") == 1
        });
        // What is left of the answer.
        connection.read_until("\n").expect("a body");
    }
}

#[test]
fn an_answer_that_ends_with_the_connection_ends_with_a_word_and_a_broken_one_without() {
    let authority = Authority::new();
    let backend = RawBackend::start(|connection| {
        let head = connection.read_head()?;
        let answer: &[u8] = match head.contains("/whole") {
            true => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            false => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        };
        std::io::Write::write_all(&mut connection.stream, answer)
    });
    let proxy = with_listener(&[&authority.issue(&["localhost"])], "")
        .unprobed("app", &[backend.addr()])
        .start();
    let client = authority.anonymous();
    let mut whole = open(&proxy, &client);
    whole.send("GET /whole HTTP/1.0\r\n\r\n").expect("sent");
    let answer = whole.read_to_end().expect("a whole answer");
    assert!(answer.ends_with(b"\r\n\r\nok"));
    let mut broken = open(&proxy, &client);
    broken.send("GET /broken HTTP/1.0\r\n\r\n").expect("sent");
    let error = broken.read_to_end().expect_err("a broken answer");
    let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[test]
fn hsts_is_said_over_tls_only() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let proxy = with_listener(&[&files], "")
        .upstream("app", &[backend.addr()])
        .extra("[[routes]]\nupstream = \"app\"\nhsts = { max_age = \"1h\", include_subdomains = true }")
        .extra("[[listeners]]\nname = \"plain\"\nlisten = \"127.0.0.1:0\"")
        .start();
    let answer = open(&proxy, &authority.anonymous())
        .ask("/", "")
        .expect("an answer");
    let field = "strict-transport-security: max-age=3600; includeSubDomains\r\n";
    assert!(answer.contains(field), "{answer}");
    let plain = client::get(proxy.addr_of("plain"), "/");
    assert_eq!(plain.headers.get("strict-transport-security"), None);
}

#[test]
fn a_redirect_keeps_the_scheme() {
    let authority = Authority::new();
    let proxy = with_listener(&[&authority.issue(&["localhost"])], "")
        .extra("[[routes]]\nredirect = { host = \"www.example.com\" }")
        .start();
    let answer = open(&proxy, &authority.anonymous())
        .ask("/a?b", "")
        .expect("an answer");
    assert!(
        answer.contains("location: https://www.example.com/a?b\r\n"),
        "{answer}"
    );
}
