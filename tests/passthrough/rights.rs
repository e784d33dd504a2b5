//! The kernel opens the lower file again without any check of its own, so nothing may be granted that is denied
//! natively: every user, file mode and way to open is tried on the mount and natively, while ids are in force.

use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, counted, errno, private, run};
use crate::how::{Held, How, Mapping, PLAIN, PROGRAM};
use crate::{DEADLINE, passing};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount};
use rustix::thread::CapabilitySet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

/// Opens `name` below `root` in every way that open(2) has, and with truncation for readers; uses what opens.
fn every_open(root: &Path, name: &str) -> Vec<String> {
    let path = root.join(name);
    let page = [b'a'; 4096];
    let mut said: Vec<String> = PLAIN
        .into_iter()
        .map(|how| match how.open(&path, root) {
            Ok(mut held) => format!("{how:?}: {}", held.use_it(&page)),
            Err(errno) => format!("{how:?}: {errno:?}"),
        })
        .collect();
    // Linux truncates for a reader, too, and asks for the right to write then.
    let flags = OFlags::RDONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let truncated = rustix::fs::open(&path, flags, Mode::empty()).map(drop);
    let run = Command::new(&path).output().map(drop).map_err(errno);
    said.push(format!("truncating reader: {truncated:?}, run: {run:?}"));
    said
}

#[test]
fn every_user_mode_and_open_is_granted_and_denied_as_natively() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let roots = [etcfs.mnt(), etcfs.native()];
        let dac = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let users = [
            User::plain(1000),
            User::plain(1001).in_groups(&[1000]),
            User::plain(1002),
            User::root_without(dac),
            User::plain(1003).with(CapabilitySet::DAC_READ_SEARCH),
            User::plain(0),
        ];
        for root in &roots {
            let dir = root.join("dir");
            fs::create_dir(&dir).expect("mkdir");
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        }
        for mode in [
            0o000, 0o400, 0o200, 0o600, 0o040, 0o020, 0o060, 0o004, 0o002, 0o646, 0o755,
        ] {
            for user in &users {
                let outcomes = roots.each_ref().map(|root| {
                    let dir = root.join("dir");
                    let path = dir.join("file");
                    fs::write(&path, [b'x'; 5000]).expect("write");
                    chown(&path, Some(1000), Some(1000)).expect("chown");
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
                    // Root has it open, so an id is in force that every open would share.
                    let held = OpenOptions::new().read(true).write(true).open(&path);
                    let held = held.expect("root opens it");
                    let said = as_user(user, || every_open(&dir, "file"));
                    let mut all = vec![0; 20_000];
                    let len = held.read_at(&mut all, 0).expect("read");
                    fs::remove_file(&path).expect("unlink");
                    (said, len, crate::harness::fnv(&all))
                });
                assert_eq!(
                    outcomes[0], outcomes[1],
                    "mode {mode:o}, {user:?}: mount, native"
                );
            }
        }
        for op in ["READ", "WRITE"] {
            assert_eq!(counted(&etcfs, op), 0, "{op}");
        }
    });
}

#[test]
fn immutable_and_append_only_files_are_what_they_are_natively() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        // The root of the file system shows both directories, and takes chattr's ioctl.
        let lower = [etcfs.local(), etcfs.native()];
        for flag in ["i", "a"] {
            for dir in &lower {
                fs::write(dir.join(flag), [b'x'; 5000]).expect("write");
                run(Command::new("chattr")
                    .arg(format!("+{flag}"))
                    .arg(dir.join(flag)))
                .expect("chattr");
            }
            let reader = File::open(etcfs.mnt().join(flag)).expect("it can be read");
            let outcomes = [etcfs.mnt(), etcfs.native()].map(|root| every_open(&root, flag));
            assert_eq!(outcomes[0], outcomes[1], "chattr +{flag}: mount, native");
            let denied = outcomes[1].iter().filter(|said| said.contains("code: 1,"));
            assert!(denied.count() >= 3, "{outcomes:?}");
            drop(reader);
            for dir in &lower {
                run(Command::new("chattr")
                    .arg(format!("-{flag}"))
                    .arg(dir.join(flag)))
                .expect("chattr");
            }
        }
    });
}

