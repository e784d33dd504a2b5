//! An etcfs whose daemon was killed stays in the mount table and answers ENOTCONN (contract D15, U7).

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use super::mountinfo::{FSTYPE, Table, mount_of};
use super::{MountError, Point, Way, point, take_away, unmount};

/// How long a mount may take to answer before it counts as alive but slow.
const PATIENCE: Duration = Duration::from_secs(1);

/// More dead mounts than this on one mountpoint are not taken away in one start.
const MOST: u32 = 16;

/// Takes away what killed etcfs left on top of a mountpoint, and says how many it were. Everything else stays: an etcfs
/// that answers, one that hangs, other file systems. A missing mountpoint has none.
///
/// Call it without threads: the question to a mount that may hang is put by a child process, which can be left behind.
///
/// # Errors
/// A dead mount could not be unmounted.
pub fn replace_dead(mountpoint: &Path, way: Way) -> Result<u32, MountError> {
    let mountpoint = &mountpoint.components().collect::<PathBuf>();
    for replaced in 0..MOST {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(top) = openat(CWD, mountpoint, flags, Mode::empty()) else {
            return Ok(replaced);
        };
        if !is_dead(mountpoint, &top) {
            return Ok(replaced);
        }
        let at = Point::open(mountpoint)?.path().to_owned();
        let way = way.settled();
        match point::magic(top.as_fd()) {
            // By the descriptor: the path may lead to another mount by the time it is walked again.
            Some(magic) if !way.unmounts_by_helper() => {
                unmount(&magic, UnmountFlags::DETACH, &at)?;
            }
            _ => take_away(&at, way)?,
        }
    }
    Ok(MOST)
}

/// Whether a directory lies on an etcfs whose connection is gone.
fn is_dead(path: &Path, dir: &OwnedFd) -> bool {
    let on_etcfs = mount_of(dir).is_some_and(|id| {
        let table = Table::read_for(path);
        table.get(id).is_some_and(|entry| entry.fstype == FSTYPE)
    });
    on_etcfs && ask_in_a_child(dir) == Some(Errno::NOTCONN)
}

/// The errno of a question that the file system has to answer. None if it answers well, not in time, or cannot be asked.
fn ask_in_a_child(dir: &OwnedFd) -> Option<Errno> {
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
    let status = if ends_in_time(child) {
        waitpid(Some(child), WaitOptions::empty())
    } else {
        let _ = kill_process(child, Signal::KILL);
        // A process that waits for a daemon's answer may not even die; it is then left to init.
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
        return None;
    };
    let code = status.ok().flatten()?.1.exit_status()?;
    (code != 0).then(|| Errno::from_raw_os_error(code))
}

fn ends_in_time(child: Pid) -> bool {
    let Ok(pidfd) = pidfd_open(child, PidfdFlags::empty()) else {
        // Before Linux 5.3. A connected but hanging etcfs makes the start hang there.
        return true;
    };
    let patience = Timespec::try_from(PATIENCE).ok();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut fds, patience.as_ref()).is_ok_and(|ready| ready == 1)
}
