//! Whose a lock is: when it ends, who inherits it, and that nobody waits for himself.

use std::os::unix::thread::JoinHandleExt as _;

use rustix::io::Errno;

use crate::DEADLINE;
use crate::agent::{self, Agent};
use crate::harness::private;
use crate::places::{AGAIN, RDONLY, RDWR, done, end, ok, on_both, one_file};

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

/// Ways to open a file of which the kernel does not say that a descriptor was closed, before there are POSIX locks.
const QUIET: [i32; 4] = [
    RDONLY,
    libc::O_RDWR | libc::O_TRUNC,
    libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
    RDWR,
];

/// The open file lives on in a child, and what its process has locked through it goes with the process: at once for who has
/// waited for it, and for who waits for the lock. An open file's lock stays.
#[test]
fn locks_end_with_their_process_while_another_keeps_the_descriptor_9_5() {
    on_both(|file| {
        for flags in QUIET {
            let kind = if flags == RDONLY { "r" } else { "w" };
            for own in [true, false] {
                // A new file, where nobody has asked for a POSIX lock.
                std::fs::remove_file(file).expect("rm");
                if flags & libc::O_EXCL == 0 {
                    std::fs::write(file, "x").expect("write");
                }
                let (mut holder, mut other) = (Agent::new(), Agent::new());
                let held = holder.open(file, flags);
                let child = holder.call(&format!("inherit {held}")).expect("a child");
                let take = if own { "setlk" } else { "ofd_setlk" };
                assert_eq!(holder.call(&format!("{take} {held} {kind} 0 0")), ok());
                let mut waiter = Agent::new();
                let (wanted, asked) = (other.open(file, RDWR), waiter.open(file, RDWR));
                let tried = format!("setlk {wanted} w 0 5");
                assert_eq!(other.call(&tried), AGAIN);
                let waiting = waiter.start(&format!("setlkw {asked} w 5 5"));
                assert!(waiter.waits(waiting));
                holder.kill();
                if own {
                    assert_eq!(other.call(&tried), ok(), "{flags:o}");
                    assert_eq!(waiter.answer(waiting), ok(), "{flags:o}");
                    end(&child);
                } else {
                    assert_eq!(other.call(&tried), AGAIN, "{flags:o}");
                    assert!(waiter.waits(waiting), "{flags:o}");
                    end(&child);
                    assert_eq!(waiter.answer(waiting), ok(), "{flags:o}");
                }
            }
        }
    });
}

/// The owner is the table of descriptors: it lives on in the parent.
#[test]
fn a_lock_of_a_child_that_shares_the_descriptors_outlives_it_9_5() {
    on_both(|file| {
        std::fs::remove_file(file).expect("rm");
        std::fs::write(file, "x").expect("write");
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDONLY);
        let wanted = other.open(file, RDWR);
        assert_eq!(holder.call(&format!("shared_setlk {held}")), ok());
        let call = format!("setlk {wanted} w 0 0");
        std::thread::sleep(agent::A_WHILE);
        assert_eq!(other.call(&call), AGAIN);
        holder.kill();
        assert_eq!(other.call(&call), ok());
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

/// A signal handler that does nothing, so that a system call ends with EINTR and is not begun again.
fn handle(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: zero is a value of every field; the handler touches nothing; no old action is asked for.
    #[allow(unsafe_code)]
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as libc::sighandler_t;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(result, 0);
}

/// The kinds of locks: a call that takes one, and the one that waits for it; `FD` stands for the descriptor.
fn kinds() -> [(String, String); 3] {
    let flock = format!("flock FD {}", libc::LOCK_EX);
    [
        (flock.clone(), flock),
        ("setlk FD w 0 0".into(), "setlkw FD w 0 0".into()),
        ("ofd_setlk FD w 0 0".into(), "ofd_setlkw FD w 0 0".into()),
    ]
}

fn with(call: &str, fd: i32) -> String {
    call.replace("FD", &fd.to_string())
}

#[test]
fn f2_a_signal_ends_every_kind_of_wait_with_eintr() {
    handle(libc::SIGUSR1);
    on_both(|file| {
        for (take, wait) in kinds() {
            let mut holder = Agent::new();
            let held = holder.open(file, RDWR);
            assert!(holder.call(&with(&take, held)).is_ok(), "{take}");
            let own = std::fs::File::options().read(true).write(true).open(file);
            let own = own.expect("open");
            let call = with(&wait, std::os::fd::AsRawFd::as_raw_fd(&own));
            let waiter = std::thread::spawn(move || agent::obey(&call));
            // The first signals may come before it waits.
            while !waiter.is_finished() {
                // SAFETY: the thread is not joined yet, so its number is its own.
                #[allow(unsafe_code)]
                let _ = unsafe { libc::pthread_kill(waiter.as_pthread_t(), libc::SIGUSR1) };
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let answer = waiter.join().expect("the waiter");
            assert_eq!(answer, Err(Errno::INTR), "{wait}");
            // Nothing of the attempt is left: when the holder goes, another process has it at once.
            holder.kill();
            let mut next = Agent::new();
            let free = next.open(file, RDWR);
            assert!(next.call(&with(&take, free)).is_ok(), "{take}");
        }
    });
}

/// Children with copies of the descriptors come and go while somebody waits; for a wait only its holder matters.
#[test]
fn b15_fork_and_exit_while_waiting_change_nothing() {
    on_both(|file| {
        for (take, wait) in kinds() {
            let mut holder = Agent::new();
            let held = holder.open(file, RDWR);
            assert!(holder.call(&with(&take, held)).is_ok(), "{take}");
            let mut waiter = Agent::new();
            let wanted = waiter.open(file, RDWR);
            let waiting = waiter.start(&with(&wait, wanted));
            assert!(waiter.waits(waiting), "{wait}");
            for (agent, fd) in [(&mut waiter, wanted), (&mut holder, held)] {
                let child = agent.call(&format!("inherit {fd}")).expect("a child");
                end(&child);
            }
            assert!(waiter.waits(waiting), "{wait}");
            holder.kill();
            assert!(waiter.answer(waiting).is_ok(), "{wait}");
            // It is had: a third process gets it when the waiter ends, and not before.
            let mut third = Agent::new();
            let asked = third.open(file, RDWR);
            let next = third.start(&with(&wait, asked));
            assert!(third.waits(next), "{wait}");
            waiter.kill();
            assert!(third.answer(next).is_ok(), "{wait}");
        }
    });
}
