//! Overrides from the environment: `LB__LISTENERS__0__LISTEN=127.0.0.1:8080` is `listeners[0].listen`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{ConfigError, Place};
use super::key_path::{KeyPath, Segment};

const PREFIX: &str = "LB__";
const SEPARATOR: &str = "__";

/// Which values came from the environment.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// Also the tables and lists that an override had to make on its way.
    variables: BTreeMap<KeyPath, String>,
    /// What a variable says, where it was not taken for a string.
    texts: BTreeMap<KeyPath, String>,
}

impl Overrides {
    /// The variable that the value at `path` came from, if it did not come from the file.
    pub(super) fn variable(&self, path: &KeyPath) -> Option<&str> {
        path.ancestors()
            .find_map(|path| self.variables.get(&path))
            .map(String::as_str)
    }

    /// What the variable for `path` says, unless it was taken for a string or has been asked for before.
    pub(super) fn take_text(&mut self, path: &KeyPath) -> Option<String> {
        self.texts.remove(path)
    }
}

/// Puts the values of all `LB__...` variables of `env` into `tree`; a longer path overrides a shorter one.
pub(super) fn apply(
    env: &BTreeMap<String, String>,
    tree: &mut Value,
) -> (Overrides, Vec<ConfigError>) {
    let mut overrides = Overrides::default();
    let mut errors = Vec::new();
    let mut variables: Vec<(Vec<String>, &String, &String)> = env
        .iter()
        .filter_map(|(name, text)| {
            let path = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
            let segments = path.split(SEPARATOR).map(str::to_owned).collect();
            Some((segments, name, text))
        })
        .collect();
    // Shorter first, and position 2 of a list before 10.
    variables.sort_by_cached_key(|(segments, ..)| {
        let in_order = |s: &String| (s.parse::<usize>().unwrap_or(usize::MAX), s.clone());
        segments.iter().map(in_order).collect::<Vec<_>>()
    });
    for (segments, name, text) in variables {
        if let Err(message) = overrides.set(tree, name, &segments, text) {
            errors.push(ConfigError::whole(Place::Variable(name.clone()), message));
        }
    }
    (overrides, errors)
}

impl Overrides {
    fn set(
        &mut self,
        tree: &mut Value,
        variable: &str,
        segments: &[String],
        text: &str,
    ) -> Result<(), String> {
        if segments.iter().any(String::is_empty) {
            return Err(format!(
                "is not {PREFIX}KEY{SEPARATOR}KEY...; expected for example LB__LISTENERS__0__LISTEN"
            ));
        }
        let mut path = KeyPath::default();
        let mut node = tree;
        for segment in segments {
            let (step, child, is_new) = descend(node, segment, &path)?;
            node = child;
            path = match step {
                Segment::Key(key) => path.key(&key),
                Segment::Index(index) => path.index(index),
            };
            if is_new {
                self.variables.insert(path.clone(), variable.to_owned());
            }
        }
        *node = value_of(text);
        if !node.is_string() {
            self.texts.insert(path.clone(), text.to_owned());
        }
        self.variables.insert(path, variable.to_owned());
        Ok(())
    }
}

/// The value called `segment` in `node`, which is made, as null, when it is not there (the third value says so).
fn descend<'v>(
    node: &'v mut Value,
    segment: &str,
    path: &KeyPath,
) -> Result<(Segment, &'v mut Value, bool), String> {
    let index = segment.parse::<usize>().ok();
    if node.is_null() {
        *node = match index {
            Some(_) => Value::Array(Vec::new()),
            None => Value::Object(Map::new()),
        };
    }
    match node {
        Value::Object(table) => {
            // The case of a variable's name says nothing about the key's.
            let existing = table.keys().find(|key| key.eq_ignore_ascii_case(segment));
            let key = existing.cloned().unwrap_or_else(|| segment.to_owned());
            let is_new = !table.contains_key(&key);
            let child = table.entry(key.clone()).or_insert(Value::Null);
            Ok((Segment::Key(key), child, is_new))
        }
        Value::Array(items) => {
            let length = items.len();
            let index = index
                .filter(|index| *index <= length)
                .ok_or_else(|| format!("{path} is a list of {length}; expected a position from 0 to {length} in place of {segment:?}"))?;
            if index == length {
                items.push(Value::Null);
            }
            Ok((Segment::Index(index), &mut items[index], index == length))
        }
        _ => Err(format!(
            "{path} is neither a table nor a list, so that {segment:?} is not in it"
        )),
    }
}

