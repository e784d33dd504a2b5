//! Locks of one user in the way of another's: the search for cycles, and how many ranges there may be.

use std::fs::{self, File, Permissions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, Result};

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, User, as_user, private};

/// A `fcntl(2)` lock that belongs to the open file.
fn ofd(fd: RawFd, command: i32, kind: i32, start: i64, len: i64) -> Result<()> {
    // SAFETY: zero is a value of every field.
    #[allow(unsafe_code)]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_start = start;
    lock.l_len = len;
    // SAFETY: the commands read one `struct flock`, which lives until the call returns.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fcntl(fd, command, &raw mut lock) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).expect("an errno"));
    }
    Ok(())
}

fn set(file: &File, kind: i32, start: i64, len: i64) -> Result<()> {
    ofd(file.as_raw_fd(), libc::F_OFD_SETLK, kind, start, len)
}

fn open(path: &Path) -> File {
    let opened = File::options().read(true).write(true).open(path);
    opened.unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}

/// Makes a file that everybody may write.
fn shared_file(etcfs: &Etcfs, name: &str) -> PathBuf {
    let path = etcfs.local().join(name);
    fs::write(&path, "x").expect("write");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
    etcfs.mnt().join(name)
}

/// The medians of what root's lock and its end, and root's stat, take on a file of its own.
fn roots_pace(file: &Path) -> (Duration, Duration) {
    const TIMES: usize = 200;
    const LONG_ENOUGH: Duration = Duration::from_secs(5);
    let own = open(file);
    let median = |call: &dyn Fn()| {
        let begun = Instant::now();
        let mut times = Vec::with_capacity(TIMES);
        while times.len() < TIMES && begun.elapsed() < LONG_ENOUGH {
            let start = Instant::now();
            call();
            times.push(start.elapsed());
            thread::sleep(Duration::from_micros(500));
        }
        times.sort();
        times[times.len() / 2]
    };
    let lock = median(&|| {
        set(&own, libc::F_WRLCK, 0, 0).expect("root's lock");
        set(&own, libc::F_UNLCK, 0, 0).expect("root's unlock");
    });
    let stat = median(&|| {
        fs::metadata(file).expect("root's stat");
    });
    (lock, stat)
}

/// So that a wait for a lock ends with EINTR.
fn handle_usr1() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: zero is a value of every field; the handler touches nothing; no old action is asked for.
    #[allow(unsafe_code)]
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(result, 0);
}

