//! The three processes of a mount, each of which may be killed or told to end.

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, Processes, all_of, mounts, private};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

pub fn serve(env: &Env, bases: Bases, options: &[&str]) -> Etcfs {
    let options = [&["keeper=yes"], options].concat();
    let etcfs = Etcfs::serve(
        env,
        bases,
        Opts {
            options: options.into_iter().map(str::to_owned).collect(),
            ..Opts::default()
        },
    );
    all_there(&etcfs.mnt());
    etcfs
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not so within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn all_there(mnt: &Path) -> Processes {
    until("three processes", || Processes::of(mnt).are_all_there());
    Processes::of(mnt)
}

pub fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("signal");
}

/// Nobody serves the mount, and nothing is mounted.
fn all_gone(etcfs: &Etcfs) {
    until("it is unmounted", || etcfs.mount().is_none());
    until("all have ended", || all_of(&etcfs.mnt()).is_empty());
}

pub fn of(found: &Processes, which: usize) -> i32 {
    let all = [found.server, found.keeper, found.spare];
    all[which].expect("it is there")
}

#[test]
fn whichever_dies_the_mount_answers_and_three_are_there_again() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &["max_deaths=0"]);
        let file = etcfs.mnt().join("f");
        fs::write(&file, "text").expect("write");
        for round in 0..6 {
            let before = all_there(&etcfs.mnt());
            let victim = of(&before, round % 3);
            send(victim, Signal::KILL);
            assert_eq!(fs::read(&file).expect("read"), b"text", "{before:?}");
            until("another one is in its place", || {
                let now = Processes::of(&etcfs.mnt());
                now.are_all_there() && now.numbers().all(|pid| pid != victim)
            });
        }
    });
}

#[test]
fn term_to_whichever_unmounts_and_ends_all() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        for which in 0..3 {
            let etcfs = serve(env, bases.clone(), &[]);
            send(of(&all_there(&etcfs.mnt()), which), Signal::TERM);
            all_gone(&etcfs);
        }
    });
}

#[test]
fn an_unmount_ends_all_three() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &[]);
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("unmount");
        all_gone(&etcfs);
    });
}

/// Contract D11, D15.
#[test]
fn all_three_killed_at_once_are_replaced_by_the_next_start() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let killed = serve(env, bases.clone(), &[]);
        fs::write(killed.mnt().join("f"), "text").expect("write");
        for pid in all_there(&killed.mnt()).numbers() {
            send(pid, Signal::KILL);
        }
        until("all have ended", || all_of(&bases.mnt()).is_empty());
        killed.leave();
        let etcfs = serve(env, bases, &[]);
        assert_eq!(fs::read(etcfs.mnt().join("f")).expect("read"), b"text");
        let at = mounts().into_iter().filter(|mount| mount.at == etcfs.mnt());
        assert_eq!(at.count(), 1, "contract D12");
    });
}

/// A keeper that is stopped, for which nothing has been done for 20 s before the spare one looked after the server.
#[test]
fn a_server_that_dies_while_the_keeper_is_stopped_is_replaced() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &[]);
        let file = etcfs.mnt().join("f");
        fs::write(&file, "text").expect("write");
        for _ in 0..2 {
            let before = all_there(&etcfs.mnt());
            send(of(&before, 1), Signal::STOP);
            send(of(&before, 0), Signal::KILL);
            assert_eq!(fs::read(&file).expect("read"), b"text");
            let now = all_there(&etcfs.mnt());
            assert_ne!(now.server, before.server);
            assert_eq!((now.keeper, now.spare), (before.keeper, before.spare));
        }
        assert!(etcfs.stderr().contains("is stopped, and nobody serves"));
    });
}

/// Contract U7.
#[test]
fn the_fifth_death_in_ten_seconds_takes_the_mount_away() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &[]);
        fs::write(etcfs.local().join("below"), "text").expect("write");
        for _ in 0..5 {
            let mut server = None;
            until("a server", || {
                server = Processes::of(&etcfs.mnt()).server;
                server.is_some()
            });
            let server = server.expect("it is there");
            send(server, Signal::KILL);
            until("it has ended", || {
                Processes::of(&etcfs.mnt()).server != Some(server)
            });
        }
        all_gone(&etcfs);
        let below = fs::read(etcfs.mnt().join("below"));
        assert_eq!(below.expect("nobody gets ENOTCONN"), b"text");
        let said = etcfs.stderr();
        assert!(said.contains("servers have died within 10 s"), "{said}");
    });
}
