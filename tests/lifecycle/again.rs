//! A start where an etcfs is mounted already, or was a moment ago.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Bases, Etcfs, Lower, Mount, Opts, mounts, private};
use crate::{DEADLINE, background, until};

fn again(bases: &Bases, options: &[&str]) -> Output {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    let opts = Opts {
        options,
        ..background()
    };
    Etcfs::command(bases, &opts)
        .output()
        .expect("run the daemon")
}

fn at(bases: &Bases) -> Vec<Mount> {
    let mnt = bases.mnt();
    mounts().into_iter().filter(|m| m.at == mnt).collect()
}

#[test]
fn a_second_start_over_a_live_mount_is_refused_with_the_pid_of_the_first() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let etcfs = Etcfs::serve(env, bases.clone(), background());
        let refused = || {
            let output = again(&bases, &[]);
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            let pid = format!("pid {} ", etcfs.pid());
            let mnt = bases.mnt().display().to_string();
            for part in ["etcfs: ", &mnt, &pid, "-o stack"] {
                assert!(line.contains(part), "{line:?} lacks {part:?}");
            }
            assert_eq!(at(&bases).len(), 1);
        };
        refused();
        // One that hangs is there as well.
        etcfs.signal(Signal::STOP);
        refused();
        etcfs.signal(Signal::CONT);
        refused();
        fs::write(bases.mnt().join("file"), "x").expect("it serves as before");
        let output = again(&bases, &["stack"]);
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert_eq!(at(&bases).len(), 2);
        assert_eq!(fs::read(bases.mnt().join("file")).expect("read"), b"x");
        signal(daemon(&bases.mnt()).expect("the second"), Signal::TERM);
        until("the second has ended", || at(&bases).len() == 1);
    });
}

#[test]
fn of_starts_at_the_same_moment_one_mounts_and_the_others_are_refused() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        // Without turns, twelve of fifteen such rounds mounted up to six upon each other.
        for round in 0..5 {
            let start = |_| {
                let mut command = Etcfs::command(&bases, &background());
                command.stderr(std::process::Stdio::null());
                command.spawn().expect("run the daemon")
            };
            let starts: Vec<_> = (0..6).map(start).collect();
            let ends = starts.into_iter().map(|mut s| s.wait().expect("wait"));
            let mounted = ends.filter(|end| end.success()).count();
            assert_eq!((mounted, at(&bases).len()), (1, 1), "round {round}");
            signal(daemon(&bases.mnt()).expect("the one"), Signal::TERM);
            until("it has ended", || at(&bases).is_empty());
        }
    });
}

#[test]
fn a_directory_within_a_mount_and_a_bound_mount_can_be_mounted_on() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let etcfs = Etcfs::serve(env, bases.clone(), background());
        let (within, bound) = (etcfs.mnt().join("within"), env.dir("bound"));
        fs::create_dir(&within).expect("mkdir");
        rustix::mount::mount_bind(etcfs.mnt(), &bound).expect("bind");
        let mut list = std::ffi::OsString::from("stratum=here,global=");
        list.push(bases.global());
        for place in [&within, &bound] {
            let output = Command::new(crate::binary())
                .args([OsStr::new("-o"), &list, place.as_os_str()])
                .output()
                .expect("run the daemon");
            let line = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{line}");
            let pid = daemon(place).expect("a daemon");
            assert_ne!(pid as i32, etcfs.pid());
            signal(pid, Signal::TERM);
            until("it has ended", || daemon(place) != Some(pid));
        }
    });
}

/// The daemon of what is mounted at a place.
fn daemon(place: &Path) -> Option<u32> {
    let stat = statx(CWD, place, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()).expect("statx");
    let device = (stat.stx_dev_major, stat.stx_dev_minor);
    etcfs::ctl::door::serving(device, 0).map(|serving| serving.pid)
}

/// All processes of the daemon of a place.
fn processes(place: &Path) -> Vec<u32> {
    let serves = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let mut arguments = line.split(|byte| *byte == 0);
            arguments.any(|argument| argument == place.as_os_str().as_encoded_bytes())
        })
    };
    let all = fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(serves).collect()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a pid");
    kill_process(pid, signal).expect("signal the daemon");
}

/// A killed daemon's device is closed some time after kill(2) has returned. Where nothing but the mount's first answer decided,
/// one start of twenty stacked a second mount.
#[test]
fn a_start_right_after_sigkill_replaces_the_mount_every_time() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("file"), "x").expect("write");
        let start = || {
            let output = again(&bases, &[]);
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), line.as_str()), (Some(0), ""));
            daemon(&bases.mnt()).expect("a daemon")
        };
        let mut pid = start();
        for round in 0..200 {
            for one in processes(&bases.mnt()) {
                signal(one, Signal::KILL);
            }
            let next = start();
            assert_eq!(at(&bases).len(), 1, "round {round}");
            assert_ne!(next, pid, "round {round}");
            let file = fs::read(bases.mnt().join("file"));
            assert_eq!(file.expect("it answers"), b"x", "round {round}");
            pid = next;
        }
        end_all(&bases.mnt());
    });
}

/// Ends the daemons whose mounts are at a place, the last one first.
fn end_all(place: &Path) {
    while let Some(pid) = daemon(place) {
        signal(pid, Signal::TERM);
        until("the daemon has ended", || daemon(place) != Some(pid));
    }
}
