//! From a value tree to the schema, with all errors instead of the first.
//!
//! Serde stops at the first error. So the value at fault is taken out of the tree, which every field of the schema
//! allows, and the rest is tried again.

use serde::Deserialize;
use serde_ignored::Path;
use serde_json::Value;
use serde_path_to_error::{Segment as ErrorSegment, Track};

use super::deserializer::Node;
use super::environment::Overrides;
use super::error::Problems;
use super::foreign;
use super::forms::Table;
use super::key_path::{KeyPath, Segment};
use super::keys;
use super::mistake::Mistake;
use super::schema::Root;

/// Reads what can be read of `tree`. Keys whose value is at fault are as if they were not there.
pub(super) fn decode(mut tree: Value, overrides: &mut Overrides) -> (Root, Problems) {
    let mut problems = Problems::default();
    find_nulls(&tree, &KeyPath::default(), &mut problems);
    loop {
        let mut unknown = Vec::new();
        match attempt(&tree, &mut unknown) {
            Ok(root) => {
                for path in unknown {
                    let message = keys::explain_unknown(&path);
                    problems.add(path, message);
                }
                return (root, problems);
            }
            Err((path, mistake)) => {
                // LB__ADMIN__TOKEN=1234 is an integer at first sight.
                let text = overrides.take_text(&path);
                if let Some((value, text)) = path.find_mut(&mut tree).zip(text) {
                    *value = Value::from(text);
                    continue;
                }
                let message = explain(&mistake, &path, &mut tree);
                let removed = remove(&mut tree, &path);
                problems.add(path, message);
                if !removed {
                    return (Root::default(), problems);
                }
            }
        }
    }
}

/// What is wrong with the value at `path`, and what would be right.
fn explain(mistake: &Mistake, path: &KeyPath, tree: &mut Value) -> String {
    let value = path.find_mut(tree).map(|it| &*it);
    if let Some(advice) = value.and_then(|it| foreign::value(path, it)) {
        return format!("{mistake}; {advice}");
    }
    // Of what is in a table already, an example of the whole would say little.
    let is_table = value.is_some_and(Value::is_object);
    let of_table = foreign::example_of_table(path).filter(|_| !is_table);
    match keys::example_of_list(path).or(of_table) {
        Some(example) => format!("{mistake}, for example {example}"),
        None => mistake.to_string(),
    }
}

/// A key without a value is a mistake more often than a wish for the default (YAML's `token:`).
fn find_nulls(value: &Value, at: &KeyPath, problems: &mut Problems) {
    match value {
        Value::Null => problems.add(
            at.clone(),
            "has no value; leave the key out to have the default",
        ),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nulls(item, &at.index(index), problems);
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                find_nulls(value, &at.key(key), problems);
            }
        }
        _ => {}
    }
}

/// Deserializes `tree`, or says what is wrong first and where; collects the keys that the schema does not have.
fn attempt(tree: &Value, unknown: &mut Vec<KeyPath>) -> Result<Root, (KeyPath, Mistake)> {
    let mut track = Track::new();
    let mut on_ignored = |path: Path<'_>| unknown.push(ignored_path(&path));
    let tracked = serde_path_to_error::Deserializer::new(Node(tree), &mut track);
    let watched = serde_ignored::Deserializer::new(tracked, &mut on_ignored);
    Table::<Root>::deserialize(watched)
        .map(|root| root.0)
        .map_err(|error| {
            let path = track.path();
            let segments = path.iter().map_while(|segment| match segment {
                ErrorSegment::Seq { index } => Some(Segment::Index(*index)),
                ErrorSegment::Map { key } => Some(Segment::Key(key.clone())),
                // What is inside an enum has no path of its own.
                ErrorSegment::Enum { .. } | ErrorSegment::Unknown => None,
            });
            (segments.collect(), error)
        })
}

