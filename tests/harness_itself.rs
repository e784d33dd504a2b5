//! The harness can be trusted: it gives private mounts, other users' credentials and real comparisons.

mod harness;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use harness::{Etcfs, Lower, Opts, Pair, User, as_user, errno, private};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn mounts_made_inside_are_not_seen_outside() {
    let before = harness::mounts().len();
    let (tell, told) = std::sync::mpsc::channel();
    private(DEADLINE, move |env| {
        let inside = env.scratch().to_owned();
        assert!(harness::mounts().iter().any(|m| m.at == inside));
        tell.send(inside).expect("the receiver waits");
    });
    let scratch = told.recv().expect("the body ran");
    assert_eq!(harness::mounts().len(), before);
    assert!(!scratch.exists());
}

#[test]
fn an_expired_deadline_fails_the_test() {
    let failed = std::panic::catch_unwind(|| {
        private(Duration::from_millis(50), |_| {
            std::thread::sleep(Duration::from_millis(300));
        });
    });
    assert!(failed.is_err());
}

#[test]
fn another_user_has_exactly_its_credentials() {
    private(DEADLINE, |env| {
        let secret = env.scratch().join("secret");
        fs::write(&secret, "x").expect("write");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o040)).expect("chmod");
        std::os::unix::fs::chown(&secret, Some(5), Some(6)).expect("chown");
        let read = |user: &User| as_user(user, || fs::read(&secret).map_err(errno).map(|_| ()));
        assert_eq!(read(&User::plain(0)), Ok(()));
        assert_eq!(read(&User::plain(1000)), Err(Errno::ACCESS));
        assert_eq!(read(&User::plain(1000).in_groups(&[6])), Ok(()));
        let dac = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(read(&User::root_without(dac)), Err(Errno::ACCESS));
        assert_eq!(
            read(&User::plain(1000).with(CapabilitySet::DAC_READ_SEARCH)),
            Ok(())
        );
        // The thread that asked is still root.
        assert!(fs::read(&secret).is_ok());
    });
}

#[test]
fn a_different_answer_is_found() {
    private(DEADLINE, |env| {
        let (left, right) = (env.dir("left"), env.dir("right"));
        fs::write(left.join("only"), "x").expect("write");
        let mut pair = Pair::new(&left, &right);
        let native = pair.same("stat only", |root| {
            fs::symlink_metadata(root.join("only"))
                .map(|m| m.mode())
                .map_err(errno)
        });
        assert_eq!(native, Err(Errno::NOENT));
        pair.same_trees();
        assert_eq!(pair.differences().len(), 2, "{:?}", pair.differences());
    });
}

#[test]
fn lower_file_systems_can_be_made() {
    for lower in [Lower::Tmpfs, Lower::Ext4, Lower::Disk] {
        private(DEADLINE, move |env| {
            let at = env.dir("lower");
            lower
                .mount(env, &at)
                .unwrap_or_else(|e| panic!("{lower:?}: {e}"));
            fs::write(at.join("file"), "x").expect("write");
        });
    }
}

#[test]
fn the_daemon_is_mounted_and_goes_with_its_guard() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        fs::write(etcfs.mnt().join("file"), "data").expect("write through the mount");
        assert_eq!(
            fs::read(etcfs.local().join("file")).expect("read beneath"),
            b"data"
        );
        let (pid, mnt) = (etcfs.pid(), etcfs.mnt());
        drop(etcfs);
        assert!(
            !harness::mounts()
                .iter()
                .any(|m| m.at == mnt && m.fstype == "fuse.etcfs")
        );
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    });
}

#[test]
fn a_mount_that_hangs_is_aborted_and_fails_the_test() {
    let failed = std::panic::catch_unwind(|| {
        private(Duration::from_millis(500), |env| {
            let etcfs = Etcfs::start(env, Opts::default());
            etcfs.signal(rustix::process::Signal::STOP);
            // Returns only because the watchdog aborts the connection.
            assert!(fs::metadata(etcfs.mnt().join("file")).is_err());
        });
    });
    assert!(failed.is_err());
}
