//! No two modules of a folder need each other: whoever reads one of them need not have read the other first.

use crate::{assert_none, code, repo, rust_files};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module as its path from the crate's root.
type Module = Vec<String>;

/// What each module of one crate names.
struct Crate {
    modules: BTreeMap<Module, BTreeSet<Module>>,
}

/// The crates under src: the daemon's library, and each program of its own.
fn crates() -> Vec<(String, Crate)> {
    let mut files: BTreeMap<String, BTreeMap<Module, String>> = BTreeMap::new();
    for (path, text) in rust_files() {
        let named = module_of(&path);
        let is_test = |module: &Module| module.iter().any(|part| part == "tests");
        if let Some((name, module)) = named.filter(|(_, module)| !is_test(module)) {
            let earlier = files.entry(name).or_default().insert(module, text);
            assert!(earlier.is_none(), "{}: a module twice", path.display());
        }
    }
    let named = |(name, files): (String, BTreeMap<Module, String>)| {
        let known: BTreeSet<Module> = files.keys().cloned().collect();
        let modules = files
            .iter()
            .map(|(module, text)| (module.clone(), imports(module, text, &known)))
            .collect();
        (name, Crate { modules })
    };
    files.into_iter().map(named).collect()
}

/// The crate that a file belongs to, and its module there.
fn module_of(path: &Path) -> Option<(String, Module)> {
    let inside = path.strip_prefix("src").ok()?.with_extension("");
    if inside == Path::new("main") {
        return None;
    }
    let mut parts: Module = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let mut name = "etcfs".to_owned();
    if parts.first().is_some_and(|first| first == "bin") {
        name = parts.drain(..2).next_back()?;
    } else if parts.len() > 1 && repo().join("src").join(&parts[0]).join("main.rs").is_file() {
        name = parts.remove(0);
    }
    if parts
        .last()
        .is_some_and(|last| matches!(&**last, "mod" | "main" | "lib"))
    {
        parts.pop();
    }
    Some((name, parts))
}

/// The modules that `text`, which is that of `module`, imports or names.
fn imports(module: &Module, text: &str, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let text: String = text
        .lines()
        .map(|line| format!("{}\n", code(line)))
        .collect();
    let mut found = BTreeSet::new();
    let mut add = |path: &[String]| {
        let resolved = resolve(module, path, known);
        found.extend(resolved.filter(|other| other != module));
    };
    for statement in text.split(';') {
        match statement
            .rfind("use ")
            .filter(|&at| begins_a_word(statement, at))
        {
            Some(at) if statement[at..].contains("::") => {
                let mut paths = Vec::new();
                expand(statement[at + 4..].trim(), &mut Vec::new(), &mut paths);
                paths.iter().for_each(|path| add(path));
            }
            _ => inline_paths(statement).iter().for_each(|path| add(path)),
        }
    }
    found
}

fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// All paths of an import: `a::{b, c::d}` is two.
fn expand(text: &str, before: &mut Module, paths: &mut Vec<Module>) {
    let depth = before.len();
    let mut rest = text;
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.strip_suffix('}').unwrap_or(list);
            let (mut level, mut from) = (0, 0);
            for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
                match c {
                    '{' => level += 1,
                    '}' => level -= 1,
                    ',' if level == 0 => {
                        expand(list[from..at].trim(), before, paths);
                        from = at + 1;
                    }
                    _ => {}
                }
            }
            break;
        }
        let Some((part, more)) = rest.split_once("::") else {
            let last = rest.split_whitespace().next().unwrap_or("");
            if !last.is_empty() {
                paths.push([&before[..], &[last.to_owned()]].concat());
            }
            break;
        };
        before.push(part.to_owned());
        rest = more;
    }
    before.truncate(depth);
}

/// Paths in code that begin with `crate::` or `super::`.
fn inline_paths(text: &str) -> Vec<Module> {
    let starts = ["crate::", "super::"]
        .iter()
        .flat_map(|start| text.match_indices(start));
    starts
        .map(|(at, _)| at)
        .filter(|&at| begins_a_word(text, at) && !text[..at].ends_with("::"))
        // pub(in crate::x)
        .filter(|&at| !text[..at].ends_with("(in "))
        .map(|at| {
            let path = text[at..].split(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
            path.take(1)
                .flat_map(|path| path.split("::"))
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

/// The module that holds what `path` names within `module`.
fn resolve<'a>(
    module: &Module,
    path: &[String],
    known: &'a BTreeSet<Module>,
) -> impl Iterator<Item = Module> + use<'a> {
    let mut at: Module = module.clone();
    let mut rest = path;
    match path.first().map(|first| &**first) {
        Some("crate") => {
            at.clear();
            rest = &path[1..];
        }
        Some("self") => rest = &path[1..],
        Some("super") => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        // Of another crate, unless it is a module below.
        _ if !path.first().is_some_and(|first| {
            known.contains(&[&at[..], std::slice::from_ref(first)].concat())
        }) =>
        {
            return None.into_iter();
        }
        _ => {}
    }
    for part in rest {
        at.push(part.clone());
        if !known.contains(&at) {
            at.pop();
            break;
        }
    }
    known.contains(&at).then_some(at).into_iter()
}

impl Crate {
    /// What the modules directly below `folder` name of one another; the folder's own text is the module with no name.
    fn between(&self, folder: &Module) -> BTreeMap<String, BTreeSet<String>> {
        let child = |module: &Module| {
            let inside = module.strip_prefix(&folder[..])?;
            Some(inside.first().cloned().unwrap_or_default())
        };
        let mut between: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, named) in &self.modules {
            let Some(from) = child(module) else { continue };
            let to = named.iter().filter_map(child).filter(|to| *to != from);
            between.entry(from.clone()).or_default().extend(to);
        }
        between
    }
}

/// What each module needs, directly or by what it needs.
fn reach(between: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from.to_owned()];
    while let Some(next) = waiting.pop() {
        for to in between.get(&next).into_iter().flatten() {
            if reached.insert(to.clone()) {
                waiting.push(to.clone());
            }
        }
    }
    reached
}

#[test]
fn no_modules_need_each_other() {
    let mut found = BTreeSet::new();
    for (name, all) in crates() {
        for folder in all.modules.keys() {
            let between = all.between(folder);
            let reached: BTreeMap<&str, BTreeSet<String>> = between
                .keys()
                .map(|one| (&**one, reach(&between, one)))
                .collect();
            for (one, others) in &reached {
                let circle: Vec<&str> = reached
                    .keys()
                    .copied()
                    .filter(|other| others.contains(*other) && reached[other].contains(*one))
                    .collect();
                if !circle.is_empty() {
                    let folder = [std::slice::from_ref(&name), &folder[..]]
                        .concat()
                        .join("/");
                    found.insert(format!("{folder}: {}", circle.join(", ")));
                }
            }
        }
    }
    let found: Vec<String> = found.into_iter().collect();
    assert_none("modules that need each other", &found);
}
