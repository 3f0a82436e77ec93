//! docs/conformance.md names a test in every row, and every name is that of a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_row_of_the_table_names_tests_that_exist() {
    let tests = tests_by_file();
    let page = fs::read_to_string("docs/conformance.md").expect("the page is there");
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.split(" | ").collect();
        let [_, named, _] = cells[..] else {
            wrong.push(line.to_owned());
            continue;
        };
        if matches!(named, "test" | "---") {
            continue;
        }
        rows += 1;
        let names: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        if names.is_empty() || names.iter().any(|name| !tests.contains(*name)) {
            wrong.push(line.to_owned());
        }
    }
    assert!(rows > 0, "the table is empty");
    assert!(
        wrong.is_empty(),
        "rows without a test:\n{}",
        wrong.join("\n")
    );
}

/// All tests of this directory, as `file::test`.
fn tests_by_file() -> BTreeSet<String> {
    let files = fs::read_dir(Path::new("tests")).expect("the directory is there");
    let files = files.map(|entry| entry.expect("it can be read").path());
    let mut tests = BTreeSet::new();
    for file in files.filter(|file| file.is_file()) {
        let name = file.file_stem().expect("it has a name").to_string_lossy();
        let text = fs::read_to_string(&file).expect("it can be read");
        for attribute in text.split("test]\n").skip(1) {
            let function = attribute.trim_start_matches("async ").strip_prefix("fn ");
            let test = function.and_then(|function| function.split('(').next());
            tests.extend(test.map(|test| format!("{name}::{test}")));
        }
    }
    tests
}