/// User 1000 has an open file with 20,000 ranges, another one through which 900 threads wait for the last of those, and
/// begins again and again to wait for what that one has: each time the daemon looks for a cycle.
///
/// A search that walks lists under one mutex shows within 5 s: root's lock on another file takes 110 ms instead of 0.1, its
/// stat 60 ms instead of 0.05.
#[test]
fn the_search_for_cycles_keeps_nobody_waiting_17() {
    private(DEADLINE, |env| {
        handle_usr1();
        let etcfs = Etcfs::start(env, Opts::default());
        let (users, roots) = (shared_file(&etcfs, "users"), shared_file(&etcfs, "roots"));
        let quiet = roots_pace(&roots);
        let (attacks, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let ready = Barrier::new(2);
        let loaded = thread::scope(|scope| {
            scope.spawn(|| {
                as_user(&User::plain(1000), || {
                    attack(&users, &attacks, &over, &ready);
                });
            });
            ready.wait();
            // A busy machine may let none of the attacker's threads run for seconds.
            let attacked = (0..10).find_map(|_| {
                let before = attacks.load(Ordering::Relaxed);
                let loaded = roots_pace(&roots);
                let during = attacks.load(Ordering::Relaxed) - before;
                (during > 10).then_some(loaded)
            });
            over.store(true, Ordering::Relaxed);
            attacked.expect("more than ten searches, which an attack has")
        });
        eprintln!("lock and unlock, and stat: quiet {quiet:?}, under attack {loaded:?}");
        // Another test and the attack itself want both CPUs meanwhile, so what takes a fraction of a millisecond may wait for
        // one; the fault was a hundred milliseconds.
        let bound = |quiet: Duration| (quiet * 3).max(Duration::from_millis(10));
        assert!(
            loaded.0 < bound(quiet.0),
            "lock: {loaded:?}, quiet {quiet:?}"
        );
        assert!(
            loaded.1 < bound(quiet.1),
            "stat: {loaded:?}, quiet {quiet:?}"
        );
    });
}

const RANGES: i64 = 20_000;
const WAITERS: usize = 900;

fn attack(file: &Path, attacks: &AtomicUsize, over: &AtomicBool, ready: &Barrier) {
    let (many, waiting, begins) = (open(file), open(file), open(file));
    for n in 0..RANGES {
        set(&many, libc::F_WRLCK, 2 * n, 1).expect("a range");
    }
    // What the one that waits has: behind all the others.
    set(&waiting, libc::F_WRLCK, 4 * RANGES, 1).expect("a range");
    let numbers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let small = || thread::Builder::new().stack_size(64 * 1024);
        let last = 2 * (RANGES - 1);
        for _ in 0..WAITERS {
            let fd = waiting.as_raw_fd();
            let wait = move || ofd(fd, libc::F_OFD_SETLKW, libc::F_RDLCK, last, 1);
            let started = small().spawn_scoped(scope, wait);
            started.expect("a thread");
        }
        let blocked = |n: usize| {
            let waits = fs::read_dir(format!("/proc/{}/task", std::process::id()));
            waits.expect("/proc").count() > n
        };
        while !blocked(WAITERS) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(300));
        let attackers: Vec<_> = (0..4)
            .map(|_| {
                small()
                    .spawn_scoped(scope, || {
                        let own = rustix::thread::gettid().as_raw_pid();
                        numbers.lock().expect("numbers").push(own);
                        while !over.load(Ordering::Relaxed) {
                            let fd = begins.as_raw_fd();
                            let at = 4 * RANGES;
                            let had = ofd(fd, libc::F_OFD_SETLKW, libc::F_RDLCK, at, 1);
                            if had != Err(Errno::INTR) {
                                return had;
                            }
                            attacks.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                    .expect("a thread")
            })
            .collect();
        ready.wait();
        while attackers.iter().any(|a| !a.is_finished()) {
            for number in &*numbers.lock().expect("numbers") {
                let own = std::process::id() as i32;
                // SAFETY: plain numbers; a thread that has ended since gets nothing.
                #[allow(unsafe_code)]
                let _ = unsafe { libc::syscall(libc::SYS_tgkill, own, *number, libc::SIGUSR1) };
            }
            thread::sleep(Duration::from_millis(10));
        }
        for attacker in attackers {
            assert_eq!(attacker.join().expect("an attacker"), Ok(()));
        }
        set(&many, libc::F_UNLCK, 0, 0).expect("unlock");
    });
}

/// Natively nothing bounds ranges, each of which takes 200 bytes of the kernel's memory.
#[test]
fn one_user_can_take_so_many_ranges_and_no_more_15() {
    const MOST: i64 = 32 * 1024;
    const FILES: i64 = 16;
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let paths: Vec<PathBuf> = (0..FILES)
            .map(|n| shared_file(&etcfs, &format!("f{n}")))
            .collect();
        let files: Vec<File> = as_user(&User::plain(1000), || {
            let files: Vec<File> = paths.iter().map(|path| open(path)).collect();
            // Ranges of four bytes, with gaps between them.
            let lock = |n: i64| set(&files[(n % FILES) as usize], libc::F_WRLCK, 8 * n, 4);
            let had = (0..2 * MOST).find(|&n| lock(n).is_err()).expect("an end");
            // A lock may cut another one in two, so the last range can only come from an unlock.
            assert_eq!(had, MOST - 1);
            assert_eq!(lock(had), Err(Errno::NOLCK));
            let unlock = |n: i64, at: i64| {
                let start = 8 * n * FILES + at;
                set(&files[0], libc::F_UNLCK, start, 1)
            };
            assert_eq!(unlock(0, 3), Ok(()), "an end of a range");
            assert_eq!(unlock(1, 1), Ok(()), "the middle of a range");
            assert_eq!(unlock(2, 1), Err(Errno::NOLCK), "and that of another");
            files
        });
        // Another user, and root, are not concerned.
        let far = 16 * MOST;
        as_user(&User::plain(1001), || {
            set(&open(&paths[0]), libc::F_WRLCK, far, 1).expect("another user's lock");
        });
        set(&open(&paths[0]), libc::F_WRLCK, far, 1).expect("root's lock");
        as_user(&User::plain(1000), || {
            set(&files[1], libc::F_UNLCK, 0, 0).expect("a file is given up");
            set(&files[2], libc::F_WRLCK, far, 1).expect("so there is room again");
        });
        // All comes back with the ends of the open files, too.
        drop(files);
        as_user(&User::plain(1000), || {
            let file = open(&paths[3]);
            let lock = |n: i64| set(&file, libc::F_WRLCK, 8 * n, 4);
            let until = Instant::now() + Duration::from_secs(10);
            while (0..64).any(|n| lock(n).is_err()) {
                assert!(Instant::now() < until, "the room of closed files is lost");
                thread::sleep(Duration::from_millis(10));
            }
        });
    });
}
