//! Who may do what to files and directories of every mode (F3, B20).

use crate::harness::{Root, errno};
use crate::{dir, file, look, on_each_lower, open, users};
use rustix::fs::{
    Access, AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, Uid,
    accessat, chmodat, chownat, mkdirat, renameat_with, statat, unlinkat, utimensat,
};
use rustix::io::Result;

const FILE_MODES: [u32; 9] = [0, 0o400, 0o040, 0o004, 0o600, 0o066, 0o644, 0o755, 0o711];
const DIR_MODES: [u32; 8] = [0o700, 0o750, 0o705, 0o711, 0o733, 0o777, 0o1777, 0o2775];

fn done<T>(result: Result<T>) -> Result<String> {
    result.map(|_| String::new())
}

#[test]
fn f3_calls_on_a_file_are_allowed_to_the_same_users_as_natively() {
    on_each_lower(|_, _, pair| {
        for user in users() {
            for mode in FILE_MODES {
                let name = &format!("f{mode:o}");
                let _ = pair.same("make", |root| file(root, name, 1000, 500, mode));
                let outcomes = pair.each_as(&user, |root| on_file(root, name));
                if user.uid == 1001 && user.caps.is_none() && mode == 0 {
                    assert!(
                        outcomes[0].1.is_err(),
                        "a stranger cannot open: {outcomes:?}"
                    );
                }
                let _ = pair.same("look", |root| look(root, name));
            }
        }
    });
}

fn on_file(root: &Root, name: &str) -> Vec<(String, Result<String>)> {
    let at = &root.dir;
    let mut all = Vec::new();
    let mut note = |what: &str, result| all.push((format!("{what} {name}"), result));
    for (what, flags) in [
        ("read", OFlags::RDONLY),
        ("write", OFlags::WRONLY),
        ("both", OFlags::RDWR),
        ("create", OFlags::RDONLY | OFlags::CREATE),
        ("exclusive", OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL),
        ("noatime", OFlags::RDONLY | OFlags::NOATIME),
        ("path", OFlags::PATH),
        ("directory", OFlags::RDONLY | OFlags::DIRECTORY),
        ("truncate", OFlags::RDONLY | OFlags::TRUNC),
        ("write and truncate", OFlags::WRONLY | OFlags::TRUNC),
    ] {
        note(what, done(open(root, name, flags)));
    }
    for access in [
        Access::EXISTS,
        Access::READ_OK,
        Access::WRITE_OK,
        Access::EXEC_OK,
        Access::READ_OK | Access::WRITE_OK,
    ] {
        for flags in [
            AtFlags::empty(),
            AtFlags::EACCESS,
            AtFlags::SYMLINK_NOFOLLOW,
        ] {
            let result = accessat(at, name, access, flags);
            note(&format!("access {access:?} {flags:?}"), done(result));
        }
    }
    let run = std::process::Command::new(root.join(name)).status();
    note("run", run.map(|s| format!("{s}")).map_err(errno));
    let now = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
    };
    note(
        "touch",
        utimensat(at, name, &now, AtFlags::empty()).map(|()| String::new()),
    );
    let then = Timestamps {
        last_access: Timespec {
            tv_sec: 1,
            tv_nsec: 2,
        },
        last_modification: Timespec {
            tv_sec: 3,
            tv_nsec: 4,
        },
    };
    note("utime", done(utimensat(at, name, &then, AtFlags::empty())));
    let path = root.join(name);
    let flags = rustix::fs::XattrFlags::empty();
    note(
        "setxattr",
        done(rustix::fs::setxattr(&path, "user.k", b"v", flags)),
    );
    let mut value = [0; 16];
    note(
        "getxattr",
        rustix::fs::getxattr(&path, "user.k", &mut value[..]).map(|n| n.to_string()),
    );
    note(
        "setxattr trusted",
        done(rustix::fs::setxattr(&path, "trusted.k", b"v", flags)),
    );
    note(
        "getxattr trusted",
        done(rustix::fs::getxattr(&path, "trusted.k", &mut value[..])),
    );
    note(
        "removexattr",
        done(rustix::fs::removexattr(&path, "user.k")),
    );
    note(
        "truncate by path",
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|f| f.set_len(3))
            .map(|()| String::new())
            .map_err(errno),
    );
    note("look", look(root, name));
    note(
        "chmod",
        done(chmodat(
            at,
            name,
            Mode::from_raw_mode(0o640),
            AtFlags::empty(),
        )),
    );
    let gid = Some(Gid::from_raw(500));
    note(
        "chgrp to 500",
        done(chownat(at, name, None, gid, AtFlags::empty())),
    );
    let gid = Some(Gid::from_raw(501));
    note(
        "chgrp to 501",
        done(chownat(at, name, None, gid, AtFlags::empty())),
    );
    let uid = Some(Uid::from_raw(1001));
    note(
        "chown to 1001",
        done(chownat(at, name, uid, None, AtFlags::empty())),
    );
    let link = format!("{name}-link");
    note(
        "link",
        done(rustix::fs::linkat(at, name, at, &*link, AtFlags::empty())),
    );
    note(
        "unlink the link",
        done(unlinkat(at, &*link, AtFlags::empty())),
    );
    all
}

