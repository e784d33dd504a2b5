//! What is mounted on the mountpoint already. A FUSE file system whose daemon was killed, an etcfs or another, stays in the
//! mount table and answers ENOTCONN for good (contract D15, U7): it is taken away. An etcfs that lives is left, and told about:
//! a second daemon over it would hide it from everybody who comes later, while who was there before goes on with it.
//!
//! What somebody has mounted within a dead one goes with it. No path leads there any more, the kernel has no other way to
//! move or keep a mount (it drops one itself when a name above it cannot be looked up), and who has files of it open goes on. What is mounted *over* a dead one is never touched:
//! it is what the user means by the path, and unmounting what lies beneath would take it along.
//!
//! What tells the two apart is the mount's own answer and its daemon's own state, never how long something takes: a daemon that
//! was sent SIGKILL a moment ago has its device open until its last thread is gone.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::{Errno, Result};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::base::parent_and_name;
use super::error::MountError;
use super::mountinfo::{FSTYPE, Identity, Mounts, mount_of};
use super::point::{self, Point};
use super::request::Method;
use super::unmounting::{take_away, unmount};

/// How long a mount may keep silent before its daemon is looked for.
const SLICE: Duration = Duration::from_millis(100);

/// How long a mount that keeps silent, and whose daemon is not found, is waited for: a daemon whose last descriptors are being
/// closed is not found any more, nor is one of another pid namespace, which may hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a daemon's end is waited for.
const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait before the next look at something that is about to change.
const SOON: Duration = Duration::from_millis(1);

/// More dead mounts than this on one mountpoint are not taken away in one start.
const MOST: u32 = 16;

/// The process that serves a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its id.
    pub pid: u32,
    /// Which mount of its file system it has made ([`super::Pending::number`]), if it tells.
    pub mount: Option<u64>,
    /// It was told to end, or is ending.
    pub is_ending: bool,
}

/// Finds the process that serves the file system with a device number, which was mounted by a user.
pub type Who<'a> = &'a dyn Fn((u32, u32), u32) -> Option<Serving>;

/// What was on a mountpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupants {
    /// Dead mounts that were taken away.
    pub replaced: u32,
    /// What was mounted within those, and went with them: where, and the type.
    pub within: Vec<(PathBuf, String)>,
    /// What is on top, which is no FUSE file system, covers an etcfs that nobody is seen to serve: the type of what is on top.
    pub covered: Option<String>,
    /// A living etcfs is on top.
    pub live: Option<Live>,
}

impl Occupants {
    /// What is to be told of it, in a line each.
    pub fn remarks(&self, mountpoint: &Path) -> Vec<String> {
        let at = mountpoint.display();
        let gone = self.within.iter().map(|(path, fstype)| {
            format!(
                "{at}: {} ({fstype}) was mounted within the dead mount that was replaced, and is gone with it; mount it again",
                path.display()
            )
        });
        let covered = self.covered.iter().map(|fstype| {
            format!(
                "{at}: the {fstype} there covers an etcfs whose daemon is not seen; it is served as the local directory. If that \
                 is not what is wanted, unmount both by hand"
            )
        });
        gone.chain(covered).collect()
    }
}

/// A mount that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// The daemon's id; none: it is in another pid namespace, may not be looked at, or is another program.
    pub pid: Option<u32>,
}

impl Live {
    /// Refuses to mount over it.
    #[must_use]
    pub fn refuse(self, mountpoint: &Path) -> MountError {
        let by = match self.pid {
            Some(pid) => format!("pid {pid} serves it"),
            None => "its daemon cannot be seen from here".to_owned(),
        };
        let operation = format!("an etcfs is mounted there already ({by})");
        let remedy = "unmount that one first, or mount over it with -o stack";
        MountError::new(mountpoint, operation, None, remedy)
    }
}

