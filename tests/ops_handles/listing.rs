//! Listings while files come and go: each stable entry exactly once, and offsets that stay good.

use crate::harness::{Etcfs, Lower, Opts, private};
use crate::{DEADLINE, on_each_lower};
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use std::collections::HashMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const STABLE: usize = 700;

fn open(dir: &Path) -> OwnedFd {
    rustix::fs::open(
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .expect("open")
}

/// Names with the offsets behind them, read with a buffer for a few entries at a time.
fn rest(dir: impl AsFd, buffer: usize) -> Vec<(String, u64)> {
    let mut space = vec![MaybeUninit::<u8>::uninit(); buffer];
    let mut list = RawDir::new(dir.as_fd(), &mut space);
    let mut all = Vec::new();
    while let Some(entry) = list.next() {
        let entry = entry.expect("an entry");
        all.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.next_entry_cookie(),
        ));
    }
    all
}

fn churn(dir: &Path, prefix: &str, stop: &AtomicBool) {
    let mut n = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let at = |n: usize| dir.join(format!("{prefix}{:03}", n % 150));
        let _ = fs::write(at(n), "x");
        let _ = fs::remove_file(at(n + 75));
        let _ = fs::rename(at(n), at(n + 40));
        n += 1;
    }
}

fn each_stable_entry_is_listed_once(dir: &Path, churned: &[(&Path, &str)], expected: usize) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (at, prefix) in churned {
            let stop = &stop;
            scope.spawn(move || churn(at, prefix, stop));
        }
        let result = std::panic::catch_unwind(|| {
            for round in 0..12 {
                let mut seen: HashMap<String, usize> = HashMap::new();
                for (name, _) in rest(open(dir), 280 + 700 * (round % 3)) {
                    *seen.entry(name).or_default() += 1;
                }
                let stable: Vec<_> = seen
                    .iter()
                    .filter(|(name, _)| name.starts_with("stable"))
                    .collect();
                assert_eq!(stable.len(), expected, "round {round}: all stable entries");
                for (name, count) in stable {
                    assert_eq!(*count, 1, "round {round}: {name}");
                }
                assert_eq!(seen.get("."), Some(&1));
            }
        });
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn each_stable_entry_is_listed_once_while_others_come_and_go() {
    on_each_lower(|_, etcfs| {
        let dir = etcfs.local().join("d");
        fs::create_dir(&dir).expect("mkdir");
        for n in 0..STABLE {
            fs::write(dir.join(format!("stable{n}")), "x").expect("write");
        }
        let shown = etcfs.mnt().join("d");
        each_stable_entry_is_listed_once(&shown, &[(&dir, "below"), (&shown, "above")], STABLE);
    });
}

/// A root in which local and global names are mixed; half of the global names exist.
fn merged(etcfs: &Etcfs) -> usize {
    let mut lines = Vec::new();
    for n in 0..300 {
        lines.push(format!("add_global /stable-g{n}"));
        lines.push(format!("add_global /churned{n:03}"));
        fs::write(etcfs.global().join(format!("stable-g{n}")), "x").expect("write");
        fs::write(etcfs.local().join(format!("stable-g{n}")), "hidden").expect("write");
        fs::write(etcfs.local().join(format!("stable-l{n}")), "x").expect("write");
    }
    etcfs.write_config(&lines).expect("configure");
    600
}

#[test]
fn a_merged_root_lists_each_stable_entry_once() {
    on_each_lower(|_, etcfs| {
        let expected = merged(etcfs);
        let (global, local) = (etcfs.global(), etcfs.local());
        each_stable_entry_is_listed_once(
            &etcfs.mnt(),
            &[(&global, "churned"), (&local, "below")],
            expected,
        );
    });
}

#[test]
fn an_offset_continues_behind_its_entry_whatever_else_has_changed() {
    on_each_lower(|_, etcfs| {
        let dir = etcfs.local().join("d");
        fs::create_dir(&dir).expect("mkdir");
        for n in 0..STABLE {
            fs::write(dir.join(format!("stable{n}")), "x").expect("write");
            fs::write(dir.join(format!("passing{n}")), "x").expect("write");
        }
        merged(etcfs);
        for (shown, passing) in [
            (etcfs.mnt().join("d"), dir.as_path()),
            (etcfs.mnt(), &etcfs.global()),
        ] {
            let fd = open(&shown);
            let all = rest(&fd, 2000);
            let stable = |list: &[(String, u64)]| -> Vec<String> {
                list.iter()
                    .map(|(name, _)| name.clone())
                    .filter(|name| name.starts_with("stable"))
                    .collect()
            };
            for n in 0..STABLE {
                let _ = fs::remove_file(passing.join(format!("passing{n}")));
                let _ = fs::write(passing.join(format!("churned{n:03}")), "x");
            }
            for at in [
                0,
                1,
                5,
                all.len() / 3,
                all.len() / 2,
                all.len() - 2,
                all.len() - 1,
            ] {
                rustix::fs::seek(&fd, SeekFrom::Start(all[at].1)).expect("seekdir");
                assert_eq!(
                    stable(&rest(&fd, 3000)),
                    stable(&all[at + 1..]),
                    "{shown:?} behind entry {at}"
                );
            }
            rustix::fs::seek(&fd, SeekFrom::Start(0)).expect("rewinddir");
            assert_eq!(stable(&rest(&fd, 9000)), stable(&all), "{shown:?} rewound");
        }
    });
}

