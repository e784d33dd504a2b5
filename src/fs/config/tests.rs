mod scale;

use super::{CommandError, Config, Problem, TEXT_MAX, parse_line};
use crate::fs::ids::Side;
use crate::fs::rules::{OverrideKind, Place, RulePath, Rules};
use std::sync::Arc;

/// Applies lines as one write does; an inject's text is its source's name.
fn apply(config: &Config, lines: &[&str]) -> Result<Config, CommandError> {
    let commands = lines
        .iter()
        .map(|line| parse_line(line.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    config.apply_all(
        commands
            .iter()
            .map(|command| (command, command.source().map(Arc::from))),
    )
}

fn config(lines: &[&str]) -> Config {
    apply(&Config::new(), lines).unwrap()
}

fn text(config: &Config) -> String {
    String::from_utf8(config.render()).unwrap()
}

fn place(rules: &Rules, path: &str) -> Option<Place> {
    path.split('/')
        .try_fold(Place::ROOT, |at, name| rules.child(at, name.as_bytes()))
}

#[test]
fn d25_globals_come_first_then_overrides_each_in_the_order_of_adding() {
    let config = config(&[
        "add_override symlink /localtime /bedrock/run/localtime with  spaces ",
        "add_global /passwd",
        "add_override directory /zsh x",
        "add_global /default/grub",
        "add_override inject /profile /bedrock/share/profile",
    ]);
    assert_eq!(
        text(&config),
        "global /passwd\n\
         global /default/grub\n\
         override symlink /localtime /bedrock/run/localtime with  spaces \n\
         override directory /zsh x\n\
         override inject /profile /bedrock/share/profile\n"
    );
    assert_eq!(config.rendered_len(), config.render().len() as u64);
}

#[test]
fn d25_bytes_that_are_not_utf8_are_printed_as_they_came() {
    let line = b"add_override symlink /\xff\xfe \x80\x01\r";
    let config = Config::new()
        .apply(&parse_line(line).unwrap(), None)
        .unwrap();
    assert_eq!(config.render(), b"override symlink /\xff\xfe \x80\x01\r\n");
}

#[test]
fn d27_d28_duplicates_and_removal_of_what_is_absent_succeed_and_change_nothing() {
    let first = config(&[
        "add_global /passwd",
        "add_override directory /zsh x",
        "add_override inject /profile /p",
    ]);
    let second = apply(
        &first,
        &[
            "add_global /passwd",
            "add_override directory /zsh x",
            "add_override inject /profile /p",
            "rm_global /shadow",
            "rm_global /zsh",
            "rm_override /passwd",
            "rm_override /zsh/zprofile",
        ],
    )
    .unwrap();
    assert!(second.is_unchanged_from(&first));
}

#[test]
fn d30_a_bad_line_among_good_ones_changes_nothing() {
    let before = config(&["add_global /passwd"]);
    let shown = text(&before);
    let error = apply(
        &before,
        &["rm_global /passwd", "add_global /b", "rm_global "],
    )
    .unwrap_err();
    assert_eq!(error.errno(), rustix::io::Errno::INVAL.raw_os_error());
    assert_eq!(text(&before), shown);
}

#[test]
fn d32_a_second_override_of_a_path_replaces_the_first_in_its_place() {
    let before = config(&["add_override inject /a /one", "add_override directory /b x"]);
    let path = RulePath::parse(b"/a").unwrap();
    let reread = before
        .apply(
            &parse_line(b"add_override inject /a /one").unwrap(),
            Some((*b"new text").into()),
        )
        .unwrap();
    assert_eq!(reread.render(), before.render());
    assert!(!reread.is_unchanged_from(&before));
    assert_eq!(&*reread.override_of(&path).unwrap().text, b"new text");
    assert_eq!(&*before.override_of(&path).unwrap().text, b"/one");

    let retyped = apply(&reread, &["add_override symlink /a /target"]).unwrap();
    assert_eq!(
        text(&retyped),
        "override symlink /a /target\noverride directory /b x\n"
    );
    let found = retyped.override_of(&path).unwrap();
    assert_eq!(found.kind, OverrideKind::Symlink);
    assert!(found.text.is_empty());
}

#[test]
fn d34_removed_and_added_again_a_rule_is_last() {
    let before = config(&[
        "add_global /x",
        "add_global /y",
        "add_override directory /a x",
        "add_override directory /b x",
    ]);
    let after = apply(
        &before,
        &[
            "rm_override /a",
            "add_override symlink /a /t",
            "rm_global /x",
            "add_global /x",
        ],
    )
    .unwrap();
    assert_eq!(
        text(&after),
        "global /y\nglobal /x\noverride directory /b x\noverride symlink /a /t\n"
    );
}

#[test]
fn an_inject_whose_source_was_not_read_is_an_error() {
    let command = parse_line(b"add_override inject /a /one").unwrap();
    let error = Config::new().apply(&command, None).unwrap_err();
    assert_eq!(error.problem(), Problem::SourceNotRead);
}

#[test]
fn a_configuration_of_a_mebibyte_is_accepted_and_one_without_bound_is_not() {
    let content = "c".repeat(4000);
    let mut grown = Config::new();
    let mut error = None;
    for index in 0..5000 {
        match apply(
            &grown,
            &[&format!("add_override symlink /{index} {content}")],
        ) {
            Ok(larger) => grown = larger,
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    }
    assert_eq!(error.unwrap().problem(), Problem::Full);
    assert!(grown.rendered_len() > 1 << 20 && grown.rendered_len() <= TEXT_MAX);
    let replaced = apply(&grown, &["add_override symlink /0 short"]).unwrap();
    assert_eq!(replaced.rendered_len(), grown.rendered_len() - 4000 + 5);
    assert_eq!(replaced.rendered_len(), replaced.render().len() as u64);
}

#[test]
fn places_lead_from_the_root_to_every_rule() {
    let rules = config(&[
        "add_global /default/grub",
        "add_global /passwd",
        "add_override directory /default x",
    ])
    .compile(7);
    assert_eq!(rules.version(), 7);
    let default = place(&rules, "default").unwrap();
    let grub = place(&rules, "default/grub").unwrap();
    assert!(!rules.is_global(default));
    assert!(rules.is_global(grub));
    assert_eq!(rules.side(default), Side::Local);
    assert_eq!(rules.side(grub), Side::Global);
    assert_eq!(
        rules.override_at(default).unwrap().kind,
        OverrideKind::Directory
    );
    assert_eq!(rules.override_at(grub), None);
    assert_eq!(rules.path(Place::ROOT), c".");
    assert_eq!(rules.path(default), c"default");
    assert_eq!(rules.path(grub), c"default/grub");
    assert_eq!(place(&rules, "default/grub/x"), None);
    assert_eq!(place(&rules, "grub"), None);
    assert_eq!(rules.child(Place::ROOT, b""), None);
    assert_eq!(rules.child(Place::ROOT, b"."), None);
    let children: Vec<_> = rules.children(Place::ROOT).collect();
    let passwd = place(&rules, "passwd").unwrap();
    assert_eq!(
        children,
        [(&b"default"[..], default), (&b"passwd"[..], passwd)]
    );
}

#[test]
fn a_place_of_another_version_is_no_error() {
    let rules = config(&["add_global /a"]).compile(1);
    for at in [Place(2), Place(u32::MAX)] {
        assert_eq!(rules.child(at, b"a"), None);
        assert!(!rules.is_global(at));
        assert_eq!(rules.side(at), Side::Local);
        assert_eq!(rules.override_at(at), None);
        assert_eq!(rules.path(at), c".");
        assert_eq!(rules.children(at).count(), 0);
    }
}

#[test]
fn d35_rules_in_force_do_not_change_with_the_configuration() {
    let before = config(&["add_global /a", "add_override symlink /b /old"]);
    let old = before.compile(1);
    let after = apply(
        &before,
        &[
            "rm_global /a",
            "add_override symlink /b /new",
            "add_global /c",
        ],
    )
    .unwrap();
    let new = after.compile(2);
    let content = |rules: &Rules| {
        let at = place(rules, "b").unwrap();
        rules.override_at(at).unwrap().content.clone()
    };
    assert!(old.is_global(place(&old, "a").unwrap()));
    assert_eq!(place(&old, "c"), None);
    assert_eq!(*content(&old), *b"/old");
    assert_eq!(place(&new, "a"), None);
    assert!(new.is_global(place(&new, "c").unwrap()));
    assert_eq!(*content(&new), *b"/new");
}

#[test]
fn d39_what_is_below_a_global_directory_is_found_to_be_global() {
    let rules = config(&[
        "add_global /gd",
        "add_global /gd/sub/deeper",
        "add_override symlink /gd/link /t",
    ])
    .compile(1);
    let gd = place(&rules, "gd").unwrap();
    let below = rules.find(b"/gd/any/thing");
    assert_eq!((below.place, below.exact), (gd, false));
    assert_eq!((below.side, below.global), (Side::Global, Some(gd)));
    assert!(below.over.is_none() && below.hidden_by.is_none());
    let link = rules.find(b"gd//./link/");
    assert_eq!((link.side, link.exact), (Side::Global, true));
    assert_eq!(*link.over.unwrap().content, *b"/t");
    assert_eq!(rules.side(link.place), Side::Global);
    let other = rules.find(b"gdx");
    assert_eq!((other.side, other.global), (Side::Local, None));
    let root = rules.find(b"/");
    assert_eq!((root.place, root.exact), (Place::ROOT, true));
}

#[test]
fn a_global_rule_below_another_counts_again_when_the_upper_one_goes() {
    let both = config(&["add_global /gd", "add_global /gd/f"]);
    let inner = apply(&both, &["rm_global /gd"]).unwrap();
    assert_eq!(text(&inner), "global /gd/f\n");
    let rules = inner.compile(1);
    assert_eq!(rules.find(b"gd").side, Side::Local);
    assert_eq!(rules.find(b"gd/f").side, Side::Global);
}

#[test]
fn a_global_name_with_an_override_has_both() {
    let rules = config(&["add_global /sudoers", "add_override inject /sudoers /s"]).compile(1);
    let found = rules.find(b"sudoers");
    assert_eq!(found.side, Side::Global);
    assert_eq!(found.over.unwrap().kind, OverrideKind::Inject);
    let only_global = config(&[
        "add_global /sudoers",
        "add_override inject /sudoers /s",
        "rm_override /sudoers",
    ]);
    assert_eq!(text(&only_global), "global /sudoers\n");
}

#[test]
fn below_a_symlink_override_a_rule_is_hidden_and_elsewhere_it_is_not() {
    let rules = config(&[
        "add_override symlink /a /t",
        "add_override symlink /a/b /u",
        "add_override directory /a/b/c x",
        "add_override directory /zsh x",
        "add_override inject /i /s",
        "add_override directory /zsh/sub x",
        "add_override directory /i/sub x",
    ])
    .compile(1);
    let hidden_by = |path: &str| {
        let found = rules.find(path.as_bytes());
        found.hidden_by.map(|over| over.path.to_vec())
    };
    assert_eq!(hidden_by("a"), None);
    assert_eq!(hidden_by("a/b").unwrap(), b"a");
    assert_eq!(hidden_by("a/b/c").unwrap(), b"a");
    assert_eq!(hidden_by("a/unruled").unwrap(), b"a");
    assert_eq!(hidden_by("zsh/sub"), None);
    assert_eq!(hidden_by("i/sub"), None);
    assert!(rules.find(b"a/unruled").over.is_none());
}
