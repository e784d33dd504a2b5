//! Deep paths (B31), statfs where nothing may be opened (B26), directories that move while in use, inotify.

use crate::harness::{User, errno};
use crate::{compared, on_each_lower, open};
use rustix::fs::inotify;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::fs;
use std::mem::MaybeUninit;

#[test]
fn b31_paths_beyond_4095_bytes_work_relative_to_a_directory() {
    compared(|pair| {
        let name = "a-component-of-forty-bytes-in-a-deep-tree";
        let seen = pair.same("deep", |root| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mut dirs = vec![openat(&root.dir, ".", flags, Mode::empty())?];
            for _ in 0..250 {
                let last = dirs.last().expect("one at least");
                mkdirat(last, name, Mode::RWXU)?;
                let next = openat(last, name, flags, Mode::empty())?;
                dirs.push(next);
            }
            let deep = dirs.last().expect("one at least");
            let file = openat(
                deep,
                "file",
                OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC,
                Mode::RWXU,
            )?;
            rustix::io::write(&file, b"deep")?;
            renameat(deep, "file", deep, "renamed")?;
            mkdirat(deep, "sub", Mode::RWXU)?;
            rustix::fs::symlinkat("renamed", deep, "link")?;
            rustix::fs::linkat(deep, "renamed", deep, "hard", AtFlags::empty())?;
            let size = statat(deep, "link", AtFlags::empty())?.st_size;
            let nlink = fstat(&file)?.st_nlink;
            let mut list = Vec::new();
            for entry in rustix::fs::Dir::read_from(deep)? {
                list.push(entry?.file_name().to_owned());
            }
            list.sort();
            for name in ["renamed", "link", "hard"] {
                unlinkat(deep, name, AtFlags::empty())?;
            }
            unlinkat(deep, "sub", AtFlags::REMOVEDIR)?;
            while let Some(_gone) = dirs.pop() {
                if let Some(above) = dirs.last() {
                    unlinkat(above, name, AtFlags::REMOVEDIR)?;
                }
            }
            Ok((size, nlink, list))
        });
        assert_eq!(seen.map(|s| (s.0, s.1, s.2.len())), Ok((4, 2, 6)));
    });
}

#[test]
fn b26_statfs_works_on_what_nobody_may_open() {
    compared(|pair| {
        let _ = pair.same("make", |root| {
            mkdirat(&root.dir, "closed", Mode::empty())?;
            fs::write(root.join("secret"), "x").map_err(errno)?;
            fs::set_permissions(
                root.join("secret"),
                std::os::unix::fs::PermissionsExt::from_mode(0o000),
            )
            .map_err(errno)
        });
        for user in [User::plain(0), User::plain(1000)] {
            for name in [".", "closed", "secret", "closed/below", "missing"] {
                let seen = pair.same_as(&user, name, |root| {
                    let s = rustix::fs::statfs(root.join(name))?;
                    Ok((s.f_blocks, s.f_bsize, s.f_frsize, s.f_files, s.f_namelen))
                });
                assert_eq!(
                    seen.is_ok(),
                    !name.starts_with("closed/") && name != "missing"
                );
            }
        }
    });
}

#[test]
fn a_directory_in_use_is_followed_when_it_moves() {
    on_each_lower(|_, etcfs| {
        let (mnt, local) = (etcfs.mnt(), etcfs.local());
        fs::create_dir_all(local.join("a/b/c")).expect("mkdir");
        fs::create_dir(local.join("z")).expect("mkdir");
        fs::write(local.join("a/b/c/f"), "text").expect("write");
        for (kind, flags) in [("opened", OFlags::RDONLY), ("held", OFlags::PATH)] {
            let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(mnt.join("a/b/c"), flags, Mode::empty()).expect("open");
            let read = |name: &str| {
                openat(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .and_then(crate::contents)
            };
            // Beneath: the parent goes elsewhere.
            fs::rename(local.join("a/b"), local.join("z/moved")).expect("rename");
            assert_eq!(read("f"), Ok(b"text".to_vec()), "{kind}, moved beneath");
            mkdirat(&dir, "new", Mode::RWXU).expect("mkdir in a moved directory");
            assert!(local.join("z/moved/c/new").is_dir());
            assert_eq!(statat(&dir, "..", AtFlags::empty()).map(drop), Ok(()));
            // Through the mount: back again. The kernel finds a moved directory under its new name by a lookup, but not
            // inside of a rename to another directory, for which it holds the lock that this takes (ESTALE).
            assert!(mnt.join("z/moved").is_dir());
            fs::rename(mnt.join("z/moved"), mnt.join("a/b")).expect("rename");
            assert_eq!(
                read("f"),
                Ok(b"text".to_vec()),
                "{kind}, moved through the mount"
            );
            unlinkat(&dir, "new", AtFlags::REMOVEDIR).expect("rmdir");
            assert_eq!(fstat(&dir).map(|s| s.st_nlink), Ok(2));
        }
    });
}

#[test]
fn a_working_directory_removed_beneath_has_no_entries() {
    on_each_lower(|_, etcfs| {
        fs::create_dir(etcfs.local().join("d")).expect("mkdir");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(etcfs.mnt().join("d"), flags, Mode::empty()).expect("open");
        fs::remove_dir(etcfs.local().join("d")).expect("rmdir");
        assert_eq!(
            statat(&dir, "x", AtFlags::empty()).map(drop),
            Err(Errno::NOENT)
        );
        assert_eq!(mkdirat(&dir, "x", Mode::RWXU), Err(Errno::NOENT));
        // Another one of that name is not the one that was held.
        fs::create_dir(etcfs.local().join("d")).expect("mkdir");
        assert_eq!(mkdirat(&dir, "x", Mode::RWXU), Err(Errno::NOENT));
        // The kernel asks for the attributes again before it checks the right to search.
        crate::a_tick();
        assert_eq!(mkdirat(&dir, "x", Mode::RWXU), Err(Errno::NOENT));
        fs::create_dir(etcfs.mnt().join("d/x")).expect("mkdir by path");
    });
}

#[test]
fn b19_inotify_tells_changes_made_through_the_mount() {
    compared(|pair| {
        let seen = pair.same("watch", |root| {
            mkdirat(&root.dir, "d", Mode::RWXU)?;
            let watch =
                inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
            let what = inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::MOVE
                | inotify::WatchFlags::ATTRIB
                | inotify::WatchFlags::CLOSE_WRITE;
            inotify::add_watch(&watch, root.join("d"), what)?;
            let fd = open(root, "d/f", OFlags::WRONLY | OFlags::CREATE)?;
            rustix::io::write(&fd, b"x")?;
            drop(fd);
            rustix::fs::chmodat(&root.dir, "d/f", Mode::RUSR, AtFlags::empty())?;
            renameat(&root.dir, "d/f", &root.dir, "d/g")?;
            mkdirat(&root.dir, "d/sub", Mode::RWXU)?;
            rustix::fs::symlinkat("t", &root.dir, "d/link")?;
            unlinkat(&root.dir, "d/g", AtFlags::empty())?;
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&watch, &mut space);
            let mut events = Vec::new();
            while let Ok(event) = reader.next() {
                let flags = event.events();
                events.push((
                    flags.bits(),
                    event.file_name().map(std::ffi::CStr::to_owned),
                ));
            }
            Ok(events)
        });
        assert!(seen.expect("works natively").len() >= 8);
    });
}
