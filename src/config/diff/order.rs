//! When the order of two routes decides which of them a request takes.

use std::borrow::Cow;

use serde_json::Value;

/// Only between routes that are as specific as each other and may both match: with a listener, a host and a path in
/// common, a method or none at all, and as many headers, but others. The rules of precedence tell all others apart.
pub(super) fn of_routes(a: &Value, b: &Value) -> bool {
    let headers = |route: &Value| {
        route
            .get("headers")
            .and_then(Value::as_object)
            .map_or(0, |it| it.len())
    };
    headers(a) > 0
        && headers(a) == headers(b)
        && a.get("headers") != b.get("headers")
        && ["listeners", "hosts", "paths", "methods"]
            .iter()
            .all(|key| have_in_common(list(a, key), list(b, key)))
}

fn list<'v>(route: &'v Value, key: &str) -> &'v [Value] {
    route
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Whether some element is in both, or both are empty, which stands for any.
fn have_in_common(a: &[Value], b: &[Value]) -> bool {
    let in_b = |text: &Value| b.iter().any(|other| shape(other) == shape(text));
    (a.is_empty() && b.is_empty()) || a.iter().any(in_b)
}

/// A text without the names of its parameters, if it is a template.
fn shape(value: &Value) -> Cow<'_, str> {
    let text = value.as_str().unwrap_or_default();
    if !text.contains('{') {
        return Cow::Borrowed(text);
    }
    let mut shape = String::with_capacity(text.len());
    let mut in_name = false;
    for c in text.chars() {
        in_name &= c != '}';
        if !in_name {
            shape.push(c);
        }
        in_name |= c == '{';
    }
    Cow::Owned(shape)
}
