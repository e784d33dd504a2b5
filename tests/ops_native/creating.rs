//! Owner, group, mode and place of new objects (sticky and set-group-id directories, umask).

use crate::harness::User;
use crate::{dir, file, look, on_each_lower, users};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, mkdirat, mknodat, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

#[test]
fn new_objects_get_the_same_owner_group_and_mode() {
    on_each_lower(|_, _, pair| {
        for (n, mode) in [0o777, 0o2777, 0o3777, 0o1777].into_iter().enumerate() {
            let made = pair.same("make", |root| dir(root, &format!("d{n}"), 0, 600, mode));
            assert_eq!(made, Ok(()));
        }
        let mut creators = users();
        creators.push(User::plain(1000).in_groups(&[600]));
        creators.push(User::plain(1000).in_groups(&[1, 2, 3, 600, 700]));
        creators.push(User {
            gid: 600,
            ..User::plain(1003)
        });
        creators.push(User::plain(1001).with(CapabilitySet::FSETID));
        for (who, user) in creators.iter().enumerate() {
            for n in 0..4 {
                pair.each_as(user, |root| {
                    rustix::process::umask(Mode::from_raw_mode(0o002));
                    let mut all = Vec::new();
                    for bits in [0o644, 0o2755, 0o2644, 0o6777, 0o1755] {
                        let mode = Mode::from_raw_mode(bits);
                        let path = |kind: &str| format!("d{n}/{kind}-{who}-{bits:o}");
                        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                        let results = [
                            (
                                "file",
                                openat(&root.dir, path("file"), flags, mode).map(drop),
                            ),
                            ("dir", mkdirat(&root.dir, path("dir"), mode)),
                            (
                                "fifo",
                                mknodat(&root.dir, path("fifo"), FileType::Fifo, mode, 0),
                            ),
                            (
                                "sock",
                                mknodat(&root.dir, path("sock"), FileType::Socket, mode, 0),
                            ),
                            (
                                "node",
                                mknodat(&root.dir, path("node"), FileType::RegularFile, mode, 0),
                            ),
                            (
                                "char",
                                mknodat(
                                    &root.dir,
                                    path("char"),
                                    FileType::CharacterDevice,
                                    mode,
                                    rustix::fs::makedev(0, 0),
                                ),
                            ),
                            (
                                "null",
                                mknodat(
                                    &root.dir,
                                    path("null"),
                                    FileType::CharacterDevice,
                                    mode,
                                    rustix::fs::makedev(1, 3),
                                ),
                            ),
                            ("link", rustix::fs::symlinkat("t", &root.dir, path("link"))),
                        ];
                        for (kind, result) in results {
                            let name = path(kind);
                            let outcome = result.and_then(|()| look(root, &name));
                            all.push((format!("make {name}"), outcome));
                        }
                    }
                    all
                });
            }
        }
    });
}

#[test]
fn a_sticky_directory_protects_other_users_names() {
    on_each_lower(|_, _, pair| {
        for (n, user) in users().iter().enumerate() {
            for owner in [0, 1000, 1001] {
                let parent = format!("s{n}-{owner}");
                let _ = pair.same("make", |root| {
                    dir(root, &parent, owner, owner, 0o1777)?;
                    for uid in [0, 1000, 1001] {
                        file(root, &format!("{parent}/{uid}"), uid, uid, 0o666)?;
                        file(root, &format!("{parent}/{uid}b"), uid, uid, 0o666)?;
                        dir(root, &format!("{parent}/d{uid}"), uid, uid, 0o777)?;
                    }
                    Ok(())
                });
                pair.each_as(user, |root| {
                    let at = &root.dir;
                    let mut all = Vec::new();
                    for uid in [0, 1000, 1001] {
                        let name = format!("{parent}/{uid}");
                        let moved = format!("{name}-moved");
                        let exchange = renameat_with(
                            at,
                            &*name,
                            at,
                            format!("{name}b"),
                            RenameFlags::EXCHANGE,
                        );
                        let rename = renameat_with(at, &*name, at, &*moved, RenameFlags::empty());
                        let over = renameat_with(
                            at,
                            &*moved,
                            at,
                            format!("{name}b"),
                            RenameFlags::empty(),
                        );
                        let unlink = unlinkat(at, format!("{name}b"), AtFlags::empty());
                        let rmdir = unlinkat(at, format!("{parent}/d{uid}"), AtFlags::REMOVEDIR);
                        for (what, result) in [
                            ("exchange", exchange),
                            ("rename", rename),
                            ("rename over", over),
                            ("unlink", unlink),
                            ("rmdir", rmdir),
                        ] {
                            all.push((format!("{what} {name}"), result.map(|()| String::new())));
                        }
                    }
                    all
                });
            }
        }
        let _ = pair.same("make", |root| {
            dir(root, "sticky", 0, 0, 0o1777)?;
            file(root, "sticky/f", 0, 0, 0o666)
        });
        let refused = pair.same_as(&User::plain(1001), "unlink", |root| {
            unlinkat(&root.dir, "sticky/f", AtFlags::empty())
        });
        assert_eq!(refused, Err(Errno::PERM));
    });
}

#[test]
fn creating_where_the_daemon_alone_could_not_works_for_whom_the_kernel_allows() {
    on_each_lower(|_, _, pair| {
        let _ = pair.same("make", |root| dir(root, "private", 1234, 1234, 0o700));
        let user = User::plain(1000).with(CapabilitySet::DAC_OVERRIDE);
        let made = pair.same_as(&user, "create", |root| {
            openat(
                &root.dir,
                "private/new",
                OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )?;
            mkdirat(&root.dir, "private/newdir", Mode::from_raw_mode(0o700))?;
            look(root, "private/new")
        });
        assert_eq!(made, Ok("100600 1000:1000 size 0".to_owned()));
    });
}

/// More groups than a page of their numbers, or than any fixed table, would hold.
#[test]
fn s4_every_supplementary_group_counts() {
    on_each_lower(|_, _, pair| {
        let _ = pair.same("make", |root| {
            crate::file(root, "shared", 0, 67_000, 0o640)?;
            dir(root, "team", 0, 67_000, 0o2770)
        });
        for count in [1, 64, 65, 2000] {
            // The group that opens the way is the last, or is just not there.
            for (last, is_allowed) in [(67_000, true), (66_999, false)] {
                let groups: Vec<u32> = (last + 1 - count..=last).collect();
                let user = User::plain(1000).in_groups(&groups);
                let seen = pair.same_as(&user, &format!("{count} groups to {last}"), |root| {
                    let name = format!("team/made{count}");
                    crate::open(root, "shared", OFlags::RDONLY)?;
                    crate::open(root, &name, OFlags::WRONLY | OFlags::CREATE)?;
                    crate::look(root, &name)
                });
                assert_eq!(seen.is_ok(), is_allowed, "{count}: {seen:?}");
                assert!(!is_allowed || seen.is_ok_and(|look| look.contains("1000:67000")));
            }
        }
    });
}
