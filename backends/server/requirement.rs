//! A field that requests must have, as only a load balancer in front can set it.

use std::env;
use std::str::FromStr;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// A field and its only accepted value.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    name: HeaderName,
    value: HeaderValue,
}

impl Requirement {
    /// Whether a request has it, once and nothing else under that name.
    pub fn is_met(&self, headers: &HeaderMap) -> bool {
        headers.get_all(&self.name).iter().eq([&self.value])
    }
}

impl FromStr for Requirement {
    type Err = String;

    /// Reads `NAME: VALUE`. A value `env:VARIABLE` is that variable's.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
        let name = name.trim().parse();
        let name = name.map_err(|_| "the name is none of a field".to_owned())?;
        let value = value.trim();
        let value = match value.strip_prefix("env:") {
            None => Ok(value.to_owned()),
            Some(variable) => env::var(variable).map_err(|error| format!("{variable}: {error}")),
        };
        match value?.parse::<HeaderValue>() {
            Ok(value) if !value.is_empty() => Ok(Self { name, value }),
            _ => Err("the value is none of a field".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_met_by_the_value_alone() {
        let requirement: Requirement = "X-Key: a b:c ".parse().unwrap();
        let met = |values: &[&str]| {
            let name = HeaderName::from_static("x-key");
            let fields = values.iter().map(|it| (name.clone(), it.parse().unwrap()));
            requirement.is_met(&fields.collect())
        };
        assert!(met(&["a b:c"]));
        for other in [&[][..], &["a b:C"], &["a b:c", "a b:c"], &["a b:c", "d"]] {
            assert!(!met(other), "{other:?}");
        }
    }

    #[test]
    fn a_value_may_come_from_the_environment() {
        let path = env::var("PATH").unwrap();
        let read = "x-key: env:PATH".parse::<Requirement>();
        assert_eq!(read, format!("x-key: {path}").parse());
        let error = "x-key: env:NO_SUCH_VARIABLE".parse::<Requirement>();
        assert!(error.unwrap_err().contains("NO_SUCH_VARIABLE"));
        for odd in ["", "x-key", "x key: 1", "x-key:", "x-key: \n"] {
            assert!(odd.parse::<Requirement>().is_err(), "{odd:?}");
        }
    }
}
