//! Names: renameat2 (B1), links, symlinks at exact buffer sizes (B25), odd names, errnos.

use crate::compared;
use crate::harness::{Root, errno};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, linkat, mkdirat, readlinkat_raw, renameat, renameat_with,
    statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, Result};
use std::fs;

fn write(root: &Root, name: &str) -> Result<()> {
    fs::write(root.join(name), name).map_err(errno)
}

fn read(root: &Root, name: &str) -> Result<String> {
    fs::read_to_string(root.join(name)).map_err(errno)
}

#[test]
fn b1_renameat2_exchanges_refuses_to_replace_and_knows_no_whiteout() {
    compared(|pair| {
        let _ = pair.same("make", |root| {
            for name in ["a", "b", "dir1/inner", "dir2/other"] {
                if let Some((dir, _)) = name.split_once('/') {
                    mkdirat(&root.dir, dir, Mode::RWXU)?;
                }
                write(root, name)?;
            }
            Ok(())
        });
        let rename = |root: &Root, from: &str, to: &str, flags| {
            renameat_with(&root.dir, from, &root.dir, to, flags)
        };
        let exchange = RenameFlags::EXCHANGE;
        let keep = RenameFlags::NOREPLACE;
        for (from, to, flags, native) in [
            ("a", "b", exchange, Ok(())),
            ("a", "missing", exchange, Err(Errno::NOENT)),
            ("dir1", "dir2", exchange, Ok(())),
            ("a", "dir1", exchange, Ok(())),
            ("a", "dir1", exchange, Ok(())),
            ("dir1/other", "dir2/inner", exchange, Ok(())),
            ("dir1", "dir1/other", exchange, Err(Errno::INVAL)),
            ("a", "b", keep, Err(Errno::EXIST)),
            ("a", "c", keep, Ok(())),
            ("c", "c", keep, Err(Errno::EXIST)),
            ("missing", "c", keep, Err(Errno::NOENT)),
            ("c", "a", keep | exchange, Err(Errno::INVAL)),
        ] {
            let done = pair.same(&format!("{from} {to} {flags:?}"), |root| {
                rename(root, from, to, flags)
            });
            assert_eq!(done, native, "{from} {to} {flags:?}");
        }
        let texts = pair.same("read", |root| {
            Ok((
                read(root, "b")?,
                read(root, "dir1/inner"),
                read(root, "dir2/other"),
            ))
        });
        assert_eq!(texts.map(|t| t.0), Ok("a".to_owned()));
    });
}

#[test]
fn b1_a_whiteout_is_refused() {
    crate::on_each_lower(|_, etcfs| {
        fs::write(etcfs.mnt().join("a"), "x").expect("write");
        let at = rustix::fs::CWD;
        let done = renameat_with(
            at,
            etcfs.mnt().join("a"),
            at,
            etcfs.mnt().join("b"),
            RenameFlags::WHITEOUT,
        );
        assert_eq!(done, Err(Errno::INVAL));
        assert!(etcfs.mnt().join("a").exists());
    });
}