fn ignored_path(path: &Path<'_>) -> KeyPath {
    match path {
        Path::Root => KeyPath::default(),
        Path::Seq { parent, index } => ignored_path(parent).index(*index),
        Path::Map { parent, key } => ignored_path(parent).key(key),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => ignored_path(parent),
    }
}

/// Takes the value at `path` out. A list keeps a null in its place, so that the positions of the others stay.
fn remove(tree: &mut Value, path: &KeyPath) -> bool {
    let Some((container, last)) = path.split_last() else {
        return false;
    };
    match (container.find_mut(tree), last) {
        (Some(Value::Object(table)), Segment::Key(key)) => table.remove(key).is_some(),
        (Some(Value::Array(items)), Segment::Index(index)) => items
            .get_mut(*index)
            .is_some_and(|item| !std::mem::replace(item, Value::Null).is_null()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(tree: Value) -> Vec<String> {
        let (_, problems) = decode(tree, &mut Overrides::default());
        problems
            .into_iter()
            .map(|(at, message)| format!("{at}: {message}"))
            .collect()
    }

    #[test]
    fn reads_what_is_right_beside_what_is_wrong() {
        let tree = json!({
            "workers": -1,
            "drain_timeout": 5,
            "listeners": [7, { "listen": ["127.0.0.1:1", "x"], "nam": "a" }],
            "upstreams": [{ "servers": ["127.0.0.1", "127.0.0.1:1", { "address": "a:1", "weight": "b" }] }],
        });
        let (root, problems) = decode(tree, &mut Overrides::default());
        let paths: Vec<String> = problems.into_iter().map(|(at, _)| at.to_string()).collect();
        assert_eq!(
            paths,
            [
                "drain_timeout",
                "listeners[0]",
                "listeners[1].listen[1]",
                "listeners[1].nam",
                "upstreams[0].servers[0]",
                "upstreams[0].servers[2].weight",
                "workers",
            ]
        );
        let upstreams = root.upstreams.unwrap();
        let servers = upstreams[0].as_ref().unwrap().servers.as_ref().unwrap();
        let is_there: Vec<bool> = servers.iter().map(Option::is_some).collect();
        assert_eq!(is_there, [false, true, true]);
    }

    #[test]
    fn messages_say_what_is_expected() {
        for (tree, message) in [
            (
                json!({ "drain_timeout": 5 }),
                "drain_timeout: 5 is a number; expected a duration with its unit",
            ),
            (
                json!({ "upstreams": [{ "servers": ["127.0.0.1"] }] }),
                r#"upstreams[0].servers[0]: "127.0.0.1" has no port; expected "host:port", for example "127.0.0.1:3000""#,
            ),
            (
                json!({ "upstreams": [{ "strategy": "rr" }] }),
                r#"upstreams[0].strategy: "rr" is not one of "round_robin", "random", "#,
            ),
            (
                json!({ "upstreams": [{ "strategy": "consistant_hash" }] }),
                r#""consistent_hash"; did you mean "consistent_hash"?"#,
            ),
            (
                json!({ "access_log": { "format": 1 } }),
                r#"access_log.format: 1 is a number; expected one of "json", "combined""#,
            ),
            (
                json!({ "routes": [{ "retry": { "attempts": "3" } }] }),
                r#"routes[0].retry.attempts: "3" is a string; expected a whole number, 0 or more"#,
            ),
            (
                json!({ "rate_limit": { "requests": 1.5 } }),
                "rate_limit.requests: 1.5 is a decimal number; expected a whole number, 1 or more",
            ),
            (
                json!({ "rate_limit": { "burst": 5_000_000_000_u64 } }),
                "rate_limit.burst: 5000000000 is too large; expected a whole number",
            ),
            (
                json!({ "upstreams": [{ "servers": [{ "weight": -1 }] }] }),
                "upstreams[0].servers[0].weight: -1 is too small; expected a whole number, 0 or more",
            ),
            (
                json!({ "routes": [{ "hosts": "a" }] }),
                r#"routes[0].hosts: "a" is a string; expected a list, for example ["api.example.com"]"#,
            ),
            (
                json!({ "workers": "many" }),
                r#"workers: "many" is not right; expected "auto" or a number from 1 to 1024"#,
            ),
            (
                json!({ "rate_limit": { "store": "clster" } }),
                r#"rate_limit.store: "clster" is not one of "memory", "redis", "redis_leased", "cluster"; did you mean "cluster"?"#,
            ),
            (
                json!({ "upstreams": [{ "strategy": "leastconn" }] }),
                r#"; that is "least_connections" here"#,
            ),
            (
                json!({ "listeners": [{ "proxy_protocol": "v2" }] }),
                "; versions are for upstreams, which are sent headers",
            ),
            (
                json!({ "listeners": [{ "bind": "127.0.0.1:1" }] }),
                r#"listeners[0].bind: is not a key of the configuration; it is called "listen" here"#,
            ),
            (
                json!({ "listeners": [{ "rate_limit": { "requests": 1 } }] }),
                r#"; requests are limited by "rate_limit" of the top level and of routes, connections by "connection_rate""#,
            ),
            (
                json!({ "listeners": [{ "connection_rate": "5/s" }] }),
                r#"expected a table, for example connection_rate = { connections = 5, window = "1s" }"#,
            ),
            (
                json!({ "upstreams": [{ "bandwidth": "1MB/s" }] }),
                r#"expected a table, for example bandwidth = { download = "1MB/s" }"#,
            ),
            (
                json!({ "admin": ["127.0.0.1:1"] }),
                "admin: is a list; expected a table",
            ),
            (
                json!({ "listeners": {} }),
                "listeners: is a table; expected a list, for example [[listeners]]",
            ),
            (
                json!({ "routes": [{ "rate_limit": "on" }] }),
                "expected \"off\" or a table",
            ),
            (
                json!({ "workers": 0 }),
                "expected \"auto\" or a number from 1 to 1024",
            ),
            (
                json!({ "admin": { "token": null } }),
                "admin.token: has no value",
            ),
            (
                json!({ "routes": [{ "headers": { "a": 1 } }] }),
                "routes[0].headers.a: 1 is a number; expected a string in quotes",
            ),
        ] {
            let problems = problems(tree);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(message), "{problems:?}");
        }
    }

    /// Every key of the schema, with every kind of value that may be wrong there.
    #[test]
    fn no_message_has_words_of_serde_or_rust() {
        let values = [
            json!("\n"),
            json!(-1),
            json!(0),
            json!(1.5),
            json!(u64::MAX),
            json!(true),
            json!([[]]),
            json!({ "a": [] }),
        ];
        for (table, keys) in keys::TABLES {
            for (key, value) in keys()
                .iter()
                .flat_map(|key| values.iter().map(move |v| (key, v)))
            {
                let mut tree = json!({ (*key): value });
                for step in table.rsplit('.').filter(|step| !step.is_empty()) {
                    tree = match step.strip_suffix("[]") {
                        Some(list) => json!({ (list): [tree] }),
                        None => json!({ (step): tree }),
                    };
                }
                for problem in problems(tree) {
                    for word in [
                        "invalid", "variant", "sequence", "map", "struct", "enum", "integer",
                        "nonzero", "u16", "u32", "usize", "`",
                    ] {
                        assert!(!problem.contains(word), "{problem}");
                    }
                    assert!(
                        !problem.contains("expected a list") || problem.contains("for example"),
                        "{problem}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_secret_that_is_no_string_is_not_shown() {
        for value in [json!(987_654), json!(-987_654), json!(true), json!(9.5)] {
            let problems = problems(json!({ "admin": { "token": value } }));
            assert!(
                problems[0].starts_with("admin.token: is not a string;"),
                "{problems:?}"
            );
            assert!(
                !problems[0].contains('9') && !problems[0].contains("true"),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_root_that_is_no_table_is_an_error() {
        assert_eq!(problems(json!([1])).len(), 1);
    }
}
