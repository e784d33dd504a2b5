//! A process that shares this one's table of descriptors, and going on as another program.
//!
//! What the two share outlives either: a descriptor that one opens is open in the other, and closes when both are gone or
//! one has closed it. A program that is executed has the table to itself, which takes nothing away when nobody else is left.
#![allow(unsafe_code)]

use super::inherit;
use crate::mutex::lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::RawFd;
use rustix::fs::Stat;
use rustix::io::{self, Errno};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getppid, pidfd_open,
    waitid, waitpid,
};
use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The signal that tells a process that its parent has ended.
pub(crate) const PARENT_ENDED: libc::c_int = libc::SIGUSR1;

/// Which of the two this is.
pub(crate) enum Half {
    /// The one that was here before.
    Parent(Pid),
    /// The new one. It has one thread, a copy of the memory, and the same descriptors.
    Child,
}

/// Makes a process that shares the descriptors. To be called by a process with one thread: what others hold (the
/// allocator's locks) would stay held in the child for ever.
///
/// # Errors
/// EAGAIN, ENOMEM.
pub(crate) fn share() -> io::Result<Half> {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // On s390x the stack comes first (CLONE_BACKWARDS2).
    let (first, second) = if cfg!(target_arch = "s390x") {
        (0, flags)
    } else {
        (flags, 0)
    };
    // SAFETY: without CLONE_VM the child has a stack and a memory of its own, as after fork(2). The C library's idea of the
    // thread's number is the parent's in it, which only its mutexes that look for errors, and raise() of old versions, use.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, 0, 0, 0) };
    match pid {
        -1 => Err(last()),
        0 => Ok(Half::Child),
        pid => Ok(Half::Parent(Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?)),
    }
}

/// This process's number.
pub(crate) fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Has [`PARENT_ENDED`] sent to this thread when its parent ends. False: the parent, which was `parent`, has ended already.
pub(crate) fn notice_end_of(parent: Pid) -> bool {
    // SAFETY: takes a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, PARENT_ENDED) };
    getppid() == Some(parent)
}

/// How a child has ended, if it has.
pub(crate) fn ended(child: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(found) => return found.map(|(_, status)| status),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// True for a child that has not been asked how it ended.
pub(crate) fn is_there(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), options).is_ok()
}

/// Ends a process at once, and waits until it is gone if it is a child.
pub(crate) fn kill(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
}

/// Ends a process that is nobody's child here. `is_dead`: what is left of it ends when it is replaced. False: it is there still
/// after five seconds.
pub(crate) fn end_strange(pid: Pid, is_dead: impl Fn() -> bool) -> bool {
    // By a descriptor, so that the number can be nobody else's by then (Linux 5.3).
    let process = pidfd_open(pid, PidfdFlags::empty());
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let gone = match &process {
            // Readable once the process has closed what it had open, whether its parent has asked for it or not.
            Ok(process) => {
                let step = Timespec {
                    tv_sec: 0,
                    tv_nsec: 10_000_000,
                };
                poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&step)).is_ok_and(|n| n > 0)
            }
            Err(Errno::SRCH) => true,
            Err(_) => rustix::process::test_kill_process(pid).is_err(),
        };
        if gone || is_dead() {
            return true;
        }
        if process.is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    false
}

/// True for a program that belongs to root or to this process's user, and that nobody else may write.
pub(crate) fn is_ours_alone(program: &Stat) -> bool {
    let own = rustix::process::geteuid().as_raw();
    (program.st_uid == 0 || program.st_uid == own) && program.st_mode & 0o022 == 0
}

/// What a program is executed with. It is made while there is one thread, so that nothing has to be allocated later.
pub(crate) struct Execution {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Pointers to those, and a null.
    pointers: Mutex<(Vec<*const c_char>, Vec<*const c_char>)>,
}

// SAFETY: the pointers lead into the strings, which never change and move with nothing.
unsafe impl Send for Execution {}
// SAFETY: as above.
unsafe impl Sync for Execution {}

