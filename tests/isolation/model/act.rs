//! What a party can do: one system call, or a few that belong together, on names and on descriptors that it is given.

use serde::{Deserialize, Serialize};

/// What an act is done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum On {
    /// A path below the base directory; a symlink at its end is followed where the call follows.
    Path(String),
    /// The descriptor itself.
    Fd,
    /// What the descriptor's name in `/proc/self/fd` leads to.
    Proc,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    Open {
        on: On,
        flags: u32,
        mode: u32,
        umask: u32,
    },
    Mkdir {
        path: String,
        mode: u32,
        umask: u32,
    },
    /// With the type's bits in `mode`.
    Mknod {
        path: String,
        mode: u32,
        umask: u32,
    },
    Symlink {
        target: String,
        path: String,
    },
    Link {
        on: On,
        to: String,
    },
    Remove {
        path: String,
        dir: bool,
    },
    Rename {
        from: String,
        to: String,
        flags: u32,
    },
    Chmod {
        on: On,
        mode: u32,
    },
    Chown {
        on: On,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// Seconds of access and modification; `None`: left alone, 0: now.
    Times {
        on: On,
        access: Option<i64>,
        change: Option<i64>,
    },
    Truncate {
        on: On,
        len: u64,
    },
    Write {
        at: u64,
        len: usize,
        word: u64,
    },
    Read {
        at: u64,
        len: usize,
    },
    Allocate {
        mode: u32,
        at: u64,
        len: u64,
    },
    /// From the second descriptor.
    Copy {
        from: u64,
        to: u64,
        len: usize,
    },
    SetAttribute {
        on: On,
        name: String,
        value: Vec<u8>,
        flags: u32,
    },
    GetAttribute {
        on: On,
        name: String,
    },
    ListAttributes {
        on: On,
    },
    RemoveAttribute {
        on: On,
        name: String,
    },
    /// Turns these flags of chattr(1) over.
    Flags {
        on: On,
        flags: u32,
    },
    Access {
        path: String,
        mode: u8,
        effective: bool,
    },
    Stat {
        on: On,
    },
    ReadLink {
        path: String,
    },
    List {
        path: String,
    },
}
