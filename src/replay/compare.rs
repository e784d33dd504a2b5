//! Two answers to the same request: what must be the same, and what cannot be.
//!
//! Left out are times, inode and device numbers, allocated space, and everything else that another lower file system
//! answers differently: sizes and link counts of directories, figures of the file system, the way in which an open file is
//! served, values of ioctls.

use etcfs_proto::abi::*;
use etcfs_proto::op::Body;
use etcfs_proto::{Frame, Opcode, show};
use std::fmt::Display;
use zerocopy::FromBytes;

/// What the comparison may rely on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knows {
    /// The tree is a copy of the recording's, not one made up: link counts, contents and attributes count.
    pub(crate) tree: bool,
    /// The replay runs as root: owners count.
    pub(crate) owners: bool,
}

/// One answer of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered<'a> {
    /// The errno, 0 for a good answer.
    pub(crate) errno: i32,
    /// The body.
    pub(crate) body: &'a [u8],
}

/// Compares the recorded answer with the replayed one; `cut`: the recording has left contents out. Each line of the result
/// tells one difference.
pub(crate) fn compare(
    frame: &Frame<'_>,
    old: Answered<'_>,
    new: Answered<'_>,
    cut: bool,
    knows: Knows,
) -> Vec<String> {
    let mut list = Differences::default();
    if old.errno != new.errno {
        list.told("answer", word(old.errno), word(new.errno));
        return list.0;
    }
    if old.errno != 0 {
        return list.0;
    }
    let opcode = frame.opcode();
    match opcode.shape().map_or(Body::Unknown, |shape| shape.body) {
        Body::Entry | Body::Create => list.entries(old.body, new.body, knows),
        Body::Attr => {
            if let (Some(old), Some(new)) = (read::<AttrOut>(old.body), read::<AttrOut>(new.body)) {
                list.attrs(&old.attr, &new.attr, knows);
            }
        }
        Body::Statx => {
            if let (Some(old), Some(new)) = (read::<StatxOut>(old.body), read::<StatxOut>(new.body))
            {
                let (old, new) = (old.stat, new.stat);
                list.same("mode", old.mode, new.mode);
                list.same("rdev_major", old.rdev_major, new.rdev_major);
                list.same("rdev_minor", old.rdev_minor, new.rdev_minor);
                if u32::from(old.mode) & libc::S_IFMT != libc::S_IFDIR {
                    list.same("size", old.size, new.size);
                }
            }
        }
        Body::Write | Body::Copied | Body::Empty => {
            list.same("body", hex(old.body), hex(new.body));
        }
        Body::Lseek if knows.tree => list.same("offset", hex(old.body), hex(new.body)),
        Body::Bytes if opcode == Opcode::READLINK => {
            list.same("target", text(old.body), text(new.body));
        }
        Body::Bytes => list.contents(old.body, new.body, cut || !knows.tree),
        Body::Xattr if opcode == Opcode::GETXATTR && !is_ours(frame) => {
            list.contents(old.body, new.body, cut);
        }
        Body::Xattr if opcode == Opcode::LISTXATTR && knows.tree => {
            list.same("names", text(old.body), text(new.body));
        }
        _ => {}
    }
    list.0
}

/// Whether the attribute asked for tells of the mount, not of the object.
fn is_ours(frame: &Frame<'_>) -> bool {
    frame
        .name()
        .is_ok_and(|name| name.to_bytes().starts_with(b"user.bedrock."))
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn told(&mut self, what: &str, old: impl Display, new: impl Display) {
        self.0
            .push(format!("{what}: recorded {old}, replayed {new}"));
    }

    fn same<T: PartialEq + Display>(&mut self, what: &str, old: T, new: T) {
        if old != new {
            self.told(what, old, new);
        }
    }

    fn entries(&mut self, old: &[u8], new: &[u8], knows: Knows) {
        let (Some(old), Some(new)) = (read::<EntryOut>(old), read::<EntryOut>(new)) else {
            return self.same("length", old.len(), new.len());
        };
        self.same("node given", old.nodeid != 0, new.nodeid != 0);
        self.same("entry_valid", old.entry_valid, new.entry_valid);
        self.same("attr_valid", old.attr_valid, new.attr_valid);
        self.attrs(&old.attr, &new.attr, knows);
    }

    fn attrs(&mut self, old: &Attr, new: &Attr, knows: Knows) {
        self.same("mode", octal(old.mode), octal(new.mode));
        self.same("rdev", old.rdev, new.rdev);
        self.same("flags", old.flags, new.flags);
        if knows.owners {
            self.same("uid", old.uid, new.uid);
            self.same("gid", old.gid, new.gid);
        }
        if old.mode & libc::S_IFMT != libc::S_IFDIR {
            self.same("size", old.size, new.size);
            // A made-up tree has the links that the recording has seen.
            if knows.tree {
                self.same("nlink", old.nlink, new.nlink);
            }
        }
    }

    fn contents(&mut self, old: &[u8], new: &[u8], length_only: bool) {
        self.same("length", old.len(), new.len());
        if !length_only && old.len() == new.len() && old != new {
            let at = old.iter().zip(new).take_while(|(a, b)| a == b).count();
            self.0.push(format!("contents differ from byte {at} on"));
        }
    }
}

fn read<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_prefix(body).ok().map(|(value, _)| value)
}

fn word(errno: i32) -> String {
    match errno {
        0 => "ok".to_owned(),
        errno => show::errno(errno.unsigned_abs()).to_string(),
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:06o}")
}

fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[{}]", digits.join(" "))
}
