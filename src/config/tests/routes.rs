//! Which routes are refused, alone and beside others.

use super::*;

/// The errors of a file with these routes.
fn route_errors(routes: &[&str]) -> Vec<String> {
    let routes: String = routes
        .iter()
        .map(|keys| format!("[[routes]]\n{keys}\n"))
        .collect();
    match toml(&format!("{SMALLEST}{routes}")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_route_does_one_thing_and_has_the_keys_for_it() {
    for (keys, error) in [
        (
            "paths = [\"/\"]",
            "routes[0]: does nothing; expected one of",
        ),
        (
            "upstream = \"app\"\nrespond = {}",
            "routes[0]: does several things",
        ),
        (
            "upstream = \"app\"\nlisteners = [\"web\"]",
            "listeners[0]: no listener is named \"web\"",
        ),
        (
            "upstream = \"app\"\nlisteners = []",
            "routes[0].listeners: is empty",
        ),
        ("upstream = \"app\"\nhosts = [\"*\"]", "leave \"hosts\" out"),
        (
            "upstream = \"app\"\npaths = [\"/{\"]",
            "routes[0].paths[0]: \"/{\" is not a template",
        ),
        (
            "upstream = \"app\"\nmethods = [\"get\"]",
            "methods[0]: \"get\" is in lower case",
        ),
        (
            "upstream = \"app\"\nheaders = { \"a b\" = \"\" }",
            "\"a b\" is not a header's name",
        ),
        (
            "upstream = \"app\"\nheaders = { a = \"\\n\" }",
            "headers.a: \"\\n\" is not a header's value",
        ),
        (
            "upstream = \"app\"\nheaders = { a = \"1\", A = \"1\" }",
            "is given twice",
        ),
        (
            "upstream = \"app\"\nstrip_prefix = \"v1\"",
            "strip_prefix: \"v1\" is not a path",
        ),
        (
            "upstream = \"app\"\nstrip_prefix = \"/v1/\"",
            "strip_prefix: \"/v1/\" ends with",
        ),
        (
            "split = { app = 1 }\nrespond = {}",
            "routes[0]: does several things",
        ),
        (
            "respond = {}\ntimeout = \"1s\"",
            "routes[0].timeout: is for routes with an upstream",
        ),
        (
            "respond = { status = 100 }",
            "respond.status: 100 is not a status",
        ),
        (
            "respond = { status = 204, body = \"x\" }",
            "respond.body: answers with status 204",
        ),
        ("redirect = {}", "redirect.to: is missing"),
        (
            "redirect = { to = \"/x\", port = 1 }",
            "redirect.to: is the whole location",
        ),
        (
            "redirect = { to = \"//x\" }",
            "redirect.to: \"//x\" is not a location",
        ),
        ("redirect = { to = \"/x#y\" }", "is not a location"),
        (
            "redirect = { to = \"/x\", status = 200 }",
            "redirect.status: 200 is not a redirect",
        ),
        (
            "redirect = { scheme = \"ftp\" }",
            "redirect.scheme: \"ftp\" is not a scheme",
        ),
        (
            "redirect = { host = \"a:1\" }",
            "redirect.host: \"a:1\" has a port",
        ),
        (
            "rate_limit = \"on\"\nrespond = {}",
            "rate_limit: \"on\" is not right; expected \"off\" or a table",
        ),
        (
            "upstream = 5",
            "routes[0].upstream: 5 is a number; expected a name",
        ),
    ] {
        let errors = route_errors(&[keys]);
        assert_eq!(errors.len(), 1, "{keys}: {errors:#?}");
        assert!(errors[0].contains(error), "{}", errors[0]);
    }
}

#[test]
fn routes_that_nothing_tells_apart_are_refused() {
    for (first, second) in [
        ("", ""),
        ("hosts = [\"a\", \"b\"]", "hosts = [\"c\", \"B.\"]"),
        ("paths = [\"/x\", \"/y/*\"]", "paths = [\"/y/*\"]"),
        (
            "methods = [\"GET\", \"POST\"]",
            "methods = [\"POST\", \"PUT\"]",
        ),
        (
            "headers = { a = \"1\", b = \"2\" }",
            "headers = { B = \"2\", A = \"1\" }",
        ),
    ] {
        let errors = route_errors(&[
            &format!("respond = {{}}\nname = \"first\"\n{first}"),
            &format!("respond = {{}}\n{second}"),
        ]);
        assert_eq!(errors.len(), 1, "{first} {second}: {errors:#?}");
        let same = r#"routes[1]: "route1" matches the same requests as routes[0] ("first"), for "#;
        assert!(errors[0].contains(same), "{}", errors[0]);
    }
    for (first, second) in [
        ("", "hosts = [\"a\"]"),
        ("hosts = [\"a\"]", "hosts = [\"*.a\"]"),
        ("paths = [\"/x\"]", "paths = [\"/x/*\"]"),
        ("paths = [\"/x/{id}\"]", "paths = [\"/x/{id}/y\"]"),
        ("methods = [\"GET\"]", "methods = [\"PUT\"]"),
        ("methods = [\"GET\"]", ""),
        ("headers = { a = \"1\" }", "headers = { a = \"2\" }"),
        (
            "paths = [\"/x/{id}\"]\nhosts = [\"a\"]",
            "paths = [\"/x/{n}\"]\nhosts = [\"b\"]",
        ),
        (
            "paths = [\"/x/{id}\"]\nmethods = [\"GET\"]",
            "paths = [\"/x/{id}\"]",
        ),
    ] {
        let errors = route_errors(&[
            &format!("respond = {{}}\n{first}"),
            &format!("respond = {{}}\n{second}"),
        ]);
        assert_eq!(errors, Vec::<String>::new(), "{first} {second}");
    }
    let conflict = route_errors(&[
        "respond = {}\npaths = [\"/x/{id}\"]",
        "respond = {}\npaths = [\"/x/{name}\"]",
    ]);
    assert_eq!(conflict.len(), 1, "{conflict:#?}");
    assert!(
        conflict[0].contains("matches the same requests as routes[0]"),
        "{}",
        conflict[0]
    );
}
