//! Mounting: taking the directories beneath, making the mount, taking it away again.
//!
//! The order in which a daemon calls, so that no request finds nobody to answer it (contract D1, D15, D21):
//!
//! ```text
//! make_room(&request.mountpoint, request.way, who)  a killed etcfs there is unmounted, a living one is told about
//! Point::open(&request.mountpoint) -> point         the mountpoint, from here on by its descriptor
//! point.base(), take_base(global)                   both directories, beneath what covers them
//! prepare(&request, point) -> Prepared              the mount exists, and nobody sees it (if the kernel allows)
//!   ... answer INIT on the device, start the workers
//! pending.attach() -> Attached                      it is visible; report readiness
//! attached.detach_lazily()                          at the end
//! ```
//!
//! What is dropped before it is attached leaves nothing mounted.
#![allow(unsafe_code)]

mod base;
mod below;
mod device;
mod direct;
mod error;
mod helper;
pub mod mountinfo;
mod occupant;
mod point;
mod request;
mod starting;
mod times;
mod unmounting;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

pub use base::{Base, take_base};
pub use error::MountError;
use mountinfo::Identity;
pub use occupant::{Live, Occupants, Serving, Who, make_room};
pub use point::Point;
pub use request::{Atime, Calls, Method, MountRequest};
pub use starting::Starting;
use unmounting::{take_away, unmount};

/// A mount that waits for its first answers.
#[derive(Debug)]
pub struct Prepared {
    /// /dev/fuse, mounted: INIT can be read from it. Blocking, closed on exec.
    pub device: OwnedFd,
    /// What makes it visible.
    pub pending: Pending,
}

/// Makes a mount on `point`; the request's own mountpoint is not looked at. With the new calls (Linux 5.2, root) it is
/// visible only after [`Pending::attach`]; with mount(2) and fusermount3 it is at once, and everybody who looks waits for
/// INIT's answer.
///
/// # Errors
/// Nothing is mounted then.
pub fn prepare(request: &MountRequest, point: Point) -> Result<Prepared, MountError> {
    let at = point.path().to_owned();
    let way = request.way.settled();
    let (device, made) = match way {
        Method::Fusermount3 => (helper::mount(request, &at)?, direct::Made::Visible),
        _ => {
            let device = device::open()?;
            let made = direct::make(request, &point, device.as_fd())?;
            (device, made)
        }
    };
    let (identity, detached) = match made {
        direct::Made::Detached(mount) => (Identity::of(&mount, ""), Some(mount)),
        // fusermount3 goes by the path; whatever it has covered, it must be the directory that is served.
        direct::Made::Visible => (
            point
                .what_covers_it()
                .and_then(|top| Identity::of(&top, "")),
            None,
        ),
    };
    let identity = identity.map_err(|errno| {
        if detached.is_none() {
            let _ = take_away(&at, way);
        }
        let remedy = "somebody renames the directories above it; try again";
        MountError::new(&at, "find the mount just made", errno, remedy)
    })?;
    let attached = Attached { at, way, identity };
    let pending = Pending {
        attached: Some(attached),
        detached: detached.map(|mount| (mount, point)),
    };
    Ok(Prepared { device, pending })
}

/// A mount before readiness. Dropping it takes the mount away.
#[derive(Debug)]
pub struct Pending {
    /// Taken out by `attach`.
    attached: Option<Attached>,
    /// What is not visible yet, and where it will be.
    detached: Option<(OwnedFd, Point)>,
}

impl Pending {
    /// Whether the mount is visible already, so that others' requests may come before INIT is answered.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.detached.is_none()
    }

    /// The mountpoint, absolute.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        self.attached
            .as_ref()
            .map_or(Path::new(""), Attached::mountpoint)
    }

    /// The mount's device number (st_dev), major and minor; the minor is also the connection's number in fusectl.
    #[must_use]
    pub(crate) fn device(&self) -> (u32, u32) {
        self.attached
            .as_ref()
            .map_or((0, 0), |attached| attached.identity.device())
    }

    /// The kernel's number of the mount, by which it is told from others of the same file system; none before Linux 5.8.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.attached.as_ref()?.identity.number()
    }

    /// The mount as it will be when it is visible.
    #[must_use]
    pub(crate) fn to_be(&self) -> Attached {
        let attached = self.attached.clone();
        attached.expect("only attach takes it, and it consumes the value")
    }

    /// Makes the mount visible if it is not. No descriptor of the mount stays open in this process: one would make
    /// umount(8) fail with EBUSY and keep the file system alive after it.
    ///
    /// # Errors
    /// The mountpoint went away, or another namespace's rules forbid it; nothing is mounted then.
    pub fn attach(mut self) -> Result<Attached, MountError> {
        if let Some((mount, point)) = self.detached.take() {
            let moved = direct::attach(&mount, &point);
            if moved.is_err() {
                self.attached = None;
            }
            moved?;
        }
        Ok(self
            .attached
            .take()
            .expect("only attach takes it, and it consumes the value"))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let (Some(attached), None) = (&self.attached, &self.detached) {
            let _ = attached.detach_lazily();
        }
    }
}

/// A visible mount. Dropping it leaves the mount where it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attached {
    /// Bytes: a path is no text.
    #[serde(with = "point::bytes")]
    at: PathBuf,
    way: Method,
    identity: Identity,
}

/// What [`Attached::detach_lazily`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// The mount is gone from the mountpoint; who has files open keeps them while the daemon answers.
    Done,
    /// It was not on top there: somebody unmounted it, or mounted something over it, which was left alone.
    NotOnTop,
}

impl Attached {
    /// The mountpoint, absolute.
    #[must_use]
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.at
    }

    /// Lazily unmounts (MNT_DETACH), even if busy, and only if this very mount is on top. No request is sent, so it also
    /// works when nobody answers any more.
    ///
    /// # Errors
    /// The kernel or fusermount3 refused.
    pub fn detach_lazily(&self) -> Result<Detached, MountError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = openat(CWD, &self.at, flags, Mode::empty());
        match top.and_then(|top| Ok((Identity::of(&top, "")?, top))) {
            Ok((identity, top)) if identity == self.identity => {
                // By the descriptor: the path may lead to another mount by the time it is walked again.
                match point::magic(top.as_fd()) {
                    Some(magic) if !self.way.unmounts_by_helper() => {
                        unmount(&magic, UnmountFlags::DETACH, &self.at)?;
                    }
                    _ => take_away(&self.at, self.way)?,
                }
                Ok(Detached::Done)
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Detached::NotOnTop),
            Err(errno) => {
                let remedy = "unmount it by hand (umount -l)";
                Err(MountError::new(&self.at, "find the mount", errno, remedy))
            }
        }
    }
}
