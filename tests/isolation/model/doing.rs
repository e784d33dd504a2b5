//! Doing it.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FallocateFlags, FileType, IFlags, Mode, OFlags, RenameFlags,
    StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
};
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid};

use super::act::{Act, On};
use crate::harness::{facts, fnv};

/// What an act came to: text to compare, and a descriptor where it opened something.
pub type Came = (String, Option<OwnedFd>);

/// The descriptors that come with an act: the base directory, the one to act on, a second one.
pub struct Given<'a> {
    pub base: BorrowedFd<'a>,
    pub fd: Option<BorrowedFd<'a>>,
    pub other: Option<BorrowedFd<'a>>,
    /// The base directory becomes the working directory, and paths are relative to it.
    pub inside: bool,
}

impl Given<'_> {
    fn below(&self, path: &str) -> PathBuf {
        if self.inside {
            return path.into();
        }
        format!("/proc/self/fd/{}/{path}", self.base.as_raw_fd()).into()
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.fd.ok_or(Errno::BADF)
    }

    /// The path that stands for `on`, of which there is none for a descriptor itself.
    fn path(&self, on: &On) -> Result<Option<PathBuf>> {
        match on {
            On::Path(path) => Ok(Some(self.below(path))),
            On::Fd => Ok(None),
            On::Proc => Ok(Some(
                format!("/proc/self/fd/{}", self.fd()?.as_raw_fd()).into(),
            )),
        }
    }
}

/// Does `act` in the calling thread.
pub fn run(act: &Act, given: &Given<'_>) -> Came {
    if given.inside {
        if let Err(errno) = rustix::process::fchdir(given.base) {
            return (format!("chdir: {}", refused(errno)), None);
        }
    }
    let came = match act {
        Act::Open { .. } => match open(act, given) {
            Ok((text, fd)) => (text, Some(fd)),
            Err(errno) => (refused(errno), None),
        },
        _ => (names(act, given).unwrap_or_else(refused), None),
    };
    if given.inside {
        let _ = rustix::process::chdir("/");
    }
    came
}

fn open(act: &Act, given: &Given<'_>) -> Result<(String, OwnedFd)> {
    let Act::Open {
        on,
        flags,
        mode,
        umask,
    } = act
    else {
        return Err(Errno::INVAL);
    };
    rustix::process::umask(Mode::from_raw_mode(*umask));
    // NONBLOCK: a FIFO without a writer must not block.
    let flags =
        OFlags::from_bits_retain(*flags) | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // The name in /proc is a symlink itself.
    let flags = match on {
        On::Proc => flags - OFlags::NOFOLLOW,
        _ => flags,
    };
    let path = given.path(on)?.ok_or(Errno::INVAL)?;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(*mode))?;
    // Opening asks for no attributes, and those that the kernel has may be older.
    let fresh = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let stat = rustix::fs::statx(&fd, c"", fresh, StatxFlags::BASIC_STATS)?;
    let (mode, owner) = (stat.stx_mode, (stat.stx_uid, stat.stx_gid));
    Ok((format!("opened {mode:o} of {owner:?}"), fd))
}

