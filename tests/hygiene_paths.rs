//! Rules cannot be walked around by spelling a path in another way.

use crate::support::backend::RawBackend;
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, RunningProxy, before_script};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// A proxy that forbids `/admin/*` and `/caf%c3%a9`, strips `/v1`, and forwards everything else.
fn with_rules(backend: &RawBackend) -> RunningProxy {
    Proxy::new()
        .setting("workers = 1")
        .unprobed("app", &[backend.addr()])
        .extra("[[routes]]\nupstream = \"app\"")
        .extra("[[routes]]\npaths = [\"/admin/*\", \"/caf%c3%a9\"]\nrespond = { status = 403 }")
        .extra("[[routes]]\npaths = [\"/v1/*\"]\nupstream = \"app\"\nstrip_prefix = \"/v1\"")
        .extra("[[routes]]\npaths = [\"/users/{id}\"]\nrespond = { status = 418 }")
        .start()
}

fn status_of(proxy: &RunningProxy, path: &str) -> u16 {
    request(proxy.addr(), message("GET", path, &[], b"")).status
}

/// The target that the server gets.
fn target_at_server(proxy: &RunningProxy, backend: &RawBackend, target: &str) -> String {
    let answer = request(proxy.addr(), message("GET", target, &[], b""));
    assert_eq!(answer.text(), "ok", "{target}");
    let head = backend.heads().pop().expect("a request");
    let target = head.split(' ').nth(1);
    target.expect("a target").to_owned()
}

#[test]
fn every_spelling_of_a_forbidden_path_is_forbidden() {
    let backend = RawBackend::answering(OK);
    let proxy = with_rules(&backend);
    for path in [
        "/admin",
        "/admin/",
        "/admin/x?y",
        "//admin",
        "///admin//x",
        "/./admin",
        "/x/../admin",
        "/x/y/../../admin/z",
        "/../admin",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/admin%2Fx",
        "/admin%2fx",
        "/x/..%2fadmin",
        "/x%2f..%2fadmin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/%2e/admin",
        "/%2Fadmin",
        "/\\admin",
        "/x\\..\\admin",
        "/x/..%5Cadmin",
        "/admin/x/..",
        "/admin/x/../y",
        "/caf%C3%A9",
        "/caf%c3%a9",
        "/x/../caf%C3%a9",
        "http://test//admin",
    ] {
        assert_eq!(status_of(&proxy, path), 403, "{path}");
    }
    for path in ["/users/1", "/x/../users/%31", "//users//1"] {
        assert_eq!(status_of(&proxy, path), 418, "{path}");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_path_is_forwarded_as_it_was_sent_where_no_rule_tells_its_spellings_apart() {
    let backend = RawBackend::answering(OK);
    let proxy = with_rules(&backend);
    for target in [
        "/a%2Fb",
        "/a//b",
        "/a/./b/../c?d=/../e",
        "/%41",
        "/a\\b",
        "/Admin",
        "/admin2",
        "/%252e%252e/admin",
        "/x;/../y",
        "/.well-known/a",
        "/{x}|\"^[]",
    ] {
        assert_eq!(target_at_server(&proxy, &backend, target), target);
    }
}

#[test]
fn a_server_cannot_take_a_path_for_one_with_another_rule() {
    let backend = RawBackend::answering(OK);
    let proxy = with_rules(&backend);
    // A server that reads these literally, or does not merge slashes, would serve what is forbidden.
    let cases = [
        ("/admin/../public", "/public"),
        ("/admin/..%2Fpublic?q=%2F", "/public?q=%2F"),
        ("/admin%2f..%2fpublic", "/public"),
        ("/x/admin//../../public", "/public"),
        ("/admin/./../public", "/public"),
        ("/a//../b", "/b"),
        ("/../../etc", "/etc"),
        ("/x/..%2f..%2f..%2fetc", "/etc"),
        ("http://test/admin/../public", "/public"),
    ];
    for (target, sent) in cases {
        assert_eq!(target_at_server(&proxy, &backend, target), sent, "{target}");
    }
}

#[test]
fn a_prefix_is_stripped_from_the_path_that_matched() {
    let backend = RawBackend::answering(OK);
    let proxy = with_rules(&backend);
    let cases = [
        ("/v1/a%2Fb", "/a/b"),
        ("/v1/a", "/a"),
        ("//v1//a", "/a"),
        ("/%76%31/a", "/a"),
        ("/v1%2Fa?x=%2F", "/a?x=%2F"),
        ("/x/../v1/a", "/a"),
        ("/v1//", "/"),
        ("/v1/%C3%a9", "/%C3%A9"),
    ];
    for (target, sent) in cases {
        assert_eq!(target_at_server(&proxy, &backend, target), sent, "{target}");
    }
    assert_eq!(status_of(&proxy, "/v1/../admin"), 403);
}

#[test]
fn a_path_without_a_normal_form_is_refused() {
    let backend = RawBackend::answering(OK);
    let proxy = before_script(&backend);
    for path in [
        "/%",
        "/%4",
        "/%zz",
        "/a%2",
        "/%u0041",
        "/%00",
        "/a%00.html",
        "/x/..;/admin",
        "/x/.;a=b/y",
        "/x/%2e%2e;/admin",
    ] {
        proxy.refuses(message("GET", path, &[], b""), 400);
    }
    assert_eq!(backend.connections(), 0);
    // A query is the server's business.
    assert_eq!(status_of(&proxy, "/?100%&x=%00%zz"), 200);
}

#[test]
fn all_spellings_of_a_path_have_one_server() {
    let servers: Vec<_> = (0..8).map(|_| RawBackend::answering(OK)).collect();
    let addresses: Vec<_> = servers.iter().map(RawBackend::addr).collect();
    let hashed = "strategy = \"consistent_hash\"\nhash = \"path\"";
    let proxy = Proxy::new()
        .unprobed_with("app", &addresses, hashed)
        .start();
    for path in [
        "/cart/1",
        "//cart/1",
        "/cart/./1",
        "/x/../cart/1",
        "/%63art/1",
        "/cart%2F1",
        "/cart/1?x",
    ] {
        assert_eq!(status_of(&proxy, path), 200, "{path}");
    }
    let used = servers.iter().filter(|server| !server.heads().is_empty());
    assert_eq!(used.count(), 1);
}
