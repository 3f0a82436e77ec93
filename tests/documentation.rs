//! The pages: links that lead somewhere, and no page that nobody finds.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// All pages, by their paths.
fn pages() -> HashMap<PathBuf, String> {
    let of =
        |directory: &str| fs::read_dir(directory).expect("tests run in the package's directory");
    let files = of(".")
        .chain(of("docs"))
        .map(|it| it.expect("it can be read").path());
    let pages = files.filter(|it| it.extension().is_some_and(|it| it == "md"));
    let pages: HashMap<_, _> = pages
        .map(|it| {
            let text = fs::read_to_string(&it).expect("a page is text");
            (it.strip_prefix(".").unwrap_or(&it).to_owned(), text)
        })
        .collect();
    assert!(pages.len() > 5, "{:?}", pages.keys());
    pages
}

/// A page without its blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What the links of a page lead to.
fn links(page: &str) -> Vec<&str> {
    let ends = prose(page).flat_map(|line| line.split("](").skip(1));
    ends.filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// The anchors that a page's headings are given: lower case, hyphens for spaces, and a number from the second one on.
fn anchors(page: &str) -> Vec<String> {
    let mut times: HashMap<String, u32> = HashMap::new();
    let headings = prose(page).filter(|line| line.starts_with('#'));
    let anchors = headings.map(|line| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let time = times.entry(anchor.clone()).or_default();
        *time += 1;
        match *time {
            1 => anchor,
            more => format!("{anchor}-{}", more - 1),
        }
    });
    anchors.collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut dead = Vec::new();
    let mut checked = 0;
    for (path, page) in &pages {
        for link in links(page).into_iter().filter(|it| !it.contains("://")) {
            checked += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                _ => path.parent().unwrap_or(Path::new("")).join(file),
            };
            let has_anchor = || {
                pages
                    .get(&target)
                    .is_some_and(|it| anchors(it).iter().any(|it| it == anchor))
            };
            if !target.exists() || (!anchor.is_empty() && !has_anchor()) {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(
        dead.is_empty(),
        "links that lead nowhere:\n{}",
        dead.join("\n")
    );
    assert!(checked > 100, "only {checked} links were found");
}

#[test]
fn the_readme_names_every_page() {
    let pages = pages();
    let readme = &pages[Path::new("README.md")];
    let named = |it: &&PathBuf| !links(readme).contains(&it.to_str().expect("a name in ASCII"));
    let unnamed: Vec<_> = pages
        .keys()
        .filter(|it| it.starts_with("docs"))
        .filter(named)
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}
