//! The steps: each chooses its arguments once and makes the same call on both sides.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid};

use super::{data, locks};
use crate::harness::{Rng, facts};

/// Files stay smaller than this.
pub const LARGEST: u64 = 200_000;

/// Open files kept at a time.
const HANDLES: usize = 12;

/// What a step did.
pub struct Outcome {
    pub what: String,
    pub on_mount: String,
    pub native: String,
}

/// A file that is open in both trees.
pub struct Open {
    /// Who opened it, of those who share the first tree.
    party: usize,
    pub fds: [OwnedFd; 2],
}

/// The two trees, and the files that are open in both.
pub struct Sides {
    /// The ways to the first tree, one for each party that shares it.
    ways: Vec<PathBuf>,
    /// Whose turn it is.
    party: usize,
    native: PathBuf,
    open: Vec<Open>,
    /// Whether where the holes are follows from the calls alone, as on tmpfs.
    pub exact_holes: bool,
    /// Whether root's writes leave set-id bits as they are: not where the kernel writes with rights of its own.
    pub keeps_set_ids: bool,
}

impl Sides {
    pub fn new(ways: Vec<PathBuf>, native: PathBuf, exact_holes: bool) -> Self {
        Self {
            ways,
            party: 0,
            native,
            open: Vec::new(),
            exact_holes,
            keeps_set_ids: true,
        }
    }

    /// Another party's turn; false if there is no other.
    pub fn turn(&mut self, rng: &mut Rng) -> bool {
        let party = usize::try_from(rng.below(self.ways.len() as u64)).expect("an index");
        std::mem::replace(&mut self.party, party) != party
    }

    /// One of the open files of whose turn it is.
    pub fn pick(&self, rng: &mut Rng) -> Option<(usize, &Open)> {
        let own = |(_, open): &(usize, &Open)| open.party == self.party;
        let own: Vec<_> = self.open.iter().enumerate().filter(own).collect();
        (!own.is_empty()).then(|| rng.pick(&own))
    }

    /// The same call with each root.
    pub fn both<T: Debug>(&self, what: String, call: impl Fn(&Path) -> Result<T>) -> Outcome {
        Outcome {
            what: self.by(what),
            on_mount: format!("{:?}", call(&self.ways[self.party])),
            native: format!("{:?}", call(&self.native)),
        }
    }

