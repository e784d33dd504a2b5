//! A process of which one thread cannot end: it waits in the kernel for something that nobody but its successor will do. Nobody
//! is told of such an end: its parent would hear of it when the last thread is gone (`delay_group_leader`, kernel/exit.c).
#![allow(unsafe_code)]

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io;
use rustix::process::Pid;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Has the kernel make `word` 0 when the calling thread has ended and others of its process have not (`mm_release`,
/// kernel/fork.c). Until then it is the thread's number.
pub(crate) fn zero_at_end(word: &'static AtomicI32) {
    word.store(
        rustix::thread::gettid().as_raw_nonzero().get(),
        Ordering::SeqCst,
    );
    // SAFETY: the word is there as long as the process, and the call fails for no address. Nobody joins a main thread, for
    // which the C library has the kernel zero a word of its own.
    unsafe { libc::syscall(libc::SYS_set_tid_address, word.as_ptr()) };
}

/// A timer that is readable when it has gone off.
///
/// # Errors
/// No descriptor is free.
pub(crate) fn timer() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    timerfd_create(TimerfdClockId::Monotonic, flags)
}

/// Has `timer` go off each time that `every` has passed; never with 0.
pub(crate) fn set(timer: BorrowedFd<'_>, every: Duration) {
    let every = Timespec {
        tv_sec: 0,
        tv_nsec: every.subsec_nanos().into(),
    };
    let times = Itimerspec {
        it_interval: every,
        it_value: every,
    };
    let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &times);
}

/// How many threads of process `pid` have not ended. `None`: no `/proc` says so.
pub(crate) fn threads(pid: Pid) -> Option<usize> {
    let dir = format!("/proc/{}/task", pid.as_raw_nonzero());
    let all = std::fs::read_dir(dir).ok()?;
    let lives = |entry: &std::fs::DirEntry| {
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        // The name may hold anything.
        let name = stat.iter().rposition(|&byte| byte == b')');
        let state = name.and_then(|end| stat.get(end + 2));
        state.is_some_and(|state| !b"ZXx".contains(state))
    };
    Some(all.flatten().filter(lives).count())
}
