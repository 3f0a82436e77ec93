//! The path that rules see: one spelling for all paths that a server may take for the same.
//!
//! | of a path | in the normal one |
//! | --- | --- |
//! | an escape of a letter, digit, `-`, `.`, `_` or `~` | the character (RFC 3986, section 6.2.2.2) |
//! | other escapes | in upper case (section 6.2.2.1) |
//! | `%2F`, `\`, `%5C` | `/`, which is what many servers make of them |
//! | several slashes in a row | one |
//! | `.` and `..` as segments | removed, never above the root (section 5.2.4) |
//!
//! What is no escape, an escaped NUL, and dot segments with parameters (`..;x`, which some servers take for `..`) have no
//! normal path: requests with such a path are refused.

use std::borrow::Cow;

use thiserror::Error;

/// A path in its normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    /// The normal form; borrowed if the path is in it already.
    pub path: Cow<'a, str>,
    /// Whether another careful reader would come to another path: `..` behind an empty segment, above the root, or in a
    /// path with hidden slashes. Such a path should go on in its normal form only.
    pub disputed: bool,
}

/// Why a path has no normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidPath {
    /// `%` without two hexadecimal digits behind it.
    #[error("the path has a '%' that begins no escape")]
    Escape,
    /// `%00`.
    #[error("the path has an escaped NUL")]
    Nul,
    /// `..;x` or `.;x`.
    #[error("the path has a dot segment with parameters")]
    DotParameters,
}

/// The normal form of a path without query. One that does not begin with a slash (`*`) is in it.
///
/// # Errors
/// It has none.
#[inline]
pub fn normal_path(path: &str) -> Result<NormalPath<'_>, InvalidPath> {
    if is_plain(path.as_bytes()) {
        return Ok(NormalPath {
            path: Cow::Borrowed(path),
            disputed: false,
        });
    }
    normalise(path)
}

/// Whether there is nothing to do, for certain. Without branches, so that it is done many bytes at a time.
fn is_plain(path: &[u8]) -> bool {
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    let mut odd = path.last().is_some_and(|b| matches!(b, b'%' | b'\\'));
    for (a, b) in pairs {
        odd |= (*a == b'%') | (*a == b'\\') | ((*a == b'/') & ((*b == b'/') | (*b == b'.')));
    }
    !odd || path[0] != b'/'
}

#[cold]
fn normalise(path: &str) -> Result<NormalPath<'_>, InvalidPath> {
    let (decoded, hidden_slashes) = decode(path.as_bytes())?;
    let (normal, disputed) = resolve(&decoded, hidden_slashes)?;
    let normal = String::from_utf8(normal).expect("ASCII took the place of ASCII in a text");
    Ok(NormalPath {
        path: match normal == path {
            true => Cow::Borrowed(path),
            false => Cow::Owned(normal),
        },
        disputed,
    })
}

/// Decodes what need not be escaped, and uncovers slashes; tells whether there were any.
fn decode(path: &[u8]) -> Result<(Vec<u8>, bool), InvalidPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut hidden_slashes = false;
    let mut rest = path;
    while let [first, others @ ..] = rest {
        rest = others;
        let byte = match first {
            b'%' => {
                let [high, low, others @ ..] = others else {
                    return Err(InvalidPath::Escape);
                };
                rest = others;
                let byte = hexadecimal(*high)? << 4 | hexadecimal(*low)?;
                if !is_unreserved(byte) && !matches!(byte, b'/' | b'\\' | 0) {
                    let escape = [b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()];
                    decoded.extend_from_slice(&escape);
                    continue;
                }
                hidden_slashes |= byte == b'/';
                byte
            }
            byte => *byte,
        };
        match byte {
            0 => return Err(InvalidPath::Nul),
            b'\\' => {
                hidden_slashes = true;
                decoded.push(b'/');
            }
            byte => decoded.push(byte),
        }
    }
    Ok((decoded, hidden_slashes))
}

