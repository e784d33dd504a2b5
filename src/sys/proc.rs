//! What `/proc` tells about a caller beyond the request's uid, gid and pid. Read only where a rare case needs it.
//!
//! Parsed here: of each file a line or two is needed, in bounded memory, while a client waits; a crate for procfs makes
//! values of all of it.

mod call;
mod sharing;

pub(crate) use call::{
    LockCall, REMOVE_CALLS, changes_owner, is_inside, lock_call, writes_without_append,
};
pub(crate) use sharing::shares_descriptors;

use super::creds::Held;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io;
use rustix::thread::CapabilitySet;
use std::ffi::CStr;
use std::io::Write as _;
use std::sync::OnceLock;

/// `TASK_COMM_LEN` of the kernel, the final NUL included.
const COMM_MAX: usize = 16;

/// What a look at a caller came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It is the task that asked, and holds this: its groups, and its capabilities if they are of the daemon's own user
    /// namespace.
    Holds(Held),
    /// It holds nothing that counts here: it is not the task that asked (which has ended, or has changed its ids since), or
    /// cannot be looked at.
    Nothing,
    /// Nobody can say: its pid namespace is not the daemon's or below it, or no `/proc` is mounted here.
    Unknown,
}

/// Looks at the caller of a request: `thread` is the request's `pid`, which is a thread id, `ids` its file system ids.
///
/// Capabilities that a task has in a user namespace of its own mean nothing here (its groups do), and `/proc/TID/status` (proc(5)) does not
/// tell which those are, so the namespace itself is compared (`/proc/TID/ns/user`, which wants CAP_SYS_PTRACE for other
/// users' tasks). All looks go through one descriptor of the task's directory, which leads to no later task of that number.
pub(crate) fn look_at(thread: u32, ids: (u32, u32)) -> Caller {
    if thread == 0 {
        return Caller::Unknown;
    }
    let Some(own) = own_user_namespace() else {
        return Caller::Unknown;
    };
    let Some(task) = task_dir(thread) else {
        return Caller::Nothing;
    };
    let same_namespace = || {
        rustix::fs::statat(&task, c"ns/user", AtFlags::empty())
            .map(|stat| (stat.st_dev, stat.st_ino))
    };
    match status(&task).and_then(|text| parse(&text)) {
        Some(mut status) if status.ids == ids => {
            // Groups are what they are in every user namespace: nobody gets one there that it may not have here.
            if same_namespace() != Ok(own) {
                status.held.capabilities = CapabilitySet::empty();
            }
            Caller::Holds(status.held)
        }
        _ => Caller::Nothing,
    }
}

/// The daemon's user namespace, asked once; none where `/proc` is not that of its pid namespace.
fn own_user_namespace() -> Option<(u64, u64)> {
    static OWN: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    *OWN.get_or_init(|| {
        let stat = rustix::fs::stat(c"/proc/self/ns/user").ok()?;
        is_own_namespace().then_some((stat.st_dev, stat.st_ino))
    })
}

/// What `/proc/TID/status` says of a task's rights.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Status {
    /// File system user and group id.
    ids: (u32, u32),
    held: Held,
}

/// The directory of a task, which leads to no later task of that number.
fn task_dir(thread: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{thread}"), flags, Mode::empty()).ok()
}

