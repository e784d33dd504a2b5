//! `etcfsctl` reaches the daemon whatever others have put in its way, and nobody else reaches it.

use super::DEADLINE;
use crate::harness::{Env, Etcfs, Opts, User, as_user, private};
use etcfs::ctl::door::{Label, Unreachable, reach};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recv, send, socket_with, socketpair,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ASK: &[u8] = br#"{"etcfs":1,"ask":"stats"}"#;

const TIME: Duration = Duration::from_secs(5);

fn minor(etcfs: &Etcfs) -> u32 {
    etcfs.mount().expect("mounted").minor
}

fn stats(etcfs: &Etcfs) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
    let command = command.args(["--json", "--timeout", "20", "stats"]);
    command.arg(etcfs.mnt()).output().expect("run etcfsctl")
}

/// The answer is this daemon's.
fn assert_answers(etcfs: &Etcfs) {
    let output = stats(etcfs);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["pid"], etcfs.pid());
}

fn socket() -> OwnedFd {
    let kind = SocketType::SEQPACKET;
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket")
}

fn address(name: &str) -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a name")
}

/// Everything of the mount's that a user can take or imitate, by every minor number that the next mount may get.
fn squat(minors: std::ops::Range<u32>) -> Vec<OwnedFd> {
    as_user(&User::plain(1000), || {
        let mut taken = Vec::new();
        for minor in minors {
            let old = (0..8).map(|nth| match nth {
                0 => format!("etcfs/0:{minor}"),
                nth => format!("etcfs/0:{minor}.{nth}"),
            });
            let new = (0..20).map(|nth| format!("etcfs/0:{minor}/{nth:032x}"));
            for (nth, name) in old.chain(new).enumerate() {
                let socket = socket();
                bind(&socket, &address(&name)).expect("the name is free");
                listen(&socket, 1).expect("listen");
                if nth % 2 == 0 {
                    // Its queue is full: whoever connects has to wait.
                    for _ in 0..3 {
                        let one = self::socket();
                        rustix::io::ioctl_fionbio(&one, true).expect("nonblocking");
                        let _ = connect(&one, &address(&name));
                        taken.push(one);
                    }
                }
                taken.push(socket);
            }
            let (ours, theirs) = pair();
            for end in [ours.as_raw_fd(), theirs.as_raw_fd(), 0, 5] {
                taken.push(label(minor, end));
            }
            taken.extend([ours, theirs]);
        }
        taken
    })
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socketpair(family, kind, SocketFlags::empty(), None).expect("a pair")
}

fn label(minor: u32, end: i32) -> OwnedFd {
    let device = (0, minor);
    let label = Label {
        device,
        end,
        mount: 0,
    };
    memfd_create(label.to_string(), MemfdFlags::empty()).expect("a memfd")
}

#[test]
fn names_and_labels_that_others_take_first_are_not_in_the_way() {
    private(DEADLINE, |env| {
        let first = Etcfs::start(env, Opts::default());
        let from = minor(&first);
        let taken = squat(from + 1..from + 30);
        let bases = second(env);
        let etcfs = Etcfs::serve(env, bases, Opts::default());
        assert!((from + 1..from + 30).contains(&minor(&etcfs)));
        let begun = Instant::now();
        assert_answers(&etcfs);
        assert!(begun.elapsed() < TIME, "{:?}", begun.elapsed());
        drop(taken);
    });
}

fn second(env: &Env) -> crate::harness::Bases {
    crate::harness::Bases::new(env, crate::harness::Lower::Tmpfs).second(env, "two")
}

/// A set-id program of root's that a user has started with labels and sockets of its own.
fn roots_program_with_a_users_sockets(env: &Env, minor: u32) -> Child {
    let program = env.scratch().join("sleep");
    fs::copy("/bin/sleep", &program).expect("copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("set-uid");
    as_user(&User::plain(1000), || {
        let (ours, theirs) = pair();
        let kept = [
            label(minor, ours.as_raw_fd()),
            label(minor, theirs.as_raw_fd()),
        ];
        let mut command = Command::new(&program);
        let child = command.arg("1000").spawn().expect("start");
        drop(kept);
        child
    })
}

#[test]
fn a_label_in_a_root_process_that_a_user_has_started_is_not_believed() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let minor = minor(&etcfs);
        let mut child = roots_program_with_a_users_sockets(env, minor);
        let uids = || fs::read_to_string(format!("/proc/{}/status", child.id())).expect("status");
        let until = Instant::now() + TIME;
        while !uids().contains("Uid:\t1000\t0\t0\t0") {
            assert!(Instant::now() < until, "it is root's: {}", uids());
        }
        assert_answers(&etcfs);
        etcfs.signal(rustix::process::Signal::KILL);
        etcfs.wait(TIME).expect("it ends");
        let said = reach((0, minor), 0, TIME).expect_err("nobody is there");
        assert_eq!(said, Unreachable::Nobody { closed: 0 });
        child.kill().expect("kill");
        child.wait().expect("wait");
    });
}

