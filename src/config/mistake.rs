//! What serde finds wrong with a value, in the words of the one who wrote it: `"3" is a string; expected ...`.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::suggest;

/// Why a value was not taken, to be read after its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("{}; expected {}", kind_of(found), wanted(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unsigned(0) => "0 is too small".to_owned(),
            Unexpected::Unsigned(number) => format!("{number} is too large"),
            Unexpected::Signed(number) => format!("{number} is too small"),
            Unexpected::Str(text) => format!("{text:?} is not right"),
            other => kind_of(other),
        };
        Self(format!("{found}; expected {}", wanted(expected)))
    }

    fn unknown_variant(word: &str, choices: &'static [&'static str]) -> Self {
        let hint = suggest::nearest(word, choices)
            .map(|name| format!("; did you mean {name:?}?"))
            .unwrap_or_default();
        Self(format!("{word:?} is not one of {}{hint}", quoted(choices)))
    }
}

/// What `found` is, in the terms of the file.
fn kind_of(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("{value} is a boolean"),
        Unexpected::Unsigned(number) => format!("{number} is a number"),
        Unexpected::Signed(number) => format!("{number} is a number"),
        Unexpected::Float(number) => format!("{number:?} is a decimal number"),
        Unexpected::Str(text) => format!("{text:?} is a string"),
        Unexpected::Seq => "is a list".to_owned(),
        Unexpected::Map => "is a table".to_owned(),
        Unexpected::Unit | Unexpected::Option => "has no value".to_owned(),
        other => format!("is a {other}"),
    }
}

/// What is expected: serde's names of Rust's types are replaced, the schema's own types speak for themselves.
fn wanted(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    let words = match expected.as_str() {
        "a boolean" => "true or false",
        "a string" | "path string" => "a string in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        "u16" | "u32" => "a whole number, 0 or more",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" | "a nonzero usize" => "a whole number, 1 or more",
        _ => return expected,
    };
    words.to_owned()
}

/// `"a", "b"`
pub(super) fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}
