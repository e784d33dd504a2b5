//! Mounting, by every way, in private mount namespaces; a few lines stand in for the daemon behind the device.

#[path = "../harness/mod.rs"]
mod harness;

mod base;
mod helper;
mod occupant;
mod point;
mod server;
mod ways;

use std::path::Path;
use std::time::Duration;

use etcfs::mount::{MountError, MountRequest, Point, Prepared};
use harness::{Env, Mount, mounts};

/// Far more than any of these tests takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request for `dir`, made if it is missing, as the defaults have it.
fn request(env: &Env, dir: &str) -> MountRequest {
    MountRequest {
        mountpoint: env.dir(dir),
        ..MountRequest::default()
    }
}

/// Opens the mountpoint and makes the mount, as the daemon does one after the other.
fn prepare(request: &MountRequest) -> Result<Prepared, MountError> {
    etcfs::mount::prepare(request, Point::open(&request.mountpoint)?)
}

/// The mounts on a path, the lowest first.
fn mounts_at(path: &Path) -> Vec<Mount> {
    mounts()
        .into_iter()
        .filter(|mount| mount.at == path)
        .collect()
}

/// The types of the mounts on a path, the lowest first.
fn types_at(path: &Path) -> Vec<String> {
    mounts_at(path)
        .into_iter()
        .map(|mount| mount.fstype)
        .collect()
}

fn tmpfs(at: &Path) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("t", at, "tmpfs", flags, c"mode=0755").expect("mount a tmpfs");
}
