//! Renames that fail half-way leave both files, and the order of the system calls that makes it so.

use super::harness::{Bases, Etcfs, Lower, User, as_user, errno, private};
use super::{APART, DEADLINE, Sides, leftovers, opts};
use etcfs::fs::cross::{Errand, Move, copy_across};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A mount whose global side is a tmpfs of 1 MiB.
fn on_a_small_side(body: impl FnOnce(&Etcfs) + Send + 'static) {
    private(DEADLINE, move |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        mount(
            "small",
            bases.global(),
            "tmpfs",
            MountFlags::empty(),
            c"size=1m",
        )
        .expect("mount");
        fs::write(bases.global().join("global"), "target").expect("write");
        let etcfs = Etcfs::serve(env, bases, opts());
        body(&etcfs);
        assert_eq!(leftovers(&etcfs.local()), Vec::<String>::new());
        assert_eq!(leftovers(&etcfs.global()), Vec::<String>::new());
    });
}

fn rename(etcfs: &Etcfs) -> Result<(), Errno> {
    fs::rename(etcfs.mnt().join("local"), etcfs.mnt().join("global")).map_err(errno)
}

#[test]
fn a_full_target_leaves_both_files() {
    on_a_small_side(|etcfs| {
        let content = vec![1; 3 << 20];
        fs::write(etcfs.mnt().join("local"), &content).expect("write");
        assert_eq!(rename(etcfs), Err(Errno::NOSPC));
        let source = fs::read(etcfs.mnt().join("local")).expect("read");
        assert!(source == content);
        let target = fs::read_to_string(etcfs.mnt().join("global")).expect("read");
        assert_eq!(target, "target");
        // Nothing of the attempt is kept: what fits still fits.
        fs::write(etcfs.mnt().join("local"), vec![2; 900 << 10]).expect("write");
        assert_eq!(rename(etcfs), Ok(()));
    });
}

#[test]
fn a_file_leaves_a_file_system_on_which_nothing_can_be_made() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let flags = MountFlags::empty();
        mount("full", bases.global(), "tmpfs", flags, c"nr_inodes=20").expect("mount");
        fs::write(bases.global().join("global"), "moved").expect("write");
        chown(bases.global(), Some(1000), Some(1000)).expect("chown");
        chown(bases.local(), Some(1000), Some(1000)).expect("chown");
        let fill = (0..20).map(|n| fs::write(bases.global().join(format!("fill-{n}")), ""));
        assert!(fill.into_iter().any(|made| made.is_err()), "it is full");
        let etcfs = Etcfs::serve(env, bases, opts());
        as_user(&User::plain(1000), || {
            let (from, to) = (etcfs.mnt().join("global"), etcfs.mnt().join("local"));
            fs::rename(from, to).expect("rename");
        });
        assert!(!etcfs.global().join("global").exists());
        let moved = fs::read_to_string(etcfs.local().join("local"));
        assert_eq!(moved.expect("read"), "moved");
        assert_eq!(leftovers(&etcfs.global()), Vec::<String>::new());
    });
}

#[test]
fn a_read_only_side_leaves_both_files() {
    on_a_small_side(|etcfs| {
        let remount = |read_only: bool| {
            let flags = if read_only {
                MountFlags::RDONLY
            } else {
                MountFlags::empty()
            };
            mount_remount(etcfs.global(), flags, "").expect("remount");
        };
        fs::write(etcfs.mnt().join("local"), "source").expect("write");
        remount(true);
        assert_eq!(rename(etcfs), Err(Errno::ROFS));
        // And the other way: a source that could not be removed afterwards is not copied first.
        let back = fs::rename(etcfs.mnt().join("global"), etcfs.mnt().join("back"));
        assert_eq!(back.map_err(errno), Err(Errno::ROFS));
        assert!(!etcfs.local().join("back").exists());
        remount(false);
        assert_eq!(rename(etcfs), Ok(()));
    });
}

