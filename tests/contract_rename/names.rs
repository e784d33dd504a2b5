//! Which renames are possible, and what each leaves at both names.

use super::harness::errno;
use super::{APART, EVERYWHERE, on};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

/// rename(2) with flags.
pub fn rename2(old: &Path, new: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, old, CWD, new, flags)
}

/// A file's contents.
pub fn text(path: &Path) -> Result<String, Errno> {
    fs::read_to_string(path).map_err(errno)
}

#[test]
fn b4_a_file_replaces_one_on_the_other_side() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let (local, global) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
            fs::write(&local, "first").expect("write");
            fs::rename(&local, &global).expect("to a free name");
            assert_eq!(text(&etcfs.global().join("global")), Ok("first".into()));
            assert_eq!(text(&global), Ok("first".into()));
            assert_eq!(text(&local), Err(Errno::NOENT));
            fs::write(&local, "second").expect("write");
            fs::rename(&local, &global).expect("over a file");
            assert_eq!(text(&global), Ok("second".into()));
            assert!(!etcfs.local().join("local").exists());
            assert!(!etcfs.local().join("global").exists());
            fs::rename(&global, &local).expect("and back");
            assert_eq!(text(&etcfs.local().join("local")), Ok("second".into()));
            assert!(!etcfs.global().join("global").exists());
        });
    }
}

#[test]
fn b4_it_works_below_a_global_directory() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            fs::create_dir(etcfs.mnt().join("sub")).expect("mkdir");
            let local = etcfs.mnt().join("sub/f");
            let global = etcfs.mnt().join("gdir/g");
            fs::write(&local, "x").expect("write");
            fs::rename(&local, &global).expect("rename");
            assert_eq!(text(&etcfs.global().join("gdir/g")), Ok("x".into()));
            assert_eq!(text(&local), Err(Errno::NOENT));
        });
    }
}

#[test]
fn b1_noreplace_never_replaces() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let (local, global) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
            let link = etcfs.mnt().join("link");
            fs::write(&local, "mine").expect("write");
            symlink("target", &link).expect("symlink");
            assert_eq!(rename2(&local, &global, RenameFlags::NOREPLACE), Ok(()));
            fs::write(&local, "newer").expect("write");
            for source in [&local, &link] {
                assert_eq!(
                    rename2(source, &global, RenameFlags::NOREPLACE),
                    Err(Errno::EXIST)
                );
            }
            assert_eq!(text(&global), Ok("mine".into()));
            assert_eq!(text(&local), Ok("newer".into()));
            fs::remove_file(&global).expect("remove");
            assert_eq!(rename2(&link, &global, RenameFlags::NOREPLACE), Ok(()));
            assert_eq!(
                fs::read_link(etcfs.global().join("global")).expect("readlink"),
                Path::new("target")
            );
        });
    }
}

#[test]
fn b1_exchange_works_within_a_side_only() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let name = |n: &str| etcfs.mnt().join(n);
            for n in ["a", "b", "global"] {
                fs::write(name(n), n).expect("write");
            }
            let exchange = RenameFlags::EXCHANGE;
            assert_eq!(rename2(&name("a"), &name("b"), exchange), Ok(()));
            assert_eq!(text(&name("a")), Ok("b".into()));
            assert_eq!(text(&name("b")), Ok("a".into()));
            assert_eq!(
                rename2(&name("a"), &name("global"), exchange),
                Err(Errno::XDEV)
            );
            assert_eq!(text(&name("global")), Ok("global".into()));
            for target in ["b", "global"] {
                let whiteout = rename2(&name("a"), &name(target), RenameFlags::WHITEOUT);
                assert_eq!(whiteout, Err(Errno::INVAL), "to {target}");
            }
        });
    }
}

#[test]
fn s10_symlinks_move_over_symlinks_and_files() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let (local, global) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
            let put = || symlink("../run/stub-resolv.conf", &local).expect("symlink");
            let check = || {
                let target = fs::read_link(etcfs.global().join("global")).expect("readlink");
                assert_eq!(target, Path::new("../run/stub-resolv.conf"));
                assert!(fs::symlink_metadata(etcfs.local().join("local")).is_err());
            };
            put();
            fs::rename(&local, &global).expect("to a free name");
            check();
            put();
            fs::rename(&local, &global).expect("over a symlink");
            check();
            fs::remove_file(&global).expect("remove");
            fs::write(&global, "file").expect("write");
            put();
            fs::rename(&local, &global).expect("over a file");
            check();
            fs::write(&local, "file").expect("write");
            fs::rename(&local, &global).expect("a file over a symlink");
            assert_eq!(text(&etcfs.global().join("global")), Ok("file".into()));
        });
    }
}

