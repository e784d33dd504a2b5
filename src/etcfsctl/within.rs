//! Reading files of a tree that others may have made.
//!
//! Its symlinks lead to where they lead for those who have it as their root, and what is no regular file, or longer than
//! anybody would make it, is not read: a FIFO would be waited for, and a device read for ever.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Error, Read as _, Result};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The bytes of the regular file `path`, which may begin with a slash, of the tree below `root`; at most `most` of them.
///
/// # Errors
/// Of openat2(2) and read(2); that it is no regular file, or longer.
pub(crate) fn read(root: &Path, path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(root, path.strip_prefix("/").unwrap_or(path))?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

fn open(root: &Path, path: &Path) -> rustix::io::Result<OwnedFd> {
    // Opening a FIFO for reading waits for a writer otherwise.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, root, dir, Mode::empty())?;
    match openat2(&base, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Before Linux 5.6, or in a container that forbids it.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&base, path, flags, Mode::empty()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn what_is_no_file_of_the_tree_or_too_long_is_not_read() {
        let dir = std::env::temp_dir().join(format!("etcfsctl-within-{}", std::process::id()));
        let tree = dir.join("tree");
        std::fs::create_dir_all(&tree).expect("mkdir");
        std::fs::write(dir.join("outside"), "outside").expect("write");
        std::fs::write(tree.join("inside"), "inside").expect("write");
        symlink("/inside", tree.join("absolute")).expect("symlink");
        symlink("../outside", tree.join("out")).expect("symlink");
        symlink("/dev/zero", tree.join("zero")).expect("symlink");
        let fifo = tree.join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("mknod");
        let get = |name: &str, most| read(&tree, Path::new(name), most).ok();
        assert_eq!(get("absolute", 6).as_deref(), Some(&b"inside"[..]));
        assert_eq!(get("/inside", 6).as_deref(), Some(&b"inside"[..]));
        assert_eq!(get("inside", 5), None, "one byte too long");
        for name in ["out", "zero", "fifo", "."] {
            assert_eq!(get(name, 100), None, "{name}");
        }
        std::fs::remove_dir_all(&dir).expect("rm");
    }
}
