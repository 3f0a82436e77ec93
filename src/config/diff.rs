//! What differs between two configurations, in plain words, one line each.
//!
//! The two are compared in their effective form, in which every default is written out. What a list holds is matched by
//! what tells it apart (a name, an address, itself), so that an element put in front of the others is one change.

mod order;
mod secrets;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::effective::effective;
use super::model::Config;
use words::Place;

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Where it is: `upstreams["app"].servers["127.0.0.1:3000"].weight`.
    pub path: String,
    /// What happened there.
    pub kind: Kind,
    /// What was there; absent when something was added, and for orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is there now; absent when something was removed, and for orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// The whole in words, on one line: `upstream "app": server 127.0.0.1:3000: weight 1 -> 2`.
    pub text: String,
}

/// Kinds of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// Its value is another one.
    Changed,
    /// What a list holds comes in another order, and that means something.
    Reordered,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A list of tables.
struct Tables {
    /// What a table in it is called.
    noun: &'static str,
    /// The key that tells it apart from the others.
    key: &'static str,
    /// Whether it matters which of two comes first; `None` if it never does.
    order: Option<fn(&Value, &Value) -> bool>,
}

impl Tables {
    /// The lists of tables, by their keys.
    fn of(key: &str) -> Option<Self> {
        type Order = Option<fn(&Value, &Value) -> bool>;
        let (noun, key, order): (_, _, Order) = match key {
            "listeners" => ("listener", "name", None),
            "routes" => ("route", "name", Some(order::of_routes)),
            "upstreams" => ("upstream", "name", None),
            "servers" => ("server", "address", None),
            // The first is for clients that name no host; and of several for a name it is the first that fits.
            "bandwidth" => ("bandwidth", "key", None),
            "certificates" => ("certificate", "cert", Some(|_, _| true)),
            _ => return None,
        };
        Some(Self { noun, key, order })
    }
}

/// What differs between two configurations. Secrets that differ are said to, and are not shown.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut shown = effective(new);
    secrets::mark(old, new, &mut shown);
    diff(&effective(old), &shown)
}

/// What differs between two effective configurations, in the order of the old one; what was added comes last in its list
/// or table. Secrets are hidden in both and so are the same here: `changes` compares them.
pub fn diff(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    changes.values(Some(old), Some(new), &Place::default());
    changes.0
}

/// What was found so far.
struct Changes(Vec<Change>);

impl Changes {
    fn values(&mut self, old: Option<&Value>, new: Option<&Value>, at: &Place) {
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => self.tables(old, new, at),
            (Some(Value::Array(old)), Some(Value::Array(new))) => self.lists(old, new, at),
            _ if old == new => {}
            _ => self.0.push(at.change(old, new)),
        }
    }

    fn tables(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, at: &Place) {
        for (key, value) in old {
            self.values(Some(value), new.get(key), &at.key(key));
        }
        for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
            self.values(None, Some(value), &at.key(key));
        }
    }

    fn lists(&mut self, old: &[Value], new: &[Value], at: &Place) {
        // A route's listeners are names.
        let has_tables = old.iter().chain(new).any(Value::is_object);
        let tables = at.last_key().and_then(Tables::of).filter(|_| has_tables);
        let (old, new) = (Elements::of(old, &tables), Elements::of(new, &tables));
        let place = |name: &str| match &tables {
            Some(tables) => at.table(tables.noun, name),
            None => at.element(name),
        };
        for (name, value) in &old.list {
            self.values(Some(value), new.get(name), &place(name));
        }
        for (name, value) in &new.list {
            if old.get(name).is_none() {
                self.values(None, Some(value), &place(name));
            }
        }
        let order = tables.and_then(|tables| tables.order);
        if order.is_some_and(|matters| is_reordered(&old, &new, matters)) {
            self.0.push(at.reordered());
        }
    }
}

/// What a list holds, each with what tells it apart.
struct Elements<'v> {
    list: Vec<(String, &'v Value)>,
    positions: HashMap<String, usize>,
}

impl<'v> Elements<'v> {
    fn of(list: &'v [Value], tables: &Option<Tables>) -> Self {
        let mut elements = Self {
            list: Vec::with_capacity(list.len()),
            positions: HashMap::with_capacity(list.len()),
        };
        for value in list {
            let key = tables.as_ref().and_then(|tables| value.get(tables.key));
            let plain = words::plain(key.unwrap_or(value));
            // The same certificate may be there twice, with two keys.
            let mut name = plain.clone();
            for count in 2.. {
                if !elements.positions.contains_key(&name) {
                    break;
                }
                name = format!("{plain} ({count})");
            }
            elements.positions.insert(name.clone(), elements.list.len());
            elements.list.push((name, value));
        }
        elements
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.positions.get(name).map(|index| self.list[*index].1)
    }
}

/// Whether two elements changed places of which it `matters` which comes first.
fn is_reordered(
    old: &Elements<'_>,
    new: &Elements<'_>,
    matters: fn(&Value, &Value) -> bool,
) -> bool {
    // The new positions, in the old order.
    let kept = old
        .list
        .iter()
        .filter_map(|(name, _)| new.positions.get(name));
    let kept: Vec<usize> = kept.copied().collect();
    if kept.is_sorted() {
        return false;
    }
    kept.iter().enumerate().any(|(index, first)| {
        let passed = kept[index + 1..].iter().filter(|second| *second < first);
        let mut both = passed.map(|second| (new.list[*first].1, new.list[*second].1));
        both.any(|(first, second)| matters(first, second))
    })
}
