//! Direct mounts: what the mount table shows, when they are visible, and that only our own are taken away.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use etcfs::mount::{Atime, Calls, Detached, Method, MountRequest, Prepared};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::harness::{User, as_user, private};
use crate::server::{MODE, Server, dead_mount, mount, serve};
use crate::{DEADLINE, mounts_at, prepare, request, tmpfs, types_at};

fn assert_answers(at: &Path) {
    assert_eq!(std::fs::metadata(at).expect("stat the mount").mode(), MODE);
}

fn unmount(at: &Path) {
    rustix::mount::unmount(at, UnmountFlags::empty()).expect("unmount");
}

#[test]
fn direct_mount_answers_before_it_is_visible() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let at = &request.mountpoint;
        let (pending, server) = serve(&request);
        assert!(!pending.is_visible());
        assert_eq!(
            types_at(at),
            [""; 0],
            "INIT was answered, and nobody can have seen the mount"
        );
        let attached = pending.attach().expect("attach");
        assert_eq!(types_at(at), ["fuse.etcfs"]);
        assert_answers(at);
        // No descriptor of the mount is left in this process, or this would be EBUSY, and the server would go on.
        unmount(at);
        assert_eq!(server.ended(), Errno::NODEV);
        assert_eq!(attached.detach_lazily(), Ok(Detached::NotOnTop));
    });
}

#[test]
fn mount_table_shows_what_bedrock_expects() {
    // Contract D12, D13.
    private(DEADLINE, |env| {
        for (dir, calls, way) in [
            ("new", Calls::Newest, Method::Direct),
            ("old", Calls::Mount2, Method::Direct),
            ("auto", Calls::Newest, Method::Auto),
            ("helper", Calls::Newest, Method::Fusermount3),
        ] {
            let request = MountRequest {
                calls,
                way,
                allow_other: true,
                ..request(env, dir)
            };
            let (_attached, _server) = mount(&request);
            let entries = mounts_at(&request.mountpoint);
            let [entry] = &entries[..] else {
                panic!("{dir}: {entries:?}")
            };
            assert_eq!(entry.fstype, "fuse.etcfs", "{dir}");
            assert_eq!(entry.source, "etcfs", "{dir}");
            assert_eq!(entry.options, "rw,nosuid,nodev,relatime", "{dir}");
            assert_eq!(entry.propagation, "", "{dir}: contract D14");
            let expected = "rw,user_id=0,group_id=0,default_permissions,allow_other";
            assert_eq!(entry.super_options, expected, "{dir}");
            assert_answers(&request.mountpoint);
        }
    });
}

#[test]
fn every_option_of_a_request_reaches_the_mount_by_every_way() {
    private(DEADLINE, |env| {
        for (dir, calls, way) in [
            ("new", Calls::Newest, Method::Direct),
            ("old", Calls::Mount2, Method::Direct),
            ("helper", Calls::Newest, Method::Fusermount3),
        ] {
            let request = MountRequest {
                calls,
                way,
                source: "a,b c".into(),
                read_only: true,
                noexec: true,
                sync: true,
                dirsync: true,
                atime: Some(Atime::Noatime),
                // Unknown to fusermount3 of libfuse 3.14.
                nodiratime: way == Method::Direct,
                max_read: Some(65536),
                ..request(env, dir)
            };
            let (_attached, _server) = mount(&request);
            let entry = mounts_at(&request.mountpoint).pop().expect("it is mounted");
            assert_eq!(
                entry.options,
                format!(
                    "ro,nosuid,nodev,noexec,noatime{}",
                    if request.nodiratime {
                        ",nodiratime"
                    } else {
                        ""
                    }
                ),
                "{dir}"
            );
            assert_eq!(entry.source, "a,b\\040c", "{dir}");
            let expected =
                "ro,sync,dirsync,user_id=0,group_id=0,default_permissions,max_read=65536";
            assert_eq!(entry.super_options, expected, "{dir}");
        }
    });
}