#[test]
fn a_directory_removed_while_it_is_listed_ends_the_listing() {
    on_each_lower(|_, etcfs| {
        let dir = etcfs.mnt().join("d");
        fs::create_dir(&dir).expect("mkdir");
        let fd = open(&dir);
        fs::remove_dir(&dir).expect("rmdir");
        let mut space = [MaybeUninit::<u8>::uninit(); 1024];
        let mut list = RawDir::new(&fd, &mut space);
        match list.next() {
            None => {}
            Some(entry) => assert_eq!(entry.map(drop), Err(rustix::io::Errno::NOENT)),
        }
        assert_eq!(rustix::fs::fstat(&fd).map(|s| s.st_nlink), Ok(0));
        let made = rustix::fs::mkdirat(&fd, "x", Mode::RWXU);
        assert_eq!(made, Err(rustix::io::Errno::NOENT));
    });
}

/// What rm -r does: lists a part, removes what it has got, goes on listing.
fn removed_while_listed(dir: &Path, buffer: usize, entries: usize) {
    let fd = open(dir);
    let mut space = vec![MaybeUninit::<u8>::uninit(); buffer];
    let mut list = RawDir::new(&fd, &mut space);
    let mut batch = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    loop {
        let entry = list.next().transpose().expect("an entry");
        let ended = entry.is_none();
        if let Some(entry) = entry {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('e') {
                batch.push(name);
            }
        }
        if list.is_buffer_empty() {
            for name in batch.drain(..) {
                let at = dir.join(&name);
                fs::remove_file(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
                *seen.entry(name).or_default() += 1;
            }
        }
        if ended {
            break;
        }
    }
    assert_eq!(seen.len(), entries, "{buffer} bytes at a time: all entries");
    fs::remove_dir(dir).unwrap_or_else(|e| panic!("{buffer} bytes at a time: {e}"));
}

#[test]
fn a_large_directory_is_removed_while_it_is_listed() {
    // On ramfs, and on tmpfs before Linux 6.6, the offset in a directory is the number of entries that lie before it.
    for lower in [Lower::Ramfs, Lower::Tmpfs, Lower::Ext4] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    lower,
                    ..Opts::default()
                },
            );
            for (buffer, entries) in [(280, 500), (4096, 5000), (32768, 5000)] {
                let below = etcfs.local().join("d");
                fs::create_dir(&below).expect("mkdir");
                for n in 0..entries {
                    fs::write(below.join(format!("e{n}")), "").expect("write");
                }
                removed_while_listed(&etcfs.mnt().join("d"), buffer, entries);
                assert!(!below.exists());
            }
        });
    }
}

#[test]
fn a_rewound_listing_shows_what_has_come_and_gone() {
    on_each_lower(|_, etcfs| {
        let dir = etcfs.local().join("d");
        fs::create_dir(&dir).expect("mkdir");
        fs::write(dir.join("gone"), "").expect("write");
        let fd = open(&etcfs.mnt().join("d"));
        let names = || {
            let mut names: Vec<_> = rest(&fd, 2000).into_iter().map(|(name, _)| name).collect();
            names.sort();
            names
        };
        assert_eq!(names(), [".", "..", "gone"]);
        fs::remove_file(dir.join("gone")).expect("remove");
        fs::write(dir.join("come"), "").expect("write");
        rustix::fs::seek(&fd, SeekFrom::Start(0)).expect("rewinddir");
        assert_eq!(names(), [".", "..", "come"]);
    });
}

#[test]
fn a_rewound_listing_of_hidden_names_shows_what_has_come() {
    on_each_lower(|_, etcfs| {
        etcfs
            .write_config(&["add_global /here", "add_global /there"])
            .expect("configure");
        fs::write(etcfs.local().join("here"), "hidden").expect("write");
        let fd = open(&etcfs.mnt());
        let has = |name: &str| rest(&fd, 2000).iter().any(|(listed, _)| listed == name);
        assert!(!has("here") && !has("there"));
        fs::write(etcfs.global().join("there"), "").expect("write");
        fs::write(etcfs.local().join("plain"), "").expect("write");
        rustix::fs::seek(&fd, SeekFrom::Start(0)).expect("rewinddir");
        assert!(has("there"));
        rustix::fs::seek(&fd, SeekFrom::Start(0)).expect("rewinddir");
        assert!(has("plain"));
    });
}
