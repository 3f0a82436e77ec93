//! The path of a key in the configuration, such as `upstreams[0].servers[1]`, and walking a value tree along it.

use std::fmt;

use serde_json::Value;

/// Where a value is in the configuration; the empty path is the whole of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<Segment>);

/// One step into a table or a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A table's key.
    Key(String),
    /// A position in a list, from 0.
    Index(usize),
}

impl KeyPath {
    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path of `key` in the table here.
    pub fn key(&self, key: &str) -> Self {
        self.child(Segment::Key(key.to_owned()))
    }

    /// The path of the element at `index` of the list here.
    pub fn index(&self, index: usize) -> Self {
        self.child(Segment::Index(index))
    }

    fn child(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// The path of the table or list that this is in, and the last step.
    pub fn split_last(&self) -> Option<(Self, &Segment)> {
        let (last, rest) = self.0.split_last()?;
        Some((Self(rest.to_vec()), last))
    }

    /// This path, then those of the tables and lists around it, outwards to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        (0..=self.0.len())
            .rev()
            .map(|length| Self(self.0[..length].to_vec()))
    }

    /// The path with the positions left out: `upstreams[].servers[]`.
    pub fn pattern(&self) -> String {
        let mut pattern = String::new();
        for segment in &self.0 {
            match segment {
                Segment::Key(key) if pattern.is_empty() => pattern.push_str(key),
                Segment::Key(key) => {
                    pattern.push('.');
                    pattern.push_str(key);
                }
                Segment::Index(_) => pattern.push_str("[]"),
            }
        }
        pattern
    }

    /// The value at this path of `tree`, to change it.
    pub fn find_mut<'v>(&self, tree: &'v mut Value) -> Option<&'v mut Value> {
        self.0
            .iter()
            .try_fold(tree, |value, segment| match segment {
                Segment::Key(key) => value.get_mut(key),
                Segment::Index(index) => value.get_mut(index),
            })
    }
}

impl FromIterator<Segment> for KeyPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    if is_bare(key) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether TOML takes `key` without quotes.
pub(super) fn is_bare(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_file_is_written() {
        let path = KeyPath::default().key("routes").index(1).key("headers");
        assert_eq!(path.key("x-a").to_string(), "routes[1].headers.x-a");
        assert_eq!(
            path.key("a b\n").to_string(),
            r#"routes[1].headers."a b\n""#
        );
        assert_eq!(path.pattern(), "routes[].headers");
    }

    #[test]
    fn walks_a_tree() {
        let mut tree = serde_json::json!({ "a": [{ "b": 1 }] });
        let path = KeyPath::default().key("a").index(0).key("b");
        assert_eq!(path.key("c").find_mut(&mut tree), None);
        assert_eq!(path.index(0).find_mut(&mut tree), None);
        *path.find_mut(&mut tree).expect("it is there") = Value::from(2);
        assert_eq!(tree, serde_json::json!({ "a": [{ "b": 2 }] }));
    }
}
