//! The calls of extended attributes with every name, size and flag that they may refuse, as LTP tries them: natively and on
//! the mount the same answer, byte for byte.

use crate::compared_with;
use crate::harness::{Pair, Root, User, errno};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, openat, symlinkat};
use rustix::io::{Errno, Result};
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// In which directory: a local one, a global one, and one in which every other name is global.
const PLACES: [&str; 3] = ["local", "glo", "mixed"];
const KINDS: [&str; 7] = [
    "file", "dir", "link", "dangling", "fifo", "device", "others",
];
const CONFIG: [&str; 4] = [
    "add_global /glo",
    "add_global /mixed/file",
    "add_global /mixed/dir",
    "add_global /mixed/others",
];

fn make(root: &Root) -> Result<()> {
    for place in PLACES {
        let path = root.join(place);
        fs::create_dir(&path).map_err(errno)?;
        fs::write(path.join("file"), "x").map_err(errno)?;
        fs::write(path.join("others"), "x").map_err(errno)?;
        fs::create_dir(path.join("dir")).map_err(errno)?;
        symlinkat("file", CWD, path.join("link"))?;
        symlinkat("missing", CWD, path.join("dangling"))?;
        mknodat(CWD, path.join("fifo"), FileType::Fifo, Mode::RWXU, 0)?;
        let (kind, dev) = (FileType::CharacterDevice, makedev(1, 3));
        mknodat(CWD, path.join("device"), kind, Mode::RWXU, dev)?;
        for name in ["file", "dir", "fifo", "device"] {
            std::os::unix::fs::chown(path.join(name), Some(1000), Some(1000)).map_err(errno)?;
        }
    }
    Ok(())
}

/// What a call answers, as text.
fn told(answer: isize) -> String {
    match answer {
        -1 => format!("{:?}", errno(std::io::Error::last_os_error())),
        done => done.to_string(),
    }
}

/// On what: a path, with its last symlink followed or not, or a descriptor.
#[derive(Clone, Copy, Debug)]
enum On {
    Path,
    Link,
    Open,
    Pinned,
}

/// An object by one of the ways.
struct Target {
    path: CString,
    fd: Option<std::os::fd::OwnedFd>,
    on: On,
}

impl Target {
    fn new(path: &Path, on: On) -> Result<Self> {
        let flags = match on {
            On::Path | On::Link => None,
            On::Open => Some(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW),
            On::Pinned => Some(OFlags::PATH | OFlags::NOFOLLOW),
        };
        let open = |flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            fd: flags.map(open).transpose()?,
            path: CString::new(path.as_os_str().as_bytes()).expect("no NUL"),
            on,
        })
    }

    fn number(&self) -> i32 {
        self.fd.as_ref().map_or(-1, |fd| fd.as_raw_fd())
    }

    #[allow(unsafe_code)]
    fn set(&self, name: &CString, value: &[u8], flags: i32) -> String {
        let (value, len) = (value.as_ptr().cast(), value.len());
        // SAFETY: C strings, and a value as long as is said.
        told(unsafe {
            match self.on {
                On::Path => libc::setxattr(self.path.as_ptr(), name.as_ptr(), value, len, flags),
                On::Link => libc::lsetxattr(self.path.as_ptr(), name.as_ptr(), value, len, flags),
                _ => libc::fsetxattr(self.number(), name.as_ptr(), value, len, flags),
            }
        } as isize)
    }

    /// The answer, and what is in the buffer then.
    #[allow(unsafe_code)]
    fn get(&self, name: &CString, size: usize) -> String {
        let mut value = vec![0xee_u8; size];
        let at = match size {
            0 => std::ptr::null_mut(),
            _ => value.as_mut_ptr().cast(),
        };
        // SAFETY: C strings, and a buffer as long as is said, or null with length 0.
        let answer = unsafe {
            match self.on {
                On::Path => libc::getxattr(self.path.as_ptr(), name.as_ptr(), at, size),
                On::Link => libc::lgetxattr(self.path.as_ptr(), name.as_ptr(), at, size),
                _ => libc::fgetxattr(self.number(), name.as_ptr(), at, size),
            }
        };
        let told = told(answer);
        value.truncate(usize::try_from(answer).unwrap_or(0));
        format!("{told} {:x}", crate::harness::fnv(&value))
    }

    /// The answer, and the names in the order of the alphabet.
    #[allow(unsafe_code)]
    fn list(&self, size: usize) -> String {
        let mut names = vec![0xee_u8; size];
        let at = match size {
            0 => std::ptr::null_mut(),
            _ => names.as_mut_ptr().cast(),
        };
        // SAFETY: C strings, and a buffer as long as is said, or null with length 0.
        let answer = unsafe {
            match self.on {
                On::Path => libc::listxattr(self.path.as_ptr(), at, size),
                On::Link => libc::llistxattr(self.path.as_ptr(), at, size),
                _ => libc::flistxattr(self.number(), at, size),
            }
        };
        let told = told(answer);
        names.truncate(usize::try_from(answer).unwrap_or(0));
        let mut names: Vec<_> = names.split(|b| *b == 0).collect();
        names.sort_unstable();
        let names = names.join(&b' ');
        format!("{told} {}", String::from_utf8_lossy(&names))
    }

    #[allow(unsafe_code)]
    fn remove(&self, name: &CString) -> String {
        // SAFETY: C strings, and a value as long as is said.
        told(unsafe {
            match self.on {
                On::Path => libc::removexattr(self.path.as_ptr(), name.as_ptr()),
                On::Link => libc::lremovexattr(self.path.as_ptr(), name.as_ptr()),
                _ => libc::fremovexattr(self.number(), name.as_ptr()),
            }
        } as isize)
    }
}

