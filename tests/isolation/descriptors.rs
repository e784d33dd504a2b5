//! One user's open files leave others theirs, and root its own.
//!
//! A daemon without budgets let one user open all that it may have open (20,000 less a few, in half a second), and then
//! answered ENFILE to everybody, root too.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, User, as_user, private};

/// Lets this process, which is the clients, have as many files open as the daemon.
fn many_files() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).expect("raise the limit of open files");
}

/// What `uid` gets open of `path` before it is refused.
fn fill(uid: u32, path: &Path, flags: OFlags) -> (Vec<OwnedFd>, Errno) {
    as_user(&User::plain(uid), || {
        let mut open = Vec::new();
        loop {
            match rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => open.push(fd),
                Err(errno) => return (open, errno),
            }
        }
    })
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
        many_files();
        let opts = Opts {
            options,
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        let dir = etcfs.mnt().join("open");
        fs::create_dir(&dir).expect("mkdir");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        let file = dir.join("file");
        fs::write(&file, "text").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("chmod");
        works(&etcfs, 1001);
        let before = descriptors(&etcfs);
        let ways = [
            (&file, OFlags::RDONLY),
            (&file, OFlags::RDWR),
            (&dir, OFlags::RDONLY | OFlags::DIRECTORY),
        ];
        for (path, flags) in ways {
            let (open, errno) = fill(1000, path, flags);
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
        many_files();
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
        many_files();
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
