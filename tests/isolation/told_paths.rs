//! `user.bedrock.localpath` tells a path only to those who could walk it at that moment.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, getxattr, openat};
use rustix::io::{Errno, Result};

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, User, as_user, private};

const USER: u32 = 1000;
const GROUP: u32 = 2000;

fn told(path: &Path) -> Result<PathBuf> {
    let mut value = vec![0; 4096];
    let len = getxattr(path, "user.bedrock.localpath", &mut value[..])?;
    value.truncate(len);
    Ok(PathBuf::from(String::from_utf8(value).expect("UTF-8")))
}

fn through(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn pinned(path: &Path, user: &User) -> OwnedFd {
    as_user(user, || {
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open")
    })
}

/// `open` is everybody's, `mine` the user's own directory with the user's own `file`, `closed` root's, 0700.
fn filled(etcfs: &Etcfs, side: &Path) {
    for (dir, bits) in [("open", 0o755), ("mine", 0o755), ("closed", 0o700)] {
        fs::create_dir_all(side.join(dir)).expect("mkdir");
        mode(&side.join(dir), bits);
    }
    for file in ["open/file", "mine/file", "closed/file"] {
        fs::write(side.join(file), "text").expect("write");
        mode(&side.join(file), 0o644);
    }
    for mine in ["mine", "mine/file"] {
        chown(side.join(mine), Some(USER), Some(USER)).expect("chown");
    }
    assert!(etcfs.mnt().is_dir());
}

fn on_both_sides(body: fn(&Etcfs, &Path, &Path)) {
    private(DEADLINE, move |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                config: vec!["add_global /global".into()],
                // The name that was looked up last is told, and what is kept is not looked up.
                ..Opts::strict()
            },
        );
        for (side, name) in [(etcfs.local(), "local"), (etcfs.global(), "global")] {
            let side = side.join(name);
            fs::create_dir(&side).expect("mkdir");
            filled(&etcfs, &side);
            body(&etcfs, &side, &etcfs.mnt().join(name));
        }
    });
}

#[test]
fn a_path_that_can_be_walked_is_told() {
    on_both_sides(|_, _, mnt| {
        for user in [User::plain(0), User::plain(USER)] {
            for name in ["open", "open/file", "mine/file"] {
                let path = mnt.join(name);
                assert_eq!(as_user(&user, || told(&path)), Ok(path), "{user:?}");
            }
        }
        let path = mnt.join("closed/file");
        assert_eq!(told(&path), Ok(path));
    });
}

#[test]
fn another_name_in_a_closed_directory_is_told_to_nobody_else() {
    on_both_sides(|_, side, mnt| {
        let user = User::plain(USER);
        let file = mnt.join("mine/file");
        let held = pinned(&file, &user);
        fs::hard_link(side.join("mine/file"), side.join("closed/hidden-name")).expect("link");
        // From here on that is the name under which the file was found last.
        fs::symlink_metadata(mnt.join("closed/hidden-name")).expect("root looks");
        let by_handle = || told(&through(&held));
        assert_eq!(as_user(&user, by_handle), Err(Errno::ACCESS));
        // Natively the kernel tells the name by which the file was opened, here and there.
        assert_eq!(fs::read_link(through(&held)).expect("readlink"), file);
        assert_eq!(by_handle(), Ok(mnt.join("closed/hidden-name")), "root");
        assert_eq!(as_user(&user, || told(&file)), Ok(file.clone()));
        assert_eq!(as_user(&user, by_handle), Ok(file));
    });
}

#[test]
fn the_rights_of_this_moment_decide() {
    on_both_sides(|_, side, mnt| {
        let user = User::plain(USER);
        let member = User::plain(1001).in_groups(&[GROUP]);
        let path = mnt.join("open/file");
        let held = pinned(&path, &user);
        let by_handle = || told(&through(&held));
        assert_eq!(as_user(&user, by_handle), Ok(path.clone()));
        chown(side.join("open"), None, Some(GROUP)).expect("chgrp");
        mode(&side.join("open"), 0o710);
        assert_eq!(as_user(&user, by_handle), Err(Errno::ACCESS));
        assert_eq!(as_user(&member, by_handle), Ok(path.clone()), "a member");
        assert_eq!(by_handle(), Ok(path.clone()), "root");
        let no_reach = rustix::thread::CapabilitySet::DAC_OVERRIDE
            | rustix::thread::CapabilitySet::DAC_READ_SEARCH;
        chown(side.join("open"), Some(1), Some(1)).expect("chown");
        let root = User::root_without(no_reach);
        assert_eq!(as_user(&root, by_handle), Err(Errno::ACCESS), "{root:?}");
        // Natively, what is held tells the name by which it was opened, whatever has become of the way.
        assert_eq!(
            as_user(&user, || fs::read_link(through(&held)).map_err(drop)),
            Ok(path)
        );
    });
}

#[test]
fn a_name_that_leads_elsewhere_by_now_is_not_told() {
    on_both_sides(|_, side, mnt| {
        let user = User::plain(USER);
        let path = mnt.join("open/file");
        let held = pinned(&path, &user);
        fs::rename(side.join("open/file"), side.join("closed/secret-name")).expect("rename");
        let by_handle = || told(&through(&held));
        assert!(as_user(&user, by_handle).is_err());
        fs::write(side.join("open/file"), "another").expect("write");
        assert!(as_user(&user, by_handle).is_err());
        fs::symlink_metadata(mnt.join("closed/secret-name")).expect("root looks");
        assert_eq!(as_user(&user, by_handle), Err(Errno::ACCESS));
    });
}
