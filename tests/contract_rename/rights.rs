//! Who may: exactly those who may rename natively (contract B33). Every call is made on the mount, where it crosses
//! the sides, and on a native tree, where it does not.

use super::harness::{Etcfs, Opts, Pair, Root, User, as_user, errno, private, run};
use super::{APART, DEADLINE, EVERYWHERE, Sides, on};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn place(root: &Path, dir: &str, owner: u32, mode: u32) {
    let path = root.join(dir);
    fs::create_dir_all(&path).expect("mkdir");
    chown(&path, Some(owner), Some(owner)).expect("chown");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn file(path: &Path, owner: u32, mode: u32) {
    fs::write(path, "content").expect("write");
    chown(path, Some(owner), Some(owner)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A rename from a directory to another by a user.
struct Case {
    what: &'static str,
    user: User,
    /// Owner and mode of the source's directory, the source, the target's directory and, if it exists, the target.
    from: (u32, u32),
    old: (u32, u32),
    to: (u32, u32),
    new: Option<(u32, u32)>,
    answer: Result<(), Errno>,
}

impl Case {
    /// True for what a user may do in somebody else's sticky directory. Where it means to copy, it would depend on what has
    /// the name when the copy is made whether that may be removed.
    fn is_left_to_mv(&self) -> bool {
        let sticky = |(owner, mode): (u32, u32)| mode & 0o1000 != 0 && owner != self.user.uid;
        self.answer.is_ok() && (sticky(self.from) || sticky(self.to))
    }
}

fn cases() -> Vec<Case> {
    let user = || User::plain(1000);
    let own = (1000, 0o755);
    let case = |what, user, from, old, to, new, answer| Case {
        what,
        user,
        from,
        old,
        to,
        new,
        answer,
    };
    vec![
        case("own all", user(), own, (1000, 0o644), own, None, Ok(())),
        case(
            "another's unreadable file in own directories",
            user(),
            own,
            (0, 0o600),
            own,
            None,
            Ok(()),
        ),
        case(
            "own set-id file",
            user(),
            own,
            (1000, 0o6755),
            own,
            None,
            Ok(()),
        ),
        case(
            "over another's file",
            user(),
            own,
            (1000, 0o644),
            own,
            Some((0, 0o600)),
            Ok(()),
        ),
        case(
            "from another's directory",
            user(),
            (0, 0o755),
            (1000, 0o644),
            own,
            None,
            Err(Errno::ACCESS),
        ),
        case(
            "to another's directory",
            user(),
            own,
            (1000, 0o644),
            (0, 0o755),
            None,
            Err(Errno::ACCESS),
        ),
        case(
            "own file from a sticky directory",
            user(),
            (0, 0o1777),
            (1000, 0o644),
            own,
            None,
            Ok(()),
        ),
        case(
            "another's file from a sticky directory",
            user(),
            (0, 0o1777),
            (2000, 0o666),
            own,
            None,
            Err(Errno::PERM),
        ),
        case(
            "over another's file in a sticky directory",
            user(),
            own,
            (1000, 0o644),
            (0, 0o1777),
            Some((2000, 0o666)),
            Err(Errno::PERM),
        ),
        case(
            "over own file in a sticky directory",
            user(),
            own,
            (1000, 0o644),
            (0, 0o1777),
            Some((1000, 0o644)),
            Ok(()),
        ),
        case(
            "root without its capabilities",
            User::root_without(CapabilitySet::all()),
            own,
            (1000, 0o644),
            own,
            None,
            Err(Errno::ACCESS),
        ),
        case(
            "a user with CAP_DAC_OVERRIDE",
            user().with(CapabilitySet::DAC_OVERRIDE),
            (0, 0o700),
            (0, 0o600),
            (0, 0o700),
            None,
            Ok(()),
        ),
        case(
            "root",
            User::plain(0),
            (1000, 0o700),
            (1000, 0o600),
            own,
            None,
            Ok(()),
        ),
    ]
}

#[test]
fn b33_the_rights_are_those_of_a_native_rename() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let mut pair = Pair::of(etcfs);
            let apart = matches!(sides, Sides::Apart(..));
            for (n, case) in cases().into_iter().enumerate() {
                if apart && case.is_left_to_mv() {
                    continue;
                }
                // Both directions: the directory of number `n` is below `gdir`, which is global, or is not.
                for (side, from, to) in [
                    ("to global", format!("f{n}"), format!("gdir/t{n}")),
                    ("to local", format!("gdir/F{n}"), format!("T{n}")),
                ] {
                    for root in [etcfs.mnt(), etcfs.native()] {
                        fs::create_dir_all(root.join("gdir")).expect("mkdir");
                        place(&root, &from, case.from.0, case.from.1);
                        place(&root, &to, case.to.0, case.to.1);
                        file(&root.join(&from).join("old"), case.old.0, case.old.1);
                        if let Some((owner, mode)) = case.new {
                            file(&root.join(&to).join("new"), owner, mode);
                        }
                    }
                    let what = format!("{} {side}", case.what);
                    let rename = |root: &Root| {
                        let (from, to) = (root.path.join(&from), root.path.join(&to));
                        // Users' copies have a share of the time; the next one may come too early.
                        for _ in 0..100 {
                            match fs::rename(from.join("old"), to.join("new")).map_err(errno) {
                                Err(Errno::XDEV) => std::thread::sleep(Duration::from_millis(20)),
                                other => return other,
                            }
                        }
                        Err(Errno::XDEV)
                    };
                    let native = pair.same_as(&case.user, &what, rename);
                    assert_eq!(native, case.answer, "{what}");
                }
            }
            pair.same_trees();
            pair.finish();
        });
    }
}

