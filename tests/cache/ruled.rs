//! Rules, and what is done for them.

use std::fs;

use crate::harness::{Etcfs, private};
use crate::{DEADLINE, opts, served, text, until, warm};

#[test]
fn a_changed_rule_counts_for_the_next_who_asks() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let path = etcfs.mnt().join("d/f");
        fs::create_dir(etcfs.global().join("d")).expect("mkdir");
        fs::write(etcfs.global().join("d/f"), "global").expect("write");
        for turn in 0..30 {
            warm(&path);
            assert_eq!(text(&path), "first", "turn {turn}");
            etcfs.write_config(&["add_global /d/f"]).expect("configure");
            assert_eq!(text(&path), "global", "turn {turn}");
            warm(&path);
            etcfs.write_config(&["rm_global /d/f"]).expect("configure");
            assert_eq!(text(&path), "first", "turn {turn}");
            warm(&path);
            etcfs
                .write_config(&["add_override symlink /d/f elsewhere"])
                .expect("configure");
            let to = fs::read_link(&path).expect("a symlink is enforced");
            assert_eq!(to.as_os_str(), "elsewhere", "turn {turn}");
            etcfs
                .write_config(&["rm_override /d/f"])
                .expect("configure");
            fs::remove_file(&path).expect("unlink");
            fs::write(&path, "first").expect("write");
        }
    });
}

#[test]
fn injected_text_comes_and_goes_for_the_next_who_asks() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let path = etcfs.mnt().join("d/f");
        let source = env.scratch().join("source");
        fs::write(&source, "injected\n").expect("write");
        fs::write(&path, "own\n").expect("write");
        for turn in 0..20 {
            warm(&path);
            let line = format!("add_override inject /d/f {}", source.display());
            etcfs.write_config(&[line]).expect("configure");
            assert_eq!(text(&path), "own\ninjected\n", "turn {turn}");
            warm(&path);
            etcfs
                .write_config(&["rm_override /d/f"])
                .expect("configure");
            assert_eq!(text(&path), "own\n", "turn {turn}");
        }
    });
}

/// A directory whose children no rule concerns becomes one of which a rule does, and the other way round.
#[test]
fn a_directory_renamed_among_rules_shows_what_the_rules_say_there() {
    private(DEADLINE, |env| {
        let mut all = opts(&[]);
        all.config = vec!["add_global /ruled/in".to_owned()];
        let etcfs = Etcfs::start(env, all);
        let (above, below) = (etcfs.mnt(), etcfs.local());
        fs::create_dir_all(etcfs.global().join("ruled")).expect("mkdir");
        fs::write(etcfs.global().join("ruled/in"), "global").expect("write");
        fs::create_dir(below.join("plain")).expect("mkdir");
        fs::write(below.join("plain/in"), "local").expect("write");
        for turn in 0..20 {
            warm(&above.join("plain/in"));
            assert_eq!(text(&above.join("plain/in")), "local", "turn {turn}");
            fs::rename(above.join("plain"), above.join("ruled")).expect("rename");
            assert_eq!(text(&above.join("ruled/in")), "global", "turn {turn}");
            warm(&above.join("ruled/in"));
            fs::rename(above.join("ruled"), above.join("plain")).expect("rename");
            assert_eq!(text(&above.join("plain/in")), "local", "turn {turn}");
        }
        for turn in 0..20 {
            warm(&above.join("plain/in"));
            fs::rename(below.join("plain"), below.join("ruled")).expect("rename beneath");
            until("the global one", || {
                text(&above.join("ruled/in")) == "global"
            });
            warm(&above.join("ruled/in"));
            fs::rename(below.join("ruled"), below.join("plain")).expect("rename beneath");
            until("the local one", || text(&above.join("plain/in")) == "local");
            assert!(!above.join("ruled").exists(), "turn {turn}");
        }
    });
}

#[test]
fn an_overridden_name_is_enforced_each_time() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let path = etcfs.mnt().join("d/f");
        etcfs
            .write_config(&["add_override symlink /d/f elsewhere"])
            .expect("configure");
        for turn in 0..6 {
            warm(&path);
            let other = etcfs.mnt().join("d/other");
            fs::write(&other, "other").expect("write");
            warm(&other);
            // The kernel has kept the source, and would keep it under the new name.
            fs::rename(&other, &path).expect("rename");
            // It is enforced once a second at most.
            until("a symlink is enforced", || {
                fs::read_link(&path).is_ok_and(|to| to.as_os_str() == "elsewhere")
            });
            assert!(!other.exists(), "turn {turn}");
        }
    });
}