    /// The same call with an open file of each side; a file that is not there is an outcome of its own.
    pub fn handle<T: Debug>(
        &self,
        rng: &mut Rng,
        what: impl Fn(usize) -> String,
        call: impl Fn(BorrowedFd<'_>) -> Result<T>,
    ) -> Outcome {
        let Some((index, open)) = self.pick(rng) else {
            return same("no open file".to_owned());
        };
        let [mount, native] = &open.fds;
        let flags = rustix::fs::fcntl_getfl(native);
        let stat = rustix::fs::fstat(native).map(|stat| facts(&stat));
        Outcome {
            what: self.by(format!("{} (open with {flags:?}, {stat:?})", what(index))),
            on_mount: format!("{:?}", call(mount.as_fd())),
            native: format!("{:?}", call(native.as_fd())),
        }
    }

    /// Says who did it where there is more than one.
    fn by(&self, what: String) -> String {
        match self.ways.len() {
            1 => what,
            _ => format!("party {}: {what}", self.party),
        }
    }

    /// Opens a file on both sides; it stays open if both succeed.
    fn keep(
        &mut self,
        rng: &mut Rng,
        what: String,
        call: impl Fn(&Path) -> Result<OwnedFd>,
    ) -> Outcome {
        let (mount, native) = (call(&self.ways[self.party]), call(&self.native));
        let show = |result: &Result<OwnedFd>| format!("{:?}", result.as_ref().map(|_| ()));
        let outcome = Outcome {
            what: self.by(what),
            on_mount: show(&mount),
            native: show(&native),
        };
        if let (Ok(mount), Ok(native)) = (mount, native) {
            if self.open.len() == HANDLES {
                let index = usize::try_from(rng.below(HANDLES as u64)).expect("an index");
                self.open.swap_remove(index);
            }
            self.open.push(Open {
                party: self.party,
                fds: [mount, native],
            });
        }
        outcome
    }
}

pub fn same(what: String) -> Outcome {
    Outcome {
        what,
        on_mount: String::new(),
        native: String::new(),
    }
}

/// A path of up to three names out of few, so that most of them exist some time.
fn path(rng: &mut Rng) -> PathBuf {
    let depth = rng.pick(&[1, 1, 2, 2, 2, 3]);
    (0..depth)
        .map(|_| rng.pick(&["a", "b", "c", "d", "e", "f", "long-name-0123456789"]))
        .collect()
}

fn mode(rng: &mut Rng, sides: &Sides) -> Mode {
    let bits = rng.pick(&[0o644, 0o600, 0o755, 0o4755, 0o2770, 0o1777, 0o000, 0o666]);
    Mode::from_raw_mode(if sides.keeps_set_ids {
        bits
    } else {
        bits & 0o1777
    })
}

/// One random step.
pub fn step(rng: &mut Rng, sides: &mut Sides) -> Outcome {
    match rng.below(42) {
        0..=9 => names(rng, sides),
        10..=17 => attributes(rng, sides),
        18..=21 => opens(rng, sides),
        22..=33 => data::step(rng, sides),
        34..=36 => lists(rng, sides),
        40 | 41 => locks::step(rng, sides),
        _ => xattrs(rng, sides),
    }
}

/// As mv(1) does. A directory that another party has moved cannot take its new place in the kernel's tree while rename(2)
/// itself locks the tree, and the call fails with ESTALE (fs/dcache.c, __d_unalias).
fn look_first(from: &Path, to: &Path) {
    let _ = rustix::fs::lstat(from);
    let _ = rustix::fs::lstat(to);
}

fn names(rng: &mut Rng, sides: &Sides) -> Outcome {
    let (a, b, mode) = (path(rng), path(rng), mode(rng, sides));
    let shown = format!("{} {}", a.display(), b.display());
    match rng.below(14) {
        0..=2 => sides.both(format!("mkdir {shown} {mode:?}"), |root| {
            rustix::fs::mkdirat(CWD, root.join(&a), mode)
        }),
        3 => sides.both(format!("rmdir {shown}"), |root| {
            rustix::fs::unlinkat(CWD, root.join(&a), AtFlags::REMOVEDIR)
        }),
        4 | 5 => sides.both(format!("unlink {shown}"), |root| {
            rustix::fs::unlinkat(CWD, root.join(&a), AtFlags::empty())
        }),
        6 | 7 => sides.both(format!("rename {shown}"), |root| {
            look_first(&root.join(&a), &root.join(&b));
            rustix::fs::renameat(CWD, root.join(&a), CWD, root.join(&b))
        }),
        8 => {
            let flags = rng.pick(&[RenameFlags::NOREPLACE, RenameFlags::EXCHANGE]);
            sides.both(format!("rename {shown} {flags:?}"), |root| {
                look_first(&root.join(&a), &root.join(&b));
                rustix::fs::renameat_with(CWD, root.join(&a), CWD, root.join(&b), flags)
            })
        }
        9 | 10 => sides.both(format!("link {shown}"), |root| {
            rustix::fs::linkat(CWD, root.join(&a), CWD, root.join(&b), AtFlags::empty())
        }),
        11 | 12 => sides.both(format!("symlink {shown}"), |root| {
            rustix::fs::symlinkat(&a, CWD, root.join(&b))
        }),
        _ => {
            let mut kind = rng.pick(&[FileType::Fifo, FileType::Socket, FileType::CharacterDevice]);
            // The kernel joins the ends of a FIFO that are opened through the same mount, and asks nobody.
            if kind == FileType::Fifo && sides.ways.len() > 1 {
                kind = FileType::Socket;
            }
            let device = if kind == FileType::CharacterDevice {
                0x0103
            } else {
                0
            };
            sides.both(format!("mknod {shown} {kind:?}"), |root| {
                rustix::fs::mknodat(CWD, root.join(&a), kind, mode, device)
            })
        }
    }
}

fn attributes(rng: &mut Rng, sides: &Sides) -> Outcome {
    let (a, mode) = (path(rng), mode(rng, sides));
    let shown = a.display().to_string();
    match rng.below(8) {
        0..=2 => sides.both(format!("stat {shown}"), |root| {
            rustix::fs::lstat(root.join(&a)).map(|stat| facts(&stat))
        }),
        3 => sides.both(format!("chmod {shown} {mode:?}"), |root| {
            let path = root.join(&a);
            // chmod(2) would follow a symlink out of one tree's state into a name that the other resolves elsewhere.
            if FileType::from_raw_mode(rustix::fs::lstat(&path)?.st_mode) == FileType::Symlink {
                return Err(Errno::LOOP);
            }
            rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
        }),
        4 => {
            let (uid, gid) = (rng.pick(&[0, 1000, 1001]), rng.pick(&[0, 1000, 50]));
            sides.both(format!("chown {shown} {uid}:{gid}"), |root| {
                let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                rustix::fs::chownat(CWD, root.join(&a), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            })
        }
        5 => {
            // Years apart, so that a time which is wrongly kept or changed differs by more than the comparison's slack.
            let time = |rng: &mut Rng| Timespec {
                tv_sec: i64::try_from(rng.below(40)).expect("small") * 31_557_600,
                tv_nsec: i64::try_from(rng.below(1_000_000_000)).expect("small"),
            };
            let times = Timestamps {
                last_access: time(rng),
                last_modification: time(rng),
            };
            sides.both(format!("utimens {shown} {times:?}"), |root| {
                let path = root.join(&a);
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                let stat = rustix::fs::lstat(&path)?;
                Ok((
                    stat.st_mtime,
                    stat.st_mtime_nsec,
                    stat.st_atime,
                    stat.st_atime_nsec,
                ))
            })
        }
        6 => {
            let len = rng.below(LARGEST);
            sides.both(format!("truncate {shown} {len}"), |root| {
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let fd = rustix::fs::open(root.join(&a), flags, Mode::empty())?;
                rustix::fs::ftruncate(fd, len)
            })
        }
        _ => sides.both(format!("readlink {shown}"), |root| {
            rustix::fs::readlinkat(CWD, root.join(&a), Vec::new())
        }),
    }
}

fn opens(rng: &mut Rng, sides: &mut Sides) -> Outcome {
    let (a, mode) = (path(rng), mode(rng, sides));
    let access = rng.pick(&[OFlags::RDWR, OFlags::RDWR, OFlags::RDONLY, OFlags::WRONLY]);
    let more = rng.pick(&[
        OFlags::CREATE,
        OFlags::CREATE,
        OFlags::CREATE | OFlags::EXCL,
        OFlags::CREATE | OFlags::TRUNC,
        OFlags::APPEND,
        OFlags::TRUNC,
        OFlags::empty(),
        OFlags::DIRECTORY,
    ]);
    // NONBLOCK: a FIFO without a writer must not block the test; NOFOLLOW: links may point out of their own tree.
    let flags = access | more | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if rng.one_in(12) {
        let b = path(rng);
        let what = format!("tmpfile in {} linked as {}", a.display(), b.display());
        return sides.keep(rng, what, |root| {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let fd = rustix::fs::open(root.join(&a), flags, mode)?;
            rustix::fs::linkat(&fd, "", CWD, root.join(&b), AtFlags::EMPTY_PATH)?;
            Ok(fd)
        });
    }
    if rng.one_in(5) {
        if let Some((index, _)) = sides.pick(rng) {
            sides.open.swap_remove(index);
            return same(format!("close {index}"));
        }
    }
    sides.keep(
        rng,
        format!("open {} {flags:?} {mode:?}", a.display()),
        |root| rustix::fs::open(root.join(&a), flags, mode),
    )
}

fn lists(rng: &mut Rng, sides: &Sides) -> Outcome {
    let a = if rng.one_in(8) {
        PathBuf::new()
    } else {
        path(rng)
    };
    let is_root = a.as_os_str().is_empty();
    sides.both(format!("list {}", a.display()), |root| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root.join(&a), flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !(is_root && name == crate::harness::CONFIG) {
                names.push((name, entry.file_type()));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    })
}

fn xattrs(rng: &mut Rng, sides: &Sides) -> Outcome {
    let a = path(rng);
    let name = rng.pick(&[
        "user.one",
        "user.two",
        "trusted.three",
        "security.four",
        "user.",
        "nonsense.five",
    ]);
    let shown = format!("{} {name}", a.display());
    match rng.below(6) {
        0 | 1 => {
            let len = rng.pick(&[0, 1, 40, 300]);
            let value = rng.bytes(len);
            let flags = rng.pick(&[XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE]);
            sides.both(format!("setxattr {shown} {len} {flags:?}"), |root| {
                rustix::fs::lsetxattr(root.join(&a), name, &value, flags)
            })
        }
        2 => sides.both(format!("removexattr {shown}"), |root| {
            rustix::fs::lremovexattr(root.join(&a), name)
        }),
        3 => {
            let len = rng.pick(&[0, 10, 4096]);
            sides.both(format!("getxattr {shown} {len}"), |root| {
                let mut value = vec![0; len];
                if len == 0 {
                    return rustix::fs::lgetxattr_query(root.join(&a), name).map(|n| (n, 0));
                }
                let n = rustix::fs::lgetxattr(root.join(&a), name, &mut value)?;
                Ok((n, crate::harness::fnv(&value[..n])))
            })
        }
        4 => {
            let acl = rng.acl(1000);
            let name = rng.pick(&["system.posix_acl_access", "system.posix_acl_default"]);
            sides.both(format!("set {name} of {}", a.display()), |root| {
                rustix::fs::lsetxattr(root.join(&a), name, &acl, XattrFlags::empty())
            })
        }
        _ => sides.both(format!("listxattr {}", a.display()), |root| {
            let mut names = vec![0; 4096];
            let n = rustix::fs::llistxattr(root.join(&a), &mut names)?;
            let mut names: Vec<String> = names[..n]
                .split(|b| *b == 0)
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect();
            names.sort();
            Ok(names)
        }),
    }
}
