//! From a key's path to the line of the file that says it, and the syntax errors that are found on the way.
//!
//! The `config` crate, which reads the values, keeps no positions; so the text is parsed a second time for those. JSON
//! is located as the YAML that it also is.

use marked_yaml::{LoadError, LoaderOptions, Marker, Node};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Format;
use super::key_path::{KeyPath, Segment};

/// YAML that indents further is refused: its parser recurses, and would overflow the stack.
const MAX_YAML_INDENT: usize = 256;

/// A parsed text that knows the line of each of its keys and list elements.
pub(super) enum Lines<'t> {
    Toml(DeTable<'t>, LineStarts),
    Yaml(Node),
    /// They could not be found.
    Unknown,
}

/// A text that is not of its format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    /// From 1.
    pub(super) line: Option<usize>,
    /// From 1.
    pub(super) column: Option<usize>,
}

impl<'t> Lines<'t> {
    /// Parses `text`.
    pub(super) fn of(text: &'t str, format: Format) -> Result<Self, SyntaxError> {
        match format {
            Format::Toml => of_toml(text),
            Format::Yaml => of_yaml(text),
            Format::Json => of_json(text),
        }
    }

    /// The line, from 1, of `path`, or of the nearest table or list around it that the text has.
    pub(super) fn line(&self, path: &KeyPath) -> Option<usize> {
        match self {
            Self::Toml(table, starts) => toml_offset(table, path).map(|offset| starts.line(offset)),
            Self::Yaml(root) => yaml_line(root, path),
            Self::Unknown => None,
        }
    }
}

fn of_toml(text: &str) -> Result<Lines<'_>, SyntaxError> {
    let starts = LineStarts::of(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(Lines::Toml(table.into_inner(), starts)),
        Err(error) => {
            let at = error.span().map(|span| starts.position(text, span.start));
            Err(SyntaxError {
                message: error.message().to_owned(),
                line: at.map(|(line, _)| line),
                column: at.map(|(_, column)| column),
            })
        }
    }
}

/// Where `path`, or as much of it as there is, begins.
fn toml_offset(table: &DeTable<'_>, path: &KeyPath) -> Option<usize> {
    let (Segment::Key(first), rest) = path.segments().split_first()? else {
        return None;
    };
    let (mut offset, mut value) = toml_entry(table, first)?;
    for segment in rest {
        let next = match (segment, value.get_ref()) {
            (Segment::Key(key), DeValue::Table(table)) => toml_entry(table, key),
            (Segment::Index(index), DeValue::Array(items)) => {
                items.get(*index).map(|item| (item.span().start, item))
            }
            _ => None,
        };
        let Some(next) = next else { break };
        (offset, value) = next;
    }
    Some(offset)
}

/// The value of `key`, and where the key begins.
fn toml_entry<'v, 't>(
    table: &'v DeTable<'t>,
    key: &str,
) -> Option<(usize, &'v Spanned<DeValue<'t>>)> {
    let (key, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((key.span().start, value))
}

fn of_yaml(text: &str) -> Result<Lines<'static>, SyntaxError> {
    if let Some(line) = text.lines().position(is_indented_too_far) {
        return Err(SyntaxError {
            message: format!("is indented by more than {MAX_YAML_INDENT} characters"),
            line: Some(line + 1),
            column: None,
        });
    }
    yaml_lines(text).map_err(|error| syntax_error(&error))
}

/// Indentation, and the `- ` and `? ` of nested lists and tables on one line.
fn is_indented_too_far(line: &str) -> bool {
    line.len() - line.trim_start_matches([' ', '\t', '-', '?', ':']).len() > MAX_YAML_INDENT
}

fn of_json(text: &str) -> Result<Lines<'static>, SyntaxError> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        return Err(SyntaxError {
            message: message.trim_end_matches(&place).to_owned(),
            line: Some(error.line()),
            column: Some(error.column()),
        });
    }
    match yaml_lines(text) {
        Ok(lines) => Ok(lines),
        Err(error @ (LoadError::DuplicateKey(_) | LoadError::TopLevelMustBeMapping(_))) => {
            Err(syntax_error(&error))
        }
        // Some of JSON's escapes are not YAML's: then the errors go without lines.
        Err(_) => Ok(Lines::Unknown),
    }
}

fn yaml_lines(text: &str) -> Result<Lines<'static>, LoadError> {
    let options = LoaderOptions::default().error_on_duplicate_keys(true);
    marked_yaml::parse_yaml_with_options(0, text, options).map(Lines::Yaml)
}

/// The line of `path`, or of as much of it as there is.
fn yaml_line(root: &Node, path: &KeyPath) -> Option<usize> {
    let mut line = None;
    let mut node = root;
    for segment in path.segments() {
        let next = match (segment, node) {
            (Segment::Key(key), Node::Mapping(mapping)) => mapping
                .iter()
                .find(|(name, _)| name.as_str() == key)
                .map(|(name, value)| (name.span(), value)),
            (Segment::Index(index), Node::Sequence(sequence)) => {
                sequence.get_node(*index).map(|item| (item.span(), item))
            }
            _ => None,
        };
        let Some((span, value)) = next else { break };
        line = span.start().map(Marker::line);
        node = value;
    }
    line
}

