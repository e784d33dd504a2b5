//! The same calls on a mount and on a native tree.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, Result};

use super::{Etcfs, User, as_user};

/// One of the two trees.
pub struct Root {
    /// Its path.
    pub path: PathBuf,
    /// The same directory as a descriptor (O_PATH), for the `*at` calls.
    pub dir: OwnedFd,
}

impl Root {
    /// Opens the tree.
    pub fn open(path: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())
            .unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
        Self {
            path: path.to_owned(),
            dir,
        }
    }

    /// The path of an object of this tree.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A mount and a native tree that get the same calls. Differences are collected, so that one run shows all of them.
pub struct Pair {
    mount: Root,
    native: Root,
    differences: Vec<String>,
}

impl Pair {
    /// Two trees that hold the same objects.
    pub fn new(mount: &Path, native: &Path) -> Self {
        Self {
            mount: Root::open(mount),
            native: Root::open(native),
            differences: Vec::new(),
        }
    }

    /// The daemon's mount and its empty native neighbour on the same lower file system.
    pub fn of(etcfs: &Etcfs) -> Self {
        Self::new(&etcfs.mnt(), &etcfs.native())
    }

    /// Makes the same call in both trees and compares payload or errno. The native answer comes back, so that the test
    /// can say what it must be.
    pub fn same<T: Debug + PartialEq>(
        &mut self,
        what: &str,
        call: impl Fn(&Root) -> Result<T>,
    ) -> Result<T> {
        let on_mount = call(&self.mount);
        let native = call(&self.native);
        if on_mount != native {
            self.differences
                .push(format!("{what}: mount {on_mount:?}, native {native:?}"));
        }
        native
    }

    /// The same as another user.
    pub fn same_as<T: Debug + PartialEq + Send>(
        &mut self,
        user: &User,
        what: &str,
        call: impl Fn(&Root) -> Result<T> + Sync,
    ) -> Result<T> {
        let (mount, native) = (&self.mount, &self.native);
        let on_mount = as_user(user, || call(mount));
        let natively = as_user(user, || call(native));
        if on_mount != natively {
            self.differences.push(format!(
                "{what} as {user:?}: mount {on_mount:?}, native {natively:?}"
            ));
        }
        natively
    }

    /// Makes a row of calls in both trees as one user and compares them one by one. `calls` returns what each was and
    /// what came of it; it must return the same number of them in both trees. The native outcomes come back.
    pub fn each_as(
        &mut self,
        user: &User,
        calls: impl Fn(&Root) -> Vec<(String, Result<String>)> + Sync,
    ) -> Vec<(String, Result<String>)> {
        let (mount, native) = (&self.mount, &self.native);
        let on_mount = as_user(user, || calls(mount));
        let natively = as_user(user, || calls(native));
        assert_eq!(
            on_mount.len(),
            natively.len(),
            "as many calls in both trees"
        );
        for ((what, left), (_, right)) in on_mount.iter().zip(&natively) {
            if left != right {
                self.differences.push(format!(
                    "{what} as {user:?}: mount {left:?}, native {right:?}"
                ));
            }
        }
        natively
    }

    /// Compares the whole trees.
    pub fn same_trees(&mut self) {
        let mount = super::snapshot(&self.mount.path, &[super::daemon::CONFIG]);
        let native = super::snapshot(&self.native.path, &[]);
        self.differences.extend(super::differences(&mount, &native));
    }

    /// The path of the mount.
    pub fn mount_path(&self) -> &Path {
        &self.mount.path
    }

    /// The differences so far.
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// Fails if anything differed.
    pub fn finish(self) {
        assert!(
            self.differences.is_empty(),
            "{} differences between mount and native:\n{}",
            self.differences.len(),
            self.differences.join("\n")
        );
    }
}

/// The errno of an I/O error of the standard library, for closures that use std::fs.
pub fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
