//! TLS towards servers: whom to trust, which version of HTTP, and what a client hears when it fails.

use crate::support::backend::{Backend, RawBackend};
use crate::support::client::{self, message};
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::tls::{Authority, Files};

/// A server that speaks TLS: a proxy before a test server, with these other keys of `tls` and of the listener.
fn server(backend: &Backend, files: &Files, tls: &str, listener: &str) -> RunningProxy {
    let entry = files.entry();
    Proxy::new()
        .listener(&format!(
            "tls = {{ certificates = [{entry}], {tls} }}\n{listener}"
        ))
        .upstream("app", &[backend.addr()])
        .start()
}

/// A proxy before a server, without probes, with these keys of the upstream.
fn before(server: &RunningProxy, upstream: &str) -> RunningProxy {
    let address = format!("localhost:{}", server.addr().port());
    Proxy::new()
        .setting("workers = 1")
        .unprobed_with("app", &[address], upstream)
        .start()
}

#[test]
fn requests_go_to_servers_whose_certificate_verifies() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let server = server(&backend, &authority.issue(&["localhost"]), "", "");
    let ca = authority.ca();
    for (protocol, via) in [("http1", "1.1"), ("http2", "2.0"), ("auto", "2.0")] {
        let upstream = format!("protocol = {protocol:?}\ntls = {{ ca = {ca:?} }}");
        let proxy = before(&server, &upstream);
        for _ in 0..2 {
            let answer = proxy.get("/headers");
            assert_eq!(answer.status, 200, "{protocol}: {}", answer.text());
            let seen = answer.json();
            assert_eq!(seen["headers"]["x-forwarded-proto"][0], "https");
            let expected = format!("1.1 loadbalancer, {via} loadbalancer");
            assert_eq!(seen["headers"]["via"][0], expected, "{protocol}");
        }
        assert_eq!(proxy.metric("lb_server_connects_total"), 1, "{protocol}");
        let body = vec![7; 1_000_000];
        let answer = client::request(proxy.addr(), message("POST", "/echo", &[], &body));
        assert!(answer.body == body, "{protocol}");
    }
}

#[test]
fn a_server_that_chooses_http_1_gets_that() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let files = authority.issue(&["localhost"]);
    let server = server(&backend, &files, "", "http2 = false");
    let ca = authority.ca();
    let proxy = before(
        &server,
        &format!("protocol = \"auto\"\ntls = {{ ca = {ca:?} }}"),
    );
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(proxy.metric("lb_server_connects_total"), 1);
}

#[test]
fn a_certificate_that_does_not_verify_is_a_bad_gateway_and_a_line_in_the_log() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let server = server(&backend, &authority.issue(&["other.example"]), "", "");
    let (ca, others) = (authority.ca(), Authority::new());
    let other_ca = others.ca();
    for (tls, reason) in [
        (format!("{{ ca = {ca:?} }}"), "not valid for name"),
        (
            format!("{{ ca = {other_ca:?}, server_name = \"other.example\" }}"),
            "invalid peer certificate",
        ),
    ] {
        let proxy = before(&server, &format!("tls = {tls}"));
        assert_eq!(proxy.get("/").status, 502, "{tls}");
        let line = proxy.process().wait_for_line("TLS failed");
        assert!(line.contains(reason), "{line}");
    }
    for tls in [
        format!("{{ ca = {ca:?}, server_name = \"other.example\" }}"),
        "{ insecure_skip_verify = true }".to_owned(),
    ] {
        let proxy = before(&server, &format!("tls = {tls}"));
        assert_eq!(proxy.get("/").status, 200, "{tls}");
    }
}

#[test]
fn servers_that_ask_for_a_certificate_get_it() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let ca = authority.ca();
    let required = format!("client_auth = \"required\", client_ca = {ca:?}");
    let server = server(&backend, &authority.issue(&["localhost"]), &required, "");
    let own = authority.issue(&["balancer.example"]);
    let (cert, key) = (&own.cert, &own.key);
    let proxy = before(
        &server,
        &format!("tls = {{ ca = {ca:?}, cert = {cert:?}, key = {key:?} }}"),
    );
    let answer = proxy.get("/headers");
    assert_eq!(
        answer.json()["headers"]["x-client-cert-subject"][0],
        "CN=balancer.example"
    );
    let proxy = before(&server, &format!("tls = {{ ca = {ca:?} }}"));
    assert_eq!(proxy.get("/").status, 502);
}

