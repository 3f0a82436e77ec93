//! The normal form of a path: it is in its normal form, has no dot segments, and any spelling of it has the same one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadbalancer::route::normal_path;

fuzz_target!(|input: &str| {
    // As targets are checked before: visible ASCII, and from the root.
    let path: String = input.chars().filter(char::is_ascii_graphic).collect();
    let path = format!("/{path}");
    let Ok(normal) = normal_path(&path) else {
        return;
    };
    let normal = normal.path.into_owned();
    assert!(normal.starts_with('/'), "{path} {normal}");
    let again = normal_path(&normal).expect("it has one");
    assert_eq!(again.path, normal, "{path}");
    assert!(!again.disputed, "{path}");
    assert!(
        !normal.split('/').any(|segment| matches!(segment, "." | "..")),
        "{path} {normal}"
    );
    assert!(!normal.contains("//") && !normal.contains('\\'), "{path} {normal}");
    // All letters escaped: another spelling of the same.
    let escaped: String = normal
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' => format!("%{:02x}", c as u32),
            c => c.to_string(),
        })
        .collect();
    let is_escape = normal.contains('%');
    if !is_escape && let Ok(other) = normal_path(&escaped) {
        assert_eq!(other.path, normal, "{path}");
    }
});
