//! One user's open files leave others theirs, and root its own.
//!
//! A daemon without budgets let one user open all that it may have open (20,000 less a few, in half a second), and then
//! answered ENFILE to everybody, root too.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, User, as_user, private};

/// As many files as a process may have open here.
fn all_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.expect("a limit")
}

/// Lets this process, which is the clients, and the daemons that it starts have so many files open. (One with
/// CAP_SYS_RESOURCE would raise its limit.)
fn have_files(most: u64) {
    let _ = remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE);
    let all = Some(most.min(all_files()));
    let limit = Rlimit {
        current: all,
        maximum: all,
    };
    setrlimit(Resource::Nofile, limit).expect("set the limit of open files");
}

/// What `uid` gets open of `path` before it is refused.
fn fill(uid: u32, path: &Path, flags: OFlags) -> (Vec<OwnedFd>, Errno) {
    fill_of(uid, |_| path.to_owned(), flags)
}

/// The same of one path after the other.
fn fill_of(
    uid: u32,
    path: impl Fn(usize) -> PathBuf + Sync,
    flags: OFlags,
) -> (Vec<OwnedFd>, Errno) {
    as_user(&User::plain(uid), || {
        let mut open = Vec::new();
        loop {
            let mode = Mode::from_raw_mode(0o600);
            match rustix::fs::open(path(open.len()), flags | OFlags::CLOEXEC, mode) {
                Ok(fd) => open.push(fd),
                Err(errno) => return (open, errno),
            }
        }
    })
}

/// LTP's open04: whoever opens a file until the own limit is reached gets EMFILE, also where that is as high as the
/// daemon's. (Each open was one of the daemon's descriptors, so that root got ENFILE after 16,000 and others after 6,000.)
#[test]
fn a_client_at_its_own_limit_is_told_so() {
    private(DEADLINE, |env| {
        let all = getrlimit(Resource::Nofile);
        for options in [&[][..], &["passthrough"]] {
            let opts = Opts {
                options: options.iter().map(|&o| o.to_owned()).collect(),
                ..Opts::default()
            };
            let etcfs = Etcfs::start(env, opts);
            let before = descriptors(&etcfs);
            for uid in [0, 1000] {
                for dir in [etcfs.mnt(), etcfs.native()] {
                    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
                    // Others have it open, too: users come before and behind one another in no order that they know.
                    let path = dir.join(format!("file{uid}"));
                    fs::write(&path, "").expect("write");
                    std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown");
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
                    let others = [1500, 1501, 1502].map(|uid| {
                        as_user(&User::plain(uid), || {
                            let open = || fs::OpenOptions::new().append(true).open(&path);
                            (0..20).map(|_| open().expect("open")).collect::<Vec<_>>()
                        })
                    });
                    let written = OFlags::RDWR | OFlags::CREATE;
                    for (current, ways) in [
                        (1024, &[written, OFlags::RDONLY][..]),
                        (all_files(), &[written]),
                    ] {
                        let current = Some(current);
                        setrlimit(Resource::Nofile, Rlimit { current, ..all }).expect("setrlimit");
                        for &flags in ways {
                            let (open, errno) = fill(uid, &path, flags);
                            let what = format!("{flags:?} by {uid}, limit {current:?}");
                            assert_eq!(errno, Errno::MFILE, "{}: {what}", path.display());
                            // Each is an open of its own.
                            let last = open.last().expect("one");
                            rustix::fs::seek(last, rustix::fs::SeekFrom::Start(7)).expect("seek");
                            assert_eq!(rustix::fs::tell(&open[0]), Ok(0), "{what}");
                            if flags.contains(OFlags::RDWR) {
                                rustix::io::pwrite(last, b"text", 0).expect("write");
                            }
                            rustix::io::pread(last, &mut [0; 4], 0).expect("read");
                            drop(open.into_iter().skip(8).collect::<Vec<_>>());
                            assert!(descriptors(&etcfs) < before + 150, "{what}");
                        }
                    }
                    drop(others);
                }
            }
            setrlimit(Resource::Nofile, all).expect("setrlimit");
            drop(etcfs);
            let below = env.dir("below");
            for at in [env.dir("fs"), below] {
                rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
            }
        }
    });
}

fn descriptors(etcfs: &Etcfs) -> usize {
    fs::read_dir(format!("/proc/{}/fd", etcfs.pid()))
        .expect("descriptors")
        .count()
}

/// Everything that needs a descriptor of the daemon, as `uid`.
fn works(etcfs: &Etcfs, uid: u32) {
    let dir = etcfs.mnt().join("open");
    as_user(&User::plain(uid), || {
        for n in 0..50 {
            let name = dir.join(format!("made-by-{uid}-{n}"));
            fs::write(&name, "text").unwrap_or_else(|e| panic!("create as {uid}: {e}"));
            assert_eq!(fs::read(&name).expect("read"), b"text");
            assert!(fs::read_dir(&dir).expect("list").count() > 0);
            fs::remove_file(&name).expect("unlink");
        }
    });
}

