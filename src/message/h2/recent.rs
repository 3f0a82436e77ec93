//! The fields of answers as HPACK wants them: a map, of names and values that were parsed before if they can be.
//!
//! Answers say the same things over and over: Content-Type, Server, Via, within a second Date. A worker remembers what was
//! said last under a name, spelt like this; what is said again is neither parsed nor copied.

use http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

/// How many names are remembered.
const SLOTS: usize = 64;
/// Largest name and value that are, in bytes.
const MAX_KEPT: usize = 64;

/// What was said last.
#[derive(Debug)]
pub struct Recent([Option<Box<Said>>; SLOTS]);

#[derive(Debug)]
struct Said {
    /// The name as it was spelt.
    spelling: Box<[u8]>,
    name: HeaderName,
    value: HeaderValue,
}

impl Default for Recent {
    fn default() -> Self {
        Self([const { None }; SLOTS])
    }
}

impl Recent {
    /// A map of fields that come as lines, each with its line break, with room for some `more`. What is no field is left
    /// out.
    pub fn map(&mut self, lines: &[u8], more: usize) -> HeaderMap {
        let count = memchr::memchr_iter(b'\n', lines).count();
        let mut map = HeaderMap::with_capacity(count + more);
        let mut rest = lines;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if let Some((name, value)) = self.field(name, value) {
                map.append(name, value);
            }
        }
        map
    }

    fn field(&mut self, spelling: &[u8], text: &[u8]) -> Option<(HeaderName, HeaderValue)> {
        let slot = &mut self.0[slot_of(spelling)];
        if let Some(said) = slot
            && *said.spelling == *spelling
        {
            if said.value.as_bytes() == text {
                return Some((said.name.clone(), said.value.clone()));
            }
            let value = HeaderValue::from_bytes(text).ok()?;
            if is_kept(&said.name, text) {
                said.value = value.clone();
            }
            return Some((said.name.clone(), value));
        }
        let name = HeaderName::from_bytes(spelling).ok()?;
        let value = HeaderValue::from_bytes(text).ok()?;
        if spelling.len() <= MAX_KEPT {
            *slot = Some(Box::new(Said {
                spelling: spelling.into(),
                name: name.clone(),
                value: match is_kept(&name, text) {
                    true => value.clone(),
                    false => HeaderValue::from_static(""),
                },
            }));
        }
        Some((name, value))
    }
}

/// Whether it is worth remembering, and no secret of one client.
fn is_kept(name: &HeaderName, value: &[u8]) -> bool {
    value.len() <= MAX_KEPT && name != SET_COOKIE
}

/// Names that fall together drive each other out, which costs time and nothing else.
fn slot_of(name: &[u8]) -> usize {
    let byte = |place: usize| name.get(place).map_or(0, |byte| usize::from(*byte));
    let last = name.len().wrapping_sub(1);
    (name.len() + 5 * byte(0) + 11 * byte(name.len() / 2) + 17 * byte(last)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(map: &HeaderMap) -> Vec<(&str, &[u8])> {
        let pairs = map.iter();
        let mut pairs: Vec<_> = pairs.map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn lines_become_a_map_however_often_they_were_said() {
        let mut recent = Recent::default();
        let lines = "A: 1\r\nb: \r\na: x: y\tz\r\nC-d: \u{fc}\r\nContent-Type: text/html\r\n";
        for _ in 0..3 {
            let map = recent.map(lines.as_bytes(), 0);
            let expected: [(&str, &[u8]); 5] = [
                ("a", b"1"),
                ("a", b"x: y\tz"),
                ("b", b""),
                ("c-d", "\u{fc}".as_bytes()),
                ("content-type", b"text/html"),
            ];
            assert_eq!(pairs(&map), expected);
        }
    }

    #[test]
    fn what_is_said_anew_counts_and_not_what_was_said_before() {
        let mut recent = Recent::default();
        let long = "v".repeat(MAX_KEPT + 1);
        for (line, name, value) in [
            ("X: 1\r\n", "x", "1"),
            ("X: 2\r\n", "x", "2"),
            ("x: 2\r\n", "x", "2"),
            (&format!("X: {long}\r\n"), "x", &long),
            ("X: \r\n", "x", ""),
            ("X: 2\r\n", "x", "2"),
            ("set-cookie: a=1\r\n", "set-cookie", "a=1"),
            ("set-cookie: a=1\r\n", "set-cookie", "a=1"),
            (&format!("{long}: 1\r\n"), &long, "1"),
        ] {
            let map = recent.map(line.as_bytes(), 0);
            assert_eq!(pairs(&map), [(name, value.as_bytes())], "{line}");
        }
    }

    #[test]
    fn names_in_one_slot_are_told_apart() {
        assert_eq!(slot_of(b"axxb"), slot_of(b"ayxb"));
        let mut recent = Recent::default();
        for name in ["axxb", "ayxb", "axxb"] {
            let map = recent.map(format!("{name}: 1\r\n").as_bytes(), 0);
            assert_eq!(pairs(&map), [(name, &b"1"[..])]);
        }
    }

    #[test]
    fn nothing_secret_or_large_is_kept() {
        let mut recent = Recent::default();
        let long = "v".repeat(MAX_KEPT + 1);
        let lines = format!("Set-Cookie: secret\r\nx: {long}\r\n{long}: 1\r\n");
        recent.map(lines.as_bytes(), 0);
        let kept: Vec<_> = recent.0.iter().flatten().collect();
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(|said| said.value.is_empty()));
    }
}