#[test]
fn access_times_are_as_asked_for() {
    private(DEADLINE, |env| {
        for calls in [Calls::Newest, Calls::Mount2] {
            for (atime, expected) in [
                (Atime::Relatime, "rw,nosuid,nodev,relatime"),
                (Atime::Strictatime, "rw,nosuid,nodev"),
                (Atime::Noatime, "rw,nosuid,nodev,noatime"),
            ] {
                let request = MountRequest {
                    calls,
                    atime: Some(atime),
                    ..request(env, "mnt")
                };
                let (attached, _server) = mount(&request);
                let entry = mounts_at(&request.mountpoint).pop().expect("it is mounted");
                assert_eq!(entry.options, expected, "{calls:?} {atime:?}");
                assert_eq!(attached.detach_lazily(), Ok(Detached::Done));
            }
        }
    });
}

#[test]
fn mount2_is_visible_at_once_and_served_all_the_same() {
    private(DEADLINE, |env| {
        let request = MountRequest {
            calls: Calls::Mount2,
            ..request(env, "mnt")
        };
        let at = &request.mountpoint;
        let (pending, _server) = serve(&request);
        assert!(pending.is_visible());
        assert_eq!(types_at(at), ["fuse.etcfs"]);
        let attached = pending.attach().expect("attach");
        assert_eq!(types_at(at), ["fuse.etcfs"], "attach mounts no second time");
        assert_answers(at);
        assert_eq!(attached.detach_lazily(), Ok(Detached::Done));
        assert_eq!(types_at(at), [""; 0]);
    });
}

#[test]
fn mount_that_is_not_attached_goes_away() {
    private(DEADLINE, |env| {
        for (calls, way) in [
            (Calls::Newest, Method::Direct),
            (Calls::Mount2, Method::Direct),
            (Calls::Newest, Method::Fusermount3),
        ] {
            let request = MountRequest {
                calls,
                way,
                ..request(env, "mnt")
            };
            let (pending, server) = serve(&request);
            drop(pending);
            assert_eq!(types_at(&request.mountpoint), [""; 0], "{calls:?} {way:?}");
            assert_eq!(server.ended(), Errno::NODEV, "{calls:?} {way:?}");
            // And before INIT was answered.
            let Prepared { device, pending } = prepare(&request).expect("prepare");
            drop(device);
            drop(pending);
            assert_eq!(types_at(&request.mountpoint), [""; 0], "{calls:?} {way:?}");
        }
    });
}

#[test]
fn mountpoint_that_went_away_is_an_error_that_leaves_nothing() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let (pending, server) = serve(&request);
        std::fs::remove_dir(&request.mountpoint).expect("rmdir");
        let refused = pending
            .attach()
            .expect_err("nothing to mount on")
            .to_string();
        assert!(
            refused.contains(&*request.mountpoint.to_string_lossy()),
            "{refused}"
        );
        assert_eq!(server.ended(), Errno::NODEV);
    });
}

#[test]
fn busy_mount_is_detached_and_its_users_keep_it() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let (attached, server) = mount(&request);
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let held =
            rustix::fs::open(&request.mountpoint, flags, rustix::fs::Mode::empty()).expect("open");
        assert_eq!(attached.detach_lazily(), Ok(Detached::Done));
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
        assert_eq!(
            rustix::fs::fstat(&held).expect("it still answers").st_mode,
            MODE
        );
        drop(held);
        assert_eq!(server.ended(), Errno::NODEV);
    });
}

#[test]
fn only_our_own_mount_is_detached() {
    private(DEADLINE, |env| {
        for (calls, way) in [
            (Calls::Newest, Method::Direct),
            (Calls::Mount2, Method::Direct),
            (Calls::Newest, Method::Fusermount3),
        ] {
            let request = MountRequest {
                calls,
                way,
                ..request(env, "mnt")
            };
            let at = &request.mountpoint;
            let (ours, _server) = mount(&request);
            tmpfs(at);
            assert_eq!(ours.detach_lazily(), Ok(Detached::NotOnTop));
            assert_eq!(types_at(at), ["fuse.etcfs", "tmpfs"]);
            unmount(at);
            let (other, _other_server) = mount(&request);
            assert_eq!(ours.detach_lazily(), Ok(Detached::NotOnTop));
            assert_eq!(types_at(at), ["fuse.etcfs", "fuse.etcfs"]);
            assert_eq!(other.detach_lazily(), Ok(Detached::Done));
            assert_eq!(ours.detach_lazily(), Ok(Detached::Done));
            assert_eq!(types_at(at), [""; 0]);
            // Whatever comes after it, with the numbers of the old one reused or not, is somebody else's.
            assert_eq!(ours.detach_lazily(), Ok(Detached::NotOnTop));
            let (successor, _server) = mount(&request);
            assert_eq!(ours.detach_lazily(), Ok(Detached::NotOnTop));
            assert_eq!(successor.detach_lazily(), Ok(Detached::Done));
        }
    });
}

