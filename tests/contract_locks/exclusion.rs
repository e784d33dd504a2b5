//! Who excludes whom, on which files, and what F_GETLK says of it.

use std::fs;
use std::path::Path;

use rustix::io::Errno;

use crate::DEADLINE;
use crate::agent::Agent;
use crate::harness::{Env, private};
use crate::places::{AGAIN, RDONLY, RDWR, done, ok, on_both, one_file, two_strata};

/// Calls `body` with every two of a global file's places: in two strata, and beneath.
fn in_every_pair_of_places(env: &Env, body: impl Fn(&Path, &Path)) {
    let (alpha, beta, native) = two_strata(env, &[]);
    let places = [
        alpha.mnt().join("shared"),
        beta.mnt().join("shared"),
        native,
    ];
    for one in &places {
        for other in &places {
            body(one, other);
        }
    }
}

#[test]
fn posix_locks_exclude_across_strata_and_native_processes_b16() {
    private(DEADLINE, |env| {
        in_every_pair_of_places(env, |holder_place, other_place| {
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
        });
    });
}

#[test]
fn flock_excludes_across_strata_and_native_processes_b16() {
    private(DEADLINE, |env| {
        in_every_pair_of_places(env, |holder_place, other_place| {
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
        });
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

/// What leads to a file without a name are the descriptors of its handles, and one of those is closed at that moment: in
/// the first 50 rounds the lock failed when the daemon had let go of what it went through.
#[test]
fn a_removed_file_can_be_locked_while_other_handles_of_it_are_closed_9_7() {
    const OTHERS: usize = 24;
    const ROUNDS: u64 = 300;
    on_both(|file| {
        fs::remove_file(file).expect("rm");
        for round in 0..ROUNDS {
            fs::write(file, "").expect("write");
            let open = || fs::File::options().write(true).open(file).expect("open");
            let others: Vec<fs::File> = (0..OTHERS).map(|_| open()).collect();
            let own = open();
            fs::remove_file(file).expect("rm");
            let closing = std::thread::spawn(move || drop(others));
            std::thread::sleep(std::time::Duration::from_micros(round % 100));
            let fd = std::os::fd::AsRawFd::as_raw_fd(&own);
            let locked = crate::agent::obey(&format!("ofd_setlk {fd} w 0 0"));
            closing.join().expect("closed");
            assert_eq!(locked, ok(), "round {round}");
        }
    });
}

#[test]
fn getlk_names_the_holder_after_it_has_given_up_a_part_9_4() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let held = holder.open(file, RDWR);
        let asked = other.open(file, RDWR);
        assert_eq!(holder.call(&format!("setlk {held} w 0 50")), ok());
        let pid = holder.pid();
        let first = other.call(&format!("getlk {asked} w 0 5"));
        assert_eq!(first, Ok(format!("w 0 50 {pid}")));
        assert_eq!(holder.call(&format!("setlk {held} u 10 10")), ok());
        let rest = other.call(&format!("getlk {asked} w 0 5"));
        assert_eq!(rest, Ok(format!("w 0 10 {pid}")));
        let behind = other.call(&format!("getlk {asked} w 10 40"));
        assert_eq!(behind, Ok(format!("w 20 30 {pid}")));
    });
}

/// Natively a file that is open for writing cannot be run, and a reader's lock is no reason for that.
#[test]
fn a_program_runs_natively_and_in_another_stratum_while_a_reader_has_it_locked_9_6() {
    for options in [&[][..], &["passthrough"]] {
        private(DEADLINE, move |env| {
            let (alpha, beta, native) = two_strata(env, options);
            fs::copy("/bin/true", &native).expect("a program");
            let places = [beta.mnt().join("shared"), native.clone()];
            let mut reader = Agent::new();
            let fd = reader.open(&alpha.mnt().join("shared"), RDONLY);
            for lock in ["setlk", "ofd_setlk"] {
                assert_eq!(reader.call(&format!("{lock} {fd} r 0 0")), ok());
                for place in &places {
                    let ran = std::process::Command::new(place).status();
                    assert!(ran.expect("it runs").success(), "{lock} {options:?}");
                }
                assert_eq!(reader.call(&format!("{lock} {fd} u 0 0")), ok());
            }
        });
    }
}

/// What one process locks for reading through one descriptor and for writing through another is all its own, whichever
/// comes first, and nobody gets between.
#[test]
fn a_process_locks_for_reading_and_writing_through_two_descriptors_9_6() {
    on_both(|file| {
        let (mut holder, mut other) = (Agent::new(), Agent::new());
        let (reading, writing) = (holder.open(file, RDONLY), holder.open(file, RDWR));
        let wanted = other.open(file, RDWR);
        for start in [0, 20, 40] {
            assert_eq!(holder.call(&format!("setlk {reading} r {start} 10")), ok());
        }
        let waiting = other.start(&format!("setlkw {wanted} w 0 0"));
        assert!(other.waits(waiting));
        assert_eq!(holder.call(&format!("setlk {writing} w 5 20")), ok());
        assert!(other.waits(waiting));
        let pid = holder.pid();
        for (asked, answer) in [
            ("w 0 5", format!("r 0 5 {pid}")),
            ("r 0 100", format!("w 5 20 {pid}")),
            ("w 25 10", format!("r 25 5 {pid}")),
            ("w 40 1", format!("r 40 10 {pid}")),
        ] {
            let seen = other.call(&format!("getlk {wanted} {asked}"));
            assert_eq!(seen, Ok(answer), "{asked}");
        }
        assert_eq!(holder.call(&format!("setlk {reading} r 0 100")), ok());
        assert!(other.waits(waiting));
        assert_eq!(holder.call(&format!("close {writing}")), done());
        assert_eq!(other.answer(waiting), ok());
    });
}