/// A TOML value when `text` is one, otherwise a string.
fn value_of(text: &str) -> Value {
    text.parse::<toml::Value>()
        .ok()
        .and_then(json_of)
        .unwrap_or_else(|| Value::from(text))
}

/// `None` when a date or a number that is not finite is in it: no key takes those.
fn json_of(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)?.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(items) => items.into_iter().map(json_of).collect::<Option<_>>()?,
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| Some((key, json_of(value)?)))
            .collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(tree: Value, env: &[(&str, &str)]) -> (Value, Overrides, Vec<String>) {
        let mut tree = tree;
        let env = env
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .collect();
        let (overrides, errors) = apply(&env, &mut tree);
        (
            tree,
            overrides,
            errors.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn values_are_toml_or_strings() {
        for (text, value) in [
            ("5", json!(5)),
            ("true", json!(true)),
            ("[1, 'a']", json!([1, "a"])),
            ("{ a = 1 }", json!({ "a": 1 })),
            ("'5'", json!("5")),
            ("5s", json!("5s")),
            ("", json!("")),
            ("nan", json!("nan")),
            ("2026-01-01", json!("2026-01-01")),
            ("1\nadmin = 2", json!("1\nadmin = 2")),
        ] {
            assert_eq!(value_of(text), value, "{text:?}");
        }
    }

    #[test]
    fn overrides_change_extend_and_make() {
        let file = json!({ "a": { "X-Key": 1 }, "list": ["x"] });
        let (tree, overrides, errors) = applied(
            file,
            &[
                ("LB__A__X-KEY", "2"),
                ("LB__LIST__1", "y"),
                ("LB__NEW__0__NAME", "n"),
                ("LB_OTHER", "ignored"),
            ],
        );
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(
            tree,
            json!({ "a": { "X-Key": 2 }, "list": ["x", "y"], "new": [{ "name": "n" }] })
        );
        let root = KeyPath::default();
        assert_eq!(
            overrides.variable(&root.key("new").index(0).key("other")),
            Some("LB__NEW__0__NAME")
        );
        assert_eq!(overrides.variable(&root.key("list").index(0)), None);
    }

    #[test]
    fn the_order_is_that_of_the_paths() {
        let mut env: Vec<(String, String)> = (0..12)
            .map(|i| (format!("LB__LIST__{i}"), i.to_string()))
            .collect();
        env.push(("LB__LIST".to_owned(), "['old']".to_owned()));
        let env: Vec<(&str, &str)> = env.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let (tree, _, errors) = applied(json!({}), &env);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(tree, json!({ "list": (0..12).collect::<Vec<_>>() }));
    }

    #[test]
    fn what_cannot_be_overridden_names_its_variable() {
        for (name, message) in [
            ("LB__", "LB__: is not LB__KEY__KEY...;"),
            ("LB__A____B", "LB__A____B: is not LB__KEY__KEY...;"),
            (
                "LB__LIST__2",
                "LB__LIST__2: list is a list of 1; expected a position from 0 to 1",
            ),
            ("LB__LIST__99999999999999999999", "expected a position"),
            (
                "LB__LIST__NAME",
                r#"expected a position from 0 to 1 in place of "name""#,
            ),
            ("LB__NEW__7", "LB__NEW__7: new is a list of 0"),
            (
                "LB__LIST__0__X",
                "LB__LIST__0__X: list[0] is neither a table nor a list",
            ),
        ] {
            let (tree, _, errors) = applied(json!({ "list": ["x"], "a": {} }), &[(name, "1")]);
            assert!(!tree.to_string().contains("null"), "{name}: {tree}");
            assert_eq!(errors.len(), 1, "{name}");
            assert!(errors[0].contains(message), "{errors:?}");
        }
    }
}
