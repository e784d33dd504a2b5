//! The same calls as different users on the mount and on a native copy give the same results and errnos, and leave the
//! same tree behind (contract F3, B20, B22, B23, B29, B30).

#[path = "../harness/mod.rs"]
mod harness;

mod acls;
mod creating;
mod permissions;
mod set_ids;
mod sockets;
mod special;
mod times;

use std::ffi::CString;
use std::time::Duration;

use harness::{Env, Etcfs, Lower, Opts, Pair, Root, User, acl, private};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, openat, statat};
use rustix::io::Result;
use rustix::thread::CapabilitySet;

const DEADLINE: Duration = Duration::from_secs(120);

/// The users of the matrix, and what each stands for.
fn users() -> Vec<User> {
    let dac = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    vec![
        User::plain(0),
        User::plain(1000).in_groups(&[500]),
        User::plain(1001),
        User::plain(1002).in_groups(&[500]),
        User::root_without(dac),
        User::plain(0).with(CapabilitySet::empty()),
        User::root_without(CapabilitySet::FSETID),
        User::plain(1001).with(CapabilitySet::DAC_READ_SEARCH),
        User::plain(1001).with(CapabilitySet::DAC_OVERRIDE),
        User::plain(1001).with(CapabilitySet::FOWNER),
        User::plain(1001).with(CapabilitySet::CHOWN),
    ]
}

/// Runs `body` with a mount and a native neighbour on each kind of lower file system, and once with passthrough.
fn on_each_lower(body: fn(&Env, &Etcfs, &mut Pair)) {
    let passthrough = vec!["passthrough".to_owned()];
    for (lower, options) in [
        (Lower::Tmpfs, Vec::new()),
        (Lower::Ext4, Vec::new()),
        (Lower::Tmpfs, passthrough),
    ] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    lower,
                    options,
                    ..Opts::default()
                },
            );
            let mut pair = Pair::of(&etcfs);
            body(env, &etcfs, &mut pair);
            pair.same_trees();
            pair.finish();
        });
    }
}

/// Makes the file `name` with these contents, owner, group and mode, as root.
fn file(root: &Root, name: &str, uid: u32, gid: u32, mode: u32) -> Result<()> {
    let path = root.join(name);
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, b"#!/bin/sh\nexit 7\n").map_err(harness::errno)?;
    own(root, name, uid, gid, mode)
}

/// Makes the directory `name`.
fn dir(root: &Root, name: &str, uid: u32, gid: u32, mode: u32) -> Result<()> {
    rustix::fs::mkdirat(&root.dir, name, Mode::RWXU)?;
    own(root, name, uid, gid, mode)
}

fn own(root: &Root, name: &str, uid: u32, gid: u32, mode: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    chownat(&root.dir, name, Some(uid), Some(gid), AtFlags::empty())?;
    chmodat(&root.dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Type, permission bits, owner and group, as one comparable text.
fn look(root: &Root, name: &str) -> Result<String> {
    statat(&root.dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|s| {
        format!(
            "{:o} {}:{} size {}",
            s.st_mode, s.st_uid, s.st_gid, s.st_size
        )
    })
}

/// Opens with these flags and closes.
fn open(root: &Root, name: &str, flags: OFlags) -> Result<std::os::fd::OwnedFd> {
    openat(
        &root.dir,
        name,
        flags | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o666),
    )
}

const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;
const NOBODY: u32 = u32::MAX;

/// Sets an attribute by path, following no symlink.
fn set_xattr(root: &Root, name: &str, attr: &str, value: &[u8]) -> Result<()> {
    rustix::fs::lsetxattr(
        root.join(name),
        attr,
        value,
        rustix::fs::XattrFlags::empty(),
    )
}

/// Reads an attribute by path, following no symlink.
fn get_xattr(root: &Root, name: &str, attr: &str) -> Result<Vec<u8>> {
    let mut value = vec![0; 65536];
    let len = rustix::fs::lgetxattr(root.join(name), attr, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

/// A path through the tree's descriptor that is short enough for a socket address, whatever the tree's own path.
fn short_path(root: &Root, name: &str) -> CString {
    use std::os::fd::AsRawFd as _;
    CString::new(format!("/proc/self/fd/{}/{name}", root.dir.as_raw_fd())).expect("no NUL")
}
