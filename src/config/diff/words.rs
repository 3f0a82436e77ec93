//! Where a change is and what it is, in words.

use std::borrow::Cow;

use serde_json::Value;

use super::secrets::ANOTHER;
use super::{Change, Kind};
use crate::config::key_path::is_bare;

/// The most characters of a value that a line shows.
const LONGEST: usize = 100;

/// A value's place: in which tables of lists it is, and under which keys in the innermost of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    path: String,
    /// `upstream "app": server 127.0.0.1:3000`
    subject: String,
    keys: Vec<String>,
    /// The element of a list, if it is one.
    element: Option<String>,
}

impl Place {
    /// The key of the value here, if it is in a table.
    pub(super) fn last_key(&self) -> Option<&str> {
        self.keys.last().map(String::as_str)
    }

    /// The value of `key` in the table here.
    pub(super) fn key(&self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        let mut place = self.clone();
        place.path += &format!("{dot}{}", quoted(key));
        place.keys.push(key.to_owned());
        place
    }

    /// A table in the list here: a `noun`, told apart by `name`.
    pub(super) fn table(&self, noun: &str, name: &str) -> Self {
        let mut place = self.element(name);
        let name = match noun {
            "server" | "certificate" | "bandwidth" => word(name),
            _ => format!("{name:?}"),
        };
        let colon = if self.subject.is_empty() { "" } else { ": " };
        place.subject += &format!("{colon}{noun} {name}");
        place.keys.clear();
        place.element = None;
        place
    }

    /// Another element of the list here.
    pub(super) fn element(&self, name: &str) -> Self {
        Self {
            path: format!("{}[{name:?}]", self.path),
            element: Some(word(name)),
            ..self.clone()
        }
    }

    /// That `old` became `new`; `None` is nothing.
    pub(super) fn change(&self, old: Option<&Value>, new: Option<&Value>) -> Change {
        let is_secret = new.is_some_and(|new| new == ANOTHER);
        let kind = match (old, new) {
            (None, _) => Kind::Added,
            (_, None) => Kind::Removed,
            _ => Kind::Changed,
        };
        let what = match (old, new) {
            _ if is_secret => " differs (secret)".to_owned(),
            (Some(old), Some(new)) => format!(" {} -> {}", shown(old), shown(new)),
            (Some(one), None) | (None, Some(one)) => {
                let verb = if new.is_some() { "added" } else { "removed" };
                match self.is_named() {
                    true => format!(" {verb}"),
                    false => format!(" {} {verb}", shown(one)),
                }
            }
            (None, None) => String::new(),
        };
        let to = if is_secret { old } else { new };
        Change {
            path: self.path.clone(),
            kind,
            from: old.cloned(),
            to: to.cloned(),
            text: format!("{self}{what}"),
        }
    }

    /// That what is in the list here has another order.
    pub(super) fn reordered(&self) -> Change {
        Change {
            path: self.path.clone(),
            kind: Kind::Reordered,
            from: None,
            to: None,
            text: format!("{self}: order changed"),
        }
    }

    /// Whether the words for the place say already which value it is.
    fn is_named(&self) -> bool {
        self.element.is_some() || self.keys.is_empty()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(|key| quoted(key)).collect();
        let keys = keys.join(".");
        let parts = [Some(&self.subject), Some(&keys), self.element.as_ref()];
        let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        f.write_str(&parts.join(": "))
    }
}

/// A key as TOML has it.
fn quoted(key: &str) -> Cow<'_, str> {
    match is_bare(key) {
        true => Cow::Borrowed(key),
        false => Cow::Owned(format!("{key:?}")),
    }
}

/// A value as what tells it apart: a string itself, anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value on a line, cut when it is long.
fn shown(value: &Value) -> String {
    let text = inline(value);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A value as TOML has it within a line, but for quotes that nobody needs.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A text without quotes where it is one word.
fn word(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_graphic() && !"\"'{}[],=".contains(c);
    match !text.is_empty() && text.chars().all(is_word) {
        true => text.to_owned(),
        false => format!("{text:?}"),
    }
}
