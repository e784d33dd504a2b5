//! Random steps.

use std::collections::VecDeque;

use rustix::fs::{IFlags, OFlags, RenameFlags, XattrFlags};

use super::act::{Act, On};
use super::party::{ALL, Who};
use super::places::{shorten, wants_descriptor};
use super::world::DIRS;
use crate::harness::Rng;

/// By which way a path of a step leads to the tree; natively it is the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Mount = 0,
    /// Below the mount.
    Beneath = 1,
    /// Through another stratum's mount.
    Second = 2,
}

/// One act of a party.
#[derive(Debug, Clone)]
pub struct Step {
    pub number: u32,
    pub who: Who,
    pub way: Way,
    /// A kept directory that paths begin at; `None`: the tree.
    pub base: Option<u32>,
    /// Paths are relative to a working directory.
    pub inside: bool,
    /// The kept descriptors that it is done with, by the numbers of the steps that opened them.
    pub fd: Option<u32>,
    pub other: Option<u32>,
    pub act: Act,
}

/// The descriptor kept latest.
pub const LATEST: u32 = u32::MAX;

/// Where steps come from.
pub struct Steps {
    pub rng: Rng,
    pub waiting: VecDeque<Step>,
    made: u32,
}

impl Steps {
    pub fn new(seed: u64) -> Steps {
        Steps {
            rng: Rng::new(seed),
            waiting: VecDeque::new(),
            made: 0,
        }
    }

    pub fn next(&mut self) -> Step {
        if self.waiting.is_empty() {
            match self.rng.below(14) {
                0 => self.taken_over(),
                1 => self.exchanged(),
                2 => self.directory_closed(),
                3 => self.overruled(),
                _ => {
                    let step = self.step();
                    self.waiting.push_back(step);
                }
            }
        }
        self.made += 1;
        let step = self.waiting.pop_front().expect("a step");
        Step {
            number: self.made,
            ..step
        }
    }

    fn who(&mut self) -> Who {
        let rng = &mut self.rng;
        match rng.below(10) {
            0 => Who::Root,
            1..=4 => Who::User,
            5 | 6 => Who::Other,
            _ => rng.pick(&ALL),
        }
    }

    pub fn user(&mut self) -> Who {
        self.rng
            .pick(&[Who::User, Who::User, Who::Other, Who::Namespace])
    }

    fn way(&mut self) -> Way {
        match self.rng.below(10) {
            0 => Way::Beneath,
            1 => Way::Second,
            _ => Way::Mount,
        }
    }

