//! Who excludes whom, until when.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::DEADLINE;
use crate::agent::Agent;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, private};

const RDWR: i32 = libc::O_RDWR;
const RDONLY: i32 = libc::O_RDONLY;
const AGAIN: Result<String, Errno> = Err(Errno::AGAIN);

fn ok() -> Result<String, Errno> {
    Ok(String::new())
}

pub fn done() -> Result<String, Errno> {
    Ok("0".to_owned())
}

/// Two strata over one global file system, and the file `shared` that both see as global.
pub fn two_strata(env: &Env, more: &[&str]) -> (Etcfs, Etcfs, PathBuf) {
    let bases = Bases::new(env, Lower::Tmpfs);
    fs::write(bases.global().join("shared"), "x").expect("write");
    let opts = |stratum: &str| Opts {
        stratum: stratum.to_owned(),
        config: vec!["add_global /shared".to_owned()],
        options: more.iter().map(|&o| o.to_owned()).collect(),
        ..Opts::default()
    };
    let native = bases.global().join("shared");
    let second = bases.second(env, "beta");
    let alpha = Etcfs::serve(env, bases, opts("alpha"));
    let beta = Etcfs::serve(env, second, opts("beta"));
    (alpha, beta, native)
}

/// A mount with one file, on it and natively.
pub fn one_file(env: &Env, options: &[&str]) -> (Etcfs, PathBuf, PathBuf) {
    let opts = Opts {
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Opts::default()
    };
    let etcfs = Etcfs::start(env, opts);
    fs::write(etcfs.local().join("f"), "x").expect("write");
    fs::write(etcfs.native().join("f"), "x").expect("write");
    let (mount, native) = (etcfs.mnt().join("f"), etcfs.native().join("f"));
    (etcfs, mount, native)
}

/// Runs the same calls on a native file and on mounts without and with passthrough: the expectations hold for all.
fn on_both(case: impl Fn(&Path) + Copy + Send + 'static) {
    for options in [&[][..], &["passthrough"]] {
        private(DEADLINE, move |env| {
            let (_etcfs, mount, native) = one_file(env, options);
            eprintln!("natively");
            case(&native);
            eprintln!("on the mount, {options:?}");
            case(&mount);
        });
    }
}

#[test]
fn posix_locks_exclude_across_strata_and_native_processes_b16() {
    private(DEADLINE, |env| {
        let (alpha, beta, native) = two_strata(env, &[]);
        let places = [
            alpha.mnt().join("shared"),
            beta.mnt().join("shared"),
            native,
        ];
        for holder_place in &places {
            for other_place in &places {
                let (mut holder, mut other) = (Agent::new(), Agent::new());
                let held = holder.open(holder_place, RDWR);
                let wanted = other.open(other_place, RDWR);
                assert_eq!(holder.call(&format!("setlk {held} w 10 5")), ok());
                assert_eq!(other.call(&format!("setlk {wanted} r 14 1")), AGAIN);
                assert_eq!(other.call(&format!("setlk {wanted} w 15 5")), ok());
                let waiting = other.start(&format!("setlkw {wanted} w 0 0"));
                assert!(other.waits(waiting));
                assert_eq!(holder.call(&format!("setlk {held} u 0 0")), ok());
                assert_eq!(other.answer(waiting), ok());
                assert_eq!(holder.call(&format!("setlk {held} r 0 1")), AGAIN);
            }
        }
    });
}

#[test]
fn flock_excludes_across_strata_and_native_processes_b16() {
    private(DEADLINE, |env| {
        let (alpha, beta, native) = two_strata(env, &[]);
        let places = [
            alpha.mnt().join("shared"),
            beta.mnt().join("shared"),
            native,
        ];
        for holder_place in &places {
            for other_place in &places {
                let (mut holder, mut other) = (Agent::new(), Agent::new());
                let held = holder.open(holder_place, RDONLY);
                let wanted = other.open(other_place, RDONLY);
                assert_eq!(
                    holder.call(&format!("flock {held} {}", libc::LOCK_EX)),
                    done()
                );
                let try_shared = format!("flock {wanted} {}", libc::LOCK_SH | libc::LOCK_NB);
                assert_eq!(other.call(&try_shared), AGAIN);
                let waiting = other.start(&format!("flock {wanted} {}", libc::LOCK_SH));
                assert!(other.waits(waiting));
                assert_eq!(holder.call(&format!("close {held}")), done());
                assert_eq!(other.answer(waiting), done());
            }
        }
    });
}

