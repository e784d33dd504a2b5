//! The editing of injected files, step by step: what a kill or a power cut at each step leaves (contract B9), what is
//! kept of the original (B34), and that no writer's change is lost.

mod harness;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etcfs::fs::enforce::inject_file::{Change, Outcome, Step, edit};
use harness::{Bases, Env, Etcfs, Lower, Opts, private, run, snapshot};
use rustix::fd::AsFd;
use rustix::fs::XattrFlags;
use rustix::mount::MountFlags;

const DEADLINE: Duration = Duration::from_secs(120);
const OLD: &[u8] = b"first line\nlast line";
const TEXT: &[u8] = b"# INJECTED\nmore\n";
const NEW: &[u8] = b"first line\nlast line\n# INJECTED\nmore\n";

/// All steps that an edit may take.
const STEPS: [Step; 11] = [
    Step::Written,
    Step::Dressed,
    Step::Synced,
    Step::Named,
    Step::Switched,
    Step::Removed,
    Step::Durable,
    Step::Marked,
    Step::Changed,
    Step::ChangeSynced,
    Step::Unmarked,
];

fn put(dir: &Path, name: &str, reached: &mut dyn FnMut(Step)) -> Outcome {
    let dir = File::open(dir).expect("open the directory");
    let name = CString::new(name).expect("a name");
    edit(dir.as_fd(), &name, Change::Put(TEXT), reached).expect("edit")
}

