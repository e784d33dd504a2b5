//! The trees, the parties and the descriptors that are kept; one step in it, on both sides.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, IFlags, Mode, OFlags, StatxFlags, XattrFlags};
use rustix::io::Errno;

use super::act::{Act, On};
use super::doing::{Given, refused};
use super::party::{ALL, Party, prepare};
use super::steps::{LATEST, Step, Way};
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, differences, snapshot};

/// Descriptors kept at a time.
const KEPT: usize = 16;

/// What the steps are done on.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub lower: Lower,
    pub passthrough: bool,
    /// Names of the global side, so that a second stratum's mount has them too.
    pub global: bool,
}

/// What a step came to.
#[derive(Debug)]
pub struct Outcome {
    pub mount: String,
    pub native: String,
}

/// What one step is done with: the same on both sides.
struct Handles<'a> {
    /// The ways of all that is used: a descriptor of another way is one of another file system.
    ways: Vec<Way>,
    base: [&'a OwnedFd; 2],
    fd: Option<&'a [OwnedFd; 2]>,
    other: Option<&'a [OwnedFd; 2]>,
}

/// A descriptor on the mount, or by another way, and one of the same native object.
struct Kept {
    /// The step that opened it.
    by: u32,
    way: Way,
    fds: [OwnedFd; 2],
}

pub struct World {
    pub case: Case,
    parties: Vec<Party>,
    kept: Vec<Kept>,
    /// By which ways names were changed, since the beginning.
    renamed: [bool; 3],
    /// Steps, and those that were carried out natively.
    pub counts: (u64, u64),
    /// Whether something was made append-only or immutable.
    pub has_flags: bool,
    /// The tree on the mount, beneath it, through the second stratum, and the native one.
    paths: [PathBuf; 4],
    roots: [OwnedFd; 4],
    _daemons: Vec<Etcfs>,
}

const BENEATH: usize = 1;
const NATIVE: usize = 3;

impl World {
    pub fn new(env: &Env, case: Case) -> World {
        prepare(env);
        let bases = Bases::new(env, case.lower);
        let other = bases.second(env, "other");
        let below = if case.global {
            bases.global()
        } else {
            bases.local()
        };
        let native = bases.native();
        for tree in [below.join("tree"), native.join("tree")] {
            fs::create_dir(tree).expect("mkdir");
        }
        let opts = |stratum: &str| Opts {
            lower: case.lower,
            stratum: stratum.to_owned(),
            // What is done beneath counts at once; `tests/cache` has parties for the other mode.
            options: if case.passthrough {
                vec!["passthrough".to_owned(), "cache=strict".to_owned()]
            } else {
                vec!["cache=strict".to_owned()]
            },
            config: if case.global {
                vec!["add_global /tree".to_owned()]
            } else {
                Vec::new()
            },
            ..Opts::default()
        };
        let mut daemons = vec![Etcfs::serve(env, bases, opts("one"))];
        let mount = daemons[0].mnt().join("tree");
        let mut second = mount.clone();
        if case.global {
            daemons.push(Etcfs::serve(env, other, opts("two")));
            second = daemons[1].mnt().join("tree");
        }
        let paths = [mount, below.join("tree"), second, native.join("tree")];
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let roots = paths
            .each_ref()
            .map(|path| rustix::fs::open(path, flags, Mode::empty()).expect("open a tree"));
        let mut world = World {
            case,
            parties: ALL.iter().map(|&who| Party::start(env, who)).collect(),
            kept: Vec::new(),
            renamed: [false; 3],
            counts: (0, 0),
            has_flags: false,
            paths,
            roots,
            _daemons: daemons,
        };
        world.reset();
        world
    }

    /// Both trees as they were at the beginning.
    pub fn reset(&mut self) {
        self.kept.clear();
        self.renamed = [false; 3];
        self.has_flags = false;
        for tree in [BENEATH, NATIVE] {
            clear(&self.paths[tree]);
            fill(&self.paths[tree]);
        }
    }

    /// Does `step` on both sides; `None` if it wants a descriptor and none is kept.
    pub fn step(&mut self, step: &Step) -> Option<Outcome> {
        let (way, mount, native) = {
            let handles = self.handles(step)?;
            let apart = matches!(step.act, Act::Link { .. } | Act::Copy { .. })
                && handles.ways.iter().any(|way| *way != handles.ways[0]);
            if apart {
                return None;
            }
            // What is opened by a descriptor's name in /proc is where that is.
            let way = match &step.act {
                Act::Open { on: On::Proc, .. } => handles.ways[handles.ways.len() - 1],
                _ => handles.ways[0],
            };
            let mount = self.side(step, &handles, 0);
            (way, mount, self.side(step, &handles, 1))
        };
        let hard = (IFlags::APPEND | IFlags::IMMUTABLE).bits();
        self.has_flags |=
            matches!(step.act, Act::Flags { flags, .. } if flags & hard != 0) && native.0 == "done";
        self.counts.0 += 1;
        self.counts.1 += u64::from(!native.0.contains("errno"));
        self.renamed[way as usize] |= matches!(step.act, Act::Rename { .. } | Act::Remove { .. });
        if let (Some(mount), Some(native)) = (mount.1, native.1) {
            if self.kept.len() == KEPT {
                self.kept.remove(0);
            }
            let fds = [mount, native];
            let by = step.number;
            self.kept.push(Kept { by, way, fds });
        }
        Some(Outcome {
            mount: mount.0,
            native: native.0,
        })
    }

