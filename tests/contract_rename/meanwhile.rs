//! What others see and do while an object changes sides: readers, handles, rivals, clients of the same worker.

use super::harness::Lower;
use super::names::{rename2, text};
use super::{APART, EVERYWHERE, Sides, leftovers, on};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[test]
fn b1_noreplace_lets_one_of_many_through() {
    on(APART, |etcfs| {
        let mnt = etcfs.mnt();
        for round in 0..10 {
            let won = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for n in 0..4 {
                    let (mnt, won) = (&mnt, &won);
                    scope.spawn(move || {
                        let mine = mnt.join(format!("mine-{n}"));
                        fs::write(&mine, format!("{n}")).expect("write");
                        match rename2(&mine, &mnt.join("global"), RenameFlags::NOREPLACE) {
                            Ok(()) => won.fetch_add(1, Ordering::Relaxed),
                            Err(errno) => {
                                assert_eq!(errno, Errno::EXIST, "round {round}");
                                0
                            }
                        }
                    });
                }
            });
            assert_eq!(won.load(Ordering::Relaxed), 1);
            fs::remove_file(mnt.join("global")).expect("remove");
        }
    });
}

#[test]
fn open_handles_keep_the_files_they_were_opened_on() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let (local, global) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
            fs::write(&local, "source").expect("write");
            fs::write(&global, "target").expect("write");
            let open = |path: &Path| {
                fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(path)
                    .expect("open")
            };
            let (mut source, mut target) = (open(&local), open(&global));
            fs::rename(&local, &global).expect("rename");
            for (file, holds) in [(&mut source, "source"), (&mut target, "target")] {
                let mut text = String::new();
                file.read_to_string(&mut text).expect("read");
                assert_eq!(text, holds);
                file.seek(SeekFrom::Start(0)).expect("seek");
                file.write_all(b"TOO LATE").expect("write");
                assert_eq!(file.metadata().expect("fstat").len(), 8);
            }
            // On one file system the source itself has moved; a copy is not what the handle was opened on.
            let now = text(&global).expect("read");
            match sides {
                Sides::Same(_) => assert_eq!(now, "TOO LATE"),
                Sides::Apart(..) => assert_eq!(now, "source"),
            }
        });
    }
}

#[test]
fn readers_find_one_whole_file_or_the_other() {
    for sides in [Sides::Same(Lower::Tmpfs), APART] {
        on(sides, move |etcfs| {
            let mnt = etcfs.mnt();
            let content = |n: usize| format!("{n}\n").repeat(3000);
            fs::write(mnt.join("global"), content(0)).expect("write");
            let stop = AtomicBool::new(false);
            let reads = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let text = text(&mnt.join("global")).expect("it is always there");
                            let first = text.lines().next().expect("never empty");
                            let n: usize = first.parse().expect("a number");
                            assert_eq!(text, content(n));
                            reads.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                for n in 1..200 {
                    fs::write(mnt.join("global+"), content(n)).expect("write");
                    fs::rename(mnt.join("global+"), mnt.join("global")).expect("rename");
                    let listed = fs::read_dir(&mnt)
                        .expect("list")
                        .flatten()
                        .map(|e| e.file_name().to_string_lossy().into_owned())
                        .filter(|name| name.starts_with(".etcfs"))
                        .count();
                    assert_eq!(listed, 0);
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert!(reads.load(Ordering::Relaxed) > 0);
        });
    }
}

#[test]
fn a_long_copy_does_not_stop_the_only_worker() {
    super::private(super::DEADLINE, |env| {
        let bases = Sides::Apart(Lower::Tmpfs, Lower::Disk).make(env);
        let big = fs::File::create(bases.local().join("big")).expect("create");
        let chunk = vec![7; 1 << 20];
        for _ in 0..96 {
            (&big).write_all(&chunk).expect("write");
        }
        fs::create_dir(bases.local().join("dir")).expect("mkdir");
        fs::write(bases.local().join("dir/small"), "x").expect("write");
        let mut opts = super::opts();
        opts.options.push("threads=1".into());
        let etcfs = super::Etcfs::serve(env, bases, opts);
        let mnt = etcfs.mnt();
        // The kernel locks the directories of a rename against lookups of names that it does not know yet.
        fs::metadata(mnt.join("dir/small")).expect("stat");
        let done = AtomicBool::new(false);
        let mut looks = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let renamed = fs::rename(mnt.join("big"), mnt.join("global"));
                done.store(true, Ordering::Release);
                renamed.expect("rename");
            });
            while !done.load(Ordering::Acquire) {
                assert_eq!(fs::metadata(mnt.join("dir/small")).expect("stat").len(), 1);
                looks += 1;
            }
        });
        // A worker that copies answers at most what was asked before it began and after it ended.
        assert!(looks > 20, "{looks} stats during the copy");
        assert_eq!(
            fs::metadata(etcfs.global().join("global"))
                .expect("stat")
                .len(),
            96 << 20
        );
        assert!(leftovers(&etcfs.global()).is_empty());
    });
}