/// Takes away what killed daemons of FUSE left on top of a mountpoint, and tells whether a living etcfs is there. Everything else
/// stays, and counts as the user's directory: other file systems, a directory within an etcfs, a mount of an etcfs that was
/// bound here from another place. A missing mountpoint has nothing on it.
///
/// Call it without threads: the question to a mount that may hang is put by a child process, which can be left behind.
///
/// # Errors
/// A dead mount could not be unmounted.
pub fn make_room(
    mountpoint: &Path,
    way: Method,
    who: Who<'_>,
) -> std::result::Result<Occupants, MountError> {
    // Without `.` at the end, which a dead mount would be asked about.
    let mountpoint = &mountpoint.components().collect::<PathBuf>();
    let end = Instant::now() + LONGEST;
    let mut found = Occupants::default();
    while found.replaced < MOST {
        let Ok(top) = open(mountpoint) else { break };
        let Some(covering) = Covering::of(mountpoint, &top) else {
            found.covered = covered(mountpoint, &top, who);
            break;
        };
        match covering.state(&top, who) {
            State::Dead => {
                let at = Point::open(mountpoint)?.path().to_owned();
                let within = within(mountpoint, &top);
                remove(&top, &at, way.settled())?;
                found.within.extend(within);
                found.replaced += 1;
            }
            State::Elsewhere => break,
            State::Ending if Instant::now() < end => std::thread::sleep(SOON),
            State::Ending => {
                found.live = Some(Live { pid: None });
                break;
            }
            State::Live(pid) if covering.is_still_at(mountpoint) => {
                found.live = Some(Live { pid });
                break;
            }
            State::Live(_) => {}
        }
    }
    Ok(found)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

fn remove(top: &OwnedFd, at: &Path, way: Method) -> std::result::Result<(), MountError> {
    match point::magic(top.as_fd()) {
        // By the descriptor: the path may lead to another mount by the time it is walked again.
        Some(magic) if !way.unmounts_by_helper() => unmount(&magic, UnmountFlags::DETACH, at),
        _ => take_away(at, way),
    }
}

/// What is mounted within the mount whose root `top` is.
fn within(path: &Path, top: &OwnedFd) -> Vec<(PathBuf, String)> {
    let Some(id) = mount_of(top) else {
        return Vec::new();
    };
    let mut within: Vec<_> = Mounts::read_for(path)
        .within(id)
        .map(|entry| {
            let at = PathBuf::from(OsString::from_vec(entry.at.clone()));
            (at, entry.fstype.clone())
        })
        .collect();
    within.sort();
    within
}

/// The type of what is on top, if it covers an etcfs that nobody is seen to serve.
fn covered(path: &Path, top: &OwnedFd, who: Who<'_>) -> Option<String> {
    let (id, table) = (mount_of(top)?, Mounts::read_for(path));
    let beneath = table.etcfs_beneath(id)?;
    match who(beneath.device, beneath.user.unwrap_or(0)) {
        Some(_) => None,
        None => Some(table.get(id)?.fstype.clone()),
    }
}

/// How a mount is.
enum State {
    /// Its connection is gone.
    Dead,
    /// It soon will be.
    Ending,
    /// It is served, by this process if it can be seen.
    Live(Option<u32>),
    /// It is served at another place, and was only bound here, or is another program's.
    Elsewhere,
}

/// A FUSE file system mounted on a mountpoint.
struct Covering {
    identity: Identity,
    user: u32,
    /// It is an etcfs.
    is_etcfs: bool,
}

impl Covering {
    /// The FUSE file system whose root `top` is; `path` led there.
    fn of(path: &Path, top: &OwnedFd) -> Option<Self> {
        let id = mount_of(top)?;
        let table = Mounts::read_for(path);
        let is_fuse = |fstype: &str| fstype == "fuse" || fstype.starts_with("fuse.");
        let entry = table.get(id).filter(|entry| is_fuse(&entry.fstype))?;
        // What lies above a mount's root is on another mount. By the path: `..` of a directory is a question to its mount.
        let (above, _) = parent_and_name(path).ok()??;
        if mount_of(&above) == Some(id) {
            return None;
        }
        Some(Self {
            identity: Identity::of(top, "").ok()?,
            user: entry.user.unwrap_or(0),
            is_etcfs: entry.fstype == FSTYPE,
        })
    }

    fn is_still_at(&self, path: &Path) -> bool {
        open(path).and_then(|top| Identity::of(&top, "")) == Ok(self.identity)
    }

    fn state(&self, top: &OwnedFd, who: Who<'_>) -> State {
        let Some(mut question) = Question::ask(top) else {
            return State::Live(None);
        };
        let mut silent = Instant::now();
        loop {
            let answer = question.wait(SLICE);
            match answer {
                Some(Err(Errno::NOTCONN)) => return State::Dead,
                // It was waiting for a daemon that died meanwhile.
                Some(Err(Errno::CONNABORTED)) => return State::Ending,
                _ if !self.is_etcfs => return State::Elsewhere,
                _ => {}
            }
            match who(self.identity.device(), self.user) {
                Some(daemon) if daemon.is_ending => silent = Instant::now(),
                Some(daemon) if self.is_anothers(daemon.mount) => return State::Elsewhere,
                Some(daemon) => return State::Live(Some(daemon.pid)),
                None if answer.is_some() || silent.elapsed() > PATIENCE => {
                    return State::Live(None);
                }
                None => {}
            }
            if answer.is_some() {
                return State::Ending;
            }
        }
    }

    fn is_anothers(&self, made: Option<u64>) -> bool {
        let here = self.identity.number();
        made.is_some() && here.is_some() && made != here
    }
}

/// A question that a file system has to answer, put by a child process.
struct Question {
    child: Option<Pid>,
}

impl Question {
    /// None: no process can be made.
    fn ask(dir: &OwnedFd) -> Option<Self> {
        // SAFETY: the child makes only the raw system calls statx and exit_group, which are safe in the copy of one thread
        // of a process with several, and never returns from here.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            let answer = statx(dir, "", flags, StatxFlags::BASIC_STATS);
            let code = answer
                .err()
                .map_or(0, |errno| errno.raw_os_error().min(255));
            // SAFETY: leaves without running the parent's destructors and buffers.
            unsafe { libc::_exit(code) };
        }
        let child = Pid::from_raw(pid).filter(|_| pid > 0)?;
        Some(Self { child: Some(child) })
    }

    /// The answer, if it comes within this time.
    fn wait(&mut self, time: Duration) -> Option<Result<()>> {
        let end = Instant::now() + time;
        loop {
            match waitpid(self.child, WaitOptions::NOHANG) {
                Ok(None) if Instant::now() < end => std::thread::sleep(SOON),
                Ok(None) => return None,
                Ok(Some((_, status))) => {
                    self.child = None;
                    let code = status.exit_status().unwrap_or(0);
                    return Some(match code {
                        0 => Ok(()),
                        code => Err(Errno::from_raw_os_error(code)),
                    });
                }
                Err(errno) => return Some(Err(errno)),
            }
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(child) = self.child {
            let _ = kill_process(child, Signal::KILL);
            // A process that waits for a daemon's answer may not even die; it is then left to init.
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        }
    }
}