#[test]
fn special_files_stay_what_they_are() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let (local, global) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
            let zero = rustix::fs::makedev(1, 5);
            for (kind, device) in [
                (FileType::Fifo, 0),
                (FileType::Socket, 0),
                (FileType::CharacterDevice, zero),
                (FileType::BlockDevice, rustix::fs::makedev(7, 1000)),
            ] {
                mknodat(CWD, &local, kind, Mode::from_raw_mode(0o640), device).expect("mknod");
                std::os::unix::fs::lchown(&local, Some(1000), Some(1001)).expect("chown");
                let before = fs::symlink_metadata(&local).expect("stat");
                fs::rename(&local, &global).expect("rename");
                let after = fs::symlink_metadata(etcfs.global().join("global")).expect("stat");
                assert_eq!(
                    (after.mode(), after.rdev(), after.uid(), after.gid()),
                    (before.mode(), device, 1000, 1001),
                    "{kind:?}"
                );
                assert_eq!(after.mtime_nsec(), before.mtime_nsec());
                assert!(!after.file_type().is_symlink() || kind == FileType::Symlink);
                assert_eq!(after.file_type().is_fifo(), kind == FileType::Fifo);
            }
            assert!(fs::symlink_metadata(&local).is_err());
        });
    }
}

#[test]
fn b4_directories_are_left_to_mv() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let (local, global) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
            fs::create_dir(&local).expect("mkdir");
            assert_eq!(
                rename2(&local, &global, RenameFlags::empty()),
                Err(Errno::XDEV)
            );
            fs::write(local.join("inside"), "x").expect("write");
            assert_eq!(
                rename2(&local, &global, RenameFlags::empty()),
                Err(Errno::XDEV)
            );
            assert!(!etcfs.global().join("global").exists());
            super::harness::run(std::process::Command::new("mv").arg(&local).arg(&global))
                .expect("mv");
            assert_eq!(text(&etcfs.global().join("global/inside")), Ok("x".into()));
            assert!(!etcfs.local().join("local").exists());
            // The kernel compares the kinds before it asks.
            fs::write(&local, "file").expect("write");
            assert_eq!(
                rename2(&local, &global, RenameFlags::empty()),
                Err(Errno::ISDIR)
            );
        });
    }
}

#[test]
fn the_configuration_file_and_hidden_names_take_no_part() {
    on(APART, |etcfs| {
        let name = |n: &str| etcfs.mnt().join(n);
        let hidden = ".etcfs-hidden-0000000000000001";
        fs::write(name("local"), "x").expect("write");
        fs::create_dir(name("dir")).expect("mkdir");
        for target in [super::harness::CONFIG, hidden, &format!("dir/{hidden}")] {
            assert_eq!(
                rename2(&name("local"), &name(target), RenameFlags::empty()),
                Err(Errno::PERM),
                "{target}"
            );
        }
        assert_eq!(fs::write(name(hidden), "").map_err(errno), Err(Errno::PERM));
        fs::write(etcfs.local().join("dir").join(hidden), "").expect("write beneath");
        assert_eq!(fs::read_dir(name("dir")).expect("list").count(), 0);
        assert_eq!(text(&name("dir").join(hidden)), Err(Errno::NOENT));
        // It may be in use until it has not changed for a while.
        assert_eq!(
            fs::remove_dir(name("dir")).map_err(errno),
            Err(Errno::NOTEMPTY)
        );
        let dir = fs::File::open(etcfs.local().join("dir")).expect("open");
        let swept = etcfs::fs::staging::sweep::sweep(std::os::fd::AsFd::as_fd(&dir), -1);
        assert_eq!(swept, Ok(true));
        fs::remove_dir(name("dir")).expect("rmdir");
    });
}

#[test]
fn b2_the_targets_override_is_applied_as_well_as_the_sources() {
    for sides in EVERYWHERE {
        on(sides, |etcfs| {
            let name = |n: &str| etcfs.mnt().join(n);
            let config = |line: &str| etcfs.write_config(&[line]).expect("configure");
            config("add_override symlink /fixed enforced");
            config("add_override symlink /gdir/fixed enforced");
            config("add_override directory /dir x");
            fs::write(name("local"), "x").expect("write");
            // The kernel looks at both names before it renames, and so finds them enforced: neither existed.
            assert_eq!(
                rename2(&name("local"), &name("fixed"), RenameFlags::NOREPLACE),
                Err(Errno::EXIST)
            );
            assert_eq!(
                rename2(&name("local"), &name("gdir/fixed"), RenameFlags::NOREPLACE),
                Err(Errno::EXIST)
            );
            assert_eq!(
                rename2(&name("local"), &name("dir"), RenameFlags::empty()),
                Err(Errno::ISDIR)
            );
            // An override moves like any symlink, to the other side too, and comes back.
            fs::rename(name("gdir/fixed"), name("taken")).expect("rename the override away");
            assert_eq!(
                fs::read_link(name("taken")).expect("readlink"),
                Path::new("enforced")
            );
            // What is renamed over one stays for about a second (D43), then the override is back, on its own side.
            fs::rename(name("local"), name("gdir/fixed")).expect("rename over the override");
            std::thread::sleep(std::time::Duration::from_millis(2500));
            assert_eq!(
                fs::read_link(name("gdir/fixed")).expect("readlink"),
                Path::new("enforced")
            );
            assert_eq!(
                fs::read_link(etcfs.global().join("gdir/fixed")).expect("readlink"),
                Path::new("enforced")
            );
        });
    }
}
