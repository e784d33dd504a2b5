//! The signals that end the daemon, as a descriptor (contract D19), and what becomes of all others: an action, a mask or an
//! alarm that whoever starts the daemon has left to it must neither end it nor keep it from being ended. No handler is
//! installed, so there is nothing for a crate of handlers to do.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// The signals that end the daemon.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// The signals that are read besides: a child has ended, the parent has ([`super::child`]), and another program is to go on.
const READ: [libc::c_int; 3] = [libc::SIGCHLD, libc::SIGUSR1, libc::SIGUSR2];

/// True for a signal that ends the daemon.
pub(crate) fn ends(signal: i32) -> bool {
    ENDING.contains(&signal)
}

/// Signals whose default action is right, whatever they were started with: children are waited for, a terminal stops and
/// continues the daemon, and a fault of the program ends it, with a core where that is wanted.
const DEFAULT: [libc::c_int; 14] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGSYS,
    // Without which nobody could end it in the way that unmounts.
    libc::SIGTERM,
    // Its default is to be ignored; a handler of this process's own takes it.
    libc::SIGURG,
];

/// Signals that stay as they are: a shell's `&` and nohup have them ignored, the standard library has a handler for the
/// faults, and two cannot be changed.
const KEPT: [libc::c_int; 7] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGKILL,
    libc::SIGSTOP,
];

/// Undoes what whoever starts the daemon has left: every signal that nobody here expects is ignored (the default action of
/// most is to end the process: SIGXFSZ, SIGXCPU, SIGUSR1, SIGALRM, real-time ones), no alarm goes off, and nothing is
/// blocked. Call it first of all: children are waited for later, and threads inherit the mask.
///
/// `goes_on`: this process was another program before, which has left no action, and what came since is to be read still.
pub fn settle(goes_on: bool) {
    // The two in between are the C library's own, and it lets nobody touch them.
    for signal in (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        let action = match signal {
            _ if KEPT.contains(&signal) => continue,
            _ if DEFAULT.contains(&signal) => libc::SIG_DFL,
            _ => libc::SIG_IGN,
        };
        // SAFETY: neither action is a handler. It cannot fail for a number that is a signal's.
        unsafe { libc::signal(signal, action) };
    }
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: all zero is a whole `struct itimerval`, which stops a timer.
        let none: libc::itimerval = unsafe { std::mem::zeroed() };
        // SAFETY: the new value lives until the call returns, and the old one is not asked for.
        unsafe { libc::setitimer(timer, &raw const none, std::ptr::null_mut()) };
    }
    if goes_on {
        return;
    }
    // After the actions, or what has been pending would be carried out.
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; the old mask is not asked for.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// TERM, INT and HUP, and CHLD, USR1 and USR2, blocked and readable.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the ending signals in this thread, and so in every thread that it starts afterwards, and ignores SIGPIPE.
    /// A signal that this process was started with ignored (nohup, a shell's `&`) stays ignored.
    ///
    /// Call it before any thread starts: a thread that does not block a signal would be ended by it.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn block() -> io::Result<Self> {
        // SAFETY: ignoring a signal installs no handler.
        if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        let set = ending_and_not_ignored()?;
        for signal in READ {
            // SAFETY: the default action is no handler; blocked, the signal is read and the action never carried out.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: the set is initialised; the old mask is not asked for.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the set is initialised, and -1 asks for a new descriptor.
        let fd: RawFd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Takes the next signal's number. None if there is none; poll the descriptor to wait for one.
    ///
    /// # Errors
    /// Not after a successful [`Signals::block`].
    pub(crate) fn read(&self) -> io::Result<Option<i32>> {
        // The first field of struct signalfd_siginfo (128 bytes) is the number, u32 in native order.
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut info)) {
            Ok(_) => Ok(Some(i32::from_ne_bytes([
                info[0], info[1], info[2], info[3],
            ]))),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn ending_and_not_ignored() -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, and cannot fail on a valid pointer.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in ENDING {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: only asks for the action in force, which fills the struct if it succeeds.
        let action = unsafe {
            if libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            action.assume_init()
        };
        if action.sa_sigaction != libc::SIG_IGN {
            // SAFETY: the set is initialised and the number is a signal's.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
    }
    for signal in READ {
        // SAFETY: as above.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    Ok(set)
}
