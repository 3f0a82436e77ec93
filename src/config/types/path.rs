//! Patterns of request paths.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, serde_as_text};

/// What a request's path is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// `/x`: this path.
    Exact(String),
    /// From `/x/*`, kept as `/x`: `/x`, `/x/` and everything below, not `/xy`. `/*`, kept as the empty string, is
    /// every path.
    Prefix(String),
    /// `/users/{id}`, `/files/{*rest}`: `matchit` parameters.
    Template(String),
}

serde_as_text!(
    PathPattern,
    r#"a path such as "/x", "/x/*" or "/users/{id}""#
);

impl FromStr for PathPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| {
            Invalid::new(format!(
                r#"{text:?} {why}; expected a path such as "/x", "/x/*" or "/users/{{id}}""#
            ))
        };
        if !text.starts_with('/') {
            return Err(invalid("does not start with \"/\""));
        }
        if let Some(c) = text.chars().find(|&c| !c.is_ascii_graphic()) {
            return Err(invalid(&format!("has {c:?} in it, which a URL escapes")));
        }
        if text.contains(['?', '#']) {
            return Err(invalid(
                "has a query or fragment, which routes do not match",
            ));
        }
        let is_template = text.contains(['{', '}']);
        if is_template && text.ends_with("/*") {
            return Err(invalid("mixes parameters and \"*\": write \"{*rest}\""));
        }
        if is_template {
            return check_template(text)
                .map(|()| Self::Template(text.to_owned()))
                .map_err(|why| invalid(&format!("is not a template: {why}")));
        }
        let (path, is_prefix) = match text.strip_suffix("/*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(invalid("has a \"*\" that is not its last segment"));
        }
        Ok(if is_prefix {
            Self::Prefix(path.to_owned())
        } else {
            Self::Exact(path.to_owned())
        })
    }
}

/// The most parameters of a template; `matchit` panics at one more.
const MAX_PARAMETERS: usize = 25;

fn check_template(text: &str) -> Result<(), String> {
    let mut parameters = 0;
    for segment in text.split('/') {
        let bare = segment.replace("{{", "").replace("}}", "");
        let opened = bare.matches('{').count();
        // `matchit` takes all up to the next closing brace for a name, slashes included.
        if opened != bare.matches('}').count() {
            return Err("a brace has no partner within its segment".to_owned());
        }
        parameters += opened;
    }
    if parameters > MAX_PARAMETERS {
        return Err(format!("it has more than {MAX_PARAMETERS} parameters"));
    }
    let mut router = matchit::Router::new();
    router.insert(text, ()).map_err(|error| error.to_string())
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) | Self::Template(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, pattern) in [
            ("/", PathPattern::Exact("/".into())),
            ("/x/", PathPattern::Exact("/x/".into())),
            ("/*", PathPattern::Prefix(String::new())),
            ("/x/y/*", PathPattern::Prefix("/x/y".into())),
            ("/u/{id}", PathPattern::Template("/u/{id}".into())),
            ("/f/{*rest}", PathPattern::Template("/f/{*rest}".into())),
            (
                "/{{a}}/{b}}c}",
                PathPattern::Template("/{{a}}/{b}}c}".into()),
            ),
        ] {
            assert_eq!(text.parse(), Ok(pattern.clone()), "{text}");
            assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn a_template_has_at_most_so_many_parameters() {
        let most = "/{a}".repeat(MAX_PARAMETERS);
        assert!(most.parse::<PathPattern>().is_ok());
        for more in ["/{a}", "/{*a}"] {
            let error = format!("{most}{more}").parse::<PathPattern>().unwrap_err();
            assert!(error.to_string().contains("more than 25 parameters"));
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        for (text, why) in [
            ("", "does not start"),
            ("x", "does not start"),
            ("*", "does not start"),
            ("/a b", "has ' ' in it"),
            ("/ä", "has 'ä' in it"),
            ("/a?b=1", "has a query"),
            ("/x*", "not its last segment"),
            ("/*/x", "not its last segment"),
            ("/a/{id}/*", "write \"{*rest}\""),
            ("/a/{id", "is not a template"),
            ("/a/{}", "is not a template"),
            ("/a/{/i-{n}.png", "has no partner within its segment"),
            ("/a/{b/c}", "has no partner within its segment"),
        ] {
            let error = text.parse::<PathPattern>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
