//! Passwords and tokens, which no log, error or answer shows; and texts that may be one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::Invalid;

/// A text that prints as `***`, unless it was said to be none to hide.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    is_open: bool,
}

/// Where a secret comes from, as the file says it.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// The secret itself.
    Literal(Secret),
    /// `env:NAME`: the value of this environment variable.
    Variable(String),
    /// `file:PATH`: the content of this file without the newline at its end.
    File(PathBuf),
}

const EXPECTED: &str = r#"a string: the secret, "env:NAME" or "file:PATH""#;

impl Secret {
    /// The text itself; not to be logged.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The same text, for anyone to see: where a setting may hold a secret, and this one was written out in the file.
    pub fn opened(self) -> Self {
        Self {
            is_open: true,
            ..self
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self {
            text,
            is_open: false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_open {
            true => self.text.fmt(f),
            false => f.write_str("***"),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open { &self.text } else { "***" })
    }
}

impl SecretSource {
    /// The secret, out of `env` (the environment) or the file where that is its source.
    ///
    /// # Errors
    /// The variable is not set, or the file cannot be read.
    pub fn read(&self, env: &BTreeMap<String, String>) -> Result<Secret, Invalid> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Variable(name) => env.get(name).cloned().map(Secret::from).ok_or_else(|| {
                Invalid::new(format!("the environment variable {name:?} is not set"))
            }),
            Self::File(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Invalid::new(format!("{path:?} cannot be read: {error}")))?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                Ok(Secret::from(text.to_owned()))
            }
        }
    }
}

impl FromStr for SecretSource {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(name) = text.strip_prefix("env:") {
            if name.is_empty() {
                return Err(Invalid::new(r#""env:" names no environment variable"#));
            }
            return Ok(Self::Variable(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            if path.is_empty() {
                return Err(Invalid::new(r#""file:" names no file"#));
            }
            return Ok(Self::File(PathBuf::from(path)));
        }
        Ok(Self::Literal(Secret::from(text.to_owned())))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(secret) => secret.fmt(f),
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Takes a string. Serde's own message about anything else would show it, and it may be a token of digits.
struct SecretVisitor;

impl SecretVisitor {
    fn refuse<E: de::Error>() -> Result<SecretSource, E> {
        Err(E::custom(format_args!(
            "is not a string; expected {EXPECTED}"
        )))
    }
}

impl Visitor<'_> for SecretVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretSource, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretSource, E> {
        Self::refuse()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretSource, E> {
        Self::refuse()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretSource, E> {
        Self::refuse()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretSource, E> {
        Self::refuse()
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let env = BTreeMap::from([("TOKEN".to_owned(), "from env".to_owned())]);
        let source: SecretSource = text.parse().map_err(|e: Invalid| e.to_string())?;
        match source.read(&env) {
            Ok(secret) => Ok(secret.expose().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn comes_from_the_text_the_environment_or_a_file() {
        let path = std::env::temp_dir().join(format!("loadbalancer-secret-{}", std::process::id()));
        fs::write(&path, "from file\r\n").unwrap();
        let file = read(&format!("file:{}", path.display()));
        fs::remove_file(&path).unwrap();

        assert_eq!(file, Ok("from file".to_owned()));
        assert_eq!(read("plain"), Ok("plain".to_owned()));
        assert_eq!(read("env:TOKEN"), Ok("from env".to_owned()));
        assert!(
            read("env:OTHER")
                .unwrap_err()
                .contains("\"OTHER\" is not set")
        );
        let missing = read(&format!("file:{}", path.display())).unwrap_err();
        assert!(
            missing.contains("cannot be read: No such file"),
            "{missing}"
        );
        assert!(read("env:").is_err());
        assert!(read("file:").is_err());
    }

    #[test]
    fn prints_as_stars() {
        let secret = Secret::from("hush".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        let source: SecretSource = "hush".parse().unwrap();
        assert_eq!(format!("{source} {source:?}"), "*** Literal(***)");
        let open = secret.opened();
        assert_eq!(format!("{open} {open:?}"), "hush \"hush\"");
    }
}