#[test]
fn f3_calls_in_a_directory_are_allowed_to_the_same_users_as_natively() {
    on_each_lower(|_, _, pair| {
        for (n, user) in users().into_iter().enumerate() {
            for mode in DIR_MODES {
                let name = &format!("d{n}-{mode:o}");
                let _ = pair.same("make", |root| {
                    dir(root, name, 1000, 500, mode)?;
                    file(root, &format!("{name}/owned"), 1000, 500, 0o644)?;
                    file(root, &format!("{name}/roots"), 0, 0, 0o644)?;
                    file(root, &format!("{name}/strangers"), 1001, 1001, 0o644)?;
                    dir(root, &format!("{name}/sub"), 1000, 500, 0o755)
                });
                pair.each_as(&user, |root| in_directory(root, name));
            }
        }
    });
}

fn in_directory(root: &Root, name: &str) -> Vec<(String, Result<String>)> {
    let at = &root.dir;
    let mut all = Vec::new();
    let mut note = |what: &str, result| all.push((format!("{what} {name}"), result));
    let inside = |child: &str| format!("{name}/{child}");
    let list = std::fs::read_dir(root.join(name))
        .map_err(errno)
        .map(|list| {
            let mut names: Vec<_> = list.flatten().map(|e| e.file_name()).collect();
            names.sort();
            format!("{names:?}")
        });
    note("list", list);
    note(
        "stat a child",
        done(statat(at, inside("owned"), AtFlags::empty())),
    );
    note(
        "stat nothing",
        done(statat(at, inside("none"), AtFlags::empty())),
    );
    note(
        "access",
        done(accessat(at, name, Access::EXEC_OK, AtFlags::EACCESS)),
    );
    note("chdir", done(rustix::process::chdir(root.join(name))));
    let _ = rustix::process::chdir("/");
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    note("create", done(open(root, &inside("new"), create)));
    note(
        "open or create",
        done(open(
            root,
            &inside("roots"),
            OFlags::RDONLY | OFlags::CREATE,
        )),
    );
    note(
        "unnamed",
        done(open(root, name, OFlags::TMPFILE | OFlags::WRONLY)),
    );
    note(
        "mkdir",
        done(mkdirat(at, inside("newdir"), Mode::from_raw_mode(0o777))),
    );
    note(
        "mkdir again",
        done(mkdirat(at, inside("sub"), Mode::from_raw_mode(0o777))),
    );
    note(
        "symlink",
        done(rustix::fs::symlinkat("target", at, inside("newlink"))),
    );
    note(
        "link",
        done(rustix::fs::linkat(
            at,
            inside("owned"),
            at,
            inside("hard"),
            AtFlags::empty(),
        )),
    );
    for child in ["owned", "roots", "strangers", "sub"] {
        let to = inside(&format!("{child}-moved"));
        let moved = renameat_with(at, inside(child), at, &*to, RenameFlags::empty());
        note(&format!("rename {child}"), done(moved));
        let back = renameat_with(at, &*to, at, inside(child), RenameFlags::NOREPLACE);
        note(&format!("rename {child} back"), done(back));
    }
    let over = renameat_with(
        at,
        inside("owned"),
        at,
        inside("strangers"),
        RenameFlags::empty(),
    );
    note("rename over", done(over));
    for child in ["owned", "roots", "strangers", "new"] {
        note(
            &format!("unlink {child}"),
            done(unlinkat(at, inside(child), AtFlags::empty())),
        );
    }
    note(
        "unlink a directory",
        done(unlinkat(at, inside("sub"), AtFlags::empty())),
    );
    note(
        "rmdir",
        done(unlinkat(at, inside("sub"), AtFlags::REMOVEDIR)),
    );
    note("rmdir itself", done(unlinkat(at, name, AtFlags::REMOVEDIR)));
    all
}

#[test]
fn b20_the_real_user_decides_access_and_the_effective_one_eaccess() {
    on_each_lower(|_, _, pair| {
        let _ = pair.same("make", |root| file(root, "secret", 0, 0, 0o600));
        let seen = pair.each_as(&crate::harness::User::plain(0), |root| {
            let (user, root_id) = (Uid::from_raw(1000), Uid::from_raw(0));
            rustix::thread::set_thread_res_uid(user, root_id, root_id).expect("become two users");
            [AtFlags::empty(), AtFlags::EACCESS]
                .map(|flags| {
                    let result = accessat(&root.dir, "secret", Access::READ_OK, flags);
                    (format!("access {flags:?}"), done(result))
                })
                .to_vec()
        });
        assert_eq!(seen[0].1, Err(rustix::io::Errno::ACCESS));
        assert_eq!(seen[1].1, Ok(String::new()));
    });
}
