//! The manuals: their links lead somewhere, and the README stays short.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Words of the README.
const MAX_WORDS: usize = 1500;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All that git would show, and what it does not ignore: pages in what was built are others'.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![top().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let built = name.is_some_and(|name| name.starts_with('.'))
                || matches!(name, Some("target" | "node_modules"));
            if path.is_dir() && !built {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// What stands outside of fenced code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).expect("a page");
    let parts = text.split("```").step_by(2);
    parts.collect()
}

/// The anchors that GitHub gives to the headings.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
            heading.chars().filter(kept).collect::<String>()
        })
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

/// What is wrong with a link of a page.
fn broken(page: &Path, link: &str) -> Option<&'static str> {
    if link.starts_with("https://") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.to_owned(),
        path => page.with_file_name(path),
    };
    if !target.exists() {
        return Some("leads nowhere");
    }
    let missing = !anchor.is_empty() && !anchors(&target).contains(anchor);
    missing.then_some("has no such heading")
}

#[test]
fn every_link_of_the_manuals_leads_somewhere() {
    let link = Regex::new(r"\]\(([^) \n]+)\)").expect("a pattern");
    let mut found = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        for link in link.captures_iter(&prose(&page)) {
            found += 1;
            if let Some(why) = broken(&page, &link[1]) {
                wrong.push(format!("{}: {} {why}", page.display(), &link[1]));
            }
        }
    }
    assert!(found > 100, "{found}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(top().join("README.md")).expect("a README");
    let words = readme.split_whitespace().count();
    assert!(words <= MAX_WORDS, "{words} words");
}
