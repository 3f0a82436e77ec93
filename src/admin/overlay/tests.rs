//! What changes at run time make of what is configured.

use super::*;

fn address(text: &str) -> ServerAddress {
    text.parse().unwrap()
}

fn weight(weight: u32) -> Weight {
    serde_json::from_value(weight.into()).unwrap()
}

fn configured(servers: &[(&str, u32)]) -> Vec<(ServerAddress, u32)> {
    servers
        .iter()
        .map(|(text, weight)| (address(text), *weight))
        .collect()
}

/// Applies to a configuration: address, weight, draining and origin of what comes out.
fn applied(overlay: &mut Overlay, servers: &[(&str, u32)]) -> Vec<(String, u32, bool, Origin)> {
    let specs = overlay.apply("app", configured(servers)).into_iter();
    specs
        .map(|spec| {
            (
                spec.address.to_string(),
                spec.weight,
                spec.draining,
                spec.origin,
            )
        })
        .collect()
}

#[test]
fn without_changes_the_configuration_stands() {
    let mut overlay = Overlay::default();
    let servers = applied(&mut overlay, &[("a:1", 3)]);
    assert_eq!(servers, [("a:1".to_owned(), 3, false, Origin::Config)]);
    assert_eq!(overlay, Overlay::default());
}

#[test]
fn changes_win_over_the_configuration() {
    let mut overlay = Overlay::default();
    overlay.add("app", address("c:1"), weight(4));
    overlay.change("app", &address("c:1"), None, Some(true));
    overlay.remove("app", &address("a:1"));
    overlay.change("app", &address("b:1"), Some(weight(7)), None);
    overlay.add("other", address("d:1"), weight(1));
    assert_eq!(
        applied(&mut overlay, &[("a:1", 1), ("b:1", 1)]),
        [
            ("b:1".to_owned(), 7, false, Origin::Config),
            ("c:1".to_owned(), 4, true, Origin::Admin),
        ]
    );
}

#[test]
fn what_was_not_changed_follows_the_configuration() {
    let mut overlay = Overlay::default();
    overlay.change("app", &address("a:1"), None, Some(true));
    let servers = applied(&mut overlay, &[("a:1", 9)]);
    assert_eq!(servers, [("a:1".to_owned(), 9, true, Origin::Config)]);
    overlay.change("app", &address("a:1"), Some(weight(2)), None);
    overlay.change("app", &address("a:1"), None, Some(false));
    let servers = applied(&mut overlay, &[("a:1", 9)]);
    assert_eq!(servers, [("a:1".to_owned(), 2, false, Origin::Config)]);
}

#[test]
fn adding_a_removed_server_takes_the_removal_back() {
    let mut overlay = Overlay::default();
    overlay.remove("app", &address("a:1"));
    overlay.add("app", address("a:1"), weight(2));
    let servers = applied(&mut overlay, &[("a:1", 1)]);
    assert_eq!(servers, [("a:1".to_owned(), 2, false, Origin::Config)]);
    overlay.remove("app", &address("a:1"));
    assert_eq!(applied(&mut overlay, &[("a:1", 1)]), []);
}

#[test]
fn removing_an_added_server_leaves_nothing_behind() {
    let mut overlay = Overlay::default();
    overlay.add("app", address("c:1"), weight(1));
    overlay.remove("app", &address("c:1"));
    let servers = applied(&mut overlay, &[("c:1", 5)]);
    assert_eq!(servers, [("c:1".to_owned(), 5, false, Origin::Config)]);
}

#[test]
fn an_added_server_that_is_configured_by_now_is_the_configurations() {
    let mut overlay = Overlay::default();
    overlay.add("app", address("c:1"), weight(4));
    let servers = applied(&mut overlay, &[("c:1", 5)]);
    assert_eq!(servers, [("c:1".to_owned(), 5, false, Origin::Config)]);
    assert_eq!(applied(&mut overlay, &[]), [], "its entry is gone");
}

#[test]
fn what_the_configuration_no_longer_names_is_forgotten() {
    let mut overlay = Overlay::default();
    overlay.remove("app", &address("a:1"));
    overlay.change("app", &address("b:1"), Some(weight(7)), None);
    assert_eq!(applied(&mut overlay, &[]), []);
    assert_eq!(applied(&mut overlay, &[("a:1", 1), ("b:1", 1)]).len(), 2);
    let servers = applied(&mut overlay, &[("b:1", 1)]);
    assert_eq!(servers, [("b:1".to_owned(), 1, false, Origin::Config)]);
}

#[test]
fn a_file_that_is_in_force_is_told_by_upstream() {
    let mut overlay = Overlay::default();
    for added in ["c:1", "d:1"] {
        overlay.add("app", address(added), weight(1));
    }
    overlay.remove("app", &address("a:1"));
    overlay.change("app", &address("b:1"), Some(weight(2)), Some(true));
    overlay.remove("other", &address("gone:1"));
    assert_eq!(overlay.in_force("app"), None, "no file says so");
    overlay.source = Some(Source {
        changed: BTreeSet::new(),
        path: "lb.state".into(),
        content: Vec::new(),
        register: Register::default(),
    });
    let servers = applied(&mut overlay, &[("a:1", 1), ("b:1", 1)]);
    assert_eq!(servers.len(), 3);
    assert_eq!(
        overlay.in_force("app").unwrap(),
        "the state file \"lb.state\" is in force: app: added c:1, d:1; removed a:1; changed b:1 (weight 2, draining)"
    );
    overlay.apply("other", Vec::new());
    assert_eq!(overlay.in_force("other"), None, "nothing applies");
    assert_eq!(overlay.in_force("no"), None);
}

#[test]
fn a_difference_that_was_taken_is_put_back() {
    let mut overlay = Overlay::default();
    overlay.add("app", address("c:1"), weight(4));
    overlay.remove("app", &address("a:1"));
    overlay.change("app", &address("b:1"), None, Some(true));
    let mut copy = Overlay::default();
    assert_eq!(overlay.differences().count(), 3);
    for (upstream, address, difference) in overlay.differences() {
        assert_eq!(
            overlay.difference(upstream, address),
            Some(difference.clone())
        );
        copy.set(upstream, address, Some(Difference::Removed));
        copy.set(upstream, address, Some(difference));
    }
    assert_eq!(copy, overlay);
    copy.set("app", &address("c:1"), None);
    assert_eq!(copy.difference("app", &address("c:1")), None);
    assert_eq!(copy.differences().count(), 2);
}

#[test]
fn a_server_that_a_file_names_twice_is_one() {
    let text = r#"{"app": {"added": [{"address": "c:1"}, {"address": "C:1", "weight": 3}]}}"#;
    let mut overlay: Overlay = serde_json::from_str(text).unwrap();
    let servers = applied(&mut overlay, &[]);
    assert_eq!(servers, [("c:1".to_owned(), 1, false, Origin::Admin)]);
}
