//! Access control lists decide, are inherited and change with chmod as natively (B23, F3).

use crate::harness::{Root, User};
use crate::{
    GROUP, GROUP_OBJ, MASK, NOBODY, OTHER, USER, USER_OBJ, acl, dir, file, get_xattr, look,
    on_each_lower, open, set_xattr, users,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, mkdirat, mknodat};
use rustix::io::{Errno, Result};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn lists() -> Vec<(&'static str, Vec<u8>)> {
    let base = |u, g, o| {
        vec![
            (USER_OBJ, u, NOBODY),
            (GROUP_OBJ, g, NOBODY),
            (OTHER, o, NOBODY),
        ]
    };
    let with = |mut list: Vec<(u16, u16, u32)>, more: &[(u16, u16, u32)]| {
        list.extend_from_slice(more);
        list.sort_unstable_by_key(|e| (e.0, e.2));
        acl(&list)
    };
    vec![
        (
            "user",
            with(base(6, 0, 0), &[(USER, 4, 1001), (MASK, 7, NOBODY)]),
        ),
        (
            "masked user",
            with(base(6, 4, 4), &[(USER, 7, 1001), (MASK, 0, NOBODY)]),
        ),
        (
            "group",
            with(base(6, 0, 0), &[(GROUP, 6, 500), (MASK, 6, NOBODY)]),
        ),
        (
            "denied user",
            with(
                base(7, 7, 7),
                &[(USER, 0, 1001), (USER, 0, 1002), (MASK, 7, NOBODY)],
            ),
        ),
        (
            "denied group",
            with(base(7, 0, 7), &[(GROUP, 0, 500), (MASK, 7, NOBODY)]),
        ),
        ("plain", with(base(6, 4, 0), &[])),
    ]
}

#[test]
fn an_access_list_lets_the_same_users_in() {
    on_each_lower(|_, _, pair| {
        for (n, (what, list)) in lists().into_iter().enumerate() {
            let (inner, name) = (format!("d{n}"), format!("f{n}"));
            let made = pair.same(what, |root| {
                file(root, &name, 1000, 1000, 0o600)?;
                set_xattr(root, &name, ACCESS, &list)?;
                dir(root, &inner, 1000, 1000, 0o700)?;
                file(root, &format!("{inner}/child"), 0, 0, 0o644)?;
                set_xattr(root, &inner, ACCESS, &list)
            });
            assert_eq!(made, Ok(()), "{what}");
            for user in users() {
                pair.each_as(&user, |root| {
                    let mut all = Vec::new();
                    for (what, flags) in [("read", OFlags::RDONLY), ("write", OFlags::WRONLY)] {
                        let result = open(root, &name, flags).map(|_| String::new());
                        all.push((format!("{what} {name}"), result));
                    }
                    let child = format!("{inner}/child");
                    all.push((format!("look {child}"), look(root, &child)));
                    let made = open(
                        root,
                        &format!("{inner}/new"),
                        OFlags::WRONLY | OFlags::CREATE,
                    );
                    all.push((format!("create in {inner}"), made.map(|_| String::new())));
                    let listed =
                        std::fs::read_dir(root.join(&inner)).map(|l| l.count().to_string());
                    all.push((
                        format!("list {inner}"),
                        listed.map_err(crate::harness::errno),
                    ));
                    let shown = get_xattr(root, &name, ACCESS).map(|v| format!("{v:?}"));
                    all.push((format!("list of {name}"), shown));
                    let set = set_xattr(root, &name, ACCESS, &list).map(|()| String::new());
                    all.push((format!("set the list of {name}"), set));
                    all
                });
            }
        }
        let denied = pair.same_as(&User::plain(1001), "denied user", |root| {
            open(root, "f3", OFlags::RDONLY).map(drop)
        });
        assert_eq!(denied, Err(Errno::ACCESS));
    });
}

#[test]
fn chmod_and_access_list_agree() {
    on_each_lower(|_, _, pair| {
        for (n, (what, list)) in lists().into_iter().enumerate() {
            let name = format!("f{n}");
            let _ = pair.same(what, |root| {
                file(root, &name, 1000, 1000, 0o600)?;
                set_xattr(root, &name, ACCESS, &list)
            });
            for mode in [0o640, 0o777, 0o000, 0o2755] {
                let after = pair.same(&format!("{what} {mode:o}"), |root| {
                    chmodat(
                        &root.dir,
                        &*name,
                        Mode::from_raw_mode(mode),
                        AtFlags::empty(),
                    )?;
                    Ok((look(root, &name)?, get_xattr(root, &name, ACCESS)))
                });
                assert!(after.is_ok(), "{after:?}");
            }
            let removed = pair.same("remove", |root| {
                let removed = rustix::fs::removexattr(root.join(&name), ACCESS);
                Ok((removed, look(root, &name)?))
            });
            assert!(removed.is_ok());
        }
    });
}