fn one_user_opens_all(options: &[&str]) {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    private(DEADLINE, move |env| {
        have_files(4000);
        let opts = Opts {
            options,
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        let dir = etcfs.mnt().join("open");
        fs::create_dir(&dir).expect("mkdir");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        works(&etcfs, 1001);
        let before = descriptors(&etcfs);
        // Opens of one file by one user share a descriptor, those of many files cannot.
        let many = |n: usize| dir.join(format!("of-1000-{n}"));
        for n in 0..all_files() {
            let name = etcfs.local().join("open").join(format!("of-1000-{n}"));
            fs::write(&name, "text").expect("write");
            std::os::unix::fs::chown(&name, Some(1000), Some(1000)).expect("chown");
        }
        let of_files = &many as &(dyn Fn(usize) -> PathBuf + Sync);
        let of_dir = &|_| dir.clone();
        let ways = [
            (of_files, OFlags::RDONLY),
            (of_files, OFlags::RDWR),
            (of_dir, OFlags::RDONLY | OFlags::DIRECTORY),
        ];
        for (path, flags) in ways {
            let (open, errno) = fill_of(1000, path, flags);
            assert_eq!(errno, Errno::NFILE, "{flags:?}");
            assert!(open.len() > 500, "{flags:?}: {}", open.len());
            println!(
                "{flags:?}: {} for one user, {} in the daemon",
                open.len(),
                descriptors(&etcfs)
            );
            let refused = as_user(&User::plain(1000), || {
                File::create(dir.join("new")).map(drop)
            });
            assert_eq!(
                refused.expect_err("full").raw_os_error(),
                Some(libc::ENFILE)
            );
            assert!(
                !etcfs.local().join("open/new").exists(),
                "nothing is half done"
            );
            works(&etcfs, 1001);
            works(&etcfs, 0);
            drop(open);
        }
        // What was closed is given back, by RELEASE, which comes a little later.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while descriptors(&etcfs) > before + 8 {
            assert!(
                std::time::Instant::now() < end,
                "{} and {before}",
                descriptors(&etcfs)
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        works(&etcfs, 1000);
    });
}

#[test]
fn a_user_who_has_all_files_open_that_it_may_stops_nobody_else() {
    one_user_opens_all(&[]);
}

#[test]
fn nor_with_passthrough() {
    one_user_opens_all(&["passthrough"]);
}

#[test]
fn many_uids_together_leave_root_its_own() {
    private(DEADLINE, |env| {
        have_files(4000);
        let etcfs = Etcfs::start(env, Opts::default());
        let dir = etcfs.mnt().join("open");
        fs::create_dir(&dir).expect("mkdir");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        // One range of subordinate uids is one user.
        let (first, _) = fill(100_000, &dir, flags);
        assert!(first.len() > 500);
        for uid in [100_001, 100_500, 165_535] {
            let (more, errno) = fill(uid, &dir, flags);
            assert_eq!((more.len(), errno), (0, Errno::NFILE), "uid {uid}");
        }
        let others: Vec<_> = (1000..1005).map(|uid| fill(uid, &dir, flags)).collect();
        assert!(others.iter().all(|(_, errno)| *errno == Errno::NFILE));
        println!("{} in the daemon", descriptors(&etcfs));
        works(&etcfs, 0);
        drop((first, others));
    });
}

/// Files that lose their names while somebody refers to them keep a descriptor of the daemon each, within a bound.
#[test]
fn unlinked_files_that_are_referred_to_are_bounded() {
    private(DEADLINE, |env| {
        have_files(20_000);
        let etcfs = Etcfs::start(env, Opts::default());
        let dir = etcfs.mnt().join("open");
        fs::create_dir(&dir).expect("mkdir");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        let kept: Vec<OwnedFd> = as_user(&User::plain(1000), || {
            (0..6000)
                .map(|n| {
                    let name = dir.join(format!("{n}"));
                    fs::write(&name, "x").expect("create");
                    let fd = rustix::fs::open(&name, OFlags::PATH, Mode::empty()).expect("open");
                    fs::remove_file(&name).expect("unlink");
                    fd
                })
                .collect()
        });
        let own = descriptors(&etcfs);
        println!("{own} descriptors for {} unlinked files", kept.len());
        assert!(own < 2000, "{own}");
        // The last ones are there.
        let stat = rustix::fs::fstat(&kept[5999]).expect("stat");
        assert_eq!((stat.st_size, stat.st_nlink), (1, 0));
        works(&etcfs, 0);
    });
}
