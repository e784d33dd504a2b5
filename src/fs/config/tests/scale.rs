use super::text;
use crate::fs::config::{Command, Config, parse_line};
use crate::fs::rules::{Place, RulePath, Rules};
use proptest::prelude::*;

/// The plain way to keep the same configuration: two lists.
#[derive(Default)]
struct Lists {
    globals: Vec<String>,
    overrides: Vec<(String, String)>,
}

impl Lists {
    fn apply(&mut self, command: &Command) {
        let name = |path: &RulePath| String::from_utf8(path.as_bytes().into()).unwrap();
        match command {
            Command::AddGlobal(path) => {
                if !self.globals.contains(&name(path)) {
                    self.globals.push(name(path));
                }
            }
            Command::RmGlobal(path) => self.globals.retain(|global| *global != name(path)),
            Command::AddOverride {
                kind,
                path,
                content,
            } => {
                let (path, content) = (name(path), String::from_utf8_lossy(content));
                let line = format!("override {} /{path} {content}\n", kind.word());
                match self.overrides.iter_mut().find(|(at, _)| *at == path) {
                    Some(found) => found.1 = line,
                    None => self.overrides.push((path, line)),
                }
            }
            Command::RmOverride(path) => self.overrides.retain(|(at, _)| *at != name(path)),
        }
    }

    fn render(&self) -> String {
        let globals = self.globals.iter().map(|path| format!("global /{path}\n"));
        let overrides = self.overrides.iter().map(|(_, line)| line.clone());
        globals.chain(overrides).collect()
    }
}

proptest! {
    /// Long sequences over few paths, so that rules are removed, replaced and added again, and the tree and the orders
    /// are built anew several times.
    #[test]
    fn any_sequence_of_commands_prints_and_rules_as_two_plain_lists_do(
        steps in proptest::collection::vec((0_u8..5, 0_u8..60, 0_u8..4), 0..1500),
    ) {
        let name = |number: u8| match number % 3 {
            0 => format!("n{number}"),
            1 => format!("d{}/n{number}", number % 4),
            _ => format!("d{}/e{}/n{number}", number % 4, number % 5),
        };
        let mut config = Config::new();
        let mut lists = Lists::default();
        for (verb, number, content) in steps {
            let path = name(number);
            let line = match verb {
                0 => format!("add_global /{path}"),
                1 => format!("rm_global /{path}"),
                2 => format!("add_override symlink /{path} c{content}"),
                3 => format!("add_override directory /{path} x"),
                _ => format!("rm_override /{path}"),
            };
            let command = parse_line(line.as_bytes()).unwrap();
            lists.apply(&command);
            config = config.apply(&command, None).unwrap();
        }
        prop_assert_eq!(text(&config), lists.render());
        prop_assert_eq!(config.rendered_len(), config.render().len() as u64);

        let rules = config.compile(1);
        prop_assert_eq!(rules.is_empty(), lists.globals.is_empty() && lists.overrides.is_empty());
        for path in (0..60).map(name) {
            let found = rules.find(path.as_bytes());
            let global = lists.globals.contains(&path);
            prop_assert_eq!(found.exact && rules.is_global(found.place), global, "{}", &path);
            let over = lists.overrides.iter().any(|(at, _)| *at == path);
            prop_assert_eq!(found.over.is_some(), over, "{}", &path);
            prop_assert_eq!(found.exact, global || over, "{}", &path);
            if found.exact {
                prop_assert_eq!(rules.path(found.place).to_bytes(), path.as_bytes());
            }
        }
        let mut seen = Vec::new();
        let mut open = vec![Place::ROOT];
        while let Some(at) = open.pop() {
            let children: Vec<_> = rules.children(at).collect();
            prop_assert!(children.is_sorted_by(|left, right| left.0 < right.0));
            for (name, child) in children {
                prop_assert_eq!(rules.child(at, name), Some(child));
                let ruled = rules.is_global(child) || rules.override_at(child).is_some();
                prop_assert!(ruled || rules.children(child).next().is_some());
                if ruled {
                    seen.push(rules.path(child).to_str().unwrap().to_owned());
                }
                open.push(child);
            }
        }
        let mut expected: Vec<_> = lists.overrides.into_iter().map(|(path, _)| path).collect();
        expected.extend(lists.globals);
        seen.sort();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(seen, expected);
    }
}

/// Not a benchmark: the figures printed are for whoever runs it with `--no-capture`. What it asserts is that nothing is
/// lost when 10,000 rules come one by one, each compiled, in one directory and in many, and go again.
#[test]
fn ten_thousand_rules_come_and_go_one_by_one() {
    for shape in ["", "d/", "many"] {
        let path = |index: u32| match shape {
            "many" => format!("d{}/e{}/n{index}", index % 97, index % 1009),
            above => format!("{above}n{index}"),
        };
        let mut config = Config::new();
        let mut kept = Vec::new();
        let start = std::time::Instant::now();
        for index in 0..10_000 {
            let line = match index % 2 {
                0 => format!("add_global /{}", path(index)),
                _ => format!("add_override symlink /{} /target", path(index)),
            };
            let command = parse_line(line.as_bytes()).unwrap();
            config = config.apply(&command, None).unwrap();
            kept = vec![config.compile(u64::from(index))];
        }
        println!("10,000 rules in {shape:?}: added in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        assert_eq!(config.render().len() as u64, config.rendered_len());
        println!(
            "  rendered {} bytes in {:?}",
            config.rendered_len(),
            start.elapsed()
        );
        let rules = kept.pop().unwrap();
        let start = std::time::Instant::now();
        for index in 0..10_000 {
            let found = rules.find(path(index).as_bytes());
            assert_eq!(found.exact && rules.is_global(found.place), index % 2 == 0);
            assert_eq!(found.over.is_some(), index % 2 == 1);
        }
        println!("  10,000 paths found in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        for index in 0..10_000 {
            let verb = ["rm_global", "rm_override"][(index % 2) as usize];
            let command = parse_line(format!("{verb} /{}", path(index)).as_bytes()).unwrap();
            config = config.apply(&command, None).unwrap();
        }
        println!("  removed in {:?}", start.elapsed());
        assert_eq!(config.render(), b"");
        assert!(config.compile(0).is_empty());
    }
}

/// Prints what a lookup costs where no rule is meant, for U6; asserts only that none is found.
#[test]
fn u6_names_without_rules_are_not_found_among_forty_and_among_ten_thousand() {
    for count in [40, 10_000] {
        let mut config = Config::new();
        for index in 0..count {
            let line = format!("add_global /n{index}\n");
            let command = parse_line(line.trim_end().as_bytes()).unwrap();
            config = config.apply(&command, None).unwrap();
        }
        let rules: Rules = config.compile(1);
        let names: Vec<_> = (0..1000)
            .map(|index| format!("absent{index}.conf"))
            .collect();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            for name in &names {
                assert_eq!(rules.child(Place::ROOT, name.as_bytes()), None);
            }
        }
        println!("{count} rules: {:?} per lookup", start.elapsed() / 100_000);
    }
}
