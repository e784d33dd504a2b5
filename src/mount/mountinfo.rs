//! The kernel's mount table (`/proc/PID/mountinfo`, proc_pid_mountinfo(5)), and the mount that a descriptor lies on.
//!
//! Reading either sends no request to any file system, so a dead or hanging mount cannot stop it. Parsed here: of the whole
//! of procfs, which a crate would bring into the static daemon, six fields are needed, and mountpoints as bytes.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// The type of every etcfs mount, the C program's included.
pub const FSTYPE: &str = "fuse.etcfs";

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): asks for a number that is never given to a second mount. Kernels without it ignore
/// the bit and answer `STATX_MNT_ID` (5.8).
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// One mount: the mount it sits on, where as seen from the reader's root, its type and its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// The id of the mount that it sits on.
    pub(crate) parent: u64,
    /// The number of its file system: major and minor.
    pub device: (u32, u32),
    /// Its mountpoint.
    pub at: Vec<u8>,
    /// The type of its file system.
    pub fstype: String,
    /// Who has mounted it; FUSE file systems tell.
    pub user: Option<u32>,
}

/// Mounts by their id.
#[derive(Debug, Default)]
pub(super) struct Mounts(HashMap<u64, MountLine>);

impl Mounts {
    /// What this thread sees and, for a path through `/proc/PID/root`, what that process sees: a chroot's table lacks the
    /// mounts outside of it. A table that cannot be read counts as empty.
    pub(super) fn read_for(path: &Path) -> Self {
        let mut table = Self::default();
        let mut sources = vec![PathBuf::from("/proc/thread-self/mountinfo")];
        let parts: Vec<Component<'_>> = path.components().take(4).collect();
        if let [Component::RootDir, proc, pid, root] = parts[..] {
            if proc.as_os_str() == "proc" && root.as_os_str() == "root" {
                sources.push(Path::new("/proc").join(pid).join("mountinfo"));
            }
        }
        for source in sources {
            if let Ok(bytes) = fs::read(source) {
                table.add(&bytes);
            }
        }
        table
    }

    fn add(&mut self, text: &[u8]) {
        for line in text.split(|&byte| byte == b'\n') {
            if let Some((id, entry)) = parse(line) {
                self.0.insert(id, entry);
            }
        }
    }

    /// The mounts that lie within one, at any depth, in no order.
    pub(super) fn within(&self, id: u64) -> impl Iterator<Item = &MountLine> {
        self.0.values().filter(move |entry| {
            let mut above = entry.parent;
            // A root's parent may be itself, and a table that is read in parts may show circles.
            for _ in 0..self.0.len() {
                if above == id {
                    return true;
                }
                match self.get(above) {
                    Some(next) => above = next.parent,
                    None => return false,
                }
            }
            false
        })
    }

    /// An etcfs that lies beneath a mount, on the same mountpoint.
    pub(super) fn etcfs_beneath(&self, id: u64) -> Option<&MountLine> {
        let top = self.get(id)?;
        let mut entry = top;
        for _ in 0..self.0.len() {
            entry = self.get(entry.parent).filter(|next| next.at == top.at)?;
            if entry.fstype == FSTYPE {
                return Some(entry);
            }
        }
        None
    }

    pub(super) fn get(&self, id: u64) -> Option<&MountLine> {
        self.0.get(&id)
    }
}

/// One line, without the newline, and the mount's id: `id parent major:minor root mountpoint options [optional fields] -
/// type source options` (proc_pid_mountinfo(5)).
pub fn parse(line: &[u8]) -> Option<(u64, MountLine)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let text = |field: Option<&[u8]>| String::from_utf8(field?.to_vec()).ok();
    let id = text(fields.next())?.parse().ok()?;
    let parent = text(fields.next())?.parse().ok()?;
    let device = text(fields.next())?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let at = unescape(fields.nth(1)?);
    fields.find(|field| *field == b"-")?;
    let fstype = text(fields.next())?;
    let options = text(fields.nth(1)).unwrap_or_default();
    let user = options.split(',').find_map(|o| o.strip_prefix("user_id="));
    let user = user.and_then(|id| id.parse().ok());
    let entry = MountLine {
        parent,
        device,
        at,
        fstype,
        user,
    };
    Some((id, entry))
}

