//! The table as a whole: cases by hand, and a comparison with a search that goes through all routes.

mod reference;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{BuildError, Host, Path, RouteSpec, RouteTable, TemplateError};

/// A route as `METHODS HOSTS PATHS HEADERS`, each a list with commas or `-` for no condition.
fn route(text: &str) -> RouteSpec {
    let columns: Vec<Vec<&str>> = text
        .split_whitespace()
        .map(|column| column.split(',').filter(|entry| *entry != "-").collect())
        .collect();
    let [methods, hosts, paths, headers] = columns.as_slice() else {
        panic!("not four columns: {text}");
    };
    RouteSpec {
        methods: methods.iter().map(|m| m.parse().unwrap()).collect(),
        hosts: hosts.iter().map(|text| host(text)).collect(),
        paths: paths.iter().map(|text| path(text)).collect(),
        headers: headers.iter().map(|text| header(text)).collect(),
    }
}

fn host(text: &str) -> Host {
    match text.strip_prefix("*.") {
        Some(suffix) => Host::Wildcard(suffix.to_owned()),
        None => Host::Exact(text.to_owned()),
    }
}

fn path(text: &str) -> Path {
    match text.strip_suffix("/*") {
        Some(prefix) => Path::Prefix(prefix.to_owned()),
        None if text.contains('{') => Path::Template(text.to_owned()),
        None => Path::Exact(text.to_owned()),
    }
}

fn header(text: &str) -> (HeaderName, HeaderValue) {
    let (name, value) = text.split_once('=').unwrap();
    (name.parse().unwrap(), value.parse().unwrap())
}

