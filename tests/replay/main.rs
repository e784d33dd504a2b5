//! Recordings of a mount, carried out again without one.

#[path = "../harness/mod.rs"]
mod harness;
mod mounted;
mod storm;

use etcfs::replay::Recording;
use etcfs::replay::run::{Trees, run};
use etcfs::replay::tally::Tally;
use etcfs::replay::tree::make_up;
use etcfs_proto::Opcode;
use etcfs_proto::capture::{CaptureFlags, Conversation, Reader, Redactor, write_record};
use harness::private;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

/// The recording that ships with the tests.
const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/storm.etcfsrec");

/// Carries a recording out over a tree made up from it, in a fresh directory of `scratch`.
fn replay(scratch: &Path, bytes: &[u8]) -> Tally {
    let recording = Recording::read(bytes).expect("a recording");
    assert_eq!(recording.cut, None);
    let (local, global) = (scratch.join("replay"), scratch.join("replay-global"));
    for dir in [&local, &global] {
        fs::create_dir(dir).expect("a fresh directory");
    }
    make_up(&recording, &local, &global).expect("the trees are made up");
    let trees = Trees {
        local: &local,
        global: &global,
        are_copies: false,
    };
    let report = run(&recording, &trees).expect("the replay runs");
    for dir in [&local, &global] {
        fs::remove_dir_all(dir).expect("cleaning up");
    }
    report
}

fn count(report: &Tally, opcode: Opcode) -> usize {
    report
        .ops
        .get(&opcode)
        .map_or(0, |figures| figures.replayed.len())
}

#[test]
fn the_storm_that_ships_replays_without_a_difference() {
    private(DEADLINE, |env| {
        let bytes = fs::read(STORM).expect("tests/data/storm.etcfsrec");
        assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
        let report = replay(env.scratch(), &bytes);
        println!("{report}");
        assert_eq!(report.differing(), 0, "{report}");
        assert_eq!(report.left_out.values().sum::<usize>(), 0, "{report}");
        // The shape of U1: two and more readlinks for each open, and nearly as many listings as opens.
        let links = count(&report, Opcode::READLINK);
        let opens = count(&report, Opcode::OPEN) + count(&report, Opcode::OPENDIR);
        assert!(links > 300 && links > 2 * opens, "{report}");
        assert!(count(&report, Opcode::READDIR) * 2 > opens, "{report}");
        assert!(report.requests() > 1000, "{report}");
    });
}

/// With ETCFS_WRITE_STORM set, what this records becomes the file that ships.
#[test]
fn a_storm_recorded_here_replays_without_a_difference() {
    private(DEADLINE, |env| {
        let bytes = storm::record(env);
        if std::env::var_os("ETCFS_WRITE_STORM").is_some() {
            fs::write(STORM, &bytes).expect("writing the recording");
        }
        let report = replay(env.scratch(), &bytes);
        assert_eq!(report.differing(), 0, "{report}");
        let mut conversation = Conversation::default();
        let mut faults = Vec::new();
        let mut find = |finding: etcfs_proto::capture::Fault| {
            if finding.is_fault() {
                faults.push(finding);
            }
        };
        for record in Reader::new(&bytes).expect("a header") {
            conversation.record(&record.expect("whole records"), &mut find);
        }
        conversation.end(&mut find);
        assert_eq!(faults, []);
    });
}

/// Everything that names can do: the numbers of the recording must follow their objects through it.
fn busy(mnt: &Path) {
    fs::create_dir(mnt.join("made")).expect("mkdir");
    fs::write(mnt.join("made/new"), "a secret").expect("write");
    fs::rename(mnt.join("made/new"), mnt.join("made/newer")).expect("rename");
    fs::rename(mnt.join("old.conf"), mnt.join("made/old.conf")).expect("rename");
    fs::hard_link(mnt.join("made/newer"), mnt.join("link")).expect("link");
    symlink("made/newer", mnt.join("symlink")).expect("symlink");
    assert_eq!(fs::read(mnt.join("symlink")).expect("read"), b"a secret");
    fs::set_permissions(mnt.join("link"), PermissionsExt::from_mode(0o640)).expect("chmod");
    assert_eq!(fs::read_dir(mnt).expect("list").count(), 5);
    fs::remove_file(mnt.join("made/newer")).expect("unlink");
    fs::rename(mnt.join("made"), mnt.join("moved")).expect("rename");
    fs::write(mnt.join("moved/old.conf"), "b").expect("write");
    assert!(fs::remove_dir(mnt.join("moved")).is_err());
    assert!(fs::read(mnt.join("missing")).is_err());
    fs::remove_file(mnt.join("moved/old.conf")).expect("unlink");
    fs::remove_dir(mnt.join("moved")).expect("rmdir");
}

fn recorded_busy(env: &harness::Env, data: bool) -> Vec<u8> {
    let local = env.dir("etc");
    fs::write(local.join("old.conf"), "old").expect("write");
    fs::write(local.join("empty"), "").expect("write");
    mounted::record(env, &local, data, busy)
}

