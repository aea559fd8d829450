//! What ARCHITECTURE.md says of the files, and who imports whom as the sources say it: in that order, and not in a
//! circle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

mod imports;
mod tokens;

use std::collections::BTreeMap;
use std::path::PathBuf;

use imports::{Module, Modules};

const SOURCES: [&str; 6] = [
    "src",
    "crates/agent/src",
    "crates/bench/src",
    "crates/client/src",
    "crates/exposition/src",
    "crates/wire/src",
];

fn path(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The first circle that is found, each module with the next that it imports.
fn circle(arrows: &BTreeMap<Module, Vec<Module>>) -> Option<Vec<&Module>> {
    fn follow<'a>(
        at: &'a Module,
        arrows: &'a BTreeMap<Module, Vec<Module>>,
        way: &mut Vec<&'a Module>,
        done: &mut Vec<&'a Module>,
    ) -> bool {
        if let Some(start) = way.iter().position(|before| *before == at) {
            way.drain(..start);
            return true;
        }
        if done.contains(&at) {
            return false;
        }
        way.push(at);
        if arrows[at].iter().any(|to| follow(to, arrows, way, done)) {
            return true;
        }
        way.pop();
        done.push(at);
        false
    }
    let (mut way, mut done) = (Vec::new(), Vec::new());
    let found = arrows
        .keys()
        .any(|from| follow(from, arrows, &mut way, &mut done));
    found.then_some(way)
}

/// A module may name what the ones above it have: together they are one.
fn arrows(modules: &Modules) -> BTreeMap<Module, Vec<Module>> {
    let beside = |from: &Module| {
        let all = modules.imports(from).into_iter();
        all.filter(|to| !from.starts_with(to)).collect()
    };
    modules
        .names()
        .map(|name| (name.clone(), beside(name)))
        .collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for source in SOURCES {
        let arrows = arrows(&Modules::read(&path(source)));
        assert!(arrows.len() > 10, "{source}: {arrows:?}");
        if let Some(circle) = circle(&arrows) {
            let files: Vec<_> = circle.iter().map(|module| module.join("/")).collect();
            panic!(
                "in {source}, each of these imports the next, and the last the first: {files:?}"
            );
        }
    }
}

/// The rooms and crates of the first block below "Who imports whom", from the top, line by line.
fn drawn() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path("ARCHITECTURE.md")).unwrap();
    let (_, below) = text.split_once("### Who imports whom").unwrap();
    let block = below.split("```").nth(1).unwrap();
    let lines = block.lines().filter(|line| !line.is_empty());
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    lines.map(words).collect()
}

#[test]
fn a_room_imports_only_from_lines_below_its_own() {
    let drawn = drawn();
    let line_of = |room: &str| {
        let line = drawn
            .iter()
            .position(|line| line.iter().any(|name| name == room));
        line.unwrap_or_else(|| panic!("{room} is missing in ARCHITECTURE.md"))
    };
    let is_below = |from: &str, to: &str, file: &Module| {
        assert!(
            line_of(from) < line_of(to),
            "{from}/{} imports {to}, which is not below {from}",
            file.join("/")
        );
    };
    let modules = Modules::read(&path("src"));
    for name in modules.names() {
        let Some(room) = name.first() else { continue };
        let imports = modules.imports(name).into_iter();
        for to in imports.chain(modules.crates(name)) {
            if let Some(other) = to.first().filter(|other| *other != room) {
                is_below(room, other, name);
            }
        }
    }
    for source in SOURCES {
        let Some(("crates", below)) = source.split_once('/') else {
            continue;
        };
        let room = below.trim_end_matches("/src");
        let modules = Modules::read(&path(source));
        for name in modules.names() {
            for to in modules.crates(name).iter().flatten() {
                is_below(room, to, name);
            }
        }
    }
    for room in drawn.iter().flatten() {
        let is_there = path(&format!("crates/{room}")).is_dir()
            || modules.names().any(|name| name.first() == Some(room));
        assert!(is_there, "{room} is drawn and not there");
    }
}

#[test]
fn every_file_that_is_named_is_there() {
    let text = std::fs::read_to_string(path("ARCHITECTURE.md")).unwrap();
    let roots = [
        "src/",
        "crates/",
        "tests/",
        "benches/",
        "examples/",
        "docs/",
    ];
    let is_path = |word: &&str| {
        let named = roots.iter().any(|root| word.starts_with(root));
        (named || word.contains('/') && word.ends_with(".rs")) && !word.contains(['*', ' '])
    };
    for named in text.split('`').skip(1).step_by(2).filter(is_path) {
        let is_there = path(named).exists() || path("src").join(named).exists();
        assert!(is_there, "{named} is not there");
    }
}

/// Modules as their files would be read, by name.
fn made(files: &[(&str, &str)]) -> Modules {
    let split = |name: &str| {
        name.split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let modules = files
        .iter()
        .map(|(name, text)| (split(name), tokens::tokens(text)));
    Modules::of(modules.collect())
}

#[test]
fn a_circle_is_found_whatever_way_its_files_name_each_other() {
    let found = |files: &[(&str, &str)]| {
        let arrows = arrows(&made(files));
        let circle = circle(&arrows)?;
        Some(
            circle
                .into_iter()
                .map(|module| module.join("/"))
                .collect::<Vec<_>>(),
        )
    };
    let ab = Some(vec!["a".to_owned(), "b".to_owned()]);
    let root = ("", "mod a; mod b;");
    assert_eq!(found(&[root, ("a", "use crate::b::B;"), ("b", "")]), None);
    for back in [
        "use crate::a;",
        "use crate::{a::{self, A}, c};",
        "pub(crate) use super::a::A as Other;",
        "fn b() { crate::a::a(\"'\") }",
        "fn b<'a>() -> char { use super::a; '\"' }",
    ] {
        assert_eq!(
            found(&[root, ("a", "use super::b::B;"), ("b", back)]),
            ab,
            "{back}"
        );
    }
    for none in [
        "// use crate::a;",
        "const TEXT: &str = \"use crate::a;\";",
        "const TEXT: &str = r#\"\"use crate::a;\"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n",
        "#[cfg(test)]\nuse crate::a;\n",
    ] {
        assert_eq!(
            found(&[root, ("a", "use super::b::B;"), ("b", none)]),
            None,
            "{none}"
        );
    }
    // Through what another one hands on.
    let handed = ("", "mod a; mod b; pub use a::A;");
    assert_eq!(
        found(&[handed, ("a", "use crate::b;"), ("b", "use crate::A;")]),
        ab
    );
    // A module and those below it are one; between two of those it is as elsewhere.
    let parent = ("p", "mod a; mod b; use a::A;");
    assert_eq!(
        found(&[parent, ("p/a", "use super::P;"), ("p/b", "")]),
        None
    );
    let two = [
        parent,
        ("p/a", "use super::b::B;"),
        ("p/b", "use super::a::A;"),
    ];
    assert_eq!(found(&two), Some(vec!["p/a".to_owned(), "p/b".to_owned()]));
}