fn table(routes: &[&'static str]) -> Result<RouteTable<&'static str>, BuildError> {
    RouteTable::build(routes.iter().map(|text| (route(text), *text)).collect())
}

fn find<T: Copy>(table: &RouteTable<T>, method: &str, host: &str, path: &str) -> Option<T> {
    find_with(table, method, host, path, &[])
}

fn find_with<T: Copy>(
    table: &RouteTable<T>,
    method: &str,
    host: &str,
    path: &str,
    headers: &[&str],
) -> Option<T> {
    let host = (host != "-").then_some(host);
    let mut map = HeaderMap::new();
    for text in headers {
        let (name, value) = header(text);
        map.append(name, value);
    }
    table
        .find(|| host, path, &method.parse().unwrap(), &map)
        .copied()
}

#[test]
fn hosts_match_exactly_then_by_the_longest_wildcard_then_any() {
    let table = table(&[
        "- - - -",
        "- *.example.com - -",
        "- *.b.example.com - -",
        "- A.Example.com. - -",
        "- [::1] - -",
    ])
    .unwrap();
    for (host, expected) in [
        ("a.example.com", "- A.Example.com. - -"),
        ("a.EXAMPLE.com", "- A.Example.com. - -"),
        ("a.example.com.", "- A.Example.com. - -"),
        ("x.example.com", "- *.example.com - -"),
        ("x.a.example.com", "- *.example.com - -"),
        ("b.example.com", "- *.example.com - -"),
        ("X.B.example.com.", "- *.b.example.com - -"),
        ("y.x.b.example.com", "- *.b.example.com - -"),
        ("[::1]", "- [::1] - -"),
        ("example.com", "- - - -"),
        (".example.com", "- - - -"),
        ("notexample.com", "- - - -"),
        ("", "- - - -"),
        (".", "- - - -"),
        ("-", "- - - -"),
    ] {
        assert_eq!(find(&table, "GET", host, "/"), Some(expected), "{host}");
    }
}

#[test]
fn a_host_that_is_too_long_to_be_a_name_matches_no_host() {
    let table = table(&["- *.example.com - -"]).unwrap();
    let host = |length: usize| {
        let label = "a".repeat(length - ".example.com".len());
        format!("{label}.example.com")
    };
    assert!(find(&table, "GET", &host(256), "/").is_some());
    assert!(find(&table, "GET", &host(257), "/").is_none());
    assert!(find(&table, "GET", &host(100_000), "/").is_none());
}

#[test]
fn paths_match_exactly_then_by_template_then_by_the_longest_prefix_then_any() {
    let table = table(&[
        "- - - -",
        "- - /* -",
        "- - /x/* -",
        "- - /x/y/* -",
        "- - /x/{id} -",
        "- - /x/y -",
    ])
    .unwrap();
    for (path, expected) in [
        ("/x/y", "- - /x/y -"),
        ("/x/z", "- - /x/{id} -"),
        ("/x/Y", "- - /x/{id} -"),
        ("/x", "- - /x/* -"),
        ("/x/", "- - /x/* -"),
        ("/x/z/", "- - /x/* -"),
        ("/x/y/", "- - /x/y/* -"),
        ("/x/y/z", "- - /x/y/* -"),
        ("/xy", "- - /* -"),
        ("/", "- - /* -"),
        ("/ü/x", "- - /* -"),
        ("*", "- - - -"),
    ] {
        assert_eq!(find(&table, "GET", "-", path), Some(expected), "{path}");
    }
}

#[test]
fn prefixes_end_at_segment_boundaries_even_inside_of_a_character() {
    let table = table(&["- - /x/* -"]).unwrap();
    for path in ["/xé", "/é", "é", "", "/xx/", "x/"] {
        assert_eq!(find(&table, "GET", "-", path), None, "{path}");
    }
}

#[test]
fn methods_then_headers_decide_between_routes_of_one_path() {
    let table = table(&[
        "- - /x -",
        "- - /x a=1,b=2",
        "- - /x a=1",
        "GET,PUT - /x -",
        "GET - /x b=2",
        "GET - /x a=1",
    ])
    .unwrap();
    for (method, headers, expected) in [
        ("POST", &[][..], "- - /x -"),
        ("POST", &["a=2"], "- - /x -"),
        ("POST", &["a=1"], "- - /x a=1"),
        ("POST", &["a=0", "a=1"], "- - /x a=1"),
        ("POST", &["b=2", "a=1"], "- - /x a=1,b=2"),
        ("PUT", &["a=1", "b=2"], "GET,PUT - /x -"),
        ("HEAD", &[], "- - /x -"),
        ("GET", &["a=1"], "GET - /x a=1"),
        ("GET", &["a=1", "b=2"], "GET - /x b=2"),
        // A server may take it for that.
        ("get", &["a=1"], "GET - /x a=1"),
        ("pUt", &[], "GET,PUT - /x -"),
    ] {
        let found = find_with(&table, method, "-", "/x", headers);
        assert_eq!(found, Some(expected), "{method} {headers:?}");
    }
}

#[test]
fn a_request_falls_through_to_the_next_candidate() {
    let table = table(&[
        "GET a.test /x -",
        "PUT a.test /{any} -",
        "POST a.test /x/* -",
        "HEAD a.test - -",
        "TRACE *.test /x -",
        "PATCH - /x -",
    ])
    .unwrap();
    for (method, expected) in [
        ("GET", Some("GET a.test /x -")),
        ("PUT", Some("PUT a.test /{any} -")),
        ("POST", Some("POST a.test /x/* -")),
        ("HEAD", Some("HEAD a.test - -")),
        ("TRACE", Some("TRACE *.test /x -")),
        ("PATCH", Some("PATCH - /x -")),
        ("DELETE", None),
    ] {
        assert_eq!(find(&table, method, "a.test", "/x"), expected);
    }
}

#[test]
fn a_template_gives_way_to_the_next_template() {
    let table = table(&["GET - /users/{id} -", "- - /{a}/{b} -"]).unwrap();
    assert_eq!(
        find(&table, "GET", "-", "/users/1"),
        Some("GET - /users/{id} -")
    );
    assert_eq!(find(&table, "PUT", "-", "/users/1"), Some("- - /{a}/{b} -"));
}

#[test]
fn a_table_without_routes_finds_nothing_and_one_without_conditions_everything() {
    let empty = table(&[]).unwrap();
    assert_eq!(find(&empty, "GET", "a.test", "/"), None);
    let catch_all = table(&["- - - -"]).unwrap();
    assert!(find(&catch_all, "GET", "-", "").is_some());
    assert!(find(&catch_all, "GET", "a.test", "*").is_some());
    for conditional in ["GET - - -", "- a.test - -", "- - /x -", "- - - a=1"] {
        let table = table(&[conditional]).unwrap();
        assert_eq!(find(&table, "PUT", "-", "/"), None, "{conditional}");
    }
}

#[test]
fn a_route_may_name_a_condition_twice() {
    let table = table(&["GET,GET a.test,A.test. /{x},/{y} a=1,a=1", "- - - -"]).unwrap();
    let found = find_with(&table, "GET", "a.test", "/1", &["a=1"]);
    assert_eq!(found, Some("GET,GET a.test,A.test. /{x},/{y} a=1,a=1"));
}

#[test]
fn equal_routes_are_refused() {
    for (first, second, place) in [
        ("- - - -", "- - - -", "any host and any path"),
        (
            "GET,PUT a.test /x/* a=1,b=2",
            "PUT,GET A.test. /x/* b=2,a=1",
            "host A.test. and path /x/*",
        ),
        (
            "- *.a.test /{x}/y -",
            "- b.test,*.a.test /{z}/y,/x -",
            "host *.a.test and path /{z}/y",
        ),
    ] {
        let error = table(&["GET other.test - -", first, "- - /other -", second]).unwrap_err();
        let expected = BuildError::Duplicate {
            first: 1,
            second: 3,
            place: place.to_owned(),
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn a_template_that_is_not_one_is_refused() {
    let error = table(&["- - - -", "- - /{a -"]).unwrap_err();
    let expected = BuildError::Template {
        route: 1,
        template: "/{a".to_owned(),
        source: TemplateError::Unbalanced,
    };
    assert_eq!(error, expected);
}

fn any_route() -> impl Strategy<Value = RouteSpec> {
    let hosts = vec![
        "a.test", "A.test.", "b.a.test", "test", "*.test", "*.a.test", "*.TEST",
    ];
    let paths = vec![
        "/",
        "/x",
        "/x/",
        "/x/y",
        "/*",
        "/x/*",
        "/x/y/*",
        "/{id}",
        "/{name}",
        "/x/{id}",
        "/{id}/y",
        "/x{id}",
        "/{id}y",
        "/x{id}/y",
        "/{id}/{name}",
        "/{*id}",
        "/x/{*id}",
        "/x{*id}",
    ];
    let methods = vec![Method::GET, Method::PUT];
    let headers = vec!["a=1", "a=2", "b=1"];
    (
        vec(select(hosts).prop_map(host), 0..3),
        vec(select(paths).prop_map(path), 0..3),
        vec(select(methods), 0..2),
        vec(select(headers).prop_map(header), 0..3),
    )
        .prop_map(|(hosts, paths, methods, headers)| RouteSpec {
            hosts,
            paths,
            methods,
            headers,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_a_search_through_all_routes(
        mut routes in vec(any_route(), 0..12),
        requests in vec(
            (
                proptest::option::of("(c[.])?(b[.])?(a[.])?(test|Test[.]|other)?"),
                "(/|/x|/y|/xy|/xxy|/z){0,4}",
                select(vec![Method::GET, Method::PUT, Method::HEAD]),
                vec(select(vec!["a=1", "a=2", "b=1", "b=2"]), 0..3),
            ),
            20,
        ),
    ) {
        let table = loop {
            let numbered = routes.iter().cloned().zip(0_usize..).collect();
            match RouteTable::build(numbered) {
                Ok(table) => break table,
                Err(BuildError::Duplicate { first, second, .. }) => {
                    prop_assert!(first < second);
                    prop_assert!(reference::are_equal_somewhere(&routes[first], &routes[second]));
                    routes.remove(second);
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        };
        for (i, route) in routes.iter().enumerate() {
            let equal = |other| reference::are_equal_somewhere(route, other);
            prop_assert!(!routes[..i].iter().any(equal), "an equal route was let through");
        }
        for (host, path, method, headers) in requests {
            let headers: HeaderMap = headers.into_iter().map(header).fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
            let found = table.find(|| host.as_deref(), &path, &method, &headers).copied();
            let expected = reference::find(&routes, host.as_deref(), &path, &method, &headers);
            prop_assert_eq!(found, expected, "{:?} {} {} {:?}", host, path, method, headers);
        }
    }
}
