//! Directories taken beneath a mount (contract F1, architecture decision 5).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use etcfs::mount::{Base, MountRequest, take_base};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::harness::{User, as_user, private};
use crate::server::{dead_mount, mount};
use crate::{DEADLINE, request, tmpfs};

fn take(path: &Path) -> Base {
    take_base(path).unwrap_or_else(|e| panic!("{e}"))
}

fn has(base: &Base, name: &str) -> bool {
    statat(base, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Makes a file through a base, writes to it through an O_PATH descriptor's magic link, renames and removes.
fn assert_usable(base: &Base, lower: &Path) {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = openat(base, "made", flags, Mode::from_raw_mode(0o600)).expect("create beneath");
    rustix::io::write(&made, b"text").expect("write");
    let path = openat(base, "made", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("O_PATH");
    let again =
        std::fs::read(format!("/proc/self/fd/{}", path.as_raw_fd())).expect("open it again");
    assert_eq!(again, b"text");
    rustix::fs::renameat(base, "made", base, "renamed").expect("rename beneath");
    rustix::fs::mkdirat(base, "dir", Mode::from_raw_mode(0o700)).expect("mkdir beneath");
    if lower.exists() {
        assert_eq!(
            std::fs::read(lower.join("renamed")).expect("it is in the lower directory"),
            b"text"
        );
    }
    rustix::fs::unlinkat(base, "renamed", AtFlags::empty()).expect("unlink beneath");
    rustix::fs::unlinkat(base, "dir", AtFlags::REMOVEDIR).expect("rmdir beneath");
}

/// A lower directory that is seen as `mnt` (to be mounted on) and, by a bind mount, as `lower`.
fn two_views(env: &crate::harness::Env) -> (MountRequest, PathBuf) {
    let outer = env.dir("outer");
    let request = MountRequest {
        mountpoint: env.dir("outer/mnt"),
        ..MountRequest::default()
    };
    std::fs::write(outer.join("mnt/below"), "").expect("write");
    let lower = env.dir("view");
    rustix::mount::mount_bind(&outer, &lower).expect("bind");
    (request, lower.join("mnt"))
}

#[test]
fn uncovered_directory_is_opened_as_it_is() {
    private(DEADLINE, |env| {
        let (request, lower) = two_views(env);
        let base = take(&request.mountpoint);
        assert!(!base.is_beneath());
        assert!(has(&base, "below"));
        assert_usable(&base, &lower);
        let flags = rustix::io::fcntl_getfd(base.as_fd()).expect("fcntl");
        assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
    });
}

#[test]
fn f1_directory_is_taken_beneath_living_and_dead_etcfs() {
    private(DEADLINE, |env| {
        let (request, lower) = two_views(env);
        let (_living, _server) = mount(&request);
        let base = take(&request.mountpoint);
        assert!(base.is_beneath());
        assert!(has(&base, "below"));
        assert_usable(&base, &lower);
        dead_mount(&request);
        let base = take(&request.mountpoint);
        assert!(base.is_beneath(), "beneath two");
        assert_usable(&base, &lower);
        // A descriptor that outlives what it was taken from.
        let dir: OwnedFd = base.into_dir();
        assert!(statat(&dir, "below", AtFlags::empty()).is_ok());
    });
}

#[test]
fn s1_base_taken_before_mounting_is_not_covered_by_the_mount() {
    private(DEADLINE, |env| {
        let (request, lower) = two_views(env);
        let base = take(&request.mountpoint);
        let (_attached, _server) = mount(&request);
        assert!(has(&base, "below"));
        assert_usable(&base, &lower);
    });
}

#[test]
fn mount_within_a_base_does_not_reach_it_beneath() {
    private(DEADLINE, |env| {
        let (request, _) = two_views(env);
        std::fs::create_dir(request.mountpoint.join("sub")).expect("mkdir");
        tmpfs(&request.mountpoint.join("sub"));
        std::fs::write(request.mountpoint.join("sub/on-tmpfs"), "").expect("write");
        assert!(
            has(&take(&request.mountpoint), "sub/on-tmpfs"),
            "uncovered: what the user sees"
        );
        dead_mount(&request);
        assert!(
            !has(&take(&request.mountpoint), "sub/on-tmpfs"),
            "a copy without other mounts"
        );
    });
}

#[test]
fn other_file_systems_on_the_directory_are_the_users_directory() {
    private(DEADLINE, |env| {
        let at = env.dir("mnt");
        std::fs::write(at.join("below"), "").expect("write");
        tmpfs(&at);
        std::fs::write(at.join("on-tmpfs"), "").expect("write");
        let base = take(&at);
        assert!(!base.is_beneath());
        assert!(has(&base, "on-tmpfs") && !has(&base, "below"));
    });
}

#[test]
fn etcfs_upon_another_mount_is_not_gone_beneath() {
    private(DEADLINE, |env| {
        // A copy of the directory above would show `below`, which is not what the etcfs covers.
        let request = request(env, "mnt");
        std::fs::write(request.mountpoint.join("below"), "").expect("write");
        tmpfs(&request.mountpoint);
        let (_attached, _server) = mount(&request);
        assert!(!take(&request.mountpoint).is_beneath());
    });
}

#[test]
fn directory_below_the_root_of_an_etcfs_is_opened_through_it() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let (_attached, _server) = mount(&request);
        // The server has no names.
        let refused =
            take_base(&request.mountpoint.join("sub")).expect_err("there is no such name");
        assert_eq!(refused.errno(), Some(rustix::io::Errno::NOSYS));
    });
}