#[test]
fn posix_locks_end_with_any_close_of_their_process() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let wanted = other.open(file, RDWR);
        // The descriptor itself, a duplicate, one opened before the lock, one opened after it.
        for case in ["itself", "duplicate", "before", "after"] {
            let before = holder.open(file, RDWR);
            let held = holder.open(file, RDWR);
            assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
            assert_eq!(
                other.call(&format!("setlk {wanted} r 0 1")),
                AGAIN,
                "{case}"
            );
            let closed = match case {
                "itself" => held,
                "duplicate" => {
                    let duplicate = holder.call(&format!("dup {held}")).expect("dup");
                    duplicate.parse().expect("a descriptor")
                }
                "before" => before,
                _ => holder.open(file, RDONLY),
            };
            assert_eq!(holder.call(&format!("close {closed}")), done());
            assert_eq!(other.call(&format!("setlk {wanted} w 0 0")), ok(), "{case}");
            assert_eq!(other.call(&format!("setlk {wanted} u 0 0")), ok());
            for fd in [before, held].into_iter().filter(|&fd| fd != closed) {
                assert_eq!(holder.call(&format!("close {fd}")), done());
            }
        }
    });
}

#[test]
fn posix_locks_are_not_inherited_and_end_with_their_process() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDWR);
        let wanted = other.open(file, RDWR);
        assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
        let child = holder.call(&format!("inherit {held}")).expect("a child");
        assert_eq!(other.call(&format!("setlk {wanted} w 0 0")), AGAIN);
        let waiting = other.start(&format!("setlkw {wanted} w 0 0"));
        assert!(other.waits(waiting));
        holder.kill();
        assert_eq!(other.answer(waiting), ok());
        end(&child);
    });
}

#[test]
fn flock_is_inherited_and_ends_with_the_last_descriptor() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDONLY);
        let wanted = other.open(file, RDONLY);
        let exclusive = |fd| format!("flock {fd} {}", libc::LOCK_EX | libc::LOCK_NB);
        assert_eq!(holder.call(&exclusive(held)), done());
        let duplicate = holder.call(&format!("dup {held}")).expect("dup");
        assert_eq!(holder.call(&format!("close {held}")), done());
        assert_eq!(other.call(&exclusive(wanted)), AGAIN);
        let child = holder
            .call(&format!("inherit {duplicate}"))
            .expect("a child");
        holder.kill();
        assert_eq!(other.call(&exclusive(wanted)), AGAIN);
        let waiting = other.start(&format!("flock {wanted} {}", libc::LOCK_EX));
        assert!(other.waits(waiting));
        end(&child);
        assert_eq!(other.answer(waiting), done());
    });
}

#[test]
fn locks_of_open_files_belong_to_the_open_file() {
    on_both(|file| {
        let mut agent = Agent::new();
        let (one, two) = (agent.open(file, RDWR), agent.open(file, RDWR));
        assert_eq!(agent.call(&format!("ofd_setlk {one} w 0 0")), ok());
        assert_eq!(agent.call(&format!("ofd_setlk {two} r 0 1")), AGAIN);
        let waiting = agent.start(&format!("ofd_setlkw {two} w 0 0"));
        assert!(agent.waits(waiting));
        // Closing another open of the file does not matter; closing the one does.
        let third = agent.open(file, RDWR);
        assert_eq!(agent.call(&format!("close {third}")), done());
        assert!(agent.waits(waiting));
        assert_eq!(agent.call(&format!("close {one}")), done());
        assert_eq!(agent.answer(waiting), ok());
    });
}

