//! What a kill or a power cut at each step leaves.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Bases, Env, Etcfs, Lower, Opts, private, run};
use crate::{DEADLINE, NEW, OLD, STEPS, TEXT, dress, put};
use etcfs::fs::enforce::inject_file::Edited;
use etcfs::fs::enforce::original::EditStep;

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
fn killed_at(step: EditStep, dir: &Path, test: &str) -> bool {
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
        let test = "crashes::b9_killed_at_any_step_the_file_is_old_or_new_and_nothing_shows_through_the_mount";
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
            assert_eq!(outcome, Edited::Done);
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
                if matches!(step, EditStep::Durable | EditStep::ChangeSynced) {
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
