//! The directory that was opened is the one that is mounted on, by every way.

use std::os::unix::fs::MetadataExt;

use etcfs::mount::{Calls, Detached, Method, MountRequest, Point, prepare};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::DEADLINE;
use crate::harness::{mounts, private};
use crate::server::{MODE, serve_prepared};

#[test]
fn a_point_is_a_directory_and_not_a_name() {
    private(DEADLINE, |env| {
        for (calls, way) in [
            (Calls::Newest, Method::Direct),
            (Calls::Mount2, Method::Direct),
            (Calls::Newest, Method::Fusermount3),
        ] {
            let request = MountRequest {
                calls,
                way,
                mountpoint: env.dir("above/mnt"),
                ..MountRequest::default()
            };
            let other = env.dir("other/mnt");
            std::fs::write(request.mountpoint.join("served"), "").expect("write");
            let view = env.dir("view");
            rustix::mount::mount_bind(env.scratch(), &view).expect("bind");
            let point = Point::open(&request.mountpoint).expect("open");
            let swap = || {
                let (above, other) = (env.dir("above"), env.dir("other"));
                renameat_with(CWD, above, CWD, other, RenameFlags::EXCHANGE).expect("swap");
            };
            swap();
            let made = prepare(&request, point);
            if way == Method::Fusermount3 {
                // It went by the name, and has covered what is not served.
                let line = made.expect_err("must be refused").to_string();
                assert!(line.contains("somebody renames"), "{line}");
                assert!(!mounts().iter().any(|m| m.fstype == "fuse.etcfs"));
            } else {
                let (pending, _server) = serve_prepared(made.expect("prepare"));
                let attached = pending.attach().expect("attach");
                assert_eq!(
                    std::fs::metadata(&other).expect("stat").mode(),
                    MODE,
                    "where the directory is"
                );
                assert!(view.join("other/mnt/served").exists(), "which was opened");
                assert!(
                    !request.mountpoint.join("served").exists(),
                    "and is not where it was"
                );
                // The way to it is another one now: what is there is not ours, and stays.
                assert_eq!(attached.detach_lazily(), Ok(Detached::NotOnTop), "moved");
                swap();
                assert_eq!(attached.detach_lazily(), Ok(Detached::Done), "moved back");
                swap();
            }
            swap();
            std::fs::remove_file(request.mountpoint.join("served")).expect("remove");
            rustix::mount::unmount(&view, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        }
    });
}
