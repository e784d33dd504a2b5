//! The steps of a copy: what is left when it ends after any of them, and what happens when others interfere between
//! them.

use super::carried::{set_times, state};
use super::harness::{Etcfs, Lower, private, run};
use super::{DEADLINE, Sides, leftovers};
use etcfs::fs::asker::Daemon;
use etcfs::fs::cross::{CopyStep, Errand, Move, copy_across, rename_natively};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two directories on different file systems, without a daemon.
fn with_dirs(body: impl Fn(&Path, &Path) + Send + 'static) {
    private(DEADLINE, move |env| {
        let bases = Sides::Apart(Lower::Tmpfs, Lower::Disk).make(env);
        body(&bases.local(), &bases.global());
    });
}

/// Moves `from/old` to `to/new`, calling `reached` after every step.
fn across(
    from: &Path,
    to: &Path,
    no_replace: bool,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<(), Errno> {
    let (from, to) = (
        File::open(from).expect("open"),
        File::open(to).expect("open"),
    );
    let work = Move {
        from: from.as_fd(),
        old: c"old",
        to: to.as_fd(),
        new: c"new",
        no_replace,
    };
    assert_eq!(rename_natively(&work, &Daemon), Err(Errno::XDEV));
    copy_across(&work, &Errand::unbounded(), reached)
}

/// What stands at a name: contents, a link's target, or nothing.
fn at(path: PathBuf) -> Option<String> {
    match fs::read_link(&path) {
        Ok(target) => Some(format!("-> {}", target.display())),
        Err(_) => fs::read_to_string(path).ok(),
    }
}

fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).expect("list").flatten() {
        fs::remove_file(entry.path()).expect("remove");
    }
}

/// A panic in the hook ends the copy where it is; no code runs after it but the closing of descriptors, which is what
/// the kernel does for a process that is killed.
fn killed_after(step: CopyStep, from: &Path, to: &Path) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        across(from, to, false, &mut |reached| assert_ne!(reached, step))
    }));
    std::panic::set_hook(hook);
    match ended {
        Ok(result) => {
            assert_eq!(result, Ok(()));
            false
        }
        Err(_) => true,
    }
}

const STEPS: [CopyStep; 9] = [
    CopyStep::Found,
    CopyStep::Copied,
    CopyStep::Dressed,
    CopyStep::Synced,
    CopyStep::Named,
    CopyStep::Published,
    CopyStep::Durable,
    CopyStep::SetAside,
    CopyStep::Removed,
];

#[test]
fn b4_a_crash_after_any_step_loses_neither_file() {
    with_dirs(|from, to| {
        let mut stopped = BTreeSet::new();
        for is_link in [false, true] {
            for replaced in [false, true] {
                for step in STEPS {
                    clear(from);
                    clear(to);
                    let source = if is_link {
                        symlink("source", from.join("old")).expect("symlink");
                        "-> source"
                    } else {
                        fs::write(from.join("old"), "source").expect("write");
                        "source"
                    };
                    if replaced {
                        fs::write(to.join("new"), "target").expect("write");
                    }
                    if killed_after(step, from, to) {
                        stopped.insert(step);
                    }
                    let (old, new) = (at(from.join("old")), at(to.join("new")));
                    let what =
                        format!("after {step:?}, {source}, over {replaced}: {old:?} {new:?}");
                    let moved = new.as_deref() == Some(source);
                    if step < CopyStep::Published {
                        let before = replaced.then(|| "target".to_owned());
                        assert!(new == before || moved, "{what}");
                    } else {
                        assert!(moved, "{what}");
                    }
                    if step < CopyStep::SetAside {
                        assert!(old.as_deref() == Some(source) || moved, "{what}");
                    } else {
                        assert_eq!(old, None, "{what}");
                    }
                    assert!(old.is_none() || old.as_deref() == Some(source), "{what}");
                    // What is left over is swept once nobody can be using it, and a second try completes the move.
                    for dir in [from, to] {
                        let dir = File::open(dir).expect("open");
                        etcfs::fs::staging::sweep::sweep(dir.as_fd(), -1).expect("sweep");
                    }
                    assert!(
                        leftovers(from).is_empty() && leftovers(to).is_empty(),
                        "{what}"
                    );
                    if old.is_some() {
                        assert_eq!(across(from, to, false, &mut |_| {}), Ok(()), "{what}");
                    }
                    assert_eq!(at(to.join("new")).as_deref(), Some(source), "{what}");
                    assert_eq!(at(from.join("old")), None, "{what}");
                }
            }
        }
        assert_eq!(stopped, BTreeSet::from(STEPS), "every step was stopped at");
    });
}