    /// Does what only the native side has had done beneath the mount as well; false if that cannot be, because the step
    /// is not one on names below the root.
    pub fn catch_up(&mut self, step: &Step) -> bool {
        if step.base.is_some() || step.fd.is_some() || step.other.is_some() {
            return false;
        }
        let base = &self.roots[BENEATH];
        let handles = Handles {
            ways: Vec::new(),
            base: [base, base],
            fd: None,
            other: None,
        };
        self.side(step, &handles, 0);
        true
    }

    /// Does the step once more on the mount, where it came to `mount`, after the kernel was made to ask for the attributes
    /// of its descriptors.
    pub fn again(&mut self, step: &Step, mount: &str) -> Option<String> {
        let handles = self.handles(step)?;
        let fds = [handles.fd, handles.other].into_iter().flatten();
        for fd in fds.map(|fds| &fds[0]).chain([handles.base[0]]) {
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            let asked = rustix::fs::statx(fd, c"", flags, StatxFlags::BASIC_STATS);
            if asked.err() == Some(Errno::STALE) {
                return Some(refused(Errno::STALE));
            }
        }
        if let Act::Rename { from, to, .. } = &step.act {
            for name in [from, to] {
                let _ = rustix::fs::statat(handles.base[0], name, AtFlags::SYMLINK_NOFOLLOW);
            }
        }
        // A name that was made, and should not have been, would be what is found fault with.
        if let Act::Link { to, .. } = &step.act {
            if mount == "done" {
                let _ = rustix::fs::unlinkat(handles.base[0], to, AtFlags::empty());
            }
        }
        Some(self.side(step, &handles, 0).0)
    }

    /// Whether names were changed by another way than that of a step.
    pub fn renamed_elsewhere(&self, step: &Step) -> bool {
        let ways = self.handles(step).map(|handles| handles.ways);
        ways.is_some_and(|ways| {
            let other = |renamed: usize| ways.iter().any(|way| *way as usize != renamed);
            (0..3).any(|renamed| self.renamed[renamed] && other(renamed))
        })
    }

    /// Puts the numbers of the steps that opened them for the descriptors of a step just made up; false if none is kept.
    pub fn resolve(&self, step: &mut Step) -> bool {
        for index in [&mut step.base, &mut step.fd, &mut step.other]
            .into_iter()
            .flatten()
        {
            let kept = match *index {
                LATEST => self.kept.last(),
                index => self.kept.get(index as usize % self.kept.len().max(1)),
            };
            let Some(kept) = kept else { return false };
            *index = kept.by;
        }
        true
    }

    fn handles(&self, step: &Step) -> Option<Handles<'_>> {
        let kept = |by: u32| self.kept.iter().find(|kept| kept.by == by);
        let optional = |by: Option<u32>| by.map_or(Some(None), |by| kept(by).map(Some));
        let (base, fd, other) = (
            optional(step.base)?,
            optional(step.fd)?,
            optional(step.other)?,
        );
        let used = [base, fd, other].into_iter().flatten();
        let mut ways: Vec<Way> = used.map(|kept| kept.way).collect();
        // What needs no path has no way but its descriptors'; what is opened by one keeps its way.
        let by_path = base.is_none() && (fd.is_none() || matches!(step.act, Act::Link { .. }));
        if by_path {
            ways.insert(0, step.way);
        }
        let root = || [&self.roots[step.way as usize], &self.roots[NATIVE]];
        Some(Handles {
            ways,
            base: base.map_or_else(root, |kept| kept.fds.each_ref()),
            fd: fd.map(|kept| &kept.fds),
            other: other.map(|kept| &kept.fds),
        })
    }

    fn side(&self, step: &Step, handles: &Handles<'_>, side: usize) -> super::doing::Came {
        let index = ALL
            .iter()
            .position(|who| *who == step.who)
            .expect("a party");
        let given = Given {
            base: handles.base[side].as_fd(),
            fd: handles.fd.map(|fds| fds[side].as_fd()),
            other: handles.other.map(|fds| fds[side].as_fd()),
            inside: step.inside,
        };
        self.parties[index].act(&step.act, &given)
    }

    /// The set-id bits that a write with the kernel's own rights has left are those of the native file from then on; true
    /// if they were not.
    pub fn take_set_ids(&self, step: &Step) -> bool {
        let Some(Handles { fd: Some(fds), .. }) = self.handles(step) else {
            return false;
        };
        let modes = fds
            .each_ref()
            .map(|fd| rustix::fs::fstat(fd).map(|stat| stat.st_mode));
        let [Ok(mount), Ok(native)] = modes else {
            return false;
        };
        let (lost, kept) = (native & !mount, mount & !native);
        // Set-group-id of what no group may run means nothing, and stays if the group is that of whoever registered it.
        let harmless = kept == 0 || kept == 0o2000 && mount & 0o010 == 0;
        if mount == native || (lost | kept) & !0o6000 != 0 || !harmless {
            return false;
        }
        // An append-only file keeps them, and the trees differ from then on.
        let _ = rustix::fs::fchmod(&fds[1], Mode::from_raw_mode(mount & 0o7777));
        true
    }

    /// The differences between the native tree and what is beneath the mount or, where `seen`, what it shows.
    pub fn compare(&self, seen: bool) -> String {
        let one = |left: usize, what: &str| {
            let lines = differences(&tree(&self.paths[left]), &tree(&self.paths[NATIVE]));
            match lines.is_empty() {
                true => String::new(),
                false => format!("first is {what}, second is native:\n{}\n", lines.join("\n")),
            }
        };
        let mut all = one(BENEATH, "beneath the mount");
        if seen {
            all.push_str(&one(0, "the mount"));
            if self.case.global {
                all.push_str(&one(2, "the second mount"));
            }
        }
        all
    }
}