#[test]
fn probes_speak_tls_too() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let server = server(&backend, &authority.issue(&["localhost"]), "", "");
    let ca = authority.ca();
    let address = format!("localhost:{}", server.addr().port());
    let with = |tls: &str| Proxy::new().upstream_with("app", &[&address], tls).start();
    for protocol in ["http1", "http2", "auto"] {
        let proxy = with(&format!("protocol = {protocol:?}\ntls = {{ ca = {ca:?} }}"));
        proxy.process().wait_for_line("server is up");
        assert_eq!(proxy.get("/").status, 200, "{protocol}");
    }
    let proxy = with(&format!("tls = {{ ca = {ca:?} }}"));
    proxy.process().wait_for_line("server is up");
    assert_eq!(proxy.get("/").status, 200);
    let others = Authority::new();
    let other_ca = others.ca();
    let proxy = with(&format!("tls = {{ ca = {other_ca:?} }}"));
    crate::support::wait_until("it is down", || proxy.metric("lb_server_eligible") == 0);
}

#[test]
fn probes_of_tcp_shake_hands() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let ca = authority.ca();
    let probed = |server: &RunningProxy, name: &str| {
        Proxy::new()
            .listener("mode = \"tcp\"\nupstream = \"app\"")
            .upstream_with(
                "app",
                &[server.addr()],
                &format!(
                    "tls = {{ ca = {ca:?}, server_name = {name:?} }}\nhealth_check = {{ kind = \"tcp\", interval = \"100ms\" }}"
                ),
            )
            .start()
    };
    let good = server(&backend, &authority.issue(&["a.example"]), "", "");
    let proxy = probed(&good, "a.example");
    proxy.process().wait_for_line("server is up");
    assert_eq!(proxy.get("/").status, 200);
    // Whose certificate is bad is down before a client gets to it, and the log says why.
    let of_authority = server(&backend, &authority.own(), "", "");
    for (server, name, reason) in [
        (
            &good,
            "b.example",
            "server_name in the upstream's tls says which name",
        ),
        (&of_authority, "a.example", "it is an authority's own"),
    ] {
        let proxy = probed(server, name);
        let line = proxy.process().wait_for_line("server is down");
        assert!(line.contains(reason), "{line}");
        assert_eq!(proxy.metric("lb_server_eligible"), 0, "{name}");
    }
}

#[test]
fn an_upgrade_goes_to_a_server_that_also_speaks_http_2() {
    let (authority, backend) = (Authority::new(), Backend::start());
    let server = server(&backend, &authority.issue(&["localhost"]), "", "");
    let ca = authority.ca();
    let proxy = before(
        &server,
        &format!("protocol = \"auto\"\ntls = {{ ca = {ca:?} }}"),
    );
    assert_eq!(proxy.get("/").status, 200);
    let mut client = proxy.connect();
    let fields = [("connection", "upgrade"), ("upgrade", "echo")];
    let answer = client
        .request(message("GET", "/ws", &fields, b""))
        .expect("an answer");
    assert_eq!(answer.status, 101);
    client.send_raw(b"hello").expect("sent");
    assert_eq!(client.read_exact(5).expect("an echo"), b"hello");
}

#[test]
fn a_server_without_tls_is_a_bad_gateway() {
    let backend = RawBackend::start(|connection| connection.read_head().map(drop));
    let proxy = Proxy::new()
        .unprobed_with(
            "app",
            &[backend.addr()],
            "tls = { insecure_skip_verify = true }\ntimeouts = { connect = \"500ms\" }",
        )
        .start();
    let status = proxy.get("/").status;
    assert!([502, 504].contains(&status), "{status}");
}
