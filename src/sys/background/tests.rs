use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{
    Signal, getpid, getppid, getsid, kill_process, set_parent_process_death_signal,
};

use super::*;
use crate::sys::signals::Signals;

/// How a process ended, and what it wrote to stderr.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    stderr: String,
}

/// Runs `body` in a process that has one thread: a fork of this one.
fn alone(body: impl FnOnce()) -> Outcome {
    let (ours, childs) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
    let test = getpid();
    // SAFETY: the child goes on with this thread only; the C library's own locks are made good by fork, and the body takes
    // no lock of the test harness.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A test that is stopped and then killed, as a runner does, would leave this process stopped for ever, and a
        // daemon that waits for its end, with TERM blocked.
        set_parent_process_death_signal(Some(Signal::KILL)).expect("prctl");
        if getppid() != Some(test) {
            leave(102);
        }
        drop(ours);
        rustix::stdio::dup2_stderr(&childs).expect("dup2");
        drop(childs);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        leave(if outcome.is_ok() { 0 } else { 101 });
    }
    drop(childs);
    let mut stderr = String::new();
    File::from(ours)
        .read_to_string(&mut stderr)
        .expect("read the child's stderr");
    let child = Pid::from_raw(pid).expect("fork");
    let (_, status) = waitpid(Some(child), WaitOptions::empty())
        .expect("wait")
        .expect("it ended");
    Outcome {
        code: status.exit_status(),
        stderr,
    }
}

fn leave(code: i32) -> ! {
    // SAFETY: ends the process without the test harness's own ending.
    unsafe { libc::_exit(code) }
}

/// What a daemon's main does.
fn start(daemon: impl FnOnce(Readiness)) {
    match background().expect("fork") {
        Forked::Parent(parent) => match parent.wait() {
            Ok(()) => leave(0),
            Err(line) => {
                // Not eprintln!, which the harness may have redirected.
                let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
                leave(1);
            }
        },
        Forked::Child(readiness) => {
            daemon(readiness);
            leave(0)
        }
    }
}

/// Leaves in `dir` what the process looks like before and after it says that it is ready.
fn note_and_get_ready(dir: &Path, readiness: Readiness) {
    let cwd = || {
        std::env::current_dir()
            .expect("working directory")
            .display()
            .to_string()
    };
    std::fs::write(dir.join("before"), cwd()).expect("write");
    readiness.ready().expect("the parent waits");
    let is_null = |fd: i32| {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        target.is_ok_and(|target| target.as_os_str() == "/dev/null")
    };
    let leader = getsid(None).expect("session") == getpid();
    let umask = umask(Mode::empty()).bits();
    let seen = format!("{} {umask:o} {leader} {}", cwd(), (0..3).all(is_null));
    std::fs::write(dir.join("half"), seen).expect("write");
    std::fs::rename(dir.join("half"), dir.join("after")).expect("rename");
}

#[test]
fn parent_leaves_when_the_daemon_is_ready_and_not_before() {
    let dir = std::env::temp_dir().join(format!("etcfs-background-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("mkdir");
    let outcome = alone(|| start(|readiness| note_and_get_ready(&dir, readiness)));
    assert_eq!(
        outcome,
        Outcome {
            code: Some(0),
            stderr: String::new()
        }
    );
    // Written before ready(), so it is there at once.
    let before = std::fs::read_to_string(dir.join("before")).expect("written before readiness");
    assert_ne!(before, "/", "relative paths must hold until then");
    let until = Instant::now() + Duration::from_secs(20);
    while !dir.join("after").exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = std::fs::read_to_string(dir.join("after")).expect("the daemon lives on");
    assert_eq!(after, "/ 0 true true", "contract D9");
    std::fs::remove_dir_all(&dir).expect("tidy");
}

#[test]
fn inherited_descriptors_stay_open_in_the_daemon() {
    // Contract D4.
    let (ours, inherited) = pipe_with(PipeFlags::empty()).expect("pipe");
    let outcome = alone(|| {
        start(|readiness| {
            readiness.ready().expect("the parent waits");
            let _ = rustix::io::write(&inherited, b"open");
        });
    });
    assert_eq!(outcome.code, Some(0));
    drop(inherited);
    let mut word = String::new();
    File::from(ours).read_to_string(&mut word).expect("read");
    assert_eq!(word, "open");
}

#[test]
fn failure_of_the_daemon_is_the_parents_line_and_exit_code() {
    let line = "etcfs: /nowhere: open the mountpoint: ENOENT; create the directory";
    let outcome = alone(|| start(|readiness| readiness.failed(line)));
    assert_eq!(
        outcome,
        Outcome {
            code: Some(1),
            stderr: line.to_owned()
        }
    );
}

#[test]
fn daemon_that_dies_without_a_word_is_reported() {
    let killed = alone(|| start(|_| kill_process(getpid(), Signal::KILL).expect("kill")));
    assert_eq!(killed.code, Some(1));
    assert!(
        killed.stderr.contains("died at the start (signal 9)"),
        "{killed:?}"
    );
    let left = alone(|| start(|_readiness| leave(3)));
    assert_eq!(left.code, Some(1));
    assert!(
        left.stderr.contains("died at the start (exit code 3)"),
        "{left:?}"
    );
}

#[test]
fn daemon_learns_that_its_parent_is_gone() {
    let (ours, childs) = pipe_with(PipeFlags::empty()).expect("pipe");
    let outcome = alone(|| {
        let parent = Some(getpid());
        match background().expect("fork") {
            Forked::Parent(_parent) => leave(7),
            Forked::Child(readiness) => {
                let _signals = Signals::block().expect("block the signals");
                while getppid() == parent {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let told = readiness.ready().expect_err("nobody waits");
                let _ = rustix::io::write(&childs, format!("{:?}", told.kind()).as_bytes());
                leave(0)
            }
        }
    });
    assert_eq!(outcome.code, Some(7));
    drop(childs);
    let mut kind = String::new();
    File::from(ours).read_to_string(&mut kind).expect("read");
    assert_eq!(kind, "BrokenPipe");
}

#[test]
fn ending_signals_are_read_and_do_not_end() {
    // Contract D19, D20.
    let outcome = alone(|| {
        let signals = Signals::block().expect("block the signals");
        assert_eq!(signals.read().expect("read"), None);
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::PIPE] {
            kill_process(getpid(), signal).expect("kill");
        }
        let mut read = Vec::new();
        while let Some(signal) = signals.read().expect("read") {
            read.push(signal);
        }
        read.sort_unstable();
        assert_eq!(read, [libc::SIGHUP, libc::SIGINT, libc::SIGTERM]);
    });
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn signal_ignored_from_the_start_stays_ignored() {
    let outcome = alone(|| {
        // SAFETY: ignoring a signal installs no handler. This is what nohup(1) does.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        let signals = Signals::block().expect("block the signals");
        kill_process(getpid(), Signal::HUP).expect("kill");
        assert_eq!(signals.read().expect("read"), None);
        kill_process(getpid(), Signal::TERM).expect("kill");
        assert_eq!(signals.read().expect("read"), Some(libc::SIGTERM));
    });
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}
