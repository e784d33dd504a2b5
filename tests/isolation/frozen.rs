//! Suspend and the freezer of control groups: a process that waits for an answer cannot be frozen (`request_wait_answer`,
//! fs/fuse/dev.c), and a daemon that is frozen gives none. So the clients go first, and then everything freezes, waiters for
//! locks too, and goes on afterwards as if nothing had been.
//!
//! In one go the daemon mostly comes first: with four clients that do nothing but stat that failed 8 of 8 times, with waiters for
//! a lock 6 of 6, where the order below never failed.

use super::DEADLINE;
use crate::harness::{Env, Etcfs, Lower, Opts, private};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A control group that is thawed and removed in the end.
struct Group(PathBuf);

impl Group {
    fn new(hierarchy: &Path, name: &str) -> Self {
        let dir = hierarchy.join(format!("etcfs-test-{}-{name}", std::process::id()));
        fs::create_dir(&dir).expect("make a control group");
        Self(dir)
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }

    /// Freezes it and waits until all in it are frozen; or thaws it.
    fn freeze(&self, on: bool) {
        fs::write(self.0.join("cgroup.freeze"), if on { "1" } else { "0" }).expect("freeze");
        let wanted = if on { "frozen 1" } else { "frozen 0" };
        let until = Instant::now() + Duration::from_secs(60);
        let events = || fs::read_to_string(self.0.join("cgroup.events")).expect("events");
        while !events().contains(wanted) {
            assert!(Instant::now() < until, "{}: no {wanted}", self.0.display());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.freeze"), "0");
        // What ended a moment ago may still be in it.
        let until = Instant::now() + Duration::from_secs(20);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Client processes that end with the test.
struct Clients(Vec<Child>);

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn client(program: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.spawn().expect("start a client")
}

/// Freezes a daemon and its clients, natively just the clients, and thaws them again.
fn freeze_and_thaw(env: &Env, dir: &Path, etcfs: &Etcfs) {
    let hierarchy = env.dir("cgroup");
    rustix::mount::mount(
        "none",
        &hierarchy,
        "cgroup2",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .expect("mount the control groups");
    let file = dir.join("file");
    fs::write(&file, "text").expect("write");
    let lock = File::create(dir.join("lock")).expect("create");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("lock");

    let mut clients = Clients(Vec::new());
    let daemons = Group::new(&hierarchy, "daemon");
    let group = Group::new(&hierarchy, "clients");
    daemons.add(u32::try_from(etcfs.pid()).expect("a pid"));
    let loops = format!("while :; do [ -e {} ] || exit 3; done", file.display());
    for _ in 0..3 {
        clients.0.push(client("sh", &["-c", &loops]));
    }
    let waits = dir.join("lock").display().to_string();
    clients.0.push(client("flock", &[&waits, "true"]));
    clients.0.iter().for_each(|child| group.add(child.id()));

    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(20));
        group.freeze(true);
        daemons.freeze(true);
        daemons.freeze(false);
        group.freeze(false);
    }
    let mut waiter = clients.0.pop().expect("the one that waits");
    assert!(
        waiter.try_wait().expect("wait").is_none(),
        "the lock is held"
    );
    drop(lock);
    assert!(waiter.wait().expect("wait").success(), "and then had");
    for child in &mut clients.0 {
        assert_eq!(child.try_wait().expect("wait"), None, "no call has failed");
    }
    drop(clients);
    fs::write(hierarchy.join("cgroup.procs"), etcfs.pid().to_string()).expect("move it back");
    drop((group, daemons));
    rustix::mount::unmount(&hierarchy, rustix::mount::UnmountFlags::DETACH).expect("unmount");
}

#[test]
fn clients_are_frozen_and_then_the_daemon_and_all_goes_on_afterwards() {
    for options in [&[][..], &["passthrough"]] {
        private(DEADLINE, move |env| {
            let opts = Opts {
                lower: Lower::Tmpfs,
                options: options.iter().map(|&o| o.to_owned()).collect(),
                config: vec!["add_global /glo".to_owned()],
                ..Opts::default()
            };
            let etcfs = Etcfs::start(env, opts);
            fs::create_dir(etcfs.mnt().join("glo")).expect("mkdir");
            for dir in [etcfs.native(), etcfs.mnt(), etcfs.mnt().join("glo")] {
                freeze_and_thaw(env, &dir, &etcfs);
            }
        });
    }
}