fn tree(path: &Path) -> std::collections::BTreeMap<PathBuf, crate::harness::Entry> {
    let mut tree = snapshot(path, &[]);
    for (inside, entry) in &mut tree {
        if let Ok(flags) = inode_flags(&path.join(inside)) {
            entry
                .data
                .push_str(&format!(" flags {:x}", flags.bits() & 0xf0));
        }
    }
    tree
}

fn open_to_ask(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let kind = rustix::fs::lstat(path)?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFREG && kind != libc::S_IFDIR {
        return Err(rustix::io::Errno::INVAL);
    }
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

fn inode_flags(path: &Path) -> rustix::io::Result<IFlags> {
    rustix::fs::ioctl_getflags(open_to_ask(path)?)
}

/// Removes what is in a tree, whatever chattr(1) has made of it.
fn clear(root: &Path) {
    let list = fs::read_dir(root).expect("list a tree");
    for path in list.map(|entry| entry.expect("an entry").path()) {
        let hard = IFlags::IMMUTABLE | IFlags::APPEND;
        let flags = inode_flags(&path).ok();
        if let Some(flags) = flags.filter(|flags| flags.intersects(hard)) {
            let fd = open_to_ask(&path).expect("open");
            rustix::fs::ioctl_setflags(fd, flags - hard).expect("chattr");
        }
        if fs::symlink_metadata(&path).expect("stat").is_dir() {
            clear(&path);
            fs::remove_dir(&path).expect("rmdir");
        } else {
            fs::remove_file(&path).expect("unlink");
        }
    }
}

/// Directories of every kind, as `(name, owner, group, mode)`.
pub const DIRS: [(&str, u32, u32, u32); 6] = [
    ("pub", 0, 0, 0o1777),
    ("mine", 1000, 1000, 0o755),
    ("priv", 1001, 1001, 0o700),
    ("team", 0, 500, 0o2775),
    ("acl", 1000, 500, 0o770),
    ("roots", 0, 0, 0o755),
];

/// Files and a directory in each of them.
const WITHIN: [(&str, u32, u32, u32); 5] = [
    ("a", 0, 0, 0o640),
    ("b", 1000, 1000, 0o644),
    ("c", 1001, 501, 0o660),
    ("s", 1000, 500, 0o6775),
    ("d", 1000, 1000, 0o755),
];

fn fill(root: &Path) {
    let own = |path: &Path, uid, gid, mode| {
        chown(path, Some(uid), Some(gid)).expect("chown");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    for (name, uid, gid, mode) in DIRS {
        let dir = root.join(name);
        fs::create_dir(&dir).expect("mkdir");
        for (name, uid, gid, mode) in WITHIN {
            let path = dir.join(name);
            match name {
                "d" => fs::create_dir(&path).expect("mkdir"),
                _ => fs::write(&path, "text").expect("write"),
            }
            own(&path, uid, gid, mode);
        }
        own(&dir, uid, gid, mode);
    }
    let acl = crate::harness::Rng::new(7).acl(1001);
    let name = "system.posix_acl_default";
    rustix::fs::setxattr(root.join("acl"), name, &acl, XattrFlags::empty()).expect("setfacl");
}

/// True if the step only looks, so that a refusal leaves no difference behind.
pub fn is_look(act: &Act) -> bool {
    matches!(
        act,
        Act::Stat { .. }
            | Act::List { .. }
            | Act::Access { .. }
            | Act::ReadLink { .. }
            | Act::Read { .. }
            | Act::GetAttribute { .. }
            | Act::ListAttributes { .. }
    )
}

/// True if the step goes by a descriptor that was opened before.
pub fn by_descriptor(step: &Step) -> bool {
    step.base.is_some() || step.fd.is_some()
}
