//! "Did you mean": the nearest of the names that would have been right.

/// `; did you mean "x"?` when one of `known` is near `word`, otherwise a list of what is known.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, &known) {
        Some(name) => format!("; did you mean {name:?}?"),
        None if known.is_empty() => String::new(),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// The name that at most a third of the letters of `word`, and one more, have to change for.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = word.chars().count() / 3 + 1;
    known
        .iter()
        .map(|name| (edit_distance(&word, &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= limit && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance: insertions, deletions and replacements that make `b` of `a`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("listen", "lisen", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        let known = ["listen", "name", "timeouts"];
        assert_eq!(hint("lisen", known), r#"; did you mean "listen"?"#);
        assert_eq!(hint("Timeout", known), r#"; did you mean "timeouts"?"#);
        assert_eq!(hint("color", known), "; known: listen, name, timeouts");
        assert_eq!(hint("x", []), "");
    }
}