/// Calls `act` with each of these objects by each of these ways, and notes what it says.
fn on_each(
    pair: &mut Pair,
    users: &[User],
    (kinds, ways): (&[&str], &[On]),
    act: impl Fn(&Target) -> Vec<String> + Sync,
) -> Vec<(String, Result<String>)> {
    let mut native = Vec::new();
    for user in users {
        for place in PLACES {
            native.extend(pair.each_as(user, |root| {
                let mut all = Vec::new();
                for kind in kinds {
                    for &on in ways {
                        let path = root.join(place).join(kind);
                        match Target::new(&path, on) {
                            Ok(target) => {
                                for (n, said) in act(&target).into_iter().enumerate() {
                                    all.push((format!("{place}/{kind} {on:?} {n}"), Ok(said)));
                                }
                            }
                            Err(errno) => all.push((format!("{place}/{kind} {on:?}"), Err(errno))),
                        }
                    }
                }
                all
            }));
        }
    }
    native
}

/// Names of every sort.
fn names() -> Vec<CString> {
    let long = |prefix: &str, len: usize| format!("{prefix}{}", "n".repeat(len - prefix.len()));
    let names = [
        "user.a/b".to_owned(),
        "user./".to_owned(),
        "user.a/../../b".to_owned(),
        "user..".to_owned(),
        "user. ".to_owned(),
        "user.\u{1b}\n".to_owned(),
        "trusted.a/b".to_owned(),
        "security.a/b".to_owned(),
        "user.plain".to_owned(),
        "user.".to_owned(),
        "user".to_owned(),
        "trusted.".to_owned(),
        "security.".to_owned(),
        "system.".to_owned(),
        "system.a/b".to_owned(),
        "unknown.a".to_owned(),
        "unknown".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "/".to_owned(),
        "a/b".to_owned(),
        String::new(),
        long("user.", 254),
        long("user.", 255),
        long("user.", 256),
        long("trusted.", 255),
        long("unknown.", 255),
        long("", 4095),
    ];
    let c_string = |name| CString::new(name).expect("no NUL");
    names.into_iter().map(c_string).collect()
}