fn hexadecimal(digit: u8) -> Result<u8, InvalidPath> {
    let value = char::from(digit).to_digit(16).ok_or(InvalidPath::Escape)?;
    Ok(value as u8)
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Removes empty segments and dot segments; tells whether the result is disputed.
fn resolve(path: &[u8], hidden_slashes: bool) -> Result<(Vec<u8>, bool), InvalidPath> {
    let mut normal = Vec::with_capacity(path.len());
    let mut disputed = false;
    // Segments since an empty one, which `..` removes if slashes are not merged first.
    let mut since_empty = None;
    let mut ends_in_slash = false;
    for segment in path[1..].split(|b| *b == b'/') {
        ends_in_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" => since_empty = Some(0_usize),
            b"." => {}
            b".." => {
                disputed |= hidden_slashes || normal.is_empty() || since_empty == Some(0);
                since_empty = since_empty.map(|count| count.saturating_sub(1));
                let parent = normal.iter().rposition(|b| *b == b'/');
                normal.truncate(parent.unwrap_or_default());
            }
            _ if segment.starts_with(b"..;") || segment.starts_with(b".;") => {
                return Err(InvalidPath::DotParameters);
            }
            _ => {
                since_empty = since_empty.map(|count| count + 1);
                normal.push(b'/');
                normal.extend_from_slice(segment);
            }
        }
    }
    if ends_in_slash {
        normal.push(b'/');
    }
    Ok((normal, disputed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> String {
        let normal = normal_path(path);
        normal.unwrap_or_else(|e| panic!("{path}: {e}")).path.into()
    }

    #[test]
    fn all_spellings_of_a_path_become_one() {
        let cases = [
            ("/", "/"),
            ("*", "*"),
            ("", ""),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%61%2Db%7e", "/a-b~"),
            ("/%c3%A9%20%2b", "/%C3%A9%20%2B"),
            ("/a%2Fb%2fc", "/a/b/c"),
            ("/a\\b%5cc%5C", "/a/b/c/"),
            ("//a///b//", "/a/b/"),
            ("//", "/"),
            ("/a/./b/.", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a%2f..%2fb", "/b"),
            ("/a\\..\\b", "/b"),
            ("/a//../b", "/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/.../..a/.b", "/.../..a/.b"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/mid/content=5/../6", "/mid/6"),
            ("/a/b/c/./../../g", "/a/g"),
        ];
        for (path, expected) in cases {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn what_has_no_normal_form_is_refused() {
        let cases = [
            ("/%", InvalidPath::Escape),
            ("/%4", InvalidPath::Escape),
            ("/%zz", InvalidPath::Escape),
            ("/%+1", InvalidPath::Escape),
            ("/a%u002e", InvalidPath::Escape),
            ("/a%00b", InvalidPath::Nul),
            ("/a/..;/b", InvalidPath::DotParameters),
            ("/a/%2e%2e;x=1/b", InvalidPath::DotParameters),
            ("/a/.;/b", InvalidPath::DotParameters),
        ];
        for (path, error) in cases {
            assert_eq!(normal_path(path), Err(error), "{path}");
        }
    }

    #[test]
    fn nothing_is_allocated_for_a_path_in_its_normal_form() {
        for path in ["/", "/a/b.c", "/.well-known", "/%C3%A9", "/a;b", "*", "/a."] {
            let normal = normal_path(path).unwrap();
            assert!(matches!(normal.path, Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn what_readers_may_differ_about_is_disputed() {
        for path in [
            "/a//../b",
            "/a//b/../../c",
            "/../a",
            "/a/..%2fb",
            "/a%5C../b",
        ] {
            assert!(normal_path(path).unwrap().disputed, "{path}");
        }
        for path in ["/a/../b", "//a//b/../c", "/a%2Fb", "/a//b", "/a/./b"] {
            assert!(!normal_path(path).unwrap().disputed, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_normal(path in "/([a./%25\\\\;]|%2e|%2F|%5c|%c3|é){0,12}") {
            if let Ok(first) = normal_path(&path) {
                let second = normal_path(&first.path).unwrap();
                prop_assert_eq!(&second.path, &first.path);
                prop_assert!(!second.disputed);
                prop_assert!(first.path.starts_with('/'));
                prop_assert!(!first.path.contains("//") && !first.path.contains('\\'));
                let is_dots = |segment: &str| matches!(segment, "." | "..");
                prop_assert!(!first.path.split('/').any(is_dots));
            }
        }
    }
}
