//! Limits and standing that the daemon inherits from whoever starts it: a shell's `ulimit`, `nice`, a unit's settings. They
//! were meant for a program that works for one user; this one works for all, and a file that one limit is too small for,
//! or a second of CPU time too much, would take /etc away from everybody.
#![allow(unsafe_code)]

use super::heap;
use std::io;

use rustix::process::{
    Resource, Rlimit, geteuid, getpriority_process, getrlimit, setpriority_process, setrlimit,
};

/// How many descriptors are few, where the kernel allows more: an eighth of this is told of at the start.
const FILES: u64 = 20_000;

/// What the main thread's stack may grow to, bytes: the kernel's default.
const STACK: u64 = 8 << 20;

/// What is added to the daemon's badness (proc_pid_oom_score_adj(5)), the best first: root's is among the last to be killed
/// for memory, for its end is the end of /etc; but it can be, for a leak must not end everything else.
const OOM: [i32; 2] = [-900, 0];

/// `IOPRIO_WHO_PROCESS`, and the priority that follows from the niceness (ioprio_set(2)).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_NONE: libc::c_int = 0;

/// What could not be set as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotSet {
    /// The sentence for the log.
    pub(crate) text: String,
    /// It can end the daemon or fail requests; otherwise it is only slower, or earlier to be killed, than it should be.
    pub(crate) matters: bool,
}

/// Limits that are lifted wholly, and below what their rest is worth telling of: the kernel ends the process or refuses
/// memory and threads at them.
const LIFTED: [(Resource, &str, u64); 6] = [
    (Resource::Fsize, "file size (RLIMIT_FSIZE, bytes)", u64::MAX),
    (Resource::Cpu, "CPU time (RLIMIT_CPU, seconds)", u64::MAX),
    (Resource::As, "address space (RLIMIT_AS, bytes)", 1 << 30),
    (Resource::Data, "data (RLIMIT_DATA, bytes)", 1 << 28),
    (Resource::Nproc, "threads (RLIMIT_NPROC)", 256),
    (
        Resource::Rttime,
        "real-time CPU time (RLIMIT_RTTIME, microseconds)",
        0,
    ),
];

/// Sets what the daemon needs, for this process and the threads that it starts afterwards. What it may not set is in the
/// answer.
pub(crate) fn settle() -> Vec<NotSet> {
    heap::settle();
    let mut left = Vec::new();
    for (resource, name, enough) in LIFTED {
        if let Some(rest) = raise(resource, None).filter(|rest| *rest < enough) {
            left.push(NotSet {
                text: format!("the limit of {name} stays {rest}: it could not be lifted"),
                matters: true,
            });
        }
    }
    let name = "open files (RLIMIT_NOFILE)";
    for (resource, name, wanted, enough) in [
        (Resource::Nofile, name, most_files(), FILES / 8),
        (
            Resource::Stack,
            "the stack (RLIMIT_STACK, bytes)",
            STACK,
            STACK / 8,
        ),
    ] {
        if let Some(rest) = raise(resource, Some(wanted)).filter(|rest| *rest < enough) {
            left.push(NotSet {
                text: format!("the limit of {name} stays {rest}: it could not be raised"),
                matters: true,
            });
        }
    }
    for (what, done) in [
        ("the niceness", niceness()),
        ("the scheduling policy", policy()),
        ("the I/O priority", io_priority()),
        ("the OOM score", oom_score()),
    ] {
        if let Err(error) = done {
            left.push(NotSet {
                text: format!("{what} stays as it was at the start: {error}"),
                matters: false,
            });
        }
    }
    left
}

/// How many files this process may have open.
pub(crate) fn files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// How many files the kernel lets any process have open, whatever its rights (`fs.nr_open`, proc_sys_fs(5)).
pub(crate) fn most_files() -> u64 {
    let told = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    told.and_then(|text| text.trim().parse().ok())
        .unwrap_or(1 << 20)
}

/// Raises a limit, soft and hard, to `wanted` at least (`None`: to infinity), as far as it may be done, and returns the one
/// in force (`None`: infinity). A soft limit of files below the hard one is raised to that in any case.
fn raise(resource: Resource, wanted: Option<u64>) -> Option<u64> {
    let before = getrlimit(resource);
    let less = |limit: Option<u64>| match (limit, wanted) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(limit), Some(wanted)) => limit < wanted,
    };
    let to_hard = resource == Resource::Nofile && before.current != before.maximum;
    if !less(before.current) && !to_hard {
        return before.current;
    }
    let maximum = if less(before.maximum) {
        wanted
    } else {
        before.maximum
    };
    // The stack's size is where the kernel puts mappings below: more than it needs is not asked for.
    let current = match resource {
        Resource::Stack => wanted,
        _ => maximum,
    };
    let all = Rlimit { current, maximum };
    if setrlimit(resource, all).is_err() {
        let allowed = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        let _ = setrlimit(resource, allowed);
    }
    getrlimit(resource).current
}

/// A daemon that is nicer than its clients makes all of them wait for it.
fn niceness() -> io::Result<()> {
    if getpriority_process(None)? > 0 {
        setpriority_process(None, 0)?;
    }
    Ok(())
}

/// SCHED_IDLE and SCHED_BATCH (sched(7)) likewise; a real-time policy is somebody's wish.
fn policy() -> io::Result<()> {
    // SAFETY: asks for a number of the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if policy != libc::SCHED_IDLE && policy != libc::SCHED_BATCH {
        return Ok(());
    }
    // SAFETY: the struct is a number, which is 0 for this policy, and all of it is initialised.
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole struct that lives until the call returns.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `ionice -c idle` likewise.
fn io_priority() -> io::Result<()> {
    // SAFETY: the call takes three integers, and concerns the calling thread.
    let error = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_NONE) };
    match error {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // A kernel without block devices.
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error => Err(error),
        },
    }
}

fn oom_score() -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let Ok(now) = std::fs::read_to_string(FILE) else {
        // No /proc: then nobody can have changed it by this way either.
        return Ok(());
    };
    let now: i32 = now.trim().parse().unwrap_or(0);
    // Without CAP_SYS_RESOURCE it goes down to what it was when somebody with that capability set it, mostly 0.
    let from = usize::from(!geteuid().is_root());
    for wanted in &OOM[from..] {
        if now <= *wanted {
            return Ok(());
        }
        let done = std::fs::write(FILE, wanted.to_string());
        if done.is_ok() || *wanted == 0 {
            return done;
        }
    }
    Ok(())
}