/// Undoes the octal escapes of blanks, newlines and backslashes in a path of mountinfo (`mangle_path`).
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &after[3..];
            }
            _ => out.push(byte),
        }
    }
    out
}

/// The number, as in mountinfo, of the mount that a descriptor (O_PATH as well) lies on.
pub(super) fn mount_of(fd: impl AsFd) -> Option<u64> {
    let path = format!("/proc/thread-self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

/// Whether two descriptors mean the same directory of the same mount. No request is sent.
pub(super) fn is_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let inode = |fd: BorrowedFd<'_>| {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(fd, "", flags, StatxFlags::INO).ok()?;
        Some((
            found.stx_dev_major,
            found.stx_dev_minor,
            found.stx_ino,
            mount_of(fd),
        ))
    };
    inode(a).is_some() && inode(a) == inode(b)
}

/// What tells one mount from every other: its number and its file system's. Only values of one running kernel are comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Identity {
    /// The unique number if the kernel has it, else the one of mountinfo, which can be given again, else none.
    mount: Option<u64>,
    /// st_dev: every FUSE mount has its own while it is in use.
    device: (u32, u32),
}

impl Identity {
    /// Of what is on top at a path, or of what a descriptor lies on if the path is empty. `AT_STATX_DONT_SYNC` keeps
    /// fuse_update_get_attr() from sending a request.
    pub(super) fn of(dir: impl AsFd, path: impl Arg) -> Result<Self> {
        let flags = AtFlags::STATX_DONT_SYNC
            | AtFlags::NO_AUTOMOUNT
            | AtFlags::SYMLINK_NOFOLLOW
            | AtFlags::EMPTY_PATH;
        let answer = statx(dir, path, flags, StatxFlags::MNT_ID | MNT_ID_UNIQUE)?;
        let known = StatxFlags::from_bits_retain(answer.stx_mask);
        Ok(Self {
            mount: known
                .intersects(StatxFlags::MNT_ID | MNT_ID_UNIQUE)
                .then_some(answer.stx_mnt_id),
            device: (answer.stx_dev_major, answer.stx_dev_minor),
        })
    }
}

impl Identity {
    /// st_dev, major and minor.
    pub(super) fn device(&self) -> (u32, u32) {
        self.device
    }

    /// The mount's number.
    pub(super) fn number(&self) -> Option<u64> {
        self.mount
    }
}

/// Whether a failure means that the kernel lacks the system call or that it is forbidden here.
pub(super) fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM | Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields_are_read() {
        let mut table = Mounts::default();
        table.add(
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\n\
             77 36 0:44 / /a\\040-\\134b rw,nosuid,nodev - fuse.etcfs etcfs rw,user_id=0\n\
             broken\n\n78 x 0:1 / / rw - tmpfs t rw\n",
        );
        let ext3 = MountLine {
            parent: 35,
            device: (98, 0),
            at: b"/mnt2".to_vec(),
            fstype: "ext3".to_owned(),
            user: None,
        };
        let etcfs = MountLine {
            parent: 36,
            device: (0, 44),
            at: b"/a -\\b".to_vec(),
            fstype: FSTYPE.to_owned(),
            user: Some(0),
        };
        assert_eq!(table.get(36), Some(&ext3));
        assert_eq!(table.get(77), Some(&etcfs));
        assert_eq!(table.0.len(), 2);
    }

    #[test]
    fn root_lies_on_a_mount_of_the_table_and_has_an_identity() {
        let root = fs::File::open("/").expect("open /");
        let id = mount_of(&root).expect("fdinfo has mnt_id");
        assert!(Mounts::read_for(Path::new("/")).get(id).is_some());
        let by_path = Identity::of(rustix::fs::CWD, "/").expect("statx of /");
        assert_eq!(
            Identity::of(&root, "").expect("statx of the descriptor"),
            by_path
        );
        assert_ne!(
            Identity::of(rustix::fs::CWD, "/proc").expect("statx of /proc"),
            by_path
        );
    }
}