fn names(act: &Act, given: &Given<'_>) -> Result<String> {
    let below = |path: &String| given.below(path);
    match act {
        Act::Mkdir { path, mode, umask } => {
            rustix::process::umask(Mode::from_raw_mode(*umask));
            let path = below(path);
            rustix::fs::mkdirat(CWD, &path, Mode::from_raw_mode(*mode))?;
            Ok(made(&path))
        }
        Act::Mknod { path, mode, umask } => {
            rustix::process::umask(Mode::from_raw_mode(*umask));
            let kind = FileType::from_raw_mode(*mode);
            let device = if kind == FileType::CharacterDevice {
                0x0103
            } else {
                0
            };
            let mode = Mode::from_raw_mode(*mode);
            let path = below(path);
            rustix::fs::mknodat(CWD, &path, kind, mode, device)?;
            Ok(made(&path))
        }
        Act::Symlink { target, path } => done(rustix::fs::symlinkat(target, CWD, below(path))),
        Act::Link { on, to } => done(match given.path(on)? {
            Some(old) => {
                let follow = match on {
                    On::Path(_) => AtFlags::empty(),
                    _ => AtFlags::SYMLINK_FOLLOW,
                };
                rustix::fs::linkat(CWD, old, CWD, below(to), follow)
            }
            None => rustix::fs::linkat(given.fd()?, "", CWD, below(to), AtFlags::EMPTY_PATH),
        }),
        Act::Remove { path, dir } => {
            let flags = if *dir {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            done(rustix::fs::unlinkat(CWD, below(path), flags))
        }
        Act::Rename { from, to, flags } => {
            let flags = RenameFlags::from_bits_retain(*flags);
            done(rustix::fs::renameat_with(
                CWD,
                below(from),
                CWD,
                below(to),
                flags,
            ))
        }
        Act::Access {
            path,
            mode,
            effective,
        } => {
            let flags = if *effective {
                AtFlags::EACCESS
            } else {
                AtFlags::empty()
            };
            let mode = Access::from_bits_retain((*mode).into());
            done(rustix::fs::accessat(CWD, below(path), mode, flags))
        }
        Act::ReadLink { path } => Ok(format!(
            "{:?}",
            rustix::fs::readlinkat(CWD, below(path), Vec::new())?
        )),
        Act::List { path } => list(&below(path)),
        _ => attributes(act, given),
    }
}

fn attributes(act: &Act, given: &Given<'_>) -> Result<String> {
    match act {
        Act::Chmod { on, mode } => {
            let mode = Mode::from_raw_mode(*mode);
            done(match given.path(on)? {
                Some(path) => rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()),
                None => rustix::fs::fchmod(given.fd()?, mode),
            })
        }
        Act::Chown { on, uid, gid } => {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            let flags = match on {
                On::Path(_) => AtFlags::SYMLINK_NOFOLLOW,
                _ => AtFlags::empty(),
            };
            done(match given.path(on)? {
                Some(path) => rustix::fs::chownat(CWD, path, uid, gid, flags),
                None => rustix::fs::fchown(given.fd()?, uid, gid),
            })
        }
        Act::Times { on, access, change } => {
            let time = |of: Option<i64>| Timespec {
                tv_sec: of.unwrap_or(0),
                tv_nsec: match of {
                    None => UTIME_OMIT,
                    Some(0) => UTIME_NOW,
                    Some(_) => 0,
                },
            };
            let times = Timestamps {
                last_access: time(*access),
                last_modification: time(*change),
            };
            done(match given.path(on)? {
                Some(path) => rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()),
                None => rustix::fs::futimens(given.fd()?, &times),
            })
        }
        Act::Truncate { on, len } => done(match given.path(on)? {
            Some(path) => truncate(&path, *len),
            None => rustix::fs::ftruncate(given.fd()?, *len),
        }),
        Act::Flags { on, flags } => {
            let change = |fd: BorrowedFd<'_>| {
                let flags = IFlags::from_bits_retain(*flags);
                let old = rustix::fs::ioctl_getflags(fd)?;
                rustix::fs::ioctl_setflags(fd, old ^ flags)
            };
            done(match given.path(on)? {
                Some(path) => {
                    let how =
                        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    change(rustix::fs::open(path, how, Mode::empty())?.as_fd())
                }
                None => change(given.fd()?),
            })
        }
        Act::Stat { on } => {
            let stat = match given.path(on)? {
                Some(path) => rustix::fs::statat(CWD, path, AtFlags::empty())?,
                None => rustix::fs::fstat(given.fd()?)?,
            };
            // Years: what is set is years apart, and both sides have their own "now".
            Ok(format!(
                "{:?} changed in year {}",
                facts(&stat),
                stat.st_mtime / 31_557_600
            ))
        }
        Act::Write { .. } | Act::Read { .. } | Act::Allocate { .. } | Act::Copy { .. } => {
            data(act, given)
        }
        _ => extended(act, given),
    }
}