/// A file with everything that an edit must keep.
fn dress(path: &Path) {
    fs::write(path, OLD).unwrap();
    std::os::unix::fs::chown(path, Some(1000), Some(1001)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::setxattr(path, "user.note", b"kept", XattrFlags::empty()).unwrap();
    run(Command::new("setfacl").args(["-m", "u:1234:r"]).arg(path)).unwrap();
    let date = ["-m", "-d", "2001-02-03 04:05:06.789 UTC"];
    run(Command::new("touch").args(date).arg(path)).unwrap();
}

fn without_data(dir: &Path) -> Vec<String> {
    let tree = snapshot(dir, &["lost+found"]);
    tree.into_iter()
        .map(|(path, mut entry)| {
            entry.data = String::new();
            entry.size = 0;
            format!("{}: {entry:?}", path.display())
        })
        .collect()
}

#[test]
fn b34_owner_mode_acl_attributes_and_times_are_kept() {
    private(DEADLINE, |env| {
        for lower in [Lower::Tmpfs, Lower::Ext4] {
            let dir = env.dir(&format!("{lower:?}"));
            lower.mount(env, &dir).unwrap();
            // What the directory hands down must not reach the file.
            run(Command::new("setfacl")
                .args(["-d", "-m", "u:4321:rwx"])
                .arg(&dir))
            .unwrap();
            let path = dir.join("file");
            dress(&path);
            let before = fs::metadata(&path).unwrap();
            let expected = without_data(&dir);
            assert_eq!(put(&dir, "file", &mut |_| {}), Outcome::Done);
            assert_eq!(fs::read(&path).unwrap(), NEW);
            let entries = |list: Vec<String>| list[1..].to_vec();
            assert_eq!(entries(without_data(&dir)), entries(expected));
            let after = fs::metadata(&path).unwrap();
            assert_eq!(
                (after.mtime(), after.mtime_nsec()),
                (before.mtime(), before.mtime_nsec())
            );
            assert_eq!(put(&dir, "file", &mut |_| {}), Outcome::InPlace);
        }
    });
}

#[test]
fn b34_a_file_with_two_names_stays_one_file() {
    private(DEADLINE, |env| {
        for lower in [Lower::Tmpfs, Lower::Ext4] {
            let dir = env.dir(&format!("{lower:?}"));
            lower.mount(env, &dir).unwrap();
            let (one, two) = (dir.join("one"), dir.join("two"));
            dress(&one);
            fs::hard_link(&one, &two).unwrap();
            let before = fs::metadata(&one).unwrap();
            let mut expected = without_data(&dir);
            assert_eq!(put(&dir, "one", &mut |_| {}), Outcome::Done);
            assert_eq!(fs::read(&one).unwrap(), NEW);
            assert_eq!(fs::read(&two).unwrap(), NEW);
            let take = |reached: &mut dyn FnMut(Step)| {
                let at = File::open(&dir).unwrap();
                edit(at.as_fd(), c"two", Change::Take(TEXT), reached).unwrap()
            };
            assert_eq!(take(&mut |_| {}), Outcome::Done);
            assert_eq!(fs::read(&one).unwrap(), b"first line\nlast line\n");
            let after = fs::metadata(&one).unwrap();
            assert_eq!(after.ino(), before.ino());
            assert_eq!(
                (after.mtime(), after.mtime_nsec()),
                (before.mtime(), before.mtime_nsec())
            );
            let mut found = without_data(&dir);
            assert_eq!(found.split_off(1), expected.split_off(1));
            // From the middle it cannot be taken without tearing: the name parts from the other one.
            fs::write(&one, [NEW, b"after\n"].concat()).unwrap();
            assert_eq!(take(&mut |_| {}), Outcome::Done);
            assert_eq!(fs::read(&two).unwrap(), b"first line\nlast line\nafter\n");
            assert_eq!(fs::read(&one).unwrap(), [NEW, b"after\n"].concat());
        }
    });
}

#[test]
fn a_link_that_a_user_may_have_made_is_not_written_through() {
    private(DEADLINE, |env| {
        let dir = env.dir("lower");
        let own = env.dir("lower/own");
        fs::write(dir.join("shadow"), OLD).unwrap();
        fs::hard_link(dir.join("shadow"), own.join("file")).unwrap();
        std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
        assert_eq!(put(&own, "file", &mut |_| {}), Outcome::Done);
        assert_eq!(fs::read(own.join("file")).unwrap(), NEW);
        assert_eq!(fs::read(dir.join("shadow")).unwrap(), OLD);
    });
}

#[test]
fn s16_a_full_file_system_keeps_the_old_file_and_nothing_else() {
    private(DEADLINE, |env| {
        let dir = env.dir("full");
        let size = c"size=16k";
        rustix::mount::mount("full", &dir, "tmpfs", MountFlags::empty(), size).unwrap();
        fs::write(dir.join("file"), OLD).unwrap();
        fs::write(dir.join("linked"), [b'x'; 4096]).unwrap();
        fs::hard_link(dir.join("linked"), dir.join("link")).unwrap();
        let fill = fs::write(dir.join("fill"), [0; 16384]).unwrap_err();
        assert_eq!(fill.raw_os_error(), Some(libc::ENOSPC));
        let at = File::open(&dir).unwrap();
        for name in [c"file", c"linked"] {
            let result = edit(at.as_fd(), name, Change::Put(TEXT), &mut |_| {});
            assert_eq!(result, Err(rustix::io::Errno::NOSPC), "{name:?}");
        }
        assert_eq!(fs::read(dir.join("file")).unwrap(), OLD);
        assert_eq!(fs::read(dir.join("link")).unwrap(), [b'x'; 4096]);
        let marked = rustix::fs::getxattr(dir.join("link"), "trusted.etcfs.length", &mut [0; 8]);
        assert!(marked.is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4);
    });
}

#[test]
fn a_half_written_append_is_taken_back() {
    private(DEADLINE, |env| {
        let dir = env.dir("lower");
        Lower::Ext4.mount(env, &dir).unwrap();
        let (one, two) = (dir.join("one"), dir.join("two"));
        for torn in [&b"\n# INJ"[..], b"\n", b"\n# INJECTED\nmore"] {
            let _ = fs::remove_file(&one);
            let _ = fs::remove_file(&two);
            fs::write(&one, [OLD, torn].concat()).unwrap();
            fs::hard_link(&one, &two).unwrap();
            let length = (OLD.len() as u64).to_le_bytes();
            rustix::fs::setxattr(&one, "trusted.etcfs.length", &length, XattrFlags::empty())
                .unwrap();
            assert_eq!(put(&dir, "one", &mut |_| {}), Outcome::Done);
            assert_eq!(fs::read(&two).unwrap(), NEW, "{}", torn.escape_ascii());
            assert!(rustix::fs::getxattr(&one, "trusted.etcfs.length", &mut [0; 8]).is_err());
        }
        // Lines that somebody has added since are not a part of the text and stay.
        fs::write(&one, [OLD, b"\nmine\n"].concat()).unwrap();
        let length = (OLD.len() as u64).to_le_bytes();
        rustix::fs::setxattr(&one, "trusted.etcfs.length", &length, XattrFlags::empty()).unwrap();
        assert_eq!(put(&dir, "one", &mut |_| {}), Outcome::Done);
        assert_eq!(fs::read(&one).unwrap(), [OLD, b"\nmine\n", TEXT].concat());
    });
}

/// Edits in a process of its own that ends itself, without any cleaning up, at the step that the environment names.
const KILL_AT: &str = "ETCFS_TEST_KILL_AT";
const KILL_IN: &str = "ETCFS_TEST_KILL_IN";

fn edit_and_end_at(step: &str, dir: &Path) {
    put(dir, "file", &mut |reached| {
        if format!("{reached:?}") == step {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    });
}

/// Runs this very test once more as a child that is to be killed at `step`; true if it was.
fn killed_at(step: Step, dir: &Path, test: &str) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(KILL_AT, format!("{step:?}"))
        .env(KILL_IN, dir)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL)
}

