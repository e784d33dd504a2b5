//! Directories that are moved into one another beneath the mount, or through another stratum, so that what the daemon
//! remembers of them makes a circle.
//!
//! A daemon that climbs such a circle never answers and grows by 45 MB a second.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, private};

const USER: u32 = 1000;

/// How much the daemon may grow in any of these tests, in KiB.
const GROWTH: usize = 24 << 10;

fn pinned(dir: &Path) -> OwnedFd {
    below(CWD, dir)
}

fn below(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).expect("open a directory")
}

fn look(dir: &OwnedFd, name: &str) -> Result<(), Errno> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(drop)
}

/// The daemon's resident memory, in KiB.
fn resident(etcfs: &Etcfs) -> usize {
    let status =
        fs::read_to_string(format!("/proc/{}/status", etcfs.pid())).expect("read the status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("a number")
}

/// Makes `a/b`, has the mount know both, moves `b` out and `a` into it at `at`, and looks at everything through what
/// is held. `mnt` and `at` are the same directory.
fn turn_round(mnt: &Path, at: &Path) {
    fs::create_dir_all(at.join("a/b")).expect("mkdir");
    let (a, b) = (pinned(&mnt.join("a")), pinned(&mnt.join("a/b")));
    look(&b, "none").expect_err("it is not there");
    fs::rename(at.join("a/b"), at.join("b")).expect("rename");
    fs::rename(at.join("a"), at.join("b/a")).expect("rename");
    // Now each was last found in the other.
    // The kernel refuses an alias of what it knows to be above (`d_splice_alias`); the daemon has answered it.
    assert_eq!(look(&b, "a"), Err(Errno::LOOP));
    for dir in [&a, &b] {
        assert_eq!(look(dir, "none"), Err(Errno::NOENT));
        mkdirat(dir, "new", Mode::RWXU).expect("mkdir");
        assert_eq!(look(dir, "new"), Ok(()));
        assert!(
            fs::read_dir(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(dir)
            ))
            .is_ok()
        );
    }
    // What climbs to the root: a path.
    let path = |dir: &OwnedFd| {
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(dir));
        let mut value = [0; 4096];
        rustix::fs::getxattr(name, "user.bedrock.localpath", &mut value[..]).map(drop)
    };
    let _ = (path(&a), path(&b));
    // By path everything is where it is.
    assert!(mnt.join("b/a/new").is_dir() && mnt.join("b/new").is_dir());
    assert_eq!(path(&a), Ok(()));
}

fn bounded(body: impl FnOnce(&Etcfs, &Etcfs) + Send + 'static) {
    private(DEADLINE, move |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let other = bases.second(env, "other");
        fs::create_dir(bases.global().join("shared")).expect("mkdir");
        chown(bases.global().join("shared"), Some(USER), Some(USER)).expect("chown");
        let opts = |stratum: &str| Opts {
            stratum: stratum.to_owned(),
            config: vec![
                "add_global /shared".into(),
                "add_global /a/some/where".into(),
            ],
            ..Opts::default()
        };
        let one = Etcfs::serve(env, bases, opts("one"));
        let two = Etcfs::serve(env, other, opts("two"));
        let (before, start) = (resident(&one), Instant::now());
        body(&one, &two);
        let (grown, took) = (resident(&one).saturating_sub(before), start.elapsed());
        eprintln!("{took:?}, {grown} KiB more");
        assert!(grown < GROWTH, "{grown} KiB more");
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

#[test]
fn two_directories_turned_round_beneath_are_climbed_out_of() {
    bounded(|one, _| turn_round(&one.mnt(), &one.local()));
}

#[test]
fn two_directories_turned_round_by_a_user_through_two_strata_are_climbed_out_of() {
    bounded(|one, two| {
        as_user(&User::plain(USER), || {
            turn_round(&one.mnt().join("shared"), &two.mnt().join("shared"));
        });
    });
}

/// Moves two directories into one another and apart again, beneath, as long as others look.
#[test]
fn directories_that_keep_turning_round_hang_nobody() {
    bounded(|one, _| {
        let (mnt, local) = (one.mnt(), one.local());
        fs::create_dir_all(local.join("a/b")).expect("mkdir");
        let (a, b) = (pinned(&mnt.join("a")), pinned(&mnt.join("a/b")));
        let end = Instant::now() + Duration::from_millis(1500);
        let mut turns = 0;
        let looks = std::thread::scope(|scope| {
            let lookers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut looks = 0;
                        while Instant::now() < end {
                            for dir in [&a, &b] {
                                for name in ["a", "b", "none"] {
                                    let _ = look(dir, name);
                                    looks += 1;
                                }
                            }
                        }
                        looks
                    })
                })
                .collect();
            while Instant::now() < end {
                fs::rename(local.join("a/b"), local.join("b")).expect("rename");
                fs::rename(local.join("a"), local.join("b/a")).expect("rename");
                fs::rename(local.join("b/a"), local.join("a")).expect("rename");
                fs::rename(local.join("b"), local.join("a/b")).expect("rename");
                turns += 1;
            }
            lookers
                .into_iter()
                .map(|looker| looker.join().expect("a looker"))
                .sum::<usize>()
        });
        assert!(turns > 100 && looks > 100, "{turns} turns, {looks} looks");
        assert!(mnt.join("a/b").is_dir());
    });
}

/// Names at the end of 5000 directories, and moves that make every place above be derived again.
#[test]
fn a_deep_tree_costs_a_bounded_time_while_directories_move() {
    bounded(|one, _| {
        const DEPTH: usize = 5000;
        let (mnt, local) = (one.mnt(), one.local());
        fs::create_dir(local.join("deep")).expect("mkdir");
        fs::create_dir_all(local.join("x")).expect("mkdir");
        let mut at = pinned(&local.join("deep"));
        for _ in 0..DEPTH {
            mkdirat(&at, "d", Mode::RWXU).expect("mkdir");
            at = below(&at, "d");
        }
        let mut at = pinned(&mnt.join("deep"));
        for _ in 0..DEPTH {
            at = below(&at, "d");
        }
        let mut times = Vec::new();
        for n in 0..50 {
            let (from, to) = if n % 2 == 0 { ("x", "y") } else { ("y", "x") };
            fs::rename(local.join(from), local.join(to)).expect("rename");
            assert!(mnt.join(to).is_dir());
            let start = Instant::now();
            assert_eq!(look(&at, "none"), Err(Errno::NOENT));
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let median = times[times.len() / 2];
        eprintln!("{median:?} for a name in a directory {DEPTH} deep");
        assert!(median < Duration::from_millis(100), "{median:?}");
    });
}