/// Before a slash was left alone in such names, `getxattr` and `removexattr` of `user.a/b` were EINVAL.
#[test]
fn every_name_is_set_read_listed_and_removed_as_natively() {
    compared_with(&CONFIG, |pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        let users = [User::plain(0), User::plain(1000)];
        let ways = (&KINDS[..], &[On::Link, On::Open, On::Pinned][..]);
        let native = on_each(pair, &users, ways, |target| {
            let mut said = vec![target.list(0)];
            for name in names() {
                let mut line = format!("{name:?}:");
                let mut put = |what: String| write!(line, " {what};").expect("a string");
                put(target.get(&name, 0));
                put(target.remove(&name));
                put(target.set(&name, b"v", libc::XATTR_REPLACE));
                put(target.set(&name, b"value", libc::XATTR_CREATE));
                put(target.set(&name, b"other", libc::XATTR_CREATE));
                put(target.set(&name, b"value", 0));
                put(target.set(&name, b"value", 3));
                put(target.set(&name, b"value", 4));
                put(target.get(&name, 0));
                put(target.get(&name, 4));
                put(target.get(&name, 5));
                put(target.list(65536));
                put(target.remove(&name));
                put(target.remove(&name));
                said.push(line);
            }
            said
        });
        let slash = native.iter().find(|(what, _)| what == "local/file Link 1");
        let said = slash.expect("the first name").1.as_ref().expect("opened");
        assert!(said.contains("user.a/b"), "{said}");
    });
}

/// E2BIG, ERANGE, ENOSPC and the lengths that a size of 0 asks for.
#[test]
fn every_size_is_answered_as_natively() {
    compared_with(&CONFIG, |pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        let name = c"user.size".to_owned();
        let users = [User::plain(0), User::plain(1000)];
        let ways = (&KINDS[..], &[On::Path, On::Open][..]);
        on_each(pair, &users, ways, |target| {
            let mut said = Vec::new();
            for len in [0, 1, 17, 4000, 65535, 65536, 65537, 1 << 20] {
                let mut line = format!("{len}: {};", target.set(&name, &vec![b'v'; len], 0));
                let sizes = [
                    len.saturating_sub(1),
                    len,
                    len + 1,
                    0,
                    65536,
                    65537,
                    1 << 20,
                ];
                for size in sizes {
                    write!(line, " {size} {};", target.get(&name, size)).expect("a string");
                }
                for size in [0, 1, 9, 10, 11, 65536, 65537, 1 << 20] {
                    write!(line, " list {size} {};", target.list(size)).expect("a string");
                }
                write!(line, " {}", target.remove(&name)).expect("a string");
                said.push(line);
            }
            said
        });
    });
}

/// A list that is longer than `XATTR_LIST_MAX` is E2BIG natively, whatever the caller's buffer. (The length of such a list
/// is told as 64 KiB on FUSE, `fuse_listxattr`.)
#[test]
fn a_list_that_is_too_long_is_refused_as_natively() {
    compared_with(&CONFIG, |pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        let ways = (&["file", "dir"][..], &[On::Path][..]);
        let users = [User::plain(0), User::plain(1000)];
        on_each(pair, &users, ways, |target| {
            let mut said = Vec::new();
            let name = |n: usize| {
                let name = format!("trusted.{n:04}{}", "n".repeat(240));
                CString::new(name).expect("no NUL")
            };
            // Only root sets and sees them: what the other finds is root's, from before.
            let set: Vec<String> = (0..270).map(|n| target.set(&name(n), b"", 0)).collect();
            said.push(format!("{:?}", set.iter().filter(|s| *s == "0").count()));
            for size in [100, 65535, 65536, 65537, 1 << 20] {
                said.push(target.list(size));
            }
            said
        });
    });
}

#[test]
fn a_slash_in_a_name_leads_nowhere() {
    compared_with(&CONFIG, |pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        let name = "user.bedrock.stratum/..";
        let got = pair.same("read", |root| {
            rustix::fs::getxattr(root.join("local/file"), name, &mut [0_u8; 100])
        });
        assert_eq!(got, Err(Errno::NODATA));
    });
}
