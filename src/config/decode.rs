//! From a value tree to the schema, with all errors instead of the first.
//!
//! Serde stops at the first error. So the value at fault is taken out of the tree, which every field of the schema
//! allows, and the rest is tried again.

use serde::Deserialize;
use serde_ignored::Path;
use serde_json::Value;
use serde_path_to_error::{Segment as ErrorSegment, Track};

use super::environment::Overrides;
use super::error::Problems;
use super::forms::Table;
use super::key_path::{KeyPath, Segment};
use super::keys;
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
                    if let Some(message) = keys::explain_unknown(&path, path.find(&tree)) {
                        problems.add(path, message);
                    }
                }
                return (root, problems);
            }
            Err((path, message)) => {
                // LB__ADMIN__TOKEN=1234 is an integer at first sight.
                let text = overrides.take_text(&path);
                if let Some((value, text)) = path.find_mut(&mut tree).zip(text) {
                    *value = Value::from(text);
                    continue;
                }
                let later = path
                    .find(&tree)
                    .and_then(|value| keys::explain_later_value(&path, value));
                let removed = remove(&mut tree, &path);
                problems.add(path, later.unwrap_or(message));
                if !removed {
                    return (Root::default(), problems);
                }
            }
        }
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
fn attempt(tree: &Value, unknown: &mut Vec<KeyPath>) -> Result<Root, (KeyPath, String)> {
    let mut track = Track::new();
    let mut on_ignored = |path: Path<'_>| unknown.push(ignored_path(&path));
    let tracked = serde_path_to_error::Deserializer::new(tree, &mut track);
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
            (segments.collect(), error.to_string())
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
                "drain_timeout: invalid type: integer `5`, expected a duration with its unit",
            ),
            (
                json!({ "upstreams": [{ "servers": ["127.0.0.1"] }] }),
                r#"upstreams[0].servers[0]: "127.0.0.1" has no port; expected "host:port", for example "127.0.0.1:3000""#,
            ),
            (
                json!({ "upstreams": [{ "strategy": "rr" }] }),
                "upstreams[0].strategy: unknown variant `rr`, expected one of `round_robin`",
            ),
            (
                json!({ "rate_limit": { "store": "cluster" } }),
                r#"rate_limit.store: "cluster" is not supported by this version; expected "memory" or "redis""#,
            ),
            (
                json!({ "admin": ["127.0.0.1:1"] }),
                "admin: invalid type: sequence, expected a table",
            ),
            (
                json!({ "listeners": {} }),
                "listeners: invalid type: map, expected a sequence",
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
                "routes[0].headers.a: invalid type",
            ),
        ] {
            let problems = problems(tree);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(message), "{problems:?}");
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
