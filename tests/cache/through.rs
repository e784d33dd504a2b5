//! Changes through the mount and through another stratum's: exact, at each step.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::harness::{Bases, Etcfs, Lower, private};
use crate::{DEADLINE, names, opts, replace, served, text, warm};

#[test]
fn own_changes_count_at_once() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let dir = etcfs.mnt().join("d");
        for turn in 0..200 {
            let (a, b) = (dir.join("a"), dir.join("sub/b"));
            warm(&a);
            fs::write(&a, format!("{turn}")).expect("write");
            assert_eq!(text(&a), format!("{turn}"));
            assert!(names(&dir).contains(&"a".to_owned()), "turn {turn}");
            warm(&a);
            warm(&b);
            fs::rename(&a, &b).expect("rename");
            assert!(!a.exists() && text(&b) == format!("{turn}"), "turn {turn}");
            assert_eq!(names(&dir.join("sub")), ["b"], "turn {turn}");
            warm(&dir.join("l"));
            let link = dir.join("sub/link");
            symlink(format!("{turn}"), &link).expect("symlink");
            fs::rename(&link, dir.join("l")).expect("rename");
            let to = fs::read_link(dir.join("l")).expect("readlink");
            assert_eq!(to.as_os_str(), &*format!("{turn}"));
            fs::remove_file(&b).expect("unlink");
            assert!(
                !b.exists() && names(&dir.join("sub")).is_empty(),
                "turn {turn}"
            );
            assert_eq!(fs::metadata(dir.join("sub")).expect("stat").nlink(), 2);
        }
    });
}

#[test]
fn a_file_renamed_to_the_global_side_is_the_global_one() {
    private(DEADLINE, |env| {
        let mut all = opts(&[]);
        all.config = vec!["add_global /hosts".to_owned()];
        let etcfs = Etcfs::start(env, all);
        let (from, to) = (etcfs.mnt().join("hosts.new"), etcfs.mnt().join("hosts"));
        for turn in 0..100 {
            fs::write(&from, format!("{turn}")).expect("write");
            warm(&from);
            warm(&to);
            fs::rename(&from, &to).expect("rename to the other side");
            let below = fs::metadata(etcfs.global().join("hosts")).expect("stat");
            let seen = fs::metadata(&to).expect("stat");
            assert_eq!(seen.mtime_nsec(), below.mtime_nsec(), "turn {turn}");
            assert_eq!(text(&to), format!("{turn}"));
            assert!(!from.exists(), "turn {turn}");
            // Kept under the old name, it would be seen as it was: nobody watches the global side.
            fs::write(etcfs.global().join("hosts"), "beneath").expect("write");
            assert_eq!(text(&to), "beneath", "turn {turn}");
            replace(&etcfs.global().join("hosts"), "another");
            assert_eq!(text(&to), "another", "turn {turn}");
        }
    });
}

#[test]
fn what_another_stratum_does_to_global_names_counts_at_once() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let other = bases.second(env, "there");
        let config = vec![
            "add_global /passwd /dir".to_owned(),
            "add_global /dir".to_owned(),
        ];
        let config: Vec<String> = config
            .into_iter()
            .skip(1)
            .chain([
                "add_global /passwd".to_owned(),
                "add_global /link".to_owned(),
            ])
            .collect();
        let start = |bases: Bases| {
            let mut all = opts(&[]);
            all.config.clone_from(&config);
            Etcfs::serve(env, bases, all)
        };
        let (here, there) = (start(bases), start(other));
        fs::create_dir(here.mnt().join("dir")).expect("mkdir");
        for turn in 0..300 {
            let said = format!("{turn}");
            for name in ["passwd", "dir/in", "link"] {
                warm(&here.mnt().join(name));
            }
            warm(&here.mnt().join("dir"));
            replace(&there.mnt().join("passwd"), &said);
            assert_eq!(text(&here.mnt().join("passwd")), said);
            fs::write(there.mnt().join("dir/in"), &said).expect("write");
            assert_eq!(text(&here.mnt().join("dir/in")), said);
            assert_eq!(names(&here.mnt().join("dir")), ["in"]);
            // A link that takes the number of the one before, within a tick.
            let _ = fs::remove_file(there.mnt().join("link"));
            symlink(&said, there.mnt().join("link")).expect("symlink");
            let to = fs::read_link(here.mnt().join("link")).expect("readlink");
            assert_eq!(to.as_os_str(), &*said);
            fs::remove_file(there.mnt().join("dir/in")).expect("unlink");
            assert!(!here.mnt().join("dir/in").exists(), "turn {turn}");
            assert!(names(&here.mnt().join("dir")).is_empty(), "turn {turn}");
        }
    });
}