#[test]
fn in_anothers_sticky_directory_mv_copies() {
    on(APART, |etcfs| {
        for root in [etcfs.mnt(), etcfs.native()] {
            fs::create_dir_all(root.join("gdir")).expect("mkdir");
            for (from, to) in [("sticky", "gdir/own"), ("gdir/sticky", "own")] {
                place(&root, from, 0, 0o1777);
                place(&root, to, 1000, 0o755);
                file(&root.join(from).join("old"), 1000, 0o640);
                file(&root.join(from).join("others"), 2000, 0o666);
            }
        }
        for (from, to) in [("sticky", "gdir/own"), ("gdir/sticky", "own")] {
            let mnt = etcfs.mnt();
            as_user(&User::plain(1000), || {
                let renamed = fs::rename(mnt.join(from).join("old"), mnt.join(to).join("new"));
                assert_eq!(renamed.map_err(errno), Err(Errno::XDEV), "{from}");
            });
            for root in [etcfs.mnt(), etcfs.native()] {
                as_user(&User::plain(1000), || {
                    let mv = |name: &str| {
                        let mut mv = Command::new("mv");
                        let said = mv.arg(root.join(from).join(name)).arg(root.join(to));
                        said.stderr(Stdio::null()).status().expect("mv").success()
                    };
                    assert!(mv("old"), "{from}");
                    assert!(!mv("others"), "{from}");
                });
                let moved = fs::metadata(root.join(to).join("old")).expect("moved");
                assert_eq!((moved.uid(), moved.mode() & 0o7777), (1000, 0o640));
                assert!(!root.join(from).join("old").exists());
                assert!(root.join(from).join("others").exists());
            }
        }
    });
}

/// While a copy is made the kernel lets nobody rename between directories of the mount.
#[test]
fn a_large_file_of_an_ordinary_user_is_left_to_mv() {
    for (options, most) in [
        (vec![], 1 << 20),
        (vec!["max_cross_copy=5000".to_owned()], 5000),
    ] {
        private(DEADLINE, move |env| {
            let bases = APART.make(env);
            for dir in [bases.local(), bases.global()] {
                place(&dir, "gdir", 1000, 0o755);
            }
            let etcfs = Etcfs::serve(
                env,
                bases,
                Opts {
                    options,
                    ..super::opts()
                },
            );
            place(&etcfs.mnt(), "own", 1000, 0o755);
            let (from, to) = (etcfs.mnt().join("own/old"), etcfs.mnt().join("gdir/new"));
            let rename = |size: usize, user: u32| {
                fs::write(&from, vec![7; size]).expect("write");
                chown(&from, Some(user), Some(user)).expect("chown");
                as_user(&User::plain(user), || fs::rename(&from, &to).map_err(errno))
            };
            assert_eq!(rename(most, 1000), Ok(()));
            assert_eq!(rename(most + 1, 1000), Err(Errno::XDEV));
            assert_eq!(fs::metadata(&to).expect("stat").len(), most as u64);
            as_user(&User::plain(1000), || {
                let mut mv = Command::new("mv");
                run(mv.arg(&from).arg(&to)).expect("mv");
            });
            assert_eq!(fs::metadata(&to).expect("stat").len(), most as u64 + 1);
            assert_eq!(rename(3 * most, 0), Ok(()), "root waits for itself alone");
            // Attributes count as well.
            fs::write(&from, vec![7; most]).expect("write");
            chown(&from, Some(1000), Some(1000)).expect("chown");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&from, "user.note", b"more", flags).expect("setxattr");
            as_user(&User::plain(1000), || {
                assert_eq!(fs::rename(&from, &to).map_err(errno), Err(Errno::XDEV));
            });
            for side in [etcfs.local(), etcfs.global()] {
                assert_eq!(super::leftovers(&side), Vec::<String>::new());
            }
        });
    }
}