fn syntax_error(error: &LoadError) -> SyntaxError {
    let (message, marker): (String, Option<&Marker>) = match error {
        LoadError::TopLevelMustBeMapping(at) | LoadError::TopLevelMustBeSequence(at) => {
            ("is not a table of keys and values".to_owned(), Some(at))
        }
        LoadError::UnexpectedAnchor(at) => (
            "has an anchor (&), which is not supported".to_owned(),
            Some(at),
        ),
        LoadError::UnexpectedTag(at) => {
            ("has a tag (!), which is not supported".to_owned(), Some(at))
        }
        LoadError::MappingKeyMustBeScalar(at) => {
            ("has a key that is no string".to_owned(), Some(at))
        }
        LoadError::DuplicateKey(keys) => (
            format!("has the key {:?} twice", keys.key.as_str()),
            keys.key.span().start(),
        ),
        LoadError::ScanError(at, reason) => {
            // The reason's own text repeats the place at its end.
            let reason = reason.to_string();
            let text = reason.split(" at byte ").next().unwrap_or(&reason);
            (text.to_owned(), Some(at))
        }
    };
    SyntaxError {
        message,
        line: marker.map(Marker::line),
        column: marker.map(Marker::column),
    }
}

/// The offsets at which lines begin.
pub(super) struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self(std::iter::once(0).chain(after_newlines).collect())
    }

    /// The line, from 1, of a byte.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// The line and column, both from 1, of a byte.
    fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let before = text.get(self.0[line - 1]..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, format: Format, path: &[&str]) -> Option<usize> {
        let path = path
            .iter()
            .fold(KeyPath::default(), |path, segment| match segment.parse() {
                Ok(index) => path.index(index),
                Err(_) => path.key(segment),
            });
        Lines::of(text, format).unwrap().line(&path)
    }

    fn error(text: &str, format: Format) -> (String, Option<usize>, Option<usize>) {
        let error = Lines::of(text, format).err().unwrap();
        (error.message, error.line, error.column)
    }

    #[test]
    fn toml() {
        let text = "a = 1\n[[l]]\nx = 1\n[[l]]\ns = ['p',\n 'q', { c = 1 }]\n[l.t]\ny.z = 2\n";
        for (path, expected) in [
            (&["a"][..], Some(1)),
            (&["l"], Some(2)),
            (&["l", "0", "x"], Some(3)),
            (&["l", "1"], Some(4)),
            (&["l", "1", "missing"], Some(4)),
            (&["l", "1", "s", "1"], Some(6)),
            (&["l", "1", "s", "2", "c"], Some(6)),
            (&["l", "1", "t", "y", "z"], Some(8)),
            (&["missing"], None),
        ] {
            assert_eq!(line(text, Format::Toml, path), expected, "{path:?}");
        }
        let (_, line, column) = error("a = 1\nä = = 2\n", Format::Toml);
        assert_eq!((line, column), (Some(2), Some(5)));
    }

    #[test]
    fn yaml() {
        let text = "# c\na: 1\nl:\n  - x: 1\n    y:\n      - p\n      - q\n  - {z: 3}\n";
        for (path, expected) in [
            (&["a"][..], Some(2)),
            (&["l"], Some(3)),
            (&["l", "0", "x"], Some(4)),
            (&["l", "0", "y", "1"], Some(7)),
            (&["l", "1", "z"], Some(8)),
            (&["l", "1", "missing"], Some(8)),
        ] {
            assert_eq!(line(text, Format::Yaml, path), expected, "{path:?}");
        }
    }

    #[test]
    fn json() {
        let text = "{\n \"a\": 1,\n\t\"l\": [\n  1,\n  {\"x\": \"\\u00e9\\/\"}\n ]\n}";
        assert_eq!(line(text, Format::Json, &["a"]), Some(2));
        assert_eq!(line(text, Format::Json, &["l", "1", "x"]), Some(5));
        assert_eq!(line(r#"{"a": "\ud83d\ude00"}"#, Format::Json, &["a"]), None);
    }

    #[test]
    fn syntax_errors_have_a_line_and_a_reason() {
        let one_of = [
            (
                "a: [\n",
                Format::Yaml,
                "did not find expected node content",
                2,
            ),
            (
                "a: 1\n b: 2\n",
                Format::Yaml,
                "mapping values are not allowed",
                2,
            ),
            ("b: 0\na: &x 1\nc: *x\n", Format::Yaml, "has an anchor", 2),
            ("a: !!str 1\n", Format::Yaml, "has a tag", 1),
            (
                "a: 1\nb: 1\na: 2\n",
                Format::Yaml,
                "has the key \"a\" twice",
                3,
            ),
            (
                "? [a]\n: b\n",
                Format::Yaml,
                "has a key that is no string",
                1,
            ),
            ("- a\n", Format::Yaml, "is not a table", 1),
            ("{\n\"a\": }", Format::Json, "expected value", 2),
            (
                "{\"a\": 1,\n\"a\": 2}",
                Format::Json,
                "has the key \"a\" twice",
                2,
            ),
            ("[1]", Format::Json, "is not a table", 1),
            ("a = 1\na = 2\n", Format::Toml, "duplicate key", 2),
        ];
        for (text, format, reason, at) in one_of {
            let (message, line, _) = error(text, format);
            assert!(message.contains(reason), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message:?}");
            assert_eq!(line, Some(at), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        for deep in [
            format!("a:\n  {}x\n", "- ".repeat(100_000)),
            format!("{}x\n", "? ".repeat(100_000)),
            format!("a: {}x\n", "[".repeat(100_000)),
            (0..1_000).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n"),
        ] {
            assert!(Lines::of(&deep, Format::Yaml).is_err());
        }
        assert!(Lines::of(&"[".repeat(100_000), Format::Json).is_err());
        assert!(Lines::of(&format!("a = {}", "[".repeat(100_000)), Format::Toml).is_err());
        assert!(Lines::of(&format!("a{} = 1", ".a".repeat(100_000)), Format::Toml).is_err());
    }
}