    pub fn top(&mut self) -> &'static str {
        let index = self.rng.below(DIRS.len() as u64);
        DIRS[usize::try_from(index).expect("small")].0
    }

    /// A path that most likely exists, some time.
    pub fn path(&mut self) -> String {
        let top = self.top();
        let rng = &mut self.rng;
        let name = rng.pick(&["a", "b", "c", "d", "s", "x", "y"]);
        match rng.below(6) {
            0 => format!("{top}/{}/{name}", rng.pick(&["d", "x"])),
            _ => format!("{top}/{name}"),
        }
    }

    pub fn mode(&mut self) -> u32 {
        self.rng.pick(&[
            0o644, 0o600, 0o755, 0o666, 0o777, 0o000, 0o400, 0o070, 0o640, 0o4755, 0o2755, 0o6777,
            0o2770, 0o1777, 0o2640,
        ])
    }

    pub fn umask(&mut self) -> u32 {
        self.rng.pick(&[0o022, 0o077, 0, 0o027])
    }

    fn plain(&mut self, act: Act) -> Step {
        let step = Step {
            number: 0,
            who: self.who(),
            way: self.way(),
            base: None,
            inside: self.rng.one_in(8),
            fd: None,
            other: None,
            act,
        };
        self.with_descriptors(step)
    }

    /// Gives a step the descriptors that its act wants, and now and then another base.
    fn with_descriptors(&mut self, mut step: Step) -> Step {
        step.fd = Some(u32::try_from(self.rng.below(64)).expect("small"));
        if matches!(step.act, Act::Copy { .. }) {
            step.other = Some(u32::try_from(self.rng.below(64)).expect("small"));
        }
        if !wants_descriptor(&step.act) {
            step.fd = None;
        }
        step
    }

    /// A path, or a descriptor in either way.
    fn on(&mut self) -> On {
        match self.rng.below(5) {
            0 => On::Fd,
            1 => On::Proc,
            _ => {
                let path = match self.rng.one_in(12) {
                    true => self.top().to_owned(),
                    false => self.path(),
                };
                On::Path(path)
            }
        }
    }

    pub fn step(&mut self) -> Step {
        let act = match self.rng.below(20) {
            0..=4 => self.open(),
            5..=8 => self.names(),
            9..=12 => self.attributes(),
            13..=15 => self.data(),
            16 | 17 => self.extended(),
            _ => self.look(),
        };
        let mut step = self.plain(act);
        // Relative to a directory that was opened a while ago.
        if self.rng.one_in(10) {
            step.base = Some(u32::try_from(self.rng.below(64)).expect("small"));
            step.inside = self.rng.one_in(2);
            shorten(&mut step.act);
        }
        step
    }

    pub fn open(&mut self) -> Act {
        let rng = &mut self.rng;
        let access = rng.pick(&[OFlags::RDWR, OFlags::WRONLY, OFlags::RDONLY, OFlags::PATH]);
        let more = rng.pick(&[
            OFlags::empty(),
            OFlags::CREATE,
            OFlags::CREATE,
            OFlags::CREATE | OFlags::EXCL,
            OFlags::TRUNC,
            OFlags::APPEND,
            OFlags::CREATE | OFlags::TRUNC,
            OFlags::DIRECTORY,
            OFlags::NOFOLLOW,
            OFlags::NOATIME,
        ]);
        let mut flags = access | more;
        if access == OFlags::PATH {
            flags = OFlags::PATH | (more & (OFlags::DIRECTORY | OFlags::NOFOLLOW));
        }
        let nameless = access == OFlags::RDWR && rng.one_in(5);
        let on = match (nameless, rng.below(8)) {
            (true, _) => {
                flags = OFlags::TMPFILE | OFlags::RDWR;
                On::Path(self.top().to_owned())
            }
            (_, 0) => On::Proc,
            (_, 1) => On::Path(self.top().to_owned()),
            _ => On::Path(self.path()),
        };
        Act::Open {
            on,
            flags: flags.bits(),
            mode: self.mode(),
            umask: self.umask(),
        }
    }

    pub fn names(&mut self) -> Act {
        let (path, mode, umask) = (self.path(), self.mode(), self.umask());
        match self.rng.below(14) {
            0 | 1 => Act::Mkdir { path, mode, umask },
            2 => {
                let kind =
                    self.rng
                        .pick(&[libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFCHR, libc::S_IFREG]);
                Act::Mknod {
                    path,
                    mode: mode | kind,
                    umask,
                }
            }
            3 => {
                let target = self
                    .rng
                    .pick(&["a", "b", "d", "../pub/b", "../roots/a", "../nothing"])
                    .to_owned();
                Act::Symlink { target, path }
            }
            4..=6 => {
                let on = match self.rng.below(3) {
                    0 => On::Fd,
                    1 => On::Proc,
                    _ => On::Path(self.path()),
                };
                Act::Link { on, to: path }
            }
            7 | 8 => Act::Remove { path, dir: false },
            9 => Act::Remove { path, dir: true },
            _ => {
                let flags = self.rng.pick(&[
                    RenameFlags::empty(),
                    RenameFlags::empty(),
                    RenameFlags::NOREPLACE,
                    RenameFlags::EXCHANGE,
                ]);
                Act::Rename {
                    from: path,
                    to: self.path(),
                    flags: flags.bits(),
                }
            }
        }
    }

    pub fn attributes(&mut self) -> Act {
        let on = self.on();
        match self.rng.below(9) {
            0..=2 => Act::Chmod {
                on,
                mode: self.mode(),
            },
            3..=5 => Act::Chown {
                on,
                uid: self
                    .rng
                    .pick(&[None, None, Some(0), Some(1000), Some(1001)]),
                gid: self
                    .rng
                    .pick(&[None, Some(0), Some(500), Some(501), Some(1000)]),
            },
            6 | 7 => {
                let time = |rng: &mut Rng| match rng.below(3) {
                    0 => None,
                    1 => Some(0),
                    _ => Some(i64::try_from(rng.below(40) + 1).expect("small") * 31_557_600),
                };
                let (access, change) = (time(&mut self.rng), time(&mut self.rng));
                Act::Times { on, access, change }
            }
            _ => {
                let flags = self.rng.pick(&[
                    IFlags::NODUMP,
                    IFlags::NODUMP,
                    IFlags::NOATIME,
                    IFlags::APPEND,
                    IFlags::IMMUTABLE,
                ]);
                Act::Flags {
                    on,
                    flags: flags.bits(),
                }
            }
        }
    }

    pub fn data(&mut self) -> Act {
        let rng = &mut self.rng;
        let (at, len) = (rng.below(9000), rng.pick(&[1, 10, 4096, 5000]));
        match rng.below(9) {
            0..=3 => Act::Write {
                at,
                len,
                word: rng.next(),
            },
            4 => Act::Read { at, len: 8192 },
            5 => {
                let mode = rng.pick(&[0, 1, 3]);
                Act::Allocate {
                    mode,
                    at,
                    len: len as u64,
                }
            }
            6 => Act::Copy {
                from: rng.below(20),
                to: at,
                len,
            },
            _ => {
                let on = match rng.below(3) {
                    0 => On::Path(self.path()),
                    _ => On::Fd,
                };
                Act::Truncate { on, len: at }
            }
        }
    }

    pub fn extended(&mut self) -> Act {
        let on = self.on();
        let name = self.rng.pick(&[
            "user.one",
            "user.two",
            "trusted.three",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ]);
        let name = name.to_owned();
        match self.rng.below(6) {
            0..=2 => {
                let value = match name.as_str() {
                    "security.capability" => CAPABILITY.to_vec(),
                    name if name.starts_with("system.") => self.rng.acl(1001),
                    _ => self.rng.bytes(20),
                };
                let flags = self.rng.pick(&[
                    XattrFlags::empty(),
                    XattrFlags::empty(),
                    XattrFlags::REPLACE,
                ]);
                Act::SetAttribute {
                    on,
                    name,
                    value,
                    flags: flags.bits(),
                }
            }
            3 => Act::GetAttribute { on, name },
            4 => Act::ListAttributes { on },
            _ => Act::RemoveAttribute { on, name },
        }
    }

    pub fn look(&mut self) -> Act {
        let path = self.path();
        match self.rng.below(6) {
            0 | 1 => Act::Stat { on: self.on() },
            2 => Act::ReadLink { path },
            3 => Act::List {
                path: self.top().to_owned(),
            },
            _ => Act::Access {
                path,
                mode: u8::try_from(self.rng.below(8)).expect("three bits"),
                effective: self.rng.one_in(2),
            },
        }
    }
}

/// `VFS_CAP_REVISION_2` with CAP_NET_RAW permitted and effective.
pub const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
