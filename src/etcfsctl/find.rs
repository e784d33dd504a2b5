//! Which mount is meant, from the mount table alone.

use anyhow::{Context as _, Result, bail};
use etcfs::mount::mountinfo::{self, FSTYPE};
use etcfs::printable::printable;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// One mounted etcfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where, as this process sees it.
    pub at: PathBuf,
    /// Its device number, by which its daemon is found.
    pub device: (u32, u32),
    /// The user who mounted it.
    pub user: u32,
}

impl Mount {
    /// The mountpoint as text for people. A user who mounts chooses its name.
    pub(crate) fn shown(&self) -> String {
        printable(self.at.as_os_str().as_encoded_bytes())
    }
}

/// Every etcfs that this process sees, in the order of mounting.
pub(crate) fn mounts() -> Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")
        .context("reading /proc/self/mountinfo (is /proc mounted?)")?;
    Ok(parse(&text))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let (_, entry) = mountinfo::parse(line)?;
        Some(Mount {
            user: entry.user.filter(|_| entry.fstype == FSTYPE)?,
            at: OsString::from_vec(entry.at).into(),
            device: entry.device,
        })
    };
    text.split(|&byte| byte == b'\n')
        .filter_map(mount)
        .collect()
}

/// The mount at `wanted`, or the only one.
pub(crate) fn mount(wanted: Option<&Path>) -> Result<Mount> {
    let mut mounts = mounts()?;
    let Some(wanted) = wanted else {
        let mut places: Vec<&PathBuf> = mounts.iter().map(|mount| &mount.at).collect();
        places.dedup();
        return match places.len() {
            0 => bail!("no etcfs is mounted here (in this chroot and mount namespace)"),
            1 => Ok(mounts.pop().expect("there is one")),
            _ => bail!(
                "several are mounted, name one: {}",
                places
                    .iter()
                    .map(|at| at.display().to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        };
    };
    let at = clean(wanted)?;
    // Of several on top of each other, the newest is the one in use.
    let found = mounts.iter().rposition(|mount| mount.at == at);
    match found {
        Some(index) => Ok(mounts.swap_remove(index)),
        None => bail!(
            "{}: no etcfs is mounted there; findmnt -t fuse.etcfs lists the mounts",
            wanted.display()
        ),
    }
}

/// The mount that the path `wanted` is in, and the rest of the path.
pub(crate) fn mount_of(wanted: &Path) -> Result<(Mount, PathBuf)> {
    let path = clean(wanted)?;
    let inside = mounts()?
        .into_iter()
        .filter(|mount| path.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.components().count());
    let Some(mount) = inside else {
        bail!(
            "{}: is not in a mounted etcfs; findmnt -t fuse.etcfs lists the mounts",
            wanted.display()
        );
    };
    let rest = path
        .strip_prefix(&mount.at)
        .map(Path::to_owned)
        .unwrap_or_default();
    Ok((mount, rest))
}

/// An absolute path without `.` and `..`, by its text alone: asking the file system could hang.
fn clean(path: &Path) -> Result<PathBuf> {
    let absolute =
        std::path::absolute(path).with_context(|| format!("{}: no such path", path.display()))?;
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] =
        b"36 35 0:40 / /etc rw,nosuid - fuse.etcfs etcfs rw,user_id=0,group_id=0,allow_other\n\
        37 35 0:41 / /a\\040b/etc rw - fuse.etcfs etcfs rw,user_id=1000,group_id=1000\n\
        38 35 0:42 / /x rw - fuse.sshfs y rw,user_id=0\n";

    #[test]
    fn only_etcfs_counts() {
        let found = parse(TABLE);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].device, (0, 40));
        assert_eq!(found[1].at, Path::new("/a b/etc"));
        assert_eq!(found[1].user, 1000);
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        assert_eq!(
            clean(Path::new("/etc//x/../y/.")).unwrap(),
            Path::new("/etc/y")
        );
    }
}
