//! Routes that share requests among several upstreams.

use std::collections::HashMap;

use crate::support::backend::{Backend, RefusingPort};
use crate::support::client::{message, request};
use crate::support::proxy::{Proxy, RunningProxy};

/// Two upstreams, `app` and `canary`, and a route with these keys.
fn before(app: &Backend, canary: &Backend, route: &str) -> RunningProxy {
    Proxy::new()
        .unprobed("app", &[app.addr()])
        .unprobed("canary", &[canary.addr()])
        .extra(&format!("[[routes]]\n{route}"))
        .start()
}

fn ask(proxy: &RunningProxy, fields: &[(&str, &str)]) -> String {
    let answer = request(proxy.addr(), message("GET", "/", fields, b""));
    let name = answer.headers.get("x-backend");
    name.expect("a server's answer").to_owned()
}

/// How many of 400 requests `canary` got.
fn share(proxy: &RunningProxy, canary: &Backend) -> usize {
    let mut client = proxy.connect();
    let got = (0..400).filter(|_| {
        let answer = client.get("/").expect("an answer");
        answer.headers.get("x-backend") == Some(canary.name())
    });
    got.count()
}

#[test]
fn each_upstream_gets_its_share() {
    let (app, canary) = (Backend::start(), Backend::start());
    let proxy = before(&app, &canary, "split = { app = 3, canary = 1 }");
    let quarter = share(&proxy, &canary);
    // Six standard deviations about the mean of 100.
    assert!((48..=152).contains(&quarter), "{quarter}");
    let proxy = before(&app, &canary, "split = { app = 1, canary = 0 }");
    assert_eq!(share(&proxy, &canary), 0);
}

#[test]
fn the_same_key_goes_to_the_same_upstream() {
    let (app, canary) = (Backend::start(), Backend::start());
    for (by, field) in [("header:x-user", "x-user"), ("cookie:user", "cookie")] {
        let route = format!("split = {{ app = 1, canary = 1 }}\nsplit_by = \"{by}\"");
        let proxies = [before(&app, &canary, &route), before(&app, &canary, &route)];
        let mut seen = HashMap::new();
        for user in 0..40 {
            let value = format!("user={user}");
            let fields = [(field, &*value)];
            let first = ask(&proxies[0], &fields);
            for proxy in &proxies {
                assert_eq!(ask(proxy, &fields), first, "{value} by {by}");
            }
            *seen.entry(first).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
        // Without a key it is the lot that decides.
        let without: Vec<_> = (0..40).map(|_| ask(&proxies[0], &[])).collect();
        assert!(without.iter().any(|name| *name != without[0]));
    }
}

#[test]
fn a_client_keeps_its_upstream_by_its_address() {
    let (app, canary) = (Backend::start(), Backend::start());
    let route = "split = { app = 1, canary = 1 }\nsplit_by = \"client_ip\"";
    let proxy = before(&app, &canary, route);
    let got = share(&proxy, &canary);
    assert!(got == 0 || got == 400, "{got}");
}

#[test]
fn a_further_try_stays_in_the_upstream() {
    let (refusing, app, canary) = (RefusingPort::new(), Backend::start(), Backend::start());
    let proxy = Proxy::new()
        .unprobed("app", &[refusing.addr()])
        .unprobed("canary", &[refusing.addr(), canary.addr()])
        .unprobed("unused", &[app.addr()])
        .extra("[[routes]]\nsplit = { app = 1, canary = 1 }\nsplit_by = \"header:x-user\"")
        .start();
    let statuses: Vec<_> = (0..40)
        .map(|user| {
            let value = user.to_string();
            let fields = [("x-user", &*value)];
            let bytes = message("GET", "/", &fields, b"");
            let [first, second] = [&bytes; 2].map(|it| request(proxy.addr(), it).status);
            assert_eq!(first, second, "{user}");
            first
        })
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&502));
}
