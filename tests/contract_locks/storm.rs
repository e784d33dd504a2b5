//! A thousand waiters, and everybody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::agent::{Agent, native_flock, native_posix};
use crate::harness::{CONFIG, Etcfs, Opts, private};
use crate::places::two_strata;

const DEADLINE: Duration = Duration::from_secs(240);
const WAITERS: usize = 1000;

/// How lockers wait: `flock(2)` by flock(1), and `fcntl(F_SETLKW)` by agents, each a process of its own, as POSIX locks
/// belong to processes.
#[derive(Debug, Clone, Copy)]
enum How {
    Flock,
    Posix,
}

/// F2: one user's thousand blocked lockers leave root's work alone, and killing them frees everything.
#[test]
fn f2_a_thousand_blocked_lockers_hinder_nobody() {
    for how in [How::Flock, How::Posix] {
        hinder_nobody(how);
    }
}

fn hinder_nobody(how: How) {
    private(DEADLINE, move |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let below = etcfs.local().join("passwd");
        fs::write(&below, "root\n").expect("write");
        fs::set_permissions(&below, PermissionsExt::from_mode(0o666)).expect("chmod");
        fs::write(etcfs.local().join("other"), "x").expect("write");
        // The test's own program, where uid 1000 may run it.
        let program = env.scratch().join("agent");
        fs::write(&program, "").expect("write");
        let own = std::env::current_exe().expect("the test's own path");
        rustix::mount::mount_bind(own, &program).expect("bind");
        let file = etcfs.mnt().join("passwd");
        let threads = || tasks(etcfs.pid());
        let idle = threads();
        let descriptors =
            || fs::read_dir(format!("/proc/{}/fd", etcfs.pid())).map_or(0, Iterator::count);
        let few = descriptors();
        // The holder is another process than the one that reads the file below: with a close go a process's locks.
        let take = |agent: &mut Agent| {
            let fd = agent.open(&file, libc::O_RDWR);
            let taken = agent.call(&match how {
                How::Flock => format!("flock {fd} {}", libc::LOCK_EX | libc::LOCK_NB),
                How::Posix => format!("setlk {fd} w 0 0"),
            });
            taken.expect("the lock is free");
        };
        let mut holder = Agent::new();
        take(&mut holder);
        let mut waiters: Vec<Child> = (0..WAITERS)
            .map(|_| {
                let mut waiter = match how {
                    How::Flock => Command::new("flock"),
                    How::Posix => Agent::waiter(&program),
                };
                waiter.arg(&file);
                if let How::Flock = how {
                    waiter.arg("true");
                }
                waiter.uid(1000).gid(1000).stderr(Stdio::null());
                waiter.spawn().expect("start a locker")
            })
            .collect();
        wait_for("all lockers wait", || threads() >= idle + WAITERS);

        // Root goes on: looking, opening, reading, configuring, and its last close is served.
        let start = Instant::now();
        for round in 0..200 {
            fs::metadata(&file).expect("stat");
            assert_eq!(fs::read(&file).expect("read"), b"root\n");
            fs::write(etcfs.mnt().join("other"), round.to_string()).expect("write");
            let second = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(etcfs.mnt().join("other"))
                .expect("open");
            match how {
                How::Flock => native_flock(&second, libc::LOCK_EX),
                How::Posix => native_posix(&second),
            }
            .expect("another file's lock");
        }
        etcfs
            .write_config(&["add_global /somewhere"])
            .expect("configure");
        assert!(etcfs.read_config().expect("read").contains("/somewhere"));
        eprintln!(
            "{how:?}: 200 rounds of root's work among {WAITERS} waiters: {:?}",
            start.elapsed()
        );
        assert!(waiters.iter_mut().all(|w| matches!(w.try_wait(), Ok(None))));

        // Killing them frees every thread, while the lock is still held.
        let start = Instant::now();
        for waiter in &mut waiters {
            waiter.kill().expect("kill");
        }
        for waiter in &mut waiters {
            waiter.wait().expect("wait");
        }
        eprintln!(
            "{how:?}: {WAITERS} waiters killed and gone: {:?}",
            start.elapsed()
        );
        // A worker that was relieved leaves when it has served a request more; the pool keeps two threads.
        wait_for("the threads are gone", || {
            let _ = fs::metadata(etcfs.mnt().join("no such name"));
            threads() <= idle + 2
        });
        holder.kill();
        let mut next = Agent::new();
        take(&mut next);
        assert!(etcfs.mnt().join(CONFIG).exists());
        drop(next);
        // A directory or two may stay open.
        wait_for("the descriptors are gone", || descriptors() <= few + 3);
    });
}

/// Every waiter gets the lock in the end when its holder closes it.
#[test]
fn waiters_get_the_lock_one_after_the_other() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        fs::write(etcfs.local().join("f"), "").expect("write");
        let file = etcfs.mnt().join("f");
        let holder = fs::File::open(&file).expect("open");
        native_flock(&holder, libc::LOCK_EX).expect("the lock is free");
        let idle = tasks(etcfs.pid());
        let waiters: Vec<Child> = (0..100)
            .map(|_| {
                Command::new("flock")
                    .arg(&file)
                    .args([
                        "sh",
                        "-c",
                        r#"n=$(wc -c <"$0"); printf %s "$n" >/dev/null; printf x >>"$0""#,
                    ])
                    .arg(&file)
                    .spawn()
                    .expect("flock(1)")
            })
            .collect();
        wait_for("all lockers wait", || tasks(etcfs.pid()) >= idle + 100);
        drop(holder);
        for mut waiter in waiters {
            assert!(waiter.wait().expect("wait").success());
        }
        assert_eq!(fs::read(&file).expect("read").len(), 100);
    });
}

/// Two processes each on two strata and natively, all of them counting in one global file: no count is lost.
#[test]
fn b16_nobody_gets_between() {
    const TIMES: usize = 150;
    for how in ["flock", "posix", "try"] {
        private(DEADLINE, move |env| {
            let (alpha, beta, native) = two_strata(env, &[]);
            fs::write(&native, format!("{:8}", 0)).expect("write");
            let places = [
                alpha.mnt().join("shared"),
                beta.mnt().join("shared"),
                native.clone(),
            ];
            let mut agents: Vec<_> = places
                .iter()
                .chain(&places)
                .map(|place| {
                    let mut agent = Agent::new();
                    let started = agent.start(&format!("count {how} {TIMES} {}", place.display()));
                    (agent, started)
                })
                .collect();
            for (agent, started) in &mut agents {
                let answer = agent.answer_within(*started, Duration::from_secs(120));
                assert_eq!(answer, Some(Ok(String::new())));
            }
            let counted = fs::read_to_string(&native).expect("read");
            assert_eq!(counted.trim(), (agents.len() * TIMES).to_string(), "{how}");
        });
    }
}

/// How many threads of the daemon wait for locks. Others come and go with the load.
fn tasks(pid: i32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let is_waiter = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm == "etcfs-lock\n")
    };
    tasks.map_or(0, |all| all.flatten().filter(is_waiter).count())
}

fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !reached() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