#[test]
fn b9_killed_at_any_step_the_file_is_old_or_new_and_nothing_shows_through_the_mount() {
    if let (Some(step), Some(dir)) = (std::env::var_os(KILL_AT), std::env::var_os(KILL_IN)) {
        return edit_and_end_at(step.to_str().unwrap(), Path::new(&dir));
    }
    private(DEADLINE, |env| {
        let source = env.scratch().join("source");
        fs::write(&source, TEXT).unwrap();
        let bases = Bases::new(env, Lower::Ext4);
        let test =
            "b9_killed_at_any_step_the_file_is_old_or_new_and_nothing_shows_through_the_mount";
        let mut kills = Vec::new();
        for linked in [false, true] {
            for step in STEPS {
                let dir = bases.local().join(format!("{step:?}{linked}"));
                fs::create_dir(&dir).unwrap();
                dress(&dir.join("file"));
                if linked {
                    fs::hard_link(dir.join("file"), dir.join("link")).unwrap();
                }
                if killed_at(step, &dir, test) {
                    kills.push(step);
                }
                let content = fs::read(dir.join("file")).unwrap();
                assert!(
                    content == OLD || content == NEW,
                    "{step:?}: {}",
                    content.escape_ascii()
                );
            }
        }
        assert_eq!(kills, STEPS, "every step was taken, one way or the other");
        // The next daemon finishes the work and shows none of the leftovers.
        let etcfs = Etcfs::serve(env, bases, Opts::default());
        for linked in [false, true] {
            for step in STEPS {
                let name = format!("{step:?}{linked}");
                let line = format!("add_override inject /{name}/file {}", source.display());
                etcfs.write_config(&[line]).unwrap();
                let dir = etcfs.mnt().join(&name);
                assert_eq!(fs::read(dir.join("file")).unwrap(), NEW, "{name}");
                let mut names: Vec<_> = fs::read_dir(&dir)
                    .unwrap()
                    .map(|e| e.unwrap().file_name())
                    .collect();
                names.sort();
                let expected: &[&str] = if linked { &["file", "link"] } else { &["file"] };
                assert_eq!(names, expected, "{name}");
                if linked {
                    assert_eq!(fs::read(dir.join("link")).unwrap(), NEW, "{name}");
                }
            }
        }
    });
}

/// A small ext4 in an image file. Returns the image.
fn small_ext4(env: &Env, at: &Path) -> PathBuf {
    let image = env.scratch().join("power.img");
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image)).unwrap();
    run(Command::new("mount")
        .args(["-o", "loop,commit=300"])
        .arg(&image)
        .arg(at))
    .unwrap();
    image
}