impl Execution {
    /// This process's own arguments and environment, with `name=value` besides.
    pub(crate) fn own(name: &str, value: &str) -> Execution {
        let mut environment: Vec<_> = std::env::vars_os()
            .filter(|(key, _)| key != name)
            .map(|(key, value)| text([key.into_vec(), value.into_vec()].join(&b'=')))
            .collect();
        environment.push(text(format!("{name}={value}").into_bytes()));
        let arguments = std::env::args_os().map(|a| text(a.into_vec()));
        Execution::of(arguments.collect(), environment)
    }

    /// This process's name and environment, with one argument.
    pub(crate) fn with_argument(argument: String) -> Execution {
        let environment = std::env::vars_os()
            .map(|(key, value)| text([key.into_vec(), value.into_vec()].join(&b'=')));
        let name = std::env::args_os().next().unwrap_or_default();
        let arguments = vec![text(name.into_vec()), text(argument.into_bytes())];
        Execution::of(arguments, environment.collect())
    }

    fn of(arguments: Vec<CString>, environment: Vec<CString>) -> Execution {
        let pointers = |of: &[CString]| {
            let ends = std::iter::once(std::ptr::null());
            of.iter().map(|text| text.as_ptr()).chain(ends).collect()
        };
        let pointers = Mutex::new((pointers(&arguments), pointers(&environment)));
        Execution {
            arguments,
            environment,
            pointers,
        }
    }

    /// Goes on as `program`, with the standard descriptors and those of `named`; all others are marked to be closed. Returns
    /// only where that fails.
    pub(crate) fn execute(&self, program: RawFd, named: &[RawFd]) -> Errno {
        debug_assert!(self.arguments.len() + self.environment.len() > 0);
        for &fd in named {
            leave_open(fd);
        }
        let pointers = lock(&self.pointers);
        // SAFETY: both lists end with a null and lead to strings that live in `self`.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                program,
                c"".as_ptr(),
                pointers.0.as_ptr(),
                pointers.1.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        last()
    }

    /// Makes a child that executes `program` with the standard descriptors, itself and `other` alone, and ends with this
    /// process.
    ///
    /// # Errors
    /// As [`share`].
    pub(crate) fn begin(&self, program: RawFd, other: RawFd) -> io::Result<Pid> {
        match share()? {
            Half::Parent(child) => Ok(child),
            Half::Child => {
                // SAFETY: takes numbers.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                if keep_only([program, other]) {
                    self.execute(program, &[program, other]);
                }
                // SAFETY: leaves without running anything of the parent's.
                unsafe { libc::_exit(127) };
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> CString {
    CString::new(bytes).unwrap_or_default()
}

/// Takes the mark off a descriptor that closes it when a program is executed.
fn leave_open(fd: RawFd) {
    if fd > 2 {
        // SAFETY: changes a mark of a descriptor, if there is one.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
}

/// Gives this process, which shares its table with another one, a table of its own with the standard descriptors and these two.
/// False: it has none of its own.
///
/// The kernel copies nothing that is above the last of them (`close_range(2)`, Linux 5.9): what a client has open is not held
/// for a moment longer than it wants, with its locks and as a file that cannot be executed while it can be written.
fn keep_only(mut two: [RawFd; 2]) -> bool {
    two.sort_unstable();
    let [low, high] = two;
    let from = (high + 1) as libc::c_uint;
    let most = libc::c_uint::MAX;
    // SAFETY: the table is this process's own afterwards, where nobody owns what is closed.
    let rest = unsafe { libc::syscall(libc::SYS_close_range, from, most, CLOSE_RANGE_UNSHARE) };
    // SAFETY: as above.
    if rest != 0 && unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return false;
    }
    inherit::close_between(3, low);
    inherit::close_between(low + 1, high);
    inherit::close_between(high + 1, RawFd::MAX);
    true
}

/// `CLOSE_RANGE_UNSHARE` of `linux/close_range.h`.
const CLOSE_RANGE_UNSHARE: libc::c_uint = 1 << 1;

fn last() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Ends this process at once, and runs nothing of what it was copied with.
pub(crate) fn leave() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}
