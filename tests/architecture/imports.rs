//! Which modules a module names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tokens::{Token, tokens};

/// The names down to a module; none for a crate's root.
pub(crate) type Module = Vec<String>;

/// All modules of a crate.
pub(crate) struct Modules {
    paths: BTreeMap<Module, Vec<Named>>,
}

/// A path in a module.
#[derive(Debug)]
struct Named {
    path: Vec<String>,
    /// What others know it by.
    handed_on: Option<String>,
}

impl Modules {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(folder, &Vec::new(), &mut files);
        Self::of(files)
    }

    pub(crate) fn of(files: BTreeMap<Module, Vec<Token>>) -> Self {
        let paths = files
            .into_iter()
            .map(|(name, tokens)| (name, named(&tokens)));
        Self {
            paths: paths.collect(),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Module> {
        self.paths.keys()
    }

    /// The modules that have what `of` names, but itself, and those below it of which it hands something on.
    pub(crate) fn imports(&self, of: &Module) -> BTreeSet<Module> {
        let named = self.paths[of].iter().filter_map(|named| {
            let to = self.find(&self.absolute(of, &named.path)?, 0);
            let handed_on = named.handed_on.is_some() && to.starts_with(of);
            (to != *of && !handed_on).then_some(to)
        });
        named.collect()
    }

    /// The crates beside this one that `of` names.
    pub(crate) fn crates(&self, of: &Module) -> BTreeSet<Module> {
        let firsts = self.paths[of].iter().filter_map(|named| named.path.first());
        let ours = firsts.filter_map(|first| first.strip_prefix("prometheus_rsocket_"));
        ours.map(|name| vec![name.to_owned()]).collect()
    }

    /// From the crate's root on; `None` for what is of another crate, or of the module itself.
    fn absolute(&self, of: &Module, path: &[String]) -> Option<Module> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let (above, rest) = match path.first()?.as_str() {
            "crate" => (&[][..], &path[1..]),
            "self" => (&of[..], &path[1..]),
            "super" => (of.get(..of.len().checked_sub(supers)?)?, &path[supers..]),
            first => {
                let child = [&of[..], &[first.to_owned()]].concat();
                self.paths.contains_key(&child).then_some((&of[..], path))?
            }
        };
        Some([above, rest].concat())
    }

    /// The module where a path ends, however many hand it on.
    fn find(&self, path: &[String], handed: u8) -> Module {
        let mut lens = (0..=path.len()).rev();
        let len = lens.find(|len| self.paths.contains_key(&path[..*len]));
        let (module, rest) = path.split_at(len.unwrap_or_default());
        let Some((name, rest)) = rest.split_first() else {
            return module.to_vec();
        };
        let module = module.to_vec();
        let known = |named: &&Named| named.handed_on.as_ref() == Some(name);
        let further = self.paths[&module].iter().find(known);
        match further.and_then(|named| self.absolute(&module, &named.path)) {
            Some(further) if handed < 8 => {
                self.find(&[further, rest.to_vec()].concat(), handed + 1)
            }
            _ => module,
        }
    }
}

/// Reads all files below a folder, but those of tests.
fn read(folder: &Path, above: &Module, files: &mut BTreeMap<Module, Vec<Token>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let below = [above, &vec![stem.clone()][..]].concat();
        if path.is_dir() && stem != "tests" {
            read(&path, &below, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = match stem.as_str() {
                "main" | "tests" => continue,
                "lib" | "mod" => above.clone(),
                _ => below,
            };
            let text = std::fs::read_to_string(&path).unwrap();
            files.insert(name, tokens(&text));
        }
    }
}

/// All paths of more than one name, and those of a `use`.
fn named(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if word == "use" => {
                let handed_on = is_public(&tokens[..at]);
                at = tree(tokens, at + 1, &[], handed_on, &mut found);
            }
            Token::Word(_) => {
                let (path, end) = names(tokens, at);
                if path.len() > 1 {
                    found.push(Named {
                        path,
                        handed_on: None,
                    });
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    found
}

fn is_public(before: &[Token]) -> bool {
    let before = match before.last() {
        Some(Token::Sign(')')) => {
            let open = before.iter().rposition(|token| *token == Token::Sign('('));
            &before[..open.unwrap_or_default()]
        }
        _ => before,
    };
    before.last() == Some(&Token::Word("pub".into()))
}

/// The names from `at` on with `::` between them, and where they end.
fn names(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    while let Some(Token::Word(name)) = tokens.get(at) {
        names.push(name.clone());
        at += 1;
        match tokens.get(at..at + 2) {
            Some([Token::Step, Token::Word(_)]) => at += 1,
            _ => break,
        }
    }
    (names, at)
}

/// Reads the paths of a `use`, after `above`; where they end.
fn tree(
    tokens: &[Token],
    at: usize,
    above: &[String],
    handed_on: bool,
    found: &mut Vec<Named>,
) -> usize {
    let (names, mut at) = names(tokens, at);
    let mut path = [above, &names].concat();
    if tokens.get(at) == Some(&Token::Step) {
        at += 1;
    }
    if tokens.get(at) == Some(&Token::Sign('{')) {
        at += 1;
        while at < tokens.len() && tokens[at] != Token::Sign('}') {
            let end = tree(tokens, at, &path, handed_on, found);
            at = end.max(at + 1);
        }
        return at + 1;
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let mut known_as = path.last().cloned();
    if let Some([Token::Word(word), Token::Word(name)]) = tokens.get(at..at + 2)
        && word == "as"
    {
        known_as = Some(name.clone());
        at += 2;
    }
    found.push(Named {
        path,
        handed_on: known_as.filter(|_| handed_on),
    });
    at
}
