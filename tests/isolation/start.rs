//! Limits, signals and standing that whoever starts the daemon has left to it.

use super::DEADLINE;
use crate::harness::Etcfs;
use crate::harness::{Bases, CONFIG, Env, Lower, Opts, mounts, private};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What a child does before it becomes the daemon.
type Before = fn() -> i32;

/// Starts the daemon in the foreground with what `before` leaves to it.
fn start(bases: &Bases, options: &[&str], before: Before) -> Child {
    let opts = Opts {
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Opts::default()
    };
    let mut command = Etcfs::command(bases, &opts);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: `before` makes system calls only, which are safe between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || match before() {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    command.spawn().expect("start")
}

fn wait_for_mount(bases: &Bases, daemon: &mut Child) {
    let until = Instant::now() + Duration::from_secs(20);
    while !mounts()
        .iter()
        .any(|m| m.at == bases.mnt() && m.fstype == "fuse.etcfs")
    {
        assert_eq!(
            daemon.try_wait().expect("wait"),
            None,
            "it died at the start"
        );
        assert!(Instant::now() < until, "no mount");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a mount is for: writes beyond any small limit, on both sides, and many files at once.
fn use_it(bases: &Bases, what: &str) {
    let mnt = bases.mnt();
    fs::write(mnt.join("big"), vec![7; 1 << 20]).unwrap_or_else(|e| panic!("{what}: write: {e}"));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(mnt.join("big"))
        .expect("open");
    file.write_all_at(b"x", 5 << 20)
        .unwrap_or_else(|e| panic!("{what}: far write: {e}"));
    file.set_len(9 << 20)
        .unwrap_or_else(|e| panic!("{what}: truncate: {e}"));
    let mut config = fs::OpenOptions::new()
        .append(true)
        .open(mnt.join(CONFIG))
        .expect("open");
    std::io::Write::write_all(&mut config, b"add_global /glo\n").expect("configure");
    fs::write(mnt.join("glo"), "global").unwrap_or_else(|e| panic!("{what}: global: {e}"));
    fs::rename(mnt.join("big"), mnt.join("glo")).unwrap_or_else(|e| panic!("{what}: across: {e}"));
    let open: Vec<_> = (0..200)
        .map(|n| fs::File::create(mnt.join(format!("f{n}"))))
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{what}: 200 files: {e}"));
    drop(open);
}

fn end(bases: &Bases, daemon: &mut Child, what: &str) {
    let pid = Pid::from_child(daemon);
    kill_process(pid, Signal::TERM).expect("TERM");
    let until = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = daemon.try_wait().expect("wait") {
            break status;
        }
        assert!(Instant::now() < until, "{what}: TERM does not end it");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{what}: {status}");
    assert!(
        !mounts().iter().any(|m| m.at == bases.mnt()),
        "{what}: unmounted"
    );
}

/// Sets a limit, soft and hard.
fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> i32 {
    let both = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: reads a whole struct.
    #[allow(unsafe_code)]
    unsafe {
        libc::setrlimit(resource, &raw const both)
    }
}

/// Every signal ignored, or every one blocked, that can be.
fn signals(how: libc::sighandler_t, blocked: bool) -> i32 {
    // SAFETY: system calls only; no handler is set.
    #[allow(unsafe_code)]
    unsafe {
        for signal in 1..=64 {
            if signal != libc::SIGHUP && signal != libc::SIGINT {
                libc::signal(signal, how);
            }
        }
        let mut set = std::mem::zeroed();
        if blocked {
            libc::sigfillset(&raw mut set);
        } else {
            libc::sigemptyset(&raw mut set);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    }
}

fn alarms() -> i32 {
    let soon = libc::timeval {
        tv_sec: 0,
        tv_usec: 300_000,
    };
    let once = libc::itimerval {
        it_interval: soon,
        it_value: soon,
    };
    // SAFETY: reads a whole struct.
    #[allow(unsafe_code)]
    unsafe {
        libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut())
            + libc::setitimer(libc::ITIMER_PROF, &raw const once, std::ptr::null_mut())
    }
}

const KIB: u64 = 1 << 10;

/// Whether root here may raise hard limits; in many containers it may not.
fn can_raise_hard_limits() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let held = capabilities(None).expect("capget").permitted;
    held.contains(CapabilitySet::SYS_RESOURCE)
}

/// What is left, under a name. What is hard can be raised only by a root that has CAP_SYS_RESOURCE.
const LEFT: &[(&str, Before)] = &[
    ("file size 0", || {
        limit(libc::RLIMIT_FSIZE, 0, libc::RLIM_INFINITY)
    }),
    ("file size 64 KiB, hard", || {
        limit(libc::RLIMIT_FSIZE, 64 * KIB, 64 * KIB)
    }),
    ("1 s of CPU, hard", || limit(libc::RLIMIT_CPU, 1, 1)),
    ("300 MiB of addresses, hard", || {
        limit(libc::RLIMIT_AS, 300 << 20, 300 << 20)
    }),
    ("16 MiB of data, hard", || {
        limit(libc::RLIMIT_DATA, 16 << 20, 16 << 20)
    }),
    ("4 processes, hard", || limit(libc::RLIMIT_NPROC, 4, 4)),
    ("40 files", || limit(libc::RLIMIT_NOFILE, 40, 20_000)),
    ("100 files, hard", || limit(libc::RLIMIT_NOFILE, 100, 100)),
    ("a stack of 256 KiB, hard", || {
        limit(libc::RLIMIT_STACK, 256 * KIB, 256 * KIB)
    }),
    ("no memory to lock", || limit(libc::RLIMIT_MEMLOCK, 0, 0)),
    ("no queued signals", || limit(libc::RLIMIT_SIGPENDING, 0, 0)),
    ("all signals ignored", || signals(libc::SIG_IGN, false)),
    ("all signals blocked", || signals(libc::SIG_DFL, true)),
    ("all ignored and blocked", || signals(libc::SIG_IGN, true)),
    ("alarms", alarms),
    ("umask 0777", || {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
        0
    }),
    ("a working directory that is gone", || {
        let gone = "/tmp/etcfs-gone";
        let _ = rustix::fs::mkdir(gone, rustix::fs::Mode::RWXU);
        let changed = rustix::process::chdir(gone);
        let _ = rustix::fs::rmdir(gone);
        changed.map_or(1, |()| 0)
    }),
];

#[test]
fn whatever_is_left_to_the_daemon_it_serves_and_ends_as_always() {
    private(DEADLINE, |env| {
        for (what, before) in LEFT {
            for options in [&[][..], &["passthrough"]] {
                let bases = bases(env);
                let mut daemon = start(&bases, options, *before);
                wait_for_mount(&bases, &mut daemon);
                if what.contains("hard") && !can_raise_hard_limits() {
                    end(&bases, &mut daemon, what);
                    clear(&bases);
                    continue;
                }
                use_it(&bases, what);
                if *what == "alarms" {
                    std::thread::sleep(Duration::from_millis(400));
                }
                let modes = [0o600, 0o666].map(|mode| {
                    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
                    let name = bases.mnt().join(format!("mode{mode:o}"));
                    let mut options = fs::OpenOptions::new();
                    options
                        .create(true)
                        .write(true)
                        .mode(mode)
                        .open(&name)
                        .expect("create");
                    fs::metadata(&name).expect("stat").permissions().mode() & 0o777
                });
                assert_eq!(modes, [0o600, 0o644], "{what}");
                end(&bases, &mut daemon, what);
                clear(&bases);
            }
        }
    });
}

/// Signals that come later, from anybody who may send them: what was left above must not be all.
#[test]
fn no_signal_but_the_ending_ones_ends_the_daemon() {
    private(DEADLINE, |env| {
        let bases = bases(env);
        let mut daemon = start(&bases, &[], || 0);
        wait_for_mount(&bases, &mut daemon);
        let pid = i32::try_from(daemon.id()).expect("a pid");
        for signal in (1..=64).filter(|signal| {
            // Ends, faults, stops, and the C library's own.
            ![
                1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 19, 20, 21, 22, 31, 32, 33,
            ]
            .contains(signal)
        }) {
            // SAFETY: sends a signal.
            #[allow(unsafe_code)]
            let sent = unsafe { libc::kill(pid, signal) };
            assert_eq!(sent, 0, "signal {signal}");
            fs::write(bases.mnt().join("file"), "x").unwrap_or_else(|e| panic!("{signal}: {e}"));
        }
        assert_eq!(daemon.try_wait().expect("wait"), None);
        end(&bases, &mut daemon, "signals");
        clear(&bases);
    });
}

#[test]
fn nothing_left_makes_the_daemon_slow_or_the_first_to_be_killed() {
    private(DEADLINE, |env| {
        let bases = bases(env);
        let mut daemon = start(&bases, &[], || {
            let _ = fs::write("/proc/self/oom_score_adj", "1000");
            // SAFETY: numbers, and a struct that is a number.
            #[allow(unsafe_code)]
            unsafe {
                let param: libc::sched_param = std::mem::zeroed();
                libc::nice(19);
                libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13);
                libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param)
            }
        });
        wait_for_mount(&bases, &mut daemon);
        let pid = daemon.id();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
            let thread = entry.expect("a thread").path();
            let stat = fs::read_to_string(thread.join("stat")).expect("stat");
            let after = stat.rsplit(')').next().expect("after the name");
            let field = |number: usize| {
                after
                    .split_ascii_whitespace()
                    .nth(number - 3)
                    .expect("a field")
            };
            // proc_pid_stat(5): niceness and policy; 0 is SCHED_OTHER.
            assert_eq!((field(19), field(41)), ("0", "0"), "{}", thread.display());
        }
        let oom = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("read");
        // Without the capability it cannot go below what it was at first.
        let best = if can_raise_hard_limits() { "-900" } else { "0" };
        assert_eq!(oom.trim(), best);
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("read");
        assert_eq!(cwd, std::path::Path::new("/"));
        end(&bases, &mut daemon, "slow");
        clear(&bases);
    });
}

/// What cannot be set is said, and the mount is made all the same.
#[test]
fn what_cannot_be_set_is_told() {
    private(DEADLINE, |env| {
        let bases = bases(env);
        // Without CAP_SYS_RESOURCE no hard limit can be raised; nothing else is missing.
        let mut daemon = start(&bases, &[], || {
            use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
            match remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE) {
                Ok(()) => limit(libc::RLIMIT_FSIZE, 1 << 30, 1 << 30),
                Err(_) => 1,
            }
        });
        wait_for_mount(&bases, &mut daemon);
        use_it(&bases, "a limit that stays");
        let mut stderr = daemon.stderr.take().expect("piped");
        end(&bases, &mut daemon, "a limit that stays");
        let said = std::io::read_to_string(&mut stderr).expect("read");
        assert!(
            said.contains("RLIMIT_FSIZE, bytes) stays 1073741824"),
            "{said}"
        );
        clear(&bases);
    });
}

fn bases(env: &Env) -> Bases {
    Bases::new(env, Lower::Tmpfs)
}

fn clear(bases: &Bases) {
    for dir in [bases.mnt(), bases.local()] {
        let at = dir.parent().expect("above");
        rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
}
