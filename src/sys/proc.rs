//! What `/proc` tells about a caller beyond the request's uid, gid and pid. Read only where a rare case needs it.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io;
use rustix::thread::CapabilitySet;
use std::ffi::CStr;
use std::io::Write as _;

/// `TASK_COMM_LEN` of the kernel, the final NUL included.
const COMM_MAX: usize = 16;

/// A caller's supplementary groups and effective capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities.
    pub effective: CapabilitySet,
}

/// Reads `/proc/TID/status` (proc(5)); `thread` is the `pid` of a request, which is a thread id. `None`: the thread is gone
/// or in another pid namespace (0), or no `/proc` is mounted.
pub fn status(thread: u32) -> Option<Status> {
    parse(&read_status(thread)?)
}

fn read_status(thread: u32) -> Option<String> {
    let path = format!("/proc/{thread}/status");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match io::read(&fd, &mut chunk) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            Err(io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn parse(text: &str) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let groups = field("Groups:")?
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let effective = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
    Some(Status {
        groups,
        effective: CapabilitySet::from_bits_retain(effective),
    })
}

/// The command name of the process (or thread) `pid`, as it is in this process's pid namespace. `None` when it has
/// ended, when it is in another namespace (the kernel then says 0), or when no `/proc` is mounted. Three system calls.
pub fn comm(pid: u32) -> Option<Box<[u8]>> {
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
pub fn exe(pid: u32) -> Option<Vec<u8>> {
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
pub fn cmdline(pid: u32) -> Option<Vec<u8>> {
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
pub fn is_dying(tid: u32) -> bool {
    let Some(text) = read_status(tid) else {
        return true;
    };
    let pending = |name: &str| {
        let field = text.lines().find_map(|line| line.strip_prefix(name));
        let mask = field.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
    };
    let ended = text
        .lines()
        .any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"));
    ended || pending("SigPnd:") || pending("ShdPnd:")
}

/// True if `/proc` is there and shows this process's own pid namespace, so that it knows the pids of requests.
pub fn is_own_namespace() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    rustix::fs::readlink("/proc/self", Vec::new())
        .is_ok_and(|link| link.to_bytes() == own.as_bytes())
}

/// A thread, for looking at again and again.
pub struct Task(OwnedFd);

impl Task {
    /// The thread `tid`; `None` if there is none, or no `/proc`. Allocates nothing.
    pub fn open(tid: u32) -> Option<Task> {
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
    pub fn cpu(&self) -> Option<usize> {
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
    fn groups_and_capabilities_are_found() {
        let status = parse("Name:\tx\nGroups:\t4 500 \nCapEff:\t0000000000000012\n");
        let expected = Status {
            groups: vec![4, 500],
            effective: CapabilitySet::DAC_OVERRIDE | CapabilitySet::FSETID,
        };
        assert_eq!(status, Some(expected));
    }

    #[test]
    fn this_thread_has_a_status_and_no_thread_has_none() {
        let own = rustix::thread::gettid().as_raw_pid();
        assert!(status(u32::try_from(own).expect("a thread id")).is_some());
        assert_eq!(status(0), None);
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
            let tid = rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .cast_unsigned();
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