#[test]
fn mount_that_nobody_answers_is_detached() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let Prepared { device, pending } = prepare(&request).expect("prepare");
        let attached = pending.attach().expect("attach");
        assert_eq!(
            attached.detach_lazily(),
            Ok(Detached::Done),
            "no answer was needed"
        );
        drop(device);
        assert_eq!(dead_mount(&request).detach_lazily(), Ok(Detached::Done));
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

#[test]
fn relative_and_symlinked_mountpoints_are_found_again() {
    private(DEADLINE, |env| {
        let real = env.dir("real");
        std::os::unix::fs::symlink(&real, env.scratch().join("link")).expect("symlink");
        std::env::set_current_dir(env.scratch()).expect("chdir");
        for name in ["real", "./real/.", "link", "real/../link"] {
            let request = MountRequest {
                mountpoint: name.into(),
                ..MountRequest::default()
            };
            let (pending, _server) = serve(&request);
            assert_eq!(pending.mountpoint(), real, "{name}");
            std::env::set_current_dir("/").expect("chdir");
            let attached = pending.attach().expect("attach");
            assert_eq!(types_at(&real), ["fuse.etcfs"], "{name}");
            assert_eq!(attached.detach_lazily(), Ok(Detached::Done), "{name}");
            std::env::set_current_dir(env.scratch()).expect("chdir");
        }
    });
}

#[test]
fn refusals_name_the_path_and_the_remedy() {
    private(DEADLINE, |env| {
        let file = env.scratch().join("file");
        std::fs::write(&file, "").expect("write");
        for way in [Method::Direct, Method::Fusermount3] {
            for (path, parts) in [
                (
                    env.scratch().join("missing"),
                    ["missing", "create the directory"],
                ),
                (file.clone(), ["file", "name a directory"]),
            ] {
                let request = MountRequest {
                    way,
                    mountpoint: path,
                    ..MountRequest::default()
                };
                let line = prepare(&request).expect_err("must be refused").to_string();
                assert!(parts.iter().all(|part| line.contains(part)), "{line}");
                assert!(!line.contains('\n'), "{line}");
            }
        }
        let request = MountRequest {
            way: Method::Direct,
            ..request(env, "mnt")
        };
        let refused = |parts: &[&str], who: Option<&User>| {
            let prepare = || prepare(&request).expect_err("must be refused").to_string();
            let line = who.map_or_else(prepare, |user| as_user(user, prepare));
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
            assert!(!line.contains('\n'), "{line}");
        };
        let device = crate::helper::everybodys_device(env);
        refused(&["mnt", "-o mount=fusermount3"], Some(&User::plain(65534)));
        crate::helper::set_mode(&device, 0o600);
        refused(&["/dev/fuse", "chmod 666"], Some(&User::plain(65534)));
        unmount(Path::new("/dev/fuse"));
        tmpfs(Path::new("/dev"));
        refused(&["/dev/fuse", "modprobe fuse", "mknod"], None);
        unmount(Path::new("/dev"));
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

#[test]
fn server_ends_when_the_last_user_of_a_lazily_unmounted_mount_goes() {
    // Contract D18.
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let Prepared { device, pending } = prepare(&request).expect("prepare");
        let server = Server::start(device);
        server.wait_for_init();
        pending.attach().expect("attach");
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let held =
            rustix::fs::open(&request.mountpoint, flags, rustix::fs::Mode::empty()).expect("open");
        rustix::mount::unmount(&request.mountpoint, UnmountFlags::DETACH).expect("umount -l");
        assert_eq!(
            rustix::fs::fstat(&held).expect("it still answers").st_mode,
            MODE
        );
        drop(held);
        assert_eq!(server.ended(), Errno::NODEV);
    });
}