#[test]
fn an_append_only_file_is_only_appended_to_whatever_is_done_with_its_handle() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let before = [b'x'; 5000];
        let sides = [
            (etcfs.mnt(), etcfs.local()),
            (etcfs.native(), etcfs.native()),
        ];
        let outcomes = sides.map(|(root, lower)| {
            let path = lower.join("log");
            fs::write(&path, before).expect("write");
            run(Command::new("chattr").arg("+a").arg(&path)).expect("chattr");
            let reader = File::open(root.join("log")).expect("open for reading");
            let log = OpenOptions::new()
                .read(true)
                .append(true)
                .open(root.join("log"));
            let log = log.expect("open for appending");
            let mapped = Mapping::of(&log).map(|mut mapping| {
                mapping.store(b'm');
                log.sync_all().map_err(errno)
            });
            let cut = log.set_len(10).map_err(errno);
            // The kernel lets the flag go, because it does not know what kind of file lies below.
            let _ = rustix::fs::fcntl_setfl(&log, OFlags::empty());
            let written = log.write_at(b"over", 0).map_err(errno);
            drop((reader, log));
            run(Command::new("chattr").arg("-a").arg(&path)).expect("chattr");
            (mapped, cut, written, fs::read(&path).expect("read"))
        });
        let [mount, native] = outcomes;
        assert_eq!(
            native.0.err(),
            Some(Errno::ACCESS),
            "natively it is not mapped"
        );
        assert_eq!(mount.1, native.1, "truncated: mount, native");
        assert_eq!(mount.2, native.2, "written: mount, native");
        assert!(
            mount.3 == native.3,
            "the bytes are those that there are natively"
        );
    });
}

#[test]
fn a_read_only_lower_file_system_is_read_and_refuses_the_rest() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Ext4);
        for dir in [bases.local(), bases.native()] {
            fs::write(dir.join("f"), [b'x'; 5000]).expect("write");
        }
        let fs_root = bases.mnt().parent().expect("a parent").to_owned();
        mount_remount(&fs_root, MountFlags::RDONLY, c"").expect("make it read-only");
        let etcfs = Etcfs::serve(
            env,
            bases,
            Opts {
                lower: Lower::Ext4,
                options: vec!["passthrough".into()],
                ..Opts::default()
            },
        );
        assert_eq!(etcfs.stderr(), "");
        let held = File::open(etcfs.mnt().join("f")).expect("it can be read");
        let outcomes = [etcfs.mnt(), etcfs.native()].map(|root| every_open(&root, "f"));
        assert_eq!(outcomes[0], outcomes[1], "mount, native");
        let denied = outcomes[1].iter().filter(|said| said.contains("code: 30,"));
        assert!(denied.count() >= 5, "{outcomes:?}");
        drop(held);
        assert_eq!(counted(&etcfs, "READ"), 0);
    });
}

#[test]
fn a_running_program_is_not_written_and_a_written_one_not_run_on_either_side() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let (upper, lower) = (etcfs.mnt().join("program"), etcfs.local().join("program"));
        fs::copy(PROGRAM, &upper).expect("copy");
        let dir = etcfs.mnt();
        let busy = Some(Errno::TXTBSY);
        let write = [How::Wronly, How::Rdwr, How::Append, How::Trunc];
        for runs in [&upper, &lower] {
            let program = How::Exec.open(runs, &dir).expect("run it");
            for how in write {
                let at = runs.display();
                assert_eq!(
                    how.open(&upper, &dir).err(),
                    busy,
                    "{how:?} while {at} runs"
                );
            }
            drop(program);
        }
        for opened in [&upper, &lower] {
            let held: Held = How::Wronly.open(opened, &dir).expect("open for writing");
            let at = opened.display();
            assert_eq!(How::Exec.open(&upper, &dir).err(), busy, "{at} is written");
            drop(held);
        }
        // A client's handle for writing is one of the lower file as well.
        let held = How::Wronly.open(&upper, &dir).expect("open for writing");
        assert_eq!(How::Exec.open(&lower, &dir).err(), busy, "run beneath");
        drop(held);
        How::Exec
            .open(&upper, &dir)
            .expect("nobody writes it any more");
    });
}

/// The end of an open comes to the daemon after close(2) has returned, and a lock held by a reader is held through a
/// descriptor for writing below: neither is a writer.
#[test]
fn a_program_runs_right_after_it_was_written_and_while_a_reader_has_locked_it() {
    private(DEADLINE, |env| {
        for options in [&[][..], &["passthrough"]] {
            let name = format!("with-{}", options.len());
            let etcfs = Etcfs::serve(
                env,
                Bases::new(env, Lower::Tmpfs),
                Opts {
                    options: options.iter().map(|&o| o.to_owned()).collect(),
                    ..Opts::default()
                },
            );
            let path = etcfs.mnt().join(name);
            for round in 0..100 {
                fs::copy(PROGRAM, &path).expect("copy");
                let ran = How::Exec.open(&path, &path).map(drop);
                assert_eq!(ran, Ok(()), "round {round}, {options:?}");
            }
            let reader = File::open(&path).expect("open for reading");
            rustix::fs::flock(&reader, FlockOperation::LockExclusive).expect("flock");
            rustix::fs::fcntl_lock(&reader, FlockOperation::LockShared).expect("lock");
            let ran = How::Exec.open(&path, &path).map(drop);
            assert_eq!(ran, Ok(()), "locked, {options:?}");
            drop(reader);
            drop(etcfs);
            rustix::mount::unmount(env.dir("fs"), UnmountFlags::DETACH).expect("unmount");
        }
    });
}
