//! How a client knows the daemon of a mount by its descriptors and sockets.

use rustix::fd::RawFd;
use std::fmt;

/// How a label begins.
const LABEL: &str = "etcfs-control";

/// What the kernel puts around the name of a memfd, and a client has to take off.
const LINK: (&[u8], &[u8]) = (b"/memfd:", b" (deleted)");

/// The name of the memfd: `etcfs-control:MAJOR:MINOR:FD:MOUNT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The mount's device number.
    pub device: (u32, u32),
    /// The number of the clients' end of the pair in the daemon.
    pub end: RawFd,
    /// The kernel's number of the mount that the daemon has made; others of the same file system are bound copies of it. 0: the
    /// kernel does not tell.
    pub mount: u64,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.device;
        write!(f, "{LABEL}:{major}:{minor}:{}:{}", self.end, self.mount)
    }
}

impl Label {
    /// Reads a link of `/proc/PID/fd`. `None`: it is something else.
    pub(crate) fn read(link: &[u8]) -> Option<Label> {
        let text = link.strip_prefix(LINK.0)?.strip_suffix(LINK.1)?;
        let mut fields = std::str::from_utf8(text).ok()?.split(':');
        if fields.next() != Some(LABEL) {
            return None;
        }
        let device = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let end = fields.next()?.parse().ok()?;
        let mount = fields.next()?.parse().ok()?;
        let label = Label { device, end, mount };
        fields.next().is_none().then_some(label)
    }
}

/// How the abstract names of listening sockets of this mount begin.
pub(super) fn names((major, minor): (u32, u32)) -> String {
    format!("etcfs/{major}:{minor}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let label = Label {
            device: (0, 47),
            end: 9,
            mount: 2_147_483_700,
        };
        let link = format!("/memfd:{label} (deleted)");
        assert_eq!(Label::read(link.as_bytes()), Some(label));
        for other in [
            "/memfd:etcfs-control:0:47:9 (deleted)",
            "/memfd:etcfs-control:0:47:9:7: (deleted)",
            "/memfd:etcfs-control:0:47:x:7 (deleted)",
            "/memfd:etcfs-control:0:47:9:7",
            "/etcfs-control:0:47:9:7 (deleted)",
            "socket:[7]",
        ] {
            assert_eq!(Label::read(other.as_bytes()), None, "{other}");
        }
    }
}