/// The text of a task's `status`.
fn status(task: &OwnedFd) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(task, c"status", flags, Mode::empty()).ok()?;
    let mut text = vec![0; 4096];
    let mut len = 0;
    loop {
        if len == text.len() {
            // A caller in 65,536 groups has half a megabyte of them.
            text.resize(len.max(1 << 19) * 2, 0);
        }
        match io::read(&fd, &mut text[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    text.truncate(len);
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn parse(text: &str) -> Option<Status> {
    // The name is the first line, and the kernel escapes a newline in it (`proc_task_name`), so no task forges a field.
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, file system.
    let last = |name| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
    let mut groups: Vec<u32> = field("Groups:")?
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    // The same one may be named 65,536 times, and every act would set them all.
    groups.sort_unstable();
    groups.dedup();
    let effective = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
    Some(Status {
        ids: (last("Uid:")?, last("Gid:")?),
        held: Held {
            groups,
            capabilities: CapabilitySet::from_bits_retain(effective),
        },
    })
}

/// The command name of the process (or thread) `pid`, as it is in this process's pid namespace. `None` when it has
/// ended, when it is in another namespace (the kernel then says 0), or when no `/proc` is mounted. Three system calls.
pub(crate) fn comm(pid: u32) -> Option<Box<[u8]>> {
    if pid == 0 {
        return None;
    }
    let path = format!("/proc/{pid}/comm");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
    let mut name = [0; COMM_MAX + 1];
    let len = rustix::io::read(&fd, &mut name).ok()?;
    let name = name.get(..len)?;
    Some(name.strip_suffix(b"\n").unwrap_or(name).into())
}

/// The file that the process `pid` executes, as it is seen from this process's root. `None` as [`comm`].
pub(crate) fn exe(pid: u32) -> Option<Vec<u8>> {
    if pid == 0 {
        return None;
    }
    let path = format!("/proc/{pid}/exe");
    let link = rustix::fs::readlink(path.as_str(), Vec::new()).ok()?;
    Some(link.into_bytes())
}

/// The arguments of the process `pid`, joined by spaces and cut after 4 KiB. `None` as [`comm`].
///
/// This reads the other process's memory (`access_remote_vm`) and waits for its `mmap_lock`, which a thread of it may hold
/// while the kernel asks this very daemon for a page; the arguments may lie in a mapping of a file of the mount, too. So a
/// thread that answers requests must never call it.
pub(crate) fn cmdline(pid: u32) -> Option<Vec<u8>> {
    if pid == 0 {
        return None;
    }
    let path = format!("/proc/{pid}/cmdline");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
    let mut text = vec![0; 4096];
    let len = rustix::io::read(&fd, &mut text[..]).ok()?;
    text.truncate(len);
    if text.last() == Some(&0) {
        text.pop();
    }
    for byte in &mut text {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    Some(text)
}

/// True if the thread `tid` is about to end: SIGKILL is pending, which is how the kernel tells every thread of a process
/// that has got a deadly signal (`complete_signal`, kernel/signal.c), or it has ended.
pub(crate) fn is_dying(tid: u32) -> bool {
    let Some(text) = task_dir(tid).as_ref().and_then(status) else {
        return true;
    };
    let kill = 1 << (libc::SIGKILL - 1);
    has_ended(&text) || (mask(&text, "SigPnd:") | mask(&text, "ShdPnd:")) & kill != 0
}

/// True if a signal waits for thread `tid` to handle it, or the thread has ended. One that cannot be looked up has none.
pub(crate) fn has_signal(tid: u32) -> bool {
    if tid == 0 {
        return false;
    }
    let Some(text) = task_dir(tid).as_ref().and_then(status) else {
        return true;
    };
    let pending = mask(&text, "SigPnd:") | mask(&text, "ShdPnd:");
    has_ended(&text) || pending & !mask(&text, "SigBlk:") != 0
}

/// True if the process is stopped, by a signal or by who traces it. False where no `/proc` tells.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let task = u32::try_from(pid).ok().and_then(task_dir);
    let text = task.as_ref().and_then(status).unwrap_or_default();
    let mut lines = text.lines();
    lines.any(|line| line.starts_with("State:\tT") || line.starts_with("State:\tt"))
}

fn has_ended(status: &str) -> bool {
    let mut lines = status.lines();
    lines.any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"))
}

/// A set of signals in a status.
fn mask(status: &str, name: &str) -> u64 {
    let field = status.lines().find_map(|line| line.strip_prefix(name));
    let mask = field.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}

/// True if `/proc` is there and shows this process's own pid namespace, so that it knows the pids of requests.
pub(crate) fn is_own_namespace() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    rustix::fs::readlink("/proc/self", Vec::new())
        .is_ok_and(|link| link.to_bytes() == own.as_bytes())
}

/// A thread, for looking at again and again.
pub(crate) struct Task(OwnedFd);

impl Task {
    /// The thread `tid`; `None` if there is none, or no `/proc`. Allocates nothing.
    pub(crate) fn open(tid: u32) -> Option<Task> {
        // The longest is "/proc/4294967295/stat" with its NUL.
        let mut path = [0; 22];
        write!(&mut path[..21], "/proc/{tid}/stat").ok()?;
        let path = CStr::from_bytes_until_nul(&path).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        Some(Task(fd))
    }

    /// The CPU that it runs on, or last ran on: field 39 of `/proc/TID/stat` (proc(5)). `None` once it has ended. One system
    /// call, which waits for nothing of that thread.
    pub(crate) fn cpu(&self) -> Option<usize> {
        let mut text = [0; 1024];
        let len = io::pread(&self.0, &mut text[..], 0).ok()?;
        // The second field is the command's name in parentheses, with any byte in it.
        let after = text.get(..len)?.rsplit(|&byte| byte == b')').next()?;
        let field = after.split(|&byte| byte == b' ').nth(39 - 2)?;
        std::str::from_utf8(field).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_groups_and_capabilities_are_found() {
        let text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t4 500 \nCapEff:\t0000000000000012\n";
        let expected = Status {
            ids: (4, 8),
            held: Held {
                groups: vec![4, 500],
                capabilities: CapabilitySet::DAC_OVERRIDE | CapabilitySet::FSETID,
            },
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("Name:\tx\nUid:\t1\t2\t3\n"), None);
    }

    #[test]
    fn only_the_task_that_asked_is_believed() {
        let own = rustix::thread::gettid().as_raw_pid() as u32;
        let ids = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        assert!(matches!(look_at(own, ids), Caller::Holds(_)));
        assert_eq!(look_at(own, (ids.0 + 1, ids.1)), Caller::Nothing);
        assert_eq!(look_at(own, (ids.0, ids.1 + 1)), Caller::Nothing);
        assert_eq!(look_at(u32::MAX, ids), Caller::Nothing, "no such thread");
        assert_eq!(look_at(0, ids), Caller::Unknown);
    }

    #[test]
    fn a_living_process_has_a_name_and_others_have_none() {
        let own = std::fs::read("/proc/self/comm").unwrap();
        assert_eq!(
            comm(std::process::id()).as_deref(),
            own.strip_suffix(b"\n").or(Some(&own))
        );
        assert_eq!(comm(0), None);
        assert_eq!(comm(u32::MAX), None);
    }

    #[test]
    fn a_living_process_has_a_program_and_arguments() {
        let own = std::env::current_exe().unwrap();
        let pid = std::process::id();
        assert_eq!(exe(pid), Some(own.into_os_string().into_encoded_bytes()));
        let args: Vec<_> = std::env::args().collect();
        assert_eq!(cmdline(pid), Some(args.join(" ").into_bytes()));
        assert_eq!((exe(0), cmdline(u32::MAX)), (None, None));
    }

    #[test]
    fn a_living_thread_has_a_cpu_and_one_that_has_ended_none() {
        let cpus = std::thread::available_parallelism().unwrap().get();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_pid() as u32;
            tell.send(Task::open(tid).unwrap()).unwrap();
        });
        let task = told.recv().unwrap();
        thread.join().unwrap();
        let own = Task::open(std::process::id()).unwrap();
        assert!(own.cpu().unwrap() < cpus.max(4096));
        // join(3) returns a moment before the thread is gone.
        while task.cpu().is_some() {
            std::thread::yield_now();
        }
        assert!(is_own_namespace());
        assert!(Task::open(0).is_none());
    }
}