#[test]
fn b9_after_a_power_cut_at_any_step_the_disk_holds_the_old_file_or_the_new() {
    private(DEADLINE, |env| {
        let at = env.dir("power");
        let image = small_ext4(env, &at);
        let mut seen = Vec::new();
        for linked in [false, true] {
            let dir = at.join(format!("dir{linked}"));
            fs::create_dir(&dir).unwrap();
            dress(&dir.join("file"));
            if linked {
                fs::hard_link(dir.join("file"), dir.join("link")).unwrap();
            }
            rustix::fs::syncfs(File::open(&at).unwrap()).unwrap();
            // What the block device has been given at this moment is what a power cut leaves.
            let mut copies = Vec::new();
            let outcome = put(&dir, "file", &mut |step| {
                let copy = env.scratch().join(format!("{step:?}{linked}.img"));
                fs::copy(&image, &copy).unwrap();
                copies.push((step, copy));
            });
            assert_eq!(outcome, Outcome::Done);
            let mut was_new = false;
            for (step, copy) in copies {
                let after = env.dir("after");
                run(Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&copy)
                    .arg(&after))
                .unwrap();
                let dir = after.join(format!("dir{linked}"));
                let content = fs::read(dir.join("file")).unwrap();
                assert!(
                    content == OLD || content == NEW,
                    "{step:?}: {}",
                    content.escape_ascii()
                );
                assert!(
                    !was_new || content == NEW,
                    "{step:?}: new content is not lost again"
                );
                was_new |= content == NEW;
                if matches!(step, Step::Durable | Step::ChangeSynced) {
                    assert_eq!(content, NEW, "{step:?}");
                }
                let meta = fs::metadata(dir.join("file")).unwrap();
                assert_eq!(
                    (meta.uid(), meta.gid(), meta.mode() & 0o777),
                    (1000, 1001, 0o640)
                );
                // And the next edit completes it.
                put(&dir, "file", &mut |_| {});
                assert_eq!(fs::read(dir.join("file")).unwrap(), NEW, "{step:?}");
                if linked {
                    assert_eq!(fs::read(dir.join("link")).unwrap(), NEW, "{step:?}");
                }
                rustix::mount::unmount(&after, rustix::mount::UnmountFlags::empty()).unwrap();
                fs::remove_file(&copy).unwrap();
                seen.push(step);
            }
        }
        assert_eq!(seen, STEPS);
    });
}

#[test]
fn a_writer_that_comes_at_any_step_loses_nothing() {
    private(DEADLINE, |env| {
        let dir = env.dir("lower");
        Lower::Ext4.mount(env, &dir).unwrap();
        let path = dir.join("file");
        for at in STEPS.into_iter().take_while(|step| *step != Step::Switched) {
            fs::write(&path, OLD).unwrap();
            let mut written = false;
            let outcome = put(&dir, "file", &mut |step| {
                if step == at && !written {
                    written = true;
                    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                    file.write_all(b"\nwriter").unwrap();
                }
            });
            assert!(written, "{at:?}");
            assert_eq!(outcome, Outcome::Done, "{at:?}");
            let expected = [OLD, b"\nwriter\n", TEXT].concat();
            assert_eq!(fs::read(&path).unwrap(), expected, "{at:?}");
        }
        // Whoever has the file open for writing is left alone.
        fs::write(&path, OLD).unwrap();
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(put(&dir, "file", &mut |_| {}), Outcome::Busy);
        assert_eq!(fs::read(&path).unwrap(), OLD);
        drop(writer);
        // Whoever wants to write at the moment of the switch gets the old file back, in its place.
        let mut wanted = false;
        let outcome = put(&dir, "file", &mut |step| {
            if step == Step::Switched && !wanted {
                wanted = true;
                let hidden = fs::read_dir(&dir)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .find(|path| {
                        path.file_name()
                            .unwrap()
                            .as_bytes()
                            .starts_with(b".etcfs-hidden-")
                    })
                    .expect("the old file has a hidden name");
                let refused = OpenOptions::new()
                    .append(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(hidden);
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
            }
        });
        assert_eq!(outcome, Outcome::Busy);
        assert_eq!(fs::read(&path).unwrap(), OLD);
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            2,
            "file and lost+found"
        );
    });
}