#[test]
fn the_steps_come_in_their_order() {
    with_dirs(|from, to| {
        fs::write(from.join("old"), "source").expect("write");
        fs::write(to.join("new"), "target").expect("write");
        let mut seen = Vec::new();
        assert_eq!(across(from, to, false, &mut |step| seen.push(step)), Ok(()));
        assert_eq!(seen, STEPS);
    });
}

/// B4: at no moment does the target's name lead to something that is not the whole file, its metadata included.
#[test]
fn b4_metadata_is_complete_before_the_name_appears() {
    with_dirs(|from, to| {
        for replaced in [false, true] {
            clear(from);
            clear(to);
            let source = from.join("old");
            fs::write(&source, "source").expect("write");
            chown(&source, Some(1000), Some(1001)).expect("chown");
            fs::set_permissions(&source, fs::Permissions::from_mode(0o6640)).expect("chmod");
            run(Command::new("setfacl")
                .args(["-m", "u:1234:rw"])
                .arg(&source))
            .expect("setfacl");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&source, "user.note", b"kept", flags).expect("setxattr");
            set_times(&source);
            if replaced {
                fs::write(to.join("new"), "target").expect("write");
            }
            let whole = state(&source);
            let old = replaced.then(|| state(&to.join("new")));
            let mut seen = Vec::new();
            let moved = across(from, to, false, &mut |step| {
                let target = to.join("new");
                let now = target.exists().then(|| state(&target));
                if step < CopyStep::Published {
                    assert_eq!(now, old, "{step:?}");
                } else {
                    assert_eq!(now.as_ref(), Some(&whole), "{step:?}");
                }
                if step == CopyStep::Named {
                    let hidden = leftovers(to);
                    assert_eq!(hidden.len(), 1, "{hidden:?}");
                    let place = to.join(&hidden[0]);
                    let stat = fs::metadata(&place).expect("stat");
                    assert_eq!((stat.uid(), stat.mode() & 0o7777), (0, 0o700));
                    let object = leftovers(&place).pop().expect("the object");
                    assert_eq!(state(&place.join(object)), whole);
                }
                seen.push(step);
            });
            assert_eq!(moved, Ok(()));
            assert!(seen.contains(&CopyStep::Published) && seen.contains(&CopyStep::Durable));
            assert_eq!(seen.contains(&CopyStep::Named), replaced, "{seen:?}");
        }
    });
}

#[test]
fn a_source_written_to_during_the_copy_is_copied_again() {
    for step in [
        CopyStep::Copied,
        CopyStep::Synced,
        CopyStep::Published,
        CopyStep::Durable,
    ] {
        with_dirs(move |from, to| {
            fs::write(from.join("old"), "before").expect("write");
            fs::write(to.join("new"), "target").expect("write");
            let mut written = false;
            let result = across(from, to, false, &mut |reached| {
                if reached == step && !written {
                    written = true;
                    fs::write(from.join("old"), "after!").expect("write");
                }
            });
            assert_eq!(result, Ok(()));
            assert_eq!(at(to.join("new")).as_deref(), Some("after!"), "{step:?}");
            assert_eq!(at(from.join("old")), None);
            assert!(leftovers(from).is_empty() && leftovers(to).is_empty());
        });
    }
}

#[test]
fn a_source_that_never_stops_changing_is_left_to_mv() {
    with_dirs(|from, to| {
        fs::write(from.join("old"), "0").expect("write");
        fs::write(to.join("new"), "target").expect("write");
        let mut n = 0;
        let result = across(from, to, false, &mut |reached| {
            if reached == CopyStep::Copied {
                n += 1;
                fs::write(from.join("old"), format!("{n:05}")).expect("write");
            }
        });
        assert_eq!(result, Err(Errno::XDEV));
        assert_eq!(at(to.join("new")).as_deref(), Some("target"));
        assert_eq!(at(from.join("old")), Some(format!("{n:05}")));
        assert!(leftovers(from).is_empty() && leftovers(to).is_empty());
    });
}

#[test]
fn a_file_put_in_the_sources_place_is_never_lost() {
    for step in [
        CopyStep::Found,
        CopyStep::Synced,
        CopyStep::Published,
        CopyStep::Durable,
    ] {
        with_dirs(move |from, to| {
            fs::write(from.join("old"), "first").expect("write");
            let mut swapped = false;
            let result = across(from, to, false, &mut |reached| {
                if reached == step && !swapped {
                    swapped = true;
                    fs::write(from.join("swap"), "second").expect("write");
                    fs::rename(from.join("swap"), from.join("old")).expect("rename");
                }
            });
            // It is moved in its turn.
            assert_eq!(result, Ok(()), "{step:?}");
            assert_eq!(at(to.join("new")).as_deref(), Some("second"), "{step:?}");
            assert_eq!(at(from.join("old")), None);
            assert!(leftovers(from).is_empty() && leftovers(to).is_empty());
        });
    }
}

