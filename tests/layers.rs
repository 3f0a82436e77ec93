//! ARCHITECTURE.md's layers, held by the code: a module imports only from rows below its own.

use std::fs;
use std::path::{Path, PathBuf};

/// The rows, from the top.
const ROWS: &[&[&str]] = &[
    &["server"],
    &["admin"],
    &["proxy"],
    &["listener", "upstream"],
    &[
        "route", "balance", "health", "limit", "message", "access", "gossip",
    ],
    &["net", "tls"],
    &["metrics"],
    &["config"],
];

/// The only modules that may read `config::model`.
const READERS_OF_THE_MODEL: &[&str] = &["server", "admin", "proxy", "config"];

#[test]
fn no_import_points_up() {
    let mut wrong = Vec::new();
    for (module, file) in sources() {
        for import in imports(&file) {
            if import != module && row(&import) <= row(&module) {
                wrong.push(format!("{}: crate::{import}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports from the same row or from above:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_the_composition_reads_the_configuration() {
    let reads = |file: &Path| read(file).contains("config::model");
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(module, file)| !READERS_OF_THE_MODEL.contains(&module.as_str()) && reads(file))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn architecture_md_draws_these_rows() {
    let page = read(Path::new("ARCHITECTURE.md"));
    let mut rest = page.split_once("## Layers").expect("the section").1;
    for row in ROWS {
        let first = format!("\n{} ", row[0]);
        let position = rest
            .find(&first)
            .unwrap_or_else(|| panic!("{row:?} is missing or out of order"));
        let line = rest[position + 1..].lines().next().unwrap_or_default();
        assert!(
            row.iter().all(|module| line.contains(module)),
            "{row:?} is not what {line:?} says"
        );
        rest = &rest[position..];
    }
}

fn row(module: &str) -> usize {
    let row = ROWS.iter().position(|row| row.contains(&module));
    row.unwrap_or_else(|| panic!("module {module} is in no row of ARCHITECTURE.md"))
}

/// All source files of the library, with the top-level module they belong to.
fn sources() -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    let module_of = |file: &PathBuf| {
        let first = file
            .strip_prefix("src")
            .expect("it was found there")
            .components()
            .next()?;
        let name = first.as_os_str().to_str()?.to_owned();
        (!name.ends_with(".rs")).then_some(name)
    };
    let sources: Vec<_> = files
        .into_iter()
        .filter_map(|file| Some((module_of(&file)?, file)))
        .collect();
    assert!(
        sources.len() > 50,
        "the sources were not found: {sources:?}"
    );
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("tests run in the package's directory") {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The top-level modules that a file names, wherever it does.
fn imports(file: &Path) -> Vec<String> {
    let code = read(file);
    let code = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let mut imports: Vec<String> = Vec::new();
    for line in code {
        for rest in line.split("crate::").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            // `use crate::{a, b}` would hide from this test.
            assert!(
                !name.is_empty(),
                "{}: write `use crate::module::...`: {line}",
                file.display()
            );
            imports.push(name);
        }
    }
    imports
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