#[test]
fn changes_replay_without_a_difference_and_without_their_contents() {
    private(DEADLINE, |env| {
        let bytes = recorded_busy(env, false);
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|at| at == word);
        assert!(!holds(b"a secret"), "contents are left out");
        assert!(holds(b"made"), "names are not");
        let report = replay(env.scratch(), &bytes);
        assert_eq!(report.differing(), 0, "{report}");
        assert!(report.left_out.is_empty(), "{report}");
        let ops = [
            Opcode::RENAME2,
            Opcode::RENAME,
            Opcode::LINK,
            Opcode::SYMLINK,
            Opcode::RMDIR,
        ];
        for opcode in [Opcode::WRITE, Opcode::SETATTR, Opcode::UNLINK]
            .iter()
            .chain(&ops[2..])
        {
            assert!(
                count(&report, *opcode) > 0,
                "{opcode} is among them: {report}"
            );
        }
        assert!(count(&report, ops[0]) + count(&report, ops[1]) > 0);
    });
}

#[test]
fn contents_are_recorded_only_when_asked_for_and_then_compared() {
    private(DEADLINE, |env| {
        let bytes = recorded_busy(env, true);
        let header = Reader::new(&bytes).expect("a header").header();
        assert!(header.flags.contains(CaptureFlags::DATA));
        assert!(bytes.windows(8).any(|at| at == b"a secret"));
        let report = replay(env.scratch(), &bytes);
        assert_eq!(report.differing(), 0, "{report}");
    });
}

#[test]
fn a_recording_with_hidden_names_replays_as_well() {
    private(DEADLINE, |env| {
        let bytes = recorded_busy(env, false);
        let mut redactor = Redactor::new([9; 16]);
        let reader = Reader::new(&bytes).expect("a header");
        let mut hidden = reader.header().to_bytes().to_vec();
        for record in reader {
            let record = record.expect("whole records");
            let mut kept = record.kept.to_vec();
            redactor.message(&record, &mut kept);
            write_record(
                &mut hidden,
                &etcfs_proto::capture::Record {
                    kept: &kept,
                    ..record
                },
            );
        }
        for name in ["made", "moved", "missing", "symlink"] {
            assert!(
                !hidden.windows(name.len()).any(|at| at == name.as_bytes()),
                "{name}"
            );
        }
        let report = replay(env.scratch(), &hidden);
        assert_eq!(report.differing(), 0, "{report}");
    });
}

#[test]
fn another_tree_gives_differences_that_name_the_request() {
    private(DEADLINE, |env| {
        let bytes = recorded_busy(env, false);
        let recording = Recording::read(&bytes).expect("a recording");
        let (local, global) = (env.dir("other"), env.dir("other-global"));
        fs::write(local.join("missing"), "is here").expect("write");
        let trees = Trees {
            local: &local,
            global: &global,
            are_copies: true,
        };
        let report = run(&recording, &trees).expect("the replay runs");
        let told = report.to_string();
        assert!(report.differing() > 2, "{told}");
        assert!(
            told.contains("name=\"missing\"\n    answer: recorded ENOENT(2), replayed ok\n"),
            "{told}"
        );
        assert!(
            told.contains("name=\"old.conf\"\n    answer: recorded ok, replayed ENOENT(2)\n"),
            "{told}"
        );
        assert!(told.contains("\"empty\" is not listed"), "{told}");
        assert!(
            report
                .left_out
                .contains_key("about objects from before the recording"),
            "{told}"
        );
    });
}

#[test]
fn a_recording_that_begins_late_leaves_out_what_it_cannot_know() {
    private(DEADLINE, |env| {
        let bytes = recorded_busy(env, false);
        // Everything but the first answers, as if it had begun then.
        let reader = Reader::new(&bytes).expect("a header");
        let mut late = reader.header().to_bytes().to_vec();
        for (at, record) in reader.enumerate() {
            if at == 0 || at > 12 {
                write_record(&mut late, &record.expect("whole records"));
            }
        }
        let report = replay(env.scratch(), &late);
        assert!(!report.left_out.is_empty(), "{report}");
        let cut = &bytes[..bytes.len() - 7];
        let recording = Recording::read(cut).expect("its beginning is a recording");
        assert!(recording.cut.is_some() && recording.exchanges.len() > 30);
    });
}

#[test]
fn locks_that_were_waited_for_replay_without_a_difference() {
    use rustix::fs::{FlockOperation, flock};
    private(DEADLINE, |env| {
        let local = env.dir("etc");
        let bytes = mounted::record(env, &local, false, |mnt| {
            let open = || fs::File::create(mnt.join("lock")).expect("open");
            let (holder, waiter) = (open(), open());
            flock(&holder, FlockOperation::LockExclusive).expect("lock");
            let threads = || {
                fs::read_dir("/proc/self/task")
                    .expect("the threads")
                    .count()
            };
            let before = threads();
            let waits = std::thread::spawn(move || flock(&waiter, FlockOperation::LockExclusive));
            // The daemon's waiter is a thread of this process, too.
            while threads() < before + 2 && !waits.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(holder);
            waits.join().expect("the waiter").expect("it gets the lock");
        });
        let report = replay(env.scratch(), &bytes);
        assert_eq!(report.differing(), 0, "{report}");
        assert!(report.left_out.is_empty(), "{report}");
        assert_eq!(count(&report, Opcode::SETLKW), 2, "{report}");
    });
}