fn data(act: &Act, given: &Given<'_>) -> Result<String> {
    let fd = given.fd()?;
    match act {
        Act::Write { at, len, word } => {
            let bytes = word.to_le_bytes().repeat(len / 8 + 1);
            Ok(format!("{}", rustix::io::pwrite(fd, &bytes[..*len], *at)?))
        }
        Act::Read { at, len } => {
            let mut bytes = vec![0; *len];
            let n = rustix::io::pread(fd, &mut bytes, *at)?;
            Ok(format!("{n} bytes {:x}", fnv(&bytes[..n])))
        }
        Act::Allocate { mode, at, len } => done(rustix::fs::fallocate(
            fd,
            FallocateFlags::from_bits_retain(*mode),
            *at,
            *len,
        )),
        Act::Copy { from, to, len } => {
            let source = given.other.ok_or(Errno::BADF)?;
            let (mut from, mut to) = (*from, *to);
            let n = rustix::fs::copy_file_range(source, Some(&mut from), fd, Some(&mut to), *len)?;
            Ok(format!("{n}"))
        }
        _ => Err(Errno::NOSYS),
    }
}

fn extended(act: &Act, given: &Given<'_>) -> Result<String> {
    match act {
        Act::SetAttribute {
            on,
            name,
            value,
            flags,
        } => {
            let flags = XattrFlags::from_bits_retain(*flags);
            done(match given.path(on)? {
                Some(path) => rustix::fs::setxattr(path, name, value, flags),
                None => rustix::fs::fsetxattr(given.fd()?, name, value, flags),
            })
        }
        Act::GetAttribute { on, name } => {
            let mut value = vec![0; 4096];
            let n = match given.path(on)? {
                Some(path) => rustix::fs::getxattr(path, name, &mut value[..])?,
                None => rustix::fs::fgetxattr(given.fd()?, name, &mut value[..])?,
            };
            Ok(format!("{:?}", &value[..n]))
        }
        Act::ListAttributes { on } => {
            let mut names = vec![0; 4096];
            let n = match given.path(on)? {
                Some(path) => rustix::fs::listxattr(path, &mut names[..])?,
                None => rustix::fs::flistxattr(given.fd()?, &mut names[..])?,
            };
            let names = String::from_utf8_lossy(&names[..n]).into_owned();
            let mut names: Vec<&str> = names.split_terminator('\0').collect();
            names.sort_unstable();
            Ok(format!("listed {}", names.join(" ")))
        }
        Act::RemoveAttribute { on, name } => done(match given.path(on)? {
            Some(path) => rustix::fs::removexattr(path, name),
            None => rustix::fs::fremovexattr(given.fd()?, name),
        }),
        _ => Err(Errno::NOSYS),
    }
}

/// An errno as text.
pub fn refused(errno: Errno) -> String {
    format!("errno {}", errno.raw_os_error())
}

/// What came of making something.
fn made(path: &PathBuf) -> String {
    match rustix::fs::lstat(path) {
        Ok(stat) => format!(
            "made {:o} of {:?}",
            stat.st_mode,
            (stat.st_uid, stat.st_gid)
        ),
        Err(errno) => format!("made, {}", refused(errno)),
    }
}

fn done(result: Result<()>) -> Result<String> {
    result.map(|()| "done".to_owned())
}

fn list(path: &PathBuf) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        names.push(format!(
            "{} {:?}",
            entry.file_name().to_string_lossy(),
            entry.file_type()
        ));
    }
    names.sort();
    Ok(format!("listed {}", names.join(", ")))
}

/// truncate(2), which unlike ftruncate(2) asks for the right to write.
fn truncate(path: &Path, len: u64) -> Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    #[allow(unsafe_code)]
    // SAFETY: a C string and an integer.
    let rc = unsafe { libc::truncate(path.as_ptr(), len as libc::off_t) };
    match rc {
        0 => Ok(()),
        _ => Err(crate::harness::errno(std::io::Error::last_os_error())),
    }
}
