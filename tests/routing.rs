//! Which route a request takes, and what the routes that need no server do with it.

use crate::support::backend::Backend;
use crate::support::client::{Response, message, request};
use crate::support::proxy::{Proxy, RunningProxy};

/// A proxy without servers whose routes answer with their own names: `(name, conditions)`.
fn named_routes(routes: &[(&str, &str)]) -> RunningProxy {
    let tables = routes.iter().map(|(name, conditions)| {
        format!("[[routes]]\nname = {name:?}\nrespond = {{ body = {name:?} }}\n{conditions}\n")
    });
    Proxy::new().extra(&tables.collect::<String>()).start()
}

fn ask(proxy: &RunningProxy, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    request(proxy.addr(), message(method, path, headers, b""))
}

/// The name of the route that a request takes; `none` when it is answered 404.
fn route_of(proxy: &RunningProxy, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let answer = ask(proxy, method, path, headers);
    match answer.status {
        200 => answer.text().to_owned(),
        404 => "none".to_owned(),
        other => panic!("{method} {path} {headers:?} was answered {other}"),
    }
}

#[test]
fn the_most_specific_host_wins() {
    let proxy = named_routes(&[
        ("any", ""),
        ("below", r#"hosts = ["*.example.com"]"#),
        ("deep", r#"hosts = ["*.deep.example.com"]"#),
        ("api", r#"hosts = ["api.example.com"]"#),
        ("address", r#"hosts = ["[::1]"]"#),
    ]);
    for (host, expected) in [
        ("api.example.com", "api"),
        ("API.Example.COM", "api"),
        ("api.example.com:8080", "api"),
        ("api.example.com.", "api"),
        ("www.example.com", "below"),
        ("a.b.example.com:80", "below"),
        ("a.deep.example.com", "deep"),
        ("deep.example.com", "below"),
        ("example.com", "any"),
        ("notexample.com", "any"),
        ("api.example.com.evil.net", "any"),
        ("[::1]:8080", "address"),
    ] {
        let route = route_of(&proxy, "GET", "/", &[("host", host)]);
        assert_eq!(route, expected, "{host}");
    }

    let route = route_of(&proxy, "GET", "http://api.example.com/", &[("host", "b")]);
    assert_eq!(route, "api", "an absolute target wins over Host");
    let answer = request(proxy.addr(), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answer.text(), "any", "HTTP/1.0 needs no Host");
}

#[test]
fn the_most_specific_path_wins() {
    let proxy = named_routes(&[
        ("any", ""),
        ("prefix", r#"paths = ["/users/*"]"#),
        ("long-prefix", r#"paths = ["/users/7/posts/*"]"#),
        ("template", r#"paths = ["/users/{id}"]"#),
        ("exact", r#"paths = ["/users/me", "/users/you"]"#),
        ("rest", r#"paths = ["/files/{*rest}"]"#),
    ]);
    for (path, expected) in [
        ("/users/me", "exact"),
        ("/users/you?page=2", "exact"),
        ("/users/me/", "prefix"),
        ("/users/7", "template"),
        ("/users/7?x=/a/b", "template"),
        ("/users", "prefix"),
        ("/users/", "prefix"),
        ("/users/7/photos", "prefix"),
        ("/users/7/posts", "long-prefix"),
        ("/users/7/posts/1/2", "long-prefix"),
        ("/users/7/postscript", "prefix"),
        ("/usersx", "any"),
        ("/Users/me", "any"),
        ("/files/a/b.txt", "rest"),
        ("/files", "any"),
        ("/", "any"),
    ] {
        assert_eq!(route_of(&proxy, "GET", path, &[]), expected, "{path}");
    }
}

#[test]
fn methods_win_over_none_and_more_headers_over_fewer() {
    let proxy = named_routes(&[
        ("any", ""),
        ("v2", r#"headers = { "x-version" = "2" }"#),
        (
            "v2-beta",
            r#"headers = { "X-Version" = "2", "x-beta" = "yes" }"#,
        ),
        ("writes", r#"methods = ["POST", "PUT"]"#),
        (
            "v2-writes",
            "methods = [\"POST\"]\nheaders = { \"x-version\" = \"2\" }",
        ),
    ]);
    let (v2, beta) = (("x-version", "2"), ("x-beta", "yes"));
    for (method, headers, expected) in [
        ("GET", &[][..], "any"),
        ("GET", &[v2], "v2"),
        ("GET", &[beta], "any"),
        ("GET", &[v2, beta], "v2-beta"),
        ("GET", &[("x-version", "20")], "any"),
        ("GET", &[("X-VERSION", "2")], "v2"),
        ("POST", &[], "writes"),
        ("PUT", &[v2], "writes"),
        ("POST", &[v2, beta], "v2-writes"),
        ("DELETE", &[v2], "v2"),
    ] {
        let route = route_of(&proxy, method, "/", headers);
        assert_eq!(route, expected, "{method} {headers:?}");
    }
}

#[test]
fn host_comes_before_path_before_method_before_headers() {
    let proxy = named_routes(&[
        ("host", r#"hosts = ["a.example"]"#),
        ("path", r#"paths = ["/x/*"]"#),
        ("method", r#"methods = ["POST"]"#),
        ("header", r#"headers = { "x-a" = "1" }"#),
    ]);
    let (a, b, field) = (("host", "a.example"), ("host", "b.example"), ("x-a", "1"));
    for (method, path, headers, expected) in [
        ("POST", "/x/y", [a, field], "host"),
        ("POST", "/x/y", [b, field], "path"),
        ("POST", "/", [b, field], "method"),
        ("GET", "/", [b, field], "header"),
        ("GET", "/", [b, ("x-a", "2")], "none"),
    ] {
        let route = route_of(&proxy, method, path, &headers);
        assert_eq!(route, expected, "{method} {path} {headers:?}");
    }
}

#[test]
fn a_route_that_does_not_fit_is_passed_over_for_the_next_most_specific() {
    let proxy = named_routes(&[
        ("any", ""),
        ("prefix", r#"paths = ["/users/*"]"#),
        (
            "template",
            "paths = [\"/users/{id}\"]\nmethods = [\"PUT\", \"DELETE\"]",
        ),
        ("exact", "paths = [\"/users/me\"]\nmethods = [\"PUT\"]"),
        (
            "api-users",
            "hosts = [\"api.example.com\"]\npaths = [\"/users/*\"]\nheaders = { \"x-key\" = \"k\" }",
        ),
    ]);
    let api = ("host", "api.example.com");
    for (method, path, headers, expected) in [
        ("PUT", "/users/me", &[][..], "exact"),
        ("DELETE", "/users/me", &[], "template"),
        ("GET", "/users/me", &[], "prefix"),
        ("GET", "/users/me", &[api, ("x-key", "k")], "api-users"),
        ("PUT", "/users/me", &[api], "exact"),
        ("GET", "/other", &[api, ("x-key", "k")], "any"),
    ] {
        let route = route_of(&proxy, method, path, headers);
        assert_eq!(route, expected, "{method} {path} {headers:?}");
    }
}

#[test]
fn a_request_that_no_route_matches_is_told_so() {
    let proxy = named_routes(&[("api", "hosts = [\"api.example.com\"]")]);
    let answer = ask(&proxy, "GET", "/x", &[("x-request-id", "7b3f")]);
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers.get("x-request-id"), Some("7b3f"));
    assert!(answer.text().contains("7b3f"), "{:?}", answer.text());

    let headers = [("accept", "application/json"), ("x-request-id", "7b3f")];
    let answer = ask(&proxy, "GET", "/x", &headers);
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers.get("content-type"), Some("application/json"));
    let said = answer.json();
    assert_eq!(
        (&said["status"], &said["error"], &said["request_id"]),
        (&404.into(), &"no_route".into(), &"7b3f".into())
    );
}

#[test]
fn strip_prefix_takes_whole_segments_from_the_front() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra(
            r#"
            [[routes]]
            upstream = "app"
            [[routes]]
            paths = ["/v1/*", "/v10/*"]
            upstream = "app"
            strip_prefix = "/v1"
            "#,
        )
        .start();
    let seen = |path: &str| proxy.get(path).json()["uri"].clone();
    assert_eq!(seen("/v1/headers?q=1&r=%2F"), "/headers?q=1&r=%2F");
    assert_eq!(seen("/headers?q=1"), "/headers?q=1");
    for path in ["/v1", "/v1/"] {
        let answer = proxy.get(path);
        assert_eq!(answer.text(), format!("Hello from {}\n", backend.name()));
    }
    // The test server has no such path.
    assert_eq!(proxy.get("/v10/headers").status, 404);
}

#[test]
fn redirects_replace_the_parts_that_they_name() {
    let proxy = Proxy::new()
        .extra(
            r#"
            [[routes]]
            paths = ["/whole"]
            redirect = { to = "https://www.example.com/new", status = 302 }
            [[routes]]
            paths = ["/path"]
            redirect = { to = "/elsewhere", status = 301 }
            [[routes]]
            paths = ["/scheme/*"]
            redirect = { scheme = "https" }
            [[routes]]
            paths = ["/host/*"]
            redirect = { host = "www.example.com", status = 307 }
            [[routes]]
            paths = ["/port/*"]
            redirect = { port = 8443 }
            [[routes]]
            paths = ["/all/*"]
            redirect = { scheme = "https", host = "www.example.com", port = 443, status = 303 }
            "#,
        )
        .start();
    for (path, status, location) in [
        ("/whole?q=1", 302, "https://www.example.com/new"),
        ("/path", 301, "/elsewhere"),
        (
            "/scheme/a?q=1&r=2",
            308,
            "https://old.example/scheme/a?q=1&r=2",
        ),
        ("/host/a%20b?", 307, "http://www.example.com/host/a%20b?"),
        ("/port/?q", 308, "http://old.example:8443/port/?q"),
        ("/all/x?q=1", 303, "https://www.example.com/all/x?q=1"),
    ] {
        let answer = ask(&proxy, "GET", path, &[("host", "old.example:8080")]);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers.get("location"), Some(location), "{path}");
        assert!(answer.body.is_empty(), "{path}: {:?}", answer.text());
        assert!(answer.headers.get("x-request-id").is_some(), "{path}");
    }
}

#[test]
fn respond_gives_its_status_and_body_as_text() {
    let proxy = Proxy::new()
        .extra(
            r#"
            [[routes]]
            paths = ["/robots.txt"]
            respond = { body = "User-agent: *\nDisallow: /\n" }
            [[routes]]
            paths = ["/closed"]
            respond = { status = 503 }
            "#,
        )
        .start();
    let answer = proxy.get("/robots.txt");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "User-agent: *\nDisallow: /\n");
    let content_type = answer.headers.get("content-type");
    assert_eq!(content_type, Some("text/plain; charset=utf-8"));

    let head = ask(&proxy, "HEAD", "/robots.txt", &[]);
    assert_eq!(head.headers.get("content-length"), Some("26"));

    let closed = proxy.get("/closed");
    assert_eq!((closed.status, closed.text()), (503, ""));
}

#[test]
fn a_route_takes_requests_of_its_listeners_only() {
    let proxy = Proxy::new()
        .extra(
            r#"
            [[listeners]]
            name = "internal"
            listen = "127.0.0.1:0"
            [[routes]]
            respond = { body = "everyone" }
            [[routes]]
            listeners = ["internal"]
            paths = ["/metrics"]
            respond = { body = "insiders" }
            [[routes]]
            listeners = ["web"]
            paths = ["/shop"]
            respond = { body = "customers" }
            "#,
        )
        .start();
    let internal = proxy.addr_of("internal");
    let on_internal = |path| request(internal, message("GET", path, &[], b""));
    assert_eq!(proxy.get("/metrics").text(), "everyone");
    assert_eq!(on_internal("/metrics").text(), "insiders");
    assert_eq!(proxy.get("/shop").text(), "customers");
    assert_eq!(on_internal("/shop").text(), "everyone");
}

#[test]
fn a_body_over_the_routes_limit_is_refused() {
    let backend = Backend::start();
    let proxy = Proxy::new()
        .upstream("app", &[backend.addr()])
        .extra(
            r#"
            [[routes]]
            upstream = "app"
            [[routes]]
            headers = { "x-limited" = "yes" }
            upstream = "app"
            max_body = "1KiB"
            "#,
        )
        .start();
    let upload = |headers: &[(&str, &str)], body: &[u8]| {
        let answer = request(proxy.addr(), message("POST", "/upload", headers, body));
        let taken = (answer.status == 200).then(|| answer.json()["bytes"].clone());
        (answer.status, taken)
    };
    let limited = ("x-limited", "yes");
    let chunked = ("transfer-encoding", "chunked");
    let in_chunks = |length: usize| format!("{length:x}\r\n{:length$}\r\n0\r\n\r\n", "");

    assert_eq!(upload(&[limited], &[0; 1024]), (200, Some(1024.into())));
    assert_eq!(upload(&[limited], &[0; 1025]), (413, None));
    let largest = in_chunks(1024);
    assert_eq!(
        upload(&[limited, chunked], largest.as_bytes()),
        (200, Some(1024.into()))
    );
    let too_large = in_chunks(1025);
    assert_eq!(
        upload(&[limited, chunked], too_large.as_bytes()),
        (413, None)
    );
    assert_eq!(upload(&[], &[0; 1025]), (200, Some(1025.into())));
}
