//! What `/proc` tells about a caller beyond the request's uid, gid and pid. Read only where a rare case needs it.

use rustix::fs::{Mode, OFlags};
use rustix::io;
use rustix::thread::CapabilitySet;

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
}