#[test]
fn a_killed_clients_copy_ends_and_leaves_the_source() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::serve(env, APART.make(env), super::opts());
        let (from, to) = (etcfs.mnt().join("local"), etcfs.mnt().join("global"));
        fs::write(etcfs.local().join("local"), vec![7; 96 << 20]).expect("write");
        let mut ended_early = 0;
        for round in 0..10 {
            // rename(2) itself: mv(1) would copy on its own.
            let mut client = Command::new("perl")
                .args(["-e", "rename($ARGV[0], $ARGV[1]) or exit(1)"])
                .args([&from, &to])
                .spawn()
                .expect("perl");
            std::thread::sleep(Duration::from_millis(20 + 5 * round));
            client.kill().expect("kill");
            let killed = Instant::now();
            client.wait().expect("wait");
            let took = killed.elapsed();
            if from.exists() {
                ended_early += 1;
                assert!(took < Duration::from_secs(20), "{took:?}");
                assert!(!etcfs.global().join("global").exists());
            } else {
                // It was done, or as good as done, before.
                fs::rename(&to, &from).expect("rename back");
            }
            for side in [etcfs.local(), etcfs.global()] {
                assert_eq!(super::leftovers(&side), Vec::<String>::new());
            }
        }
        assert!(
            ended_early > 0,
            "no client was killed in the middle of its copy"
        );
    });
}

/// While a rename between directories lasts, the kernel begins no other one on the mount.
#[test]
fn many_users_copies_leave_roots_rename_its_time() {
    private(DEADLINE, |env| {
        let bases = APART.make(env);
        for dir in [bases.local(), bases.global()] {
            place(&dir, "gdir", 1000, 0o755);
        }
        place(&bases.local(), "own", 1000, 0o755);
        for dir in ["a", "b"] {
            place(&bases.local(), dir, 0, 0o755);
        }
        let etcfs = Etcfs::serve(env, bases, super::opts());
        let mnt = etcfs.mnt();
        fs::write(mnt.join("a/x"), "x").expect("write");
        let stop = AtomicBool::new(false);
        let (mut waits, copied) = (Vec::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..24 {
                let (mnt, stop, copied) = (&mnt, &stop, &copied);
                scope.spawn(move || {
                    as_user(&User::plain(1000), || {
                        let at = [mnt.join(format!("own/{n}")), mnt.join(format!("gdir/{n}"))];
                        fs::write(&at[0], vec![7; 1 << 20]).expect("write");
                        while !stop.load(Ordering::Relaxed) {
                            for (from, to) in [(&at[0], &at[1]), (&at[1], &at[0])] {
                                copied.fetch_add(
                                    usize::from(fs::rename(from, to).is_ok()),
                                    Ordering::Relaxed,
                                );
                            }
                        }
                    });
                });
            }
            // The burst that is theirs.
            std::thread::sleep(Duration::from_secs(1));
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                for (from, to) in [("a/x", "b/x"), ("b/x", "a/x")] {
                    let began = Instant::now();
                    fs::rename(mnt.join(from), mnt.join(to)).expect("rename");
                    waits.push(began.elapsed());
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        waits.sort_unstable();
        let (most, worst) = (waits[waits.len() * 9 / 10], waits[waits.len() - 1]);
        eprintln!(
            "{copied:?} copies; nine of ten times root waited {most:?} at most, always {worst:?}"
        );
        assert!(copied.into_inner() > 0, "a share is theirs");
        // Once in a while the processors are somebody else's.
        assert!(most < Duration::from_secs(1), "root waited {most:?}");
    });
}
