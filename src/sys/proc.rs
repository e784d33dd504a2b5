//! What `/proc` tells about a caller beyond the request's uid, gid and pid. Read only where a rare case needs it.

use rustix::fs::{Mode, OFlags};
use rustix::io;
use rustix::thread::CapabilitySet;

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
    parse(&String::from_utf8_lossy(&text))
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
}