#[test]
fn paths_with_symlinks_slashes_and_dots_are_understood() {
    private(DEADLINE, |env| {
        let (request, lower) = two_views(env);
        let link = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, env.scratch().join(name)).expect("symlink");
        };
        link("relative", "outer/mnt");
        link("absolute", &request.mountpoint.to_string_lossy());
        link("chain", "relative/");
        link("above", "outer");
        link("loop", "loop");
        dead_mount(&request);
        std::env::set_current_dir(env.scratch()).expect("chdir");
        for path in [
            "relative",
            "absolute",
            "chain",
            "above/mnt",
            "outer/mnt/",
            "outer/mnt/.",
            "./outer/../outer//mnt",
        ] {
            let base = take(Path::new(path));
            assert!(base.is_beneath(), "{path}");
            assert_usable(&base, &lower);
        }
        std::env::set_current_dir("outer").expect("chdir");
        assert!(take(Path::new("mnt")).is_beneath());
        std::env::set_current_dir("/").expect("chdir");
        assert!(take_base(&env.scratch().join("loop")).is_err());
        assert!(!take(Path::new("/")).is_beneath());
    });
}

#[test]
fn missing_directory_and_file_are_refused_by_name() {
    private(DEADLINE, |env| {
        std::fs::write(env.scratch().join("file"), "").expect("write");
        for (name, remedy) in [
            ("missing", "create the directory"),
            ("file", "name a directory"),
        ] {
            let refused = take_base(&env.scratch().join(name))
                .expect_err("must be refused")
                .to_string();
            assert!(
                refused.contains(name) && refused.contains(remedy),
                "{refused}"
            );
        }
    });
}

#[test]
fn ordinary_user_takes_a_covered_directory_through_what_covers_it() {
    private(DEADLINE, |env| {
        let request = MountRequest {
            allow_other: true,
            ..request(env, "mnt")
        };
        let (_attached, _server) = mount(&request);
        let beneath = as_user(&User::plain(65534), || {
            take(&request.mountpoint).is_beneath()
        });
        assert!(!beneath, "open_tree needs CAP_SYS_ADMIN");
    });
}

#[test]
fn etc_of_a_chroot_is_taken_beneath_from_inside_and_by_a_process_root() {
    // Contract D1, D8: the daemon runs in a chroot, and finds the global side through /proc/PID/root.
    private(DEADLINE, |env| {
        let stratum = env.dir("stratum");
        for dir in ["etc", "proc"] {
            std::fs::create_dir(stratum.join(dir)).expect("mkdir");
        }
        std::fs::write(stratum.join("etc/local"), "").expect("write");
        rustix::mount::mount_bind("/proc", stratum.join("proc")).expect("bind");
        let (global, lower) = two_views(env);
        let local = MountRequest {
            mountpoint: stratum.join("etc"),
            ..MountRequest::default()
        };
        let (_local, _server) = mount(&local);
        let (_global, _global_server) = mount(&global);
        let outside = rustix::thread::gettid().as_raw_nonzero();
        let by_root = PathBuf::from(format!(
            "/proc/{outside}/root{}",
            global.mountpoint.display()
        ));
        assert!(take(&by_root).is_beneath());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: only the root and working directory of this thread are unshared.
                #[allow(unsafe_code)]
                unsafe { unshare_unsafe(UnshareFlags::FS) }.expect("unshare");
                rustix::process::chroot(&stratum).expect("chroot");
                std::env::set_current_dir("/").expect("chdir");
                let base = take(Path::new("/etc"));
                assert!(base.is_beneath() && has(&base, "local"));
                assert_usable(&base, Path::new("/nowhere"));
                let base = take(&by_root);
                assert!(base.is_beneath() && has(&base, "below"));
                assert_usable(&base, Path::new("/nowhere"));
            });
        });
        assert_usable(&take(&by_root), &lower);
    });
}
