//! What is wrong with a configuration, and where: each error is one line for the person who wrote it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::fmt;

use super::key_path::KeyPath;

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<ConfigError>);

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is.
    pub place: Place,
    /// The key, such as `upstreams[0].servers[1]`; `None` when the file as a whole is at fault.
    pub key: Option<String>,
    /// What is wrong with it and what is expected.
    pub message: String,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// As it was named to the program.
        name: String,
        /// From 1; `None` when the line is not known or there is none, as for a table that is missing.
        line: Option<usize>,
        /// From 1; only syntax errors have it.
        column: Option<usize>,
    },
    /// In an environment variable of this name.
    Variable(String),
}

/// What is wrong with a value, and only shows when it is used: a file, mostly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key.
    pub key: KeyPath,
    /// What is wrong with it and what is expected.
    pub message: String,
}

/// Some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl Errors {
    /// Sorts `errors` by their place: the file as a whole, its lines, the environment.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| a.place.order(&b.place));
        Self(errors)
    }

    /// The errors, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for Errors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl Place {
    /// A file as a whole.
    pub(super) fn file(name: &str) -> Self {
        Self::File {
            name: name.to_owned(),
            line: None,
            column: None,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::File { line: a, .. }, Self::File { line: b, .. }) => a.cmp(b),
            (Self::File { .. }, Self::Variable(_)) => Ordering::Less,
            (Self::Variable(_), Self::File { .. }) => Ordering::Greater,
            (Self::Variable(a), Self::Variable(b)) => a.cmp(b),
        }
    }
}

impl ConfigError {
    /// An error about the file, or the variable, and no key in it.
    pub(super) fn whole(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            key: None,
            message: message.into(),
        }
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        // Messages quote what the user wrote; whatever that is, an error stays one line.
        for c in self.message.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File { name, line, column } => {
                f.write_str(name)?;
                for number in [line, column].into_iter().flatten() {
                    write!(f, ":{number}")?;
                }
                Ok(())
            }
        }
    }
}

/// Errors whose places are not looked up yet: one a key, the first, as what follows from it is no news.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<KeyPath, String>);

impl Problems {
    pub(super) fn add(&mut self, at: KeyPath, message: impl Into<String>) {
        self.0.entry(at).or_insert_with(|| message.into());
    }

    pub(super) fn contains(&self, at: &KeyPath) -> bool {
        self.0.contains_key(at)
    }

    /// Whether there is a problem at `at` or within it.
    pub(super) fn concern(&self, at: &KeyPath) -> bool {
        let next = self.0.range(at.clone()..).next();
        next.is_some_and(|(path, _)| path.segments().starts_with(at.segments()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value`; where it is missing, that is a problem that says what is `expected`.
    pub(super) fn required<'v, T>(
        &mut self,
        value: &'v Option<T>,
        at: KeyPath,
        expected: &str,
    ) -> Option<&'v T> {
        if value.is_none() {
            self.add(at, format!("is missing; expected {expected}"));
        }
        value.as_ref()
    }
}

impl IntoIterator for Problems {
    type Item = (KeyPath, String);
    type IntoIter = btree_map::IntoIter<KeyPath, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