#[test]
fn a_symlink_put_in_the_sources_place_is_not_followed() {
    with_dirs(|from, to| {
        fs::write(from.join("secret"), "secret").expect("write");
        fs::write(from.join("old"), "first").expect("write");
        let mut swapped = false;
        let result = across(from, to, false, &mut |reached| {
            if reached == CopyStep::Durable && !swapped {
                swapped = true;
                symlink("secret", from.join("swap")).expect("symlink");
                fs::rename(from.join("swap"), from.join("old")).expect("rename");
            }
        });
        assert_eq!(result, Ok(()));
        assert_eq!(at(to.join("new")).as_deref(), Some("-> secret"));
        assert_eq!(at(from.join("secret")).as_deref(), Some("secret"));
    });
}

#[test]
fn a_target_that_appears_is_not_replaced_if_that_was_asked() {
    for is_link in [false, true] {
        with_dirs(move |from, to| {
            if is_link {
                symlink("source", from.join("old")).expect("symlink");
            } else {
                fs::write(from.join("old"), "source").expect("write");
            }
            let result = across(from, to, true, &mut |reached| {
                if reached == CopyStep::Dressed {
                    fs::write(to.join("new"), "theirs").expect("write");
                }
            });
            assert_eq!(result, Err(Errno::EXIST));
            assert_eq!(at(to.join("new")).as_deref(), Some("theirs"));
            assert!(at(from.join("old")).is_some());
            assert!(leftovers(from).is_empty() && leftovers(to).is_empty());
        });
    }
}

#[test]
fn what_cannot_be_removed_is_not_copied_first() {
    with_dirs(|from, to| {
        // The direction with chattr's flags on the disk as the source.
        fs::write(to.join("old"), "source").expect("write");
        let chattr = |flag: &str, path: &Path| {
            super::harness::run(std::process::Command::new("chattr").arg(flag).arg(path))
                .expect("chattr");
        };
        for path in [to.join("old"), to.to_owned()] {
            for flag in ["i", "a"] {
                chattr(&format!("+{flag}"), &path);
                let result = across(to, from, false, &mut |_| {});
                chattr(&format!("-{flag}"), &path);
                assert_eq!(result, Err(Errno::PERM), "+{flag} {}", path.display());
                assert_eq!(at(from.join("new")), None);
                assert!(leftovers(from).is_empty() && leftovers(to).is_empty());
            }
        }
        assert_eq!(across(to, from, false, &mut |_| {}), Ok(()));
    });
}

#[test]
fn a_daemon_killed_at_any_moment_loses_neither_file() {
    private(DEADLINE, |env| {
        let bases = Sides::Apart(Lower::Tmpfs, Lower::Disk).make(env);
        let text = |n: u32| format!("{n:06}\n").repeat(20_000);
        let whole = |text: &str, what: &str| {
            assert_eq!(text.len(), 140_000, "{what}");
            let first = &text[..7];
            assert!(
                text.as_bytes().chunks(7).all(|c| c == first.as_bytes()),
                "{what}"
            );
            first.trim().parse::<u32>().expect("a number")
        };
        let mut version = 1;
        fs::write(bases.global().join("global"), text(0)).expect("write");
        for round in 0..12_u64 {
            let mut etcfs = Etcfs::serve(env, bases.clone(), super::opts());
            let mnt = etcfs.mnt();
            let renaming = std::thread::spawn(move || {
                loop {
                    if fs::write(mnt.join("global.new"), text(version)).is_err() {
                        return (version, false);
                    }
                    if fs::rename(mnt.join("global.new"), mnt.join("global")).is_err() {
                        return (version, true);
                    }
                    version += 1;
                }
            });
            std::thread::sleep(std::time::Duration::from_micros(10_000 + round * 1_700));
            etcfs.signal(rustix::process::Signal::KILL);
            etcfs
                .wait(std::time::Duration::from_secs(10))
                .expect("it ends");
            // A dead mount fails every call, which ends the loop.
            let (last, written) = renaming.join().expect("the renaming thread");
            drop(etcfs);
            let target = at(bases.global().join("global")).expect("the target is always there");
            let moved = whole(&target, "the target");
            // Versions below the last were acknowledged.
            assert!(moved == last || moved + 1 == last, "{moved} of {last}");
            if written && moved < last {
                let source = at(bases.local().join("global.new")).expect("the source is there");
                assert_eq!(whole(&source, "the source"), last);
            }
            // Nothing may have been renamed before the daemon was killed, and then this version is the next one again.
            version = last;
        }
    });
}