#[test]
fn renames_links_and_removals_fail_as_natively() {
    compared(|pair| {
        let _ = pair.same("make", |root| {
            for dir in ["empty", "full", "full/sub"] {
                mkdirat(&root.dir, dir, Mode::RWXU)?;
            }
            write(root, "file")?;
            write(root, "full/file")?;
            symlinkat("file", &root.dir, "link")?;
            symlinkat("missing", &root.dir, "dangling")?;
            symlinkat("loop", &root.dir, "loop")
        });
        let at = |root: &Root, call: &dyn Fn(&std::os::fd::OwnedFd) -> Result<()>| call(&root.dir);
        type Call = (&'static str, fn(&std::os::fd::OwnedFd) -> Result<()>);
        let long: &'static str = Box::leak("n".repeat(256).into_boxed_str());
        let calls: &[Call] = &[
            ("dir over file", |d| renameat(d, "empty", d, "file")),
            ("file over dir", |d| renameat(d, "file", d, "empty")),
            ("dir over full dir", |d| renameat(d, "empty", d, "full")),
            ("dir into itself", |d| renameat(d, "full", d, "full/sub/x")),
            ("dir over its parent", |d| {
                renameat(d, "full/sub", d, "full")
            }),
            ("into a file", |d| renameat(d, "empty", d, "file/x")),
            ("to itself", |d| renameat(d, "file", d, "file")),
            ("dot", |d| renameat(d, "empty/.", d, "x")),
            ("missing", |d| renameat(d, "nothing", d, "x")),
            ("link to a link of it", |d| {
                linkat(d, "file", d, "full/hard", AtFlags::empty())
            }),
            ("rename over its own link", |d| {
                renameat(d, "file", d, "full/hard")
            }),
            ("link a dir", |d| {
                linkat(d, "empty", d, "x", AtFlags::empty())
            }),
            ("link existing", |d| {
                linkat(d, "file", d, "link", AtFlags::empty())
            }),
            ("link a symlink", |d| {
                linkat(d, "dangling", d, "dangling2", AtFlags::empty())
            }),
            ("link through a symlink", |d| {
                linkat(d, "link", d, "followed", AtFlags::SYMLINK_FOLLOW)
            }),
            ("rmdir full", |d| unlinkat(d, "full", AtFlags::REMOVEDIR)),
            ("rmdir file", |d| unlinkat(d, "file", AtFlags::REMOVEDIR)),
            ("rmdir missing", |d| {
                unlinkat(d, "nothing", AtFlags::REMOVEDIR)
            }),
            ("rmdir .", |d| unlinkat(d, "empty/.", AtFlags::REMOVEDIR)),
            ("rmdir ..", |d| {
                unlinkat(d, "full/sub/..", AtFlags::REMOVEDIR)
            }),
            ("unlink dir", |d| unlinkat(d, "empty", AtFlags::empty())),
            ("unlink missing", |d| {
                unlinkat(d, "nothing", AtFlags::empty())
            }),
            ("mkdir existing", |d| mkdirat(d, "empty", Mode::RWXU)),
            ("mkdir over a symlink", |d| {
                mkdirat(d, "dangling", Mode::RWXU)
            }),
            ("mkdir under a file", |d| mkdirat(d, "file/x", Mode::RWXU)),
            ("symlink existing", |d| symlinkat("t", d, "file")),
            ("symlink to nothing", |d| symlinkat("", d, "nowhere")),
            ("create through a dangling link", |d| {
                rustix::fs::openat(
                    d,
                    "dangling",
                    OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
                    Mode::RWXU,
                )
                .map(drop)
            }),
            ("exclusive on a dangling link", |d| {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                rustix::fs::openat(d, "dangling", flags, Mode::RWXU).map(drop)
            }),
            ("open a loop", |d| {
                rustix::fs::openat(d, "loop", OFlags::RDONLY | OFlags::CLOEXEC, Mode::RWXU)
                    .map(drop)
            }),
            ("open a link itself", |d| {
                rustix::fs::openat(
                    d,
                    "link",
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::RWXU,
                )
                .map(drop)
            }),
            ("open a dir for writing", |d| {
                rustix::fs::openat(d, "empty", OFlags::WRONLY | OFlags::CLOEXEC, Mode::RWXU)
                    .map(drop)
            }),
            ("rename a dir over an empty one", |d| {
                renameat(d, "full/sub", d, "empty")
            }),
        ];
        for (what, call) in calls {
            let _ = pair.same(what, |root| at(root, call));
        }
        for name in [long, &"m".repeat(255)] {
            let _ = pair.same("a long name", |root| {
                let made = mkdirat(&root.dir, name, Mode::RWXU);
                let seen = statat(&root.dir, name, AtFlags::empty()).map(drop);
                Ok((made, seen, renameat(&root.dir, "link", &root.dir, name)))
            });
        }
        for name in [
            "with space",
            "tab\there",
            "new\nline",
            "\u{fc}ml\u{e4}ut",
            "\\back",
            "-",
            "...",
            "*?[x]",
            "\u{7f}\u{1}",
        ] {
            let made = pair.same(name, |root| {
                write(root, name).and_then(|()| read(root, name))
            });
            assert_eq!(made.as_deref(), Ok(name));
        }
    });
}

#[test]
fn b25_symlinks_are_read_at_every_buffer_size() {
    compared(|pair| {
        for len in [1, 2, 7, 59, 60, 61, 255, 1023, 4094, 4095] {
            let target = "t".repeat(len);
            let name = format!("l{len}");
            let made = pair.same("make", |root| symlinkat(&*target, &root.dir, &*name));
            assert_eq!(made, Ok(()));
            for size in [1, len - 1, len, len + 1, 4095, 4096, 8192] {
                let seen = pair.same(&format!("read {len} into {size}"), |root| {
                    let mut buffer = vec![0_u8; size];
                    let n = readlinkat_raw(&root.dir, &*name, &mut buffer[..]);
                    n.map(|n: usize| buffer[..n].to_vec())
                });
                if size > 0 {
                    assert_eq!(seen.map(|t| t.len()), Ok(size.min(len)));
                }
            }
        }
        let too_long = pair.same("too long", |root| {
            symlinkat("t".repeat(4096), &root.dir, "long")
        });
        assert_eq!(too_long, Err(Errno::NAMETOOLONG));
        let not_one = pair.same("not a symlink", |root| {
            write(root, "file")?;
            let mut buffer = [0_u8; 10];
            readlinkat_raw(&root.dir, "file", &mut buffer[..]).map(|n: usize| n)
        });
        assert_eq!(not_one, Err(Errno::INVAL));
    });
}