#[test]
fn nobody_but_root_gets_in_and_nothing_is_left_of_a_killed_daemon() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let minor = minor(&etcfs);
        let said = as_user(&User::plain(1000), || reach((0, minor), 0, TIME));
        let said = said.expect_err("closed").to_string();
        assert!(said.contains("only root"), "{said}");
        // No name is to be seen at all where descriptors can be taken.
        let names = fs::read_to_string("/proc/net/unix").expect("read");
        let ours = format!("@etcfs/0:{minor}/");
        assert!(!names.contains(&ours), "{names}");
        assert_answers(&etcfs);
        etcfs.signal(rustix::process::Signal::KILL);
        etcfs.wait(TIME).expect("it ends");
        assert!(etcfs.mount().is_some(), "the mount outlives its daemon");
        let output = stats(&etcfs);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("it has died"), "{said}");
    });
}

/// Where descriptors cannot be taken, for want of CAP_SYS_PTRACE on both sides, there is a name.
#[test]
fn without_the_capability_a_random_name_leads_in_and_both_sides_look_who_it_is() {
    private(DEADLINE, |env| {
        let bases = second(env);
        let mut command = Etcfs::command(&bases, &Opts::default());
        let limited = || {
            remove_capability_from_bounding_set(CapabilitySet::SYS_PTRACE)?;
            Ok(())
        };
        command.stdin(Stdio::null()).stderr(Stdio::null());
        // SAFETY: one system call between fork and exec.
        #[allow(unsafe_code)]
        let mut daemon = unsafe { command.pre_exec(limited) }.spawn().expect("start");
        let mount = loop {
            let found = crate::harness::mounts();
            let found = found
                .into_iter()
                .find(|m| m.at == bases.mnt() && m.fstype == "fuse.etcfs");
            if let Some(mount) = found {
                break mount;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        // From here on it is not dumpable, and its descriptors are not shown to whom lacks the capability.
        fs::set_permissions(bases.mnt(), fs::Permissions::from_mode(0o777)).expect("chmod");
        as_user(&User::plain(1000), || {
            fs::write(bases.mnt().join("file"), "x").expect("write");
        });
        // Names that look like it, before and after it in the table.
        let imitations = as_user(&User::plain(1000), || {
            let names = (0..50).map(|nth| format!("etcfs/0:{}/{nth:032x}", mount.minor));
            let bound = names.map(|name| {
                let socket = socket();
                bind(&socket, &address(&name)).expect("bind");
                listen(&socket, 1).expect("listen");
                socket
            });
            bound.collect::<Vec<_>>()
        });
        let root = User::root_without(CapabilitySet::SYS_PTRACE);
        let (_, pid) = as_user(&root, || reach((0, mount.minor), 0, TIME)).expect("by the name");
        assert_eq!(pid, daemon.id());
        // A user finds the name too, and the daemon sees who it is.
        let names = fs::read_to_string("/proc/net/unix").expect("read");
        let begin = format!("@etcfs/0:{}/", mount.minor);
        // Connections that nobody has taken bear the name too.
        let all: BTreeSet<&str> = names
            .lines()
            .filter_map(|line| line.rsplit(' ').next())
            .filter(|name| name.starts_with(&begin))
            .collect();
        assert_eq!(all.len(), 51, "{all:?}");
        let told = as_user(&User::plain(1000), || {
            let sockets: Vec<OwnedFd> = all
                .iter()
                .map(|name| {
                    let socket = socket();
                    connect(&socket, &address(&name[1..])).expect("connect");
                    let _ = send(&socket, ASK, SendFlags::NOSIGNAL);
                    socket
                })
                .collect();
            let mut ready: Vec<PollFd<'_>> = sockets
                .iter()
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .collect();
            poll(&mut ready, Timespec::try_from(TIME).ok().as_ref()).expect("poll");
            let answers = sockets.iter().filter_map(|socket| {
                let mut buffer = [0; 4096];
                let (len, _) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
                Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
            });
            answers.collect::<Vec<_>>()
        });
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("only root and the user who mounted"),
            "{told:?}"
        );
        drop(imitations);
        rustix::mount::unmount(bases.mnt(), rustix::mount::UnmountFlags::DETACH).expect("unmount");
        daemon.wait().expect("it ends");
    });
}