#[test]
fn b23_a_default_list_is_inherited_and_replaces_the_umask() {
    on_each_lower(|_, _, pair| {
        for (n, (what, list)) in lists().into_iter().enumerate() {
            let parent = format!("d{n}");
            let made = pair.same(what, |root| {
                dir(root, &parent, 1000, 500, 0o777)?;
                set_xattr(root, &parent, DEFAULT, &list)
            });
            assert_eq!(made, Ok(()), "{what}");
            let _ = pair.same("a plain directory", |root| {
                dir(root, &format!("p{n}"), 1000, 500, 0o777)
            });
            for (umask, mode) in [(0o022, 0o666), (0o077, 0o777), (0, 0o640), (0o777, 0o777)] {
                for user in [User::plain(0), User::plain(1000), User::plain(1001)] {
                    for parent in [parent.clone(), format!("p{n}")] {
                        pair.each_as(&user, |root| made_in(root, &parent, user.uid, umask, mode));
                    }
                }
            }
        }
    });
}

fn made_in(
    root: &Root,
    parent: &str,
    uid: u32,
    umask: u32,
    mode: u32,
) -> Vec<(String, Result<String>)> {
    rustix::process::umask(Mode::from_raw_mode(umask));
    let mode = Mode::from_raw_mode(mode);
    let path = |kind: &str| format!("{parent}/{kind}-{uid}-{umask:o}-{:o}", mode.bits());
    let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let flags = AtFlags::empty();
    let results = [
        (
            "file",
            rustix::fs::openat(&root.dir, path("file"), make, mode).map(drop),
        ),
        ("dir", mkdirat(&root.dir, path("dir"), mode)),
        (
            "fifo",
            mknodat(&root.dir, path("fifo"), FileType::Fifo, mode, 0),
        ),
        (
            "node",
            mknodat(&root.dir, path("node"), FileType::RegularFile, mode, 0),
        ),
        ("link", rustix::fs::symlinkat("t", &root.dir, path("link"))),
        (
            "unnamed",
            rustix::fs::openat(
                &root.dir,
                parent,
                OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC,
                mode,
            )
            .and_then(|fd| {
                let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
                let to = path("unnamed");
                rustix::fs::linkat(
                    rustix::fs::CWD,
                    from,
                    &root.dir,
                    to,
                    flags | AtFlags::SYMLINK_FOLLOW,
                )
            }),
        ),
    ];
    results
        .into_iter()
        .map(|(kind, result)| {
            let name = path(kind);
            let outcome = result.and_then(|()| {
                let lists = (
                    get_xattr(root, &name, ACCESS),
                    get_xattr(root, &name, DEFAULT),
                );
                Ok(format!("{} {lists:?}", look(root, &name)?))
            });
            (format!("make {name}"), outcome)
        })
        .collect()
}

/// That a file which has long been as it is has no list, is remembered; a list that it gets, by whatever way, counts at once.
#[test]
fn an_old_files_first_list_counts_at_once() {
    on_each_lower(|_, etcfs, pair| {
        let _ = pair.same("make", |root| file(root, "old", 0, 0, 0o640));
        std::thread::sleep(std::time::Duration::from_millis(3100));
        let reader = crate::harness::User::plain(1001);
        let list = &lists()[0].1;
        for round in 0..3 {
            // The first asks, the second finds it remembered.
            for _ in 0..2 {
                let refused = pair.same_as(&reader, "open", |root| {
                    open(root, "old", OFlags::RDONLY).map(drop)
                });
                assert_eq!(refused, Err(Errno::ACCESS), "round {round}");
            }
            for base in [etcfs.local(), etcfs.native()] {
                let path = base.join("old");
                rustix::fs::setxattr(&path, ACCESS, list, rustix::fs::XattrFlags::empty())
                    .expect("setxattr beneath");
            }
            etcfs.settle();
            let opened = pair.same_as(&reader, "open with a list", |root| {
                open(root, "old", OFlags::RDONLY).map(drop)
            });
            assert_eq!(opened, Ok(()), "round {round}");
            for base in [etcfs.local(), etcfs.native()] {
                rustix::fs::removexattr(base.join("old"), ACCESS).expect("removexattr beneath");
                let mode = Mode::from_raw_mode(0o640);
                rustix::fs::chmod(base.join("old"), mode).expect("chmod");
            }
            etcfs.settle();
        }
    });
}