/// The daemon never waits for itself (two well-known forwarding daemons hang on some of these).
#[test]
fn one_process_never_waits_for_itself_b15() {
    on_both(|file| {
        let mut agent = Agent::new();
        let (one, two) = (agent.open(file, RDWR), agent.open(file, RDWR));
        let flock = |fd: i32, how: i32| format!("flock {fd} {how}");
        // A duplicate shares the lock; conversion there and back.
        let duplicate = agent.call(&format!("dup {one}")).expect("dup");
        let duplicate: i32 = duplicate.parse().expect("a descriptor");
        for (fd, how) in [
            (one, libc::LOCK_SH),
            (duplicate, libc::LOCK_EX),
            (one, libc::LOCK_SH),
            (duplicate, libc::LOCK_EX),
            (one, libc::LOCK_EX),
        ] {
            assert_eq!(agent.call(&flock(fd, how)), done());
        }
        // A second open is another owner, in the same process too.
        assert_eq!(
            agent.call(&flock(two, libc::LOCK_EX | libc::LOCK_NB)),
            AGAIN
        );
        let waiting = agent.start(&flock(two, libc::LOCK_EX));
        assert!(agent.waits(waiting));
        assert_eq!(agent.call(&flock(duplicate, libc::LOCK_UN)), done());
        assert_eq!(agent.answer(waiting), done());
        assert_eq!(agent.call(&flock(two, libc::LOCK_UN)), done());
        // Upgrades that cross: the one that waits has given its shared lock up, so the other one succeeds.
        let mut other = Agent::new();
        let theirs = other.open(file, RDWR);
        assert_eq!(agent.call(&flock(one, libc::LOCK_SH)), done());
        assert_eq!(other.call(&flock(theirs, libc::LOCK_SH)), done());
        let up = agent.start(&flock(one, libc::LOCK_EX));
        assert!(agent.waits(up));
        assert_eq!(other.call(&flock(theirs, libc::LOCK_EX)), done());
        assert!(agent.waits(up));
        assert_eq!(other.call(&flock(theirs, libc::LOCK_UN)), done());
        assert_eq!(agent.answer(up), done());
        // A conversion that fails loses the lock that there was.
        assert_eq!(agent.call(&flock(one, libc::LOCK_SH)), done());
        assert_eq!(other.call(&flock(theirs, libc::LOCK_SH)), done());
        let try_exclusive = libc::LOCK_EX | libc::LOCK_NB;
        assert_eq!(agent.call(&flock(one, try_exclusive)), AGAIN);
        assert_eq!(other.call(&flock(theirs, try_exclusive)), done());
        assert_eq!(other.call(&flock(theirs, libc::LOCK_UN)), done());
        // POSIX locks: conversions within one process, through two opens of the file, never wait.
        for (fd, kind) in [(one, "r"), (two, "w"), (one, "w"), (two, "r"), (one, "w")] {
            assert_eq!(agent.call(&format!("setlkw {fd} {kind} 0 0")), ok());
        }
        // Downgrade and upgrade against another reader.
        assert_eq!(agent.call(&format!("setlkw {one} r 0 0")), ok());
        assert_eq!(other.call(&format!("setlkw {theirs} r 0 0")), ok());
        let up = agent.start(&format!("setlkw {one} w 0 0"));
        assert!(agent.waits(up));
        assert_eq!(other.call(&format!("close {theirs}")), done());
        assert_eq!(agent.answer(up), ok());
    });
}

#[test]
fn a_waiter_that_is_killed_leaves_nothing_behind() {
    on_both(|file| {
        let mut holder = Agent::new();
        let held = holder.open(file, RDWR);
        assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
        let mut waiter = Agent::new();
        let wanted = waiter.open(file, RDWR);
        let waiting = waiter.start(&format!("setlkw {wanted} w 0 0"));
        assert!(waiter.waits(waiting));
        let child = waiter.call(&format!("inherit {wanted}")).expect("a child");
        waiter.kill();
        assert_eq!(holder.call(&format!("close {held}")), done());
        let mut third = Agent::new();
        let free = third.open(file, RDWR);
        assert_eq!(third.call(&format!("setlk {free} w 0 0")), ok());
        end(&child);
    });
}

#[test]
fn a_cycle_of_waiters_is_edeadlk() {
    on_both(|file| {
        let mut agents = [Agent::new(), Agent::new(), Agent::new()];
        let fds: Vec<i32> = agents.iter_mut().map(|a| a.open(file, RDWR)).collect();
        for (at, agent) in agents.iter_mut().enumerate() {
            assert_eq!(agent.call(&format!("setlk {} w {at} 1", fds[at])), ok());
        }
        let first = agents[0].start(&format!("setlkw {} w 1 1", fds[0]));
        let second = agents[1].start(&format!("setlkw {} w 2 1", fds[1]));
        assert!(agents[0].waits(first) && agents[1].waits(second));
        let third = agents[2].call(&format!("setlkw {} w 0 1", fds[2]));
        assert_eq!(third, Err(Errno::DEADLK));
        assert_eq!(agents[2].call(&format!("setlk {} u 2 1", fds[2])), ok());
        assert_eq!(agents[1].answer(second), ok());
        assert_eq!(agents[1].call(&format!("setlk {} u 0 0", fds[1])), ok());
        assert_eq!(agents[0].answer(first), ok());
    });
}

#[test]
fn getlk_names_range_kind_and_process() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDWR);
        let asked = other.open(file, RDWR);
        assert_eq!(other.call(&format!("getlk {asked} w 0 0")), Ok("u".into()));
        assert_eq!(holder.call(&format!("setlk {held} r 5 10")), ok());
        assert_eq!(holder.call(&format!("getlk {held} w 0 0")), Ok("u".into()));
        assert_eq!(other.call(&format!("getlk {asked} r 0 0")), Ok("u".into()));
        let expected = format!("r 5 10 {}", holder.pid());
        assert_eq!(other.call(&format!("getlk {asked} w 0 0")), Ok(expected));
        assert_eq!(holder.call(&format!("setlk {held} w 20 0")), ok());
        let expected = format!("w 20 0 {}", holder.pid());
        assert_eq!(other.call(&format!("getlk {asked} r 15 0")), Ok(expected));
    });
}

