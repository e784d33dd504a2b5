//! The whole state of a tree, for comparison.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};
use rustix::io::Errno;

/// Times may differ by this many seconds: both trees get the same calls one after the other, and tests that look at
/// times set them years apart, so that a time which was not updated differs by far more.
const TIME_SLACK: u64 = 3600;

/// One object of a tree, without what must differ between two trees (device, inode number).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of links.
    pub nlink: u64,
    /// Size in bytes; 0 for directories, whose size depends on their history.
    pub size: u64,
    /// Device number of a device node.
    pub rdev: u64,
    /// A symlink's target or, for a regular file, a hash of its data.
    pub data: String,
    /// Extended attributes by name; a value that cannot be read is its error.
    pub xattrs: BTreeMap<String, Result<Vec<u8>, i32>>,
    /// The first path (in order) that is a link of the same object.
    pub first_link: PathBuf,
    /// Time of last modification, seconds.
    pub mtime: i64,
}

/// Reads the tree below `root`, the root directory itself as the empty path. `skip` names entries of the root to leave
/// out, such as the configuration file.
pub fn snapshot(root: &Path, skip: &[&str]) -> BTreeMap<PathBuf, Entry> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    let mut numbers: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
    while let Some(rel) = waiting.pop() {
        let path = if rel.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&rel)
        };
        let stat = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let list =
                fs::read_dir(&path).unwrap_or_else(|e| panic!("list {}: {e}", path.display()));
            for child in list {
                let child = child.unwrap_or_else(|e| panic!("list {}: {e}", path.display()));
                let name = child.file_name();
                let skipped = rel.as_os_str().is_empty()
                    && skip.iter().any(|s| s.as_bytes() == name.as_bytes());
                if !skipped {
                    waiting.push(rel.join(name));
                }
            }
        }
        numbers
            .entry((stat.st_dev, stat.st_ino))
            .or_default()
            .push(rel.clone());
        tree.insert(rel, entry(&path, &stat));
    }
    for links in numbers.into_values() {
        let first = links.iter().min().expect("at least one link").clone();
        for link in links {
            tree.get_mut(&link)
                .expect("inserted above")
                .first_link
                .clone_from(&first);
        }
    }
    tree
}

fn entry(path: &Path, stat: &Stat) -> Entry {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let data = match kind {
        FileType::Symlink => fs::read_link(path).map(|t| t.to_string_lossy().into_owned()),
        FileType::RegularFile => fs::read(path).map(|bytes| format!("{:016x}", fnv(&bytes))),
        _ => Ok(String::new()),
    };
    Entry {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: stat.st_nlink,
        size: if kind == FileType::Directory {
            0
        } else {
            u64::try_from(stat.st_size).unwrap_or(0)
        },
        rdev: stat.st_rdev,
        data: data.unwrap_or_else(|e| panic!("read {}: {e}", path.display())),
        xattrs: xattrs(path),
        first_link: PathBuf::new(),
        mtime: stat.st_mtime,
    }
}

/// All extended attributes that are listed.
fn xattrs(path: &Path) -> BTreeMap<String, Result<Vec<u8>, i32>> {
    let mut names = vec![0; 65536];
    let len = match rustix::fs::llistxattr(path, &mut names) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => panic!("list xattrs of {}: {e}", path.display()),
    };
    names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let got = rustix::fs::lgetxattr(path, name, &mut value).map(|n| value[..n].to_vec());
            (
                String::from_utf8_lossy(name).into_owned(),
                got.map_err(Errno::raw_os_error),
            )
        })
        .collect()
}

/// What is compared of one object's attributes: mode, links, owner, group, size, device.
pub fn facts(stat: &Stat) -> (u32, u64, u32, u32, i64, u64) {
    // A directory's size depends on its history in the lower file system.
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let size = if is_dir { 0 } else { stat.st_size };
    (
        stat.st_mode,
        stat.st_nlink,
        stat.st_uid,
        stat.st_gid,
        size,
        stat.st_rdev,
    )
}

/// 64-bit FNV-1a.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// One line per difference between two trees.
pub fn differences(
    left: &BTreeMap<PathBuf, Entry>,
    right: &BTreeMap<PathBuf, Entry>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, a) in left {
        match right.get(path) {
            None => lines.push(format!("{}: only in the first tree: {a:?}", path.display())),
            Some(b) => {
                let mut b_timed = b.clone();
                if a.mtime.abs_diff(b.mtime) <= TIME_SLACK {
                    b_timed.mtime = a.mtime;
                }
                if *a != b_timed {
                    lines.push(format!(
                        "{}:\n  first  {a:?}\n  second {b:?}",
                        path.display()
                    ));
                }
            }
        }
    }
    for (path, b) in right.iter().filter(|(path, _)| !left.contains_key(*path)) {
        lines.push(format!(
            "{}: only in the second tree: {b:?}",
            path.display()
        ));
    }
    lines
}
