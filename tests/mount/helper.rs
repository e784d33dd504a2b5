//! fusermount3 and ordinary users.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use etcfs::mount::{Detached, Method, MountRequest};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use crate::harness::{Env, User, as_user, private};
use crate::server::{MODE, mount};
use crate::{DEADLINE, mounts_at, prepare, request, types_at};

/// `nobody`, who is in Debian's passwd: fusermount3 asks for a name.
const NOBODY: u32 = 65534;

/// Puts a device that everybody may use, as udev makes it, at /dev/fuse of this namespace, and says where it really is.
pub fn everybodys_device(env: &Env) -> PathBuf {
    let device = env.scratch().join("fuse");
    mknodat(
        CWD,
        &device,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(10, 229),
    )
    .expect("mknod");
    set_mode(&device, 0o666);
    rustix::mount::mount_bind(&device, "/dev/fuse").expect("bind the device");
    device
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A directory of nobody's own.
fn nobodys(env: &Env, name: &str) -> PathBuf {
    let dir = env.dir(name);
    std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).expect("chown");
    dir
}

#[test]
fn ordinary_user_mounts_and_unmounts_through_fusermount3() {
    private(DEADLINE, |env| {
        everybodys_device(env);
        let user = User::plain(NOBODY);
        for way in [Method::Auto, Method::Fusermount3] {
            let request = MountRequest {
                way,
                mountpoint: nobodys(env, "mnt"),
                ..MountRequest::default()
            };
            let at = &request.mountpoint;
            let (attached, server) = as_user(&user, || mount(&request));
            let entry = mounts_at(at).pop().expect("it is mounted");
            assert_eq!((&*entry.fstype, &*entry.source), ("fuse.etcfs", "etcfs"));
            assert_eq!(entry.options, "rw,nosuid,nodev,relatime");
            assert_eq!(
                entry.super_options,
                "rw,user_id=65534,group_id=65534,default_permissions"
            );
            as_user(&user, || {
                assert_eq!(std::fs::metadata(at).expect("stat the mount").mode(), MODE);
                assert_eq!(attached.detach_lazily(), Ok(Detached::Done));
                assert_eq!(attached.detach_lazily(), Ok(Detached::NotOnTop));
            });
            assert_eq!(types_at(at), [""; 0]);
            assert_eq!(server.ended(), Errno::NODEV);
        }
    });
}

#[test]
fn device_from_fusermount3_is_closed_on_exec() {
    private(DEADLINE, |env| {
        let request = MountRequest {
            way: Method::Fusermount3,
            ..request(env, "mnt")
        };
        let prepared = prepare(&request).expect("prepare");
        let flags = rustix::io::fcntl_getfd(&prepared.device).expect("fcntl");
        assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
        assert!(prepared.pending.is_visible());
    });
}

#[test]
fn what_fusermount3_refuses_is_an_error() {
    private(DEADLINE, |env| {
        everybodys_device(env);
        let user = User::plain(NOBODY);
        // Root's directory, which nobody cannot write.
        let request = MountRequest {
            way: Method::Fusermount3,
            ..request(env, "roots")
        };
        let refused = as_user(&user, || {
            prepare(&request).expect_err("must be refused").to_string()
        });
        let parts = [
            "roots",
            "fusermount3",
            "exit status: 1",
            "see what fusermount3 said",
        ];
        assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

#[test]
fn option_that_fusermount3_does_not_know_is_an_error() {
    private(DEADLINE, |env| {
        let request = MountRequest {
            way: Method::Fusermount3,
            ..request(env, "mnt")
        };
        let request = MountRequest {
            atime: Some(etcfs::mount::Atime::Strictatime),
            ..request
        };
        let refused = prepare(&request).expect_err("must be refused").to_string();
        assert!(
            refused.contains("fusermount3") && !refused.contains('\n'),
            "{refused}"
        );
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

#[test]
fn missing_fusermount3_is_never_replaced_by_a_direct_mount() {
    // Contract D22.
    private(DEADLINE, |env| {
        for program in ["/usr/bin/fusermount3", "/bin/fusermount3"] {
            if std::fs::symlink_metadata(program).is_ok() {
                rustix::mount::mount_bind("/dev/null", program).expect("hide fusermount3");
            }
        }
        let request = MountRequest {
            way: Method::Fusermount3,
            ..request(env, "mnt")
        };
        let refused = prepare(&request).expect_err("must be refused").to_string();
        assert!(refused.contains("start fusermount3"), "{refused}");
        assert!(refused.contains("install fuse3"), "{refused}");
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

/// Says that this process is the inner run of the test below, and where it may mount.
const INSIDE: &str = "ETCFS_TEST_USER_NAMESPACE";

#[test]
fn root_of_a_user_namespace_mounts_directly() {
    if let Some(at) = std::env::var_os(INSIDE) {
        let request = MountRequest {
            way: Method::Direct,
            mountpoint: PathBuf::from(at),
            ..MountRequest::default()
        };
        let (attached, server) = mount(&request);
        let entry = mounts_at(&request.mountpoint).pop().expect("it is mounted");
        assert_eq!(entry.fstype, "fuse.etcfs");
        assert_eq!(entry.options, "rw,nosuid,nodev,relatime");
        assert_eq!(
            std::fs::metadata(&request.mountpoint).expect("stat").mode(),
            MODE
        );
        assert_eq!(attached.detach_lazily(), Ok(Detached::Done));
        assert_eq!(server.ended(), Errno::NODEV);
        std::fs::write(request.mountpoint.join("done"), "").expect("the directory is back");
        return;
    }
    private(DEADLINE, |env| {
        everybodys_device(env);
        let at = nobodys(env, "mnt");
        // Somewhere that nobody may run it from.
        let program = env.scratch().join("test");
        std::fs::copy(std::env::current_exe().expect("this program"), &program)
            .expect("copy this program");
        let output = as_user(&User::plain(NOBODY), || {
            Command::new("unshare")
                .args(["--user", "--map-root-user", "--mount"])
                .arg(&program)
                .args([
                    "--exact",
                    "helper::root_of_a_user_namespace_mounts_directly",
                    "--nocapture",
                ])
                .env(INSIDE, &at)
                .current_dir("/")
                .output()
                .expect("run unshare")
        });
        assert!(output.status.success(), "{output:?}");
        assert!(
            at.join("done").exists(),
            "the inner run did nothing: {output:?}"
        );
    });
}