#[test]
fn getlk_across_strata_names_a_native_process_and_no_other() {
    private(DEADLINE, |env| {
        let (alpha, beta, native) = two_strata(env, &[]);
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let asked = other.open(&beta.mnt().join("shared"), RDWR);
        let held = holder.open(&native, RDWR);
        assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
        let expected = format!("w 0 0 {}", holder.pid());
        assert_eq!(other.call(&format!("getlk {asked} w 0 0")), Ok(expected));
        assert_eq!(holder.call(&format!("close {held}")), done());
        let held = holder.open(&alpha.mnt().join("shared"), RDWR);
        assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
        let answer = other.call(&format!("getlk {asked} w 0 0"));
        assert_eq!(answer, Ok("w 0 0 0".into()));
    });
}

#[test]
fn locks_the_descriptor_does_not_allow_are_ebadf() {
    on_both(|file| {
        let mut agent = Agent::new();
        let (reading, writing) = (agent.open(file, RDONLY), agent.open(file, libc::O_WRONLY));
        let bad = Err(Errno::BADF);
        assert_eq!(agent.call(&format!("setlk {reading} w 0 0")), bad);
        assert_eq!(agent.call(&format!("setlk {writing} r 0 0")), bad);
        assert_eq!(agent.call(&format!("setlk {reading} r 0 0")), ok());
        assert_eq!(agent.call(&format!("setlk {writing} w 0 0")), ok());
        let exclusive = libc::LOCK_EX;
        assert_eq!(agent.call(&format!("flock {reading} {exclusive}")), done());
    });
}

#[test]
fn a_removed_file_can_be_locked_through_its_handles() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDWR);
        let wanted = other.open(file, RDWR);
        fs::remove_file(file).expect("rm");
        assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
        assert_eq!(other.call(&format!("setlk {wanted} w 0 0")), AGAIN);
        assert_eq!(holder.call(&format!("close {held}")), done());
        assert_eq!(other.call(&format!("setlk {wanted} w 0 0")), ok());
    });
}

/// A package manager's or editor's rename: the old file is locked through its handles, the new one is another file.
#[test]
fn a_replaced_file_is_locked_apart_from_its_successor() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDWR);
        let old = other.open(file, RDONLY);
        fs::write(file.with_extension("new"), "y").expect("write");
        fs::rename(file.with_extension("new"), file).expect("rename");
        let new = other.open(file, RDWR);
        assert_eq!(holder.call(&format!("setlk {held} w 0 0")), ok());
        assert_eq!(other.call(&format!("setlk {old} r 0 0")), AGAIN);
        assert_eq!(other.call(&format!("setlk {new} w 0 0")), ok());
    });
}

#[test]
fn a_file_that_cannot_be_written_can_be_read_locked() {
    on_both(|file| {
        let set = |flags: u32| {
            let file = fs::File::open(file).expect("open");
            etcfs::sys::fileattr::set_flags(&file, flags).expect("chattr");
        };
        const IMMUTABLE: u32 = 0x10;
        set(IMMUTABLE);
        let (mut one, mut two) = (Agent::new(), Agent::new());
        let (first, second) = (one.open(file, RDONLY), two.open(file, RDONLY));
        assert_eq!(one.call(&format!("setlk {first} r 0 0")), ok());
        assert_eq!(two.call(&format!("setlk {second} r 0 0")), ok());
        let exclusive = libc::LOCK_EX | libc::LOCK_NB;
        assert_eq!(one.call(&format!("flock {first} {exclusive}")), done());
        assert_eq!(two.call(&format!("flock {second} {exclusive}")), AGAIN);
        set(0);
    });
}

/// close(2) does not wait for RELEASE, with which a `flock(2)` lock ends: the next one must get it all the same.
#[test]
fn a_lock_that_was_just_closed_is_free() {
    private(DEADLINE, |env| {
        let (_etcfs, mount, _) = one_file(env, &[]);
        let (mut one, mut two) = (Agent::new(), Agent::new());
        let try_flock = |fd: i32| format!("flock {fd} {}", libc::LOCK_EX | libc::LOCK_NB);
        for round in 0..200 {
            for agent in [&mut one, &mut two] {
                let fd = agent.open(&mount, RDONLY);
                assert_eq!(agent.call(&try_flock(fd)), done(), "round {round}");
                assert_eq!(agent.call(&format!("close {fd}")), done());
            }
        }
    });
}

#[test]
fn the_configuration_file_takes_no_locks() {
    private(DEADLINE, |env| {
        let (etcfs, ..) = one_file(env, &[]);
        let mut agent = Agent::new();
        let fd = agent.open(&etcfs.mnt().join(crate::harness::CONFIG), RDONLY);
        assert_eq!(
            agent.call(&format!("flock {fd} {}", libc::LOCK_SH)),
            Err(Errno::NOLCK)
        );
    });
}

fn end(child: &str) {
    let pid = Pid::from_raw(child.parse().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kill");
}
