//! The configuration: a file and the environment in, a `Config` in which everything has been checked out.
//!
//! ```text
//! text --Format--> value tree --LB__...--> value tree --decode--> schema --validate--> Config
//!   '---locate---> lines                                 '---- all errors, with their lines
//! ```
//!
//! Unknown keys are errors, all errors are reported at once, and no text makes this panic. The rest of the program
//! reads `model` and `types`; the schema, in which keys may be missing, stays in here.

mod choices;
mod decode;
mod deserializer;
pub mod diff;
mod durations;
mod effective;
mod environment;
mod error;
mod foreign;
mod forms;
mod key_path;
mod keys;
mod locate;
mod mistake;
pub mod model;
mod names;
mod networks;
mod restart;
mod schema;
mod suggest;
#[cfg(test)]
mod tests;
pub mod types;
mod validate;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use config::{FileFormat, Format as _, Map, Value as FileValue};
use serde::Deserialize;
use serde_json::Value;

pub use effective::effective;
pub use error::{ConfigError, Errors, Fault, Faults, Place};
pub use key_path::KeyPath;
pub use model::Config;
pub use restart::{keep_what_needs_a_restart, restart_needed};

use locate::Lines;

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.toml`
    Toml,
    /// `.yaml`, `.yml`
    Yaml,
    /// `.json`
    Json,
}

impl Format {
    /// The format that a file's extension stands for.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn parse(self, text: &str) -> Result<Map<String, FileValue>, String> {
        let format = match self {
            Self::Toml => FileFormat::Toml,
            Self::Yaml => FileFormat::Yaml,
            Self::Json => FileFormat::Json,
        };
        format.parse(None, text).map_err(|error| error.to_string())
    }
}

/// Reads the file at `path`, with overrides and secrets from `env` (the variables of the environment).
///
/// # Errors
/// The file cannot be read, its extension stands for no format, or `parse` finds errors in it.
pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Config, Errors> {
    let name = path.display().to_string();
    let failed = |message: String| ConfigError::whole(Place::file(&name), message);
    let format = Format::of(path).ok_or_else(|| {
        failed("has no known extension; expected .toml, .yaml, .yml or .json".to_owned())
    })?;
    let text = std::fs::read_to_string(path).map_err(|error| {
        // The name may be the default one, which the user has never heard of.
        let advice = match error.kind() {
            ErrorKind::NotFound => "; name one with --config FILE",
            _ => "",
        };
        failed(format!("cannot be read: {error}{advice}"))
    })?;
    parse(&text, format, &name, env)
}

/// Reads `text`, which errors call `name`, with overrides and secrets from `env`.
///
/// # Errors
/// All that are in the text and the environment, unless the text is not of its format: then only that.
pub fn parse(
    text: &str,
    format: Format,
    name: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, Errors> {
    let env: BTreeMap<String, String> = env.collect();
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::of(text, format).map_err(|error| ConfigError {
        place: Place::File {
            name: name.to_owned(),
            line: error.line,
            column: error.column,
        },
        key: None,
        message: error.message,
    })?;
    let mut tree =
        tree(text, format).map_err(|message| ConfigError::whole(Place::file(name), message))?;
    let (mut overrides, mut errors) = environment::apply(&env, &mut tree);
    let (root, mut problems) = decode::decode(tree, &mut overrides);
    let config = validate::validate(&root, &env, &mut problems);
    if errors.is_empty() && problems.is_empty() {
        return Ok(config);
    }
    errors.extend(problems.into_iter().map(|(at, message)| ConfigError {
        place: place_of(&at, name, &overrides, Some(&lines)),
        key: Some(at.to_string()),
        message,
    }));
    Err(Errors::new(errors))
}

/// Where in the file at `path`, or in `env`, the keys of `faults` are, which were found after both had been read.
pub fn place(path: &Path, env: impl Iterator<Item = (String, String)>, faults: Faults) -> Errors {
    let name = path.display().to_string();
    let env: BTreeMap<String, String> = env.collect();
    // What has gone wrong with the file meanwhile is not what is asked: then there are no lines.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let format = Format::of(path);
    let lines = format.and_then(|format| Lines::of(text, format).ok());
    let tree = format.and_then(|format| tree(text, format).ok());
    let mut tree = tree.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let (overrides, _) = environment::apply(&env, &mut tree);
    let errors = faults.0.into_iter().map(|fault| ConfigError {
        place: place_of(&fault.key, &name, &overrides, lines.as_ref()),
        key: Some(fault.key.to_string()),
        message: fault.message,
    });
    Errors::new(errors.collect())
}

fn place_of(
    key: &KeyPath,
    file: &str,
    overrides: &environment::Overrides,
    lines: Option<&Lines<'_>>,
) -> Place {
    match overrides.variable(key) {
        Some(variable) => Place::Variable(variable.to_owned()),
        None => Place::File {
            name: file.to_owned(),
            line: lines.and_then(|lines| lines.line(key)),
            column: None,
        },
    }
}

/// The values of `text`. (The `config` crate's builder is not used, because it takes top-level keys for paths.)
fn tree(text: &str, format: Format) -> Result<Value, String> {
    format
        .parse(text)?
        .into_iter()
        .map(|(key, value)| match Value::deserialize(value) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(format!("{key}: {error}")),
        })
        .collect()
}
