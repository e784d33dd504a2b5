//! What the mount shows and keeps is the lower object itself: handles, links, attributes, listings, data, extended
//! attributes, names, and changes made beneath (contract B1, B5, B11 to B14, B17, B19, B21, B25, B26, B28, B31, B32, B35).

#[path = "../harness/mod.rs"]
mod harness;

mod by_handle;
mod data;
mod fresh;
mod handles;
mod identity;
mod listing;
mod mapped;
mod names;
mod paths;
mod xattr_calls;
mod xattrs;

use std::time::Duration;

use harness::{Env, Etcfs, Lower, Opts, Pair, Root, private};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Result;
use std::os::fd::OwnedFd;

const DEADLINE: Duration = Duration::from_secs(120);

/// Runs `body` with a mount on tmpfs and on ext4, and on ext4 with passthrough (a tmpfs natively leaves the time of a file
/// alone when a mapping is written, and a mapping that passes through is native).
fn on_each_lower(body: fn(&Env, &Etcfs)) {
    let passthrough = vec!["passthrough".to_owned()];
    for (lower, options) in [
        (Lower::Tmpfs, Vec::new()),
        (Lower::Ext4, Vec::new()),
        (Lower::Ext4, passthrough),
    ] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    lower,
                    options: options.clone(),
                    ..Opts::default()
                },
            );
            body(env, &etcfs);
        });
    }
}

/// The same with a native neighbour, whose whole tree must be the same in the end.
fn compared(body: fn(&mut Pair)) {
    compared_with(&[], body);
}

/// The same, configured so.
fn compared_with(config: &[&str], body: fn(&mut Pair)) {
    let passthrough = vec!["passthrough".to_owned()];
    for (lower, options) in [
        (Lower::Tmpfs, Vec::new()),
        (Lower::Ext4, Vec::new()),
        (Lower::Ext4, passthrough),
    ] {
        // A directory counts what is in it on its own side.
        let one_side = config.is_empty();
        let config: Vec<String> = config.iter().map(|&line| line.to_owned()).collect();
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    lower,
                    options: options.clone(),
                    config,
                    ..Opts::default()
                },
            );
            let mut pair = Pair::of(&etcfs);
            body(&mut pair);
            if one_side {
                pair.same_trees();
            }
            pair.finish();
        });
    }
}

/// Opens `name` in the tree.
fn open(root: &Root, name: &str, flags: OFlags) -> Result<OwnedFd> {
    openat(
        &root.dir,
        name,
        flags | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o666),
    )
}

/// All bytes of an open file from its beginning.
fn contents(fd: impl std::os::fd::AsFd) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut chunk = vec![0; 65536];
    loop {
        match rustix::io::pread(fd.as_fd(), &mut chunk[..], all.len() as u64)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Long enough for attributes that the kernel may keep for a tick or two to be asked for again.
fn a_tick() {
    std::thread::sleep(Duration::from_millis(20));
}