#[test]
fn an_ordinary_users_daemon_moves_that_users_files() {
    private(DEADLINE, |env| {
        let bases = APART.make(env);
        for dir in [bases.local(), bases.global()] {
            chown(&dir, Some(1000), Some(1000)).expect("chown");
        }
        let path = bases.local().join("old");
        let others = bases.local().join("others");
        fs::write(&path, "mine").expect("write");
        fs::write(&others, "not mine").expect("write");
        chown(&path, Some(1000), Some(1000)).expect("chown");
        let (from, to) = (
            fs::File::open(bases.local()).expect("open"),
            fs::File::open(bases.global()).expect("open"),
        );
        let across = |old| {
            copy_across(
                &Move {
                    from: from.as_fd(),
                    old,
                    to: to.as_fd(),
                    new: c"new",
                    no_replace: false,
                },
                &Errand::unbounded(),
                &mut |_| {},
            )
        };
        as_user(&User::plain(1000), || {
            assert_eq!(across(c"old"), Ok(()));
            // It cannot give the copy to root, so it leaves the file where it is.
            assert_eq!(across(c"others"), Err(Errno::XDEV));
        });
        let moved = fs::read_to_string(bases.global().join("new")).expect("read");
        assert_eq!(moved, "mine");
        assert!(others.exists() && !path.exists());
        assert!(leftovers(&bases.local()).is_empty() && leftovers(&bases.global()).is_empty());
    });
}

/// The daemon's system calls of these names while `body` runs, one a line.
fn traced(etcfs: &Etcfs, calls: &str, body: impl FnOnce()) -> Vec<String> {
    let trace = etcfs.native().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace={calls}"), "-o"])
        .arg(&trace)
        .args(["-p", &etcfs.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("start strace");
    let end = Instant::now() + Duration::from_secs(30);
    let all_threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", etcfs.pid())).expect("tasks");
        tasks.flatten().all(|task| {
            fs::read_to_string(task.path().join("status"))
                .is_ok_and(|s| !s.contains("\nTracerPid:\t0\n"))
        })
    };
    while !all_threads() {
        assert!(Instant::now() < end, "strace does not attach");
        std::thread::sleep(Duration::from_millis(2));
    }
    body();
    let pid = rustix::process::Pid::from_child(&strace);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("end strace");
    strace.wait().expect("strace ends");
    let text = fs::read_to_string(&trace).expect("read the trace");
    fs::remove_file(&trace).expect("remove");
    text.lines()
        .map(|line| {
            line.split_once(' ')
                .map_or(line, |(_, call)| call)
                .trim()
                .to_owned()
        })
        .filter(|line| !line.starts_with("+++") && !line.starts_with("---"))
        .collect()
}

#[test]
fn file_then_name_then_directory_reach_the_disk_before_the_source_goes() {
    private(DEADLINE, |env| {
        let bases = Sides::Apart(Lower::Tmpfs, Lower::Disk).make(env);
        let etcfs = Etcfs::serve(env, bases, opts());
        fs::write(etcfs.mnt().join("global"), "target").expect("write");
        fs::write(etcfs.mnt().join("local"), "source").expect("write");
        let calls = traced(
            &etcfs,
            "fsync,linkat,rename,renameat,renameat2,unlinkat",
            || rename(&etcfs).expect("rename"),
        );
        // Of the renames, the first two are the attempts to do without a copy.
        let done: Vec<&str> = calls
            .iter()
            .filter(|call| !call.contains("EXDEV") && !call.contains("EEXIST"))
            // strace shows calls that are newer than itself, whatever was asked for.
            .filter(|call| !call.starts_with("syscall_"))
            .map(|call| call.split('(').next().expect("a name"))
            .collect();
        assert_eq!(
            done,
            [
                "fsync", "linkat", "renameat", "unlinkat", "fsync", "renameat", "unlinkat",
                "unlinkat"
            ],
            "{calls:#?}"
        );
    });
}

#[test]
fn a_rename_within_a_side_is_a_handful_of_system_calls() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mnt = etcfs.mnt();
        for n in 0..2 {
            // The first round opens what stays open.
            for name in ["a", "b"] {
                fs::write(mnt.join(name), name).expect("write");
                fs::metadata(mnt.join(name)).expect("stat");
            }
            let calls = traced(&etcfs, "all", || {
                fs::rename(mnt.join("a"), mnt.join("b")).expect("rename");
            });
            // Those of threads that serve nothing at the moment are not meant, and one that another thread's came between
            // stands in two lines.
            let read = |c: &String| c.contains("read(") || c.contains("read resumed>");
            let mut calls = calls;
            calls.retain(|c| {
                let waits = ["futex", "accept4", "nanosleep", "poll", "restart_syscall"];
                (read(c) || !c.contains("resumed>")) && !waits.iter().any(|call| c.contains(call))
            });
            let at = calls
                .iter()
                .position(|call| call.starts_with("renameat"))
                .expect("the rename");
            // Between the reads of the device that bring RENAME and what follows it.
            let before = calls[..at].iter().rev().take_while(|c| !read(c)).count();
            let after = calls[at..].iter().take_while(|c| !read(c)).count();
            assert!(
                n == 0 || before + after < 8,
                "{} {calls:#?}",
                before + after
            );
        }
    });
}
