//! The watchdog of [`private`](super::private): prints, aborts and ends what hangs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the body may take to return once its FUSE connections are aborted.
const GRACE: Duration = Duration::from_secs(10);

/// What the watchdog and the body share.
pub struct Watch {
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// Daemons to print and, if the body never returns, to end.
    daemons: BTreeSet<i32>,
    finished: bool,
    expired: bool,
}

impl Watch {
    /// Starts the watchdog's thread in the caller's mount namespace.
    pub fn start(deadline: Duration) -> Arc<Self> {
        let watch = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::default(),
        });
        let seen = Arc::clone(&watch);
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || seen.run(deadline))
            .expect("start the watchdog");
        *watch.thread.lock().expect("watchdog's lock") = Some(thread);
        watch
    }

    /// Adds a daemon.
    pub fn add(&self, pid: i32) {
        self.state
            .lock()
            .expect("watchdog's lock")
            .daemons
            .insert(pid);
    }

    /// Takes a daemon off the list once it has been waited for: its pid may belong to another process after that.
    pub fn remove(&self, pid: i32) {
        self.state
            .lock()
            .expect("watchdog's lock")
            .daemons
            .remove(&pid);
    }

    /// Ends the watchdog; true if it had expired.
    pub fn finish(&self) -> bool {
        self.state.lock().expect("watchdog's lock").finished = true;
        self.changed.notify_all();
        if let Some(thread) = self.thread.lock().expect("watchdog's lock").take() {
            let _ = thread.join();
        }
        self.state.lock().expect("watchdog's lock").expired
    }

    fn run(&self, deadline: Duration) {
        if self.finished_within(deadline) {
            return;
        }
        let daemons = {
            let mut state = self.state.lock().expect("watchdog's lock");
            state.expired = true;
            state.daemons.clone()
        };
        eprintln!("watchdog: expired after {deadline:?}");
        for pid in processes_of_this_namespace() {
            print_tasks(pid, daemons.contains(&pid));
        }
        abort_connections();
        if self.finished_within(GRACE) {
            return;
        }
        eprintln!(
            "watchdog: the test does not return {GRACE:?} after the abort; ending the process"
        );
        for pid in daemons {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::process::exit(101);
    }

    fn finished_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock().expect("watchdog's lock");
        while !state.finished {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("watchdog's lock")
                .0;
        }
        true
    }
}

/// All processes that share the calling thread's mount namespace; this one included.
fn processes_of_this_namespace() -> Vec<i32> {
    let own = fs::read_link("/proc/thread-self/ns/mnt").ok();
    let Ok(proc) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    proc.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid == me || fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == own)
        .collect()
}

/// Prints name, wait channel, kernel stack and system call of every task of a process.
fn print_tasks(pid: i32, daemon: bool) {
    let what = if daemon { "daemon" } else { "client" };
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return;
    };
    for task in tasks.flatten() {
        let at = task.path();
        let get = |name: &str| fs::read_to_string(at.join(name)).unwrap_or_default();
        eprintln!(
            "watchdog: {what} {pid} task {} comm={} wchan={} syscall={}",
            task.file_name().to_string_lossy(),
            get("comm").trim(),
            get("wchan").trim(),
            get("syscall").trim()
        );
        for line in get("stack").lines() {
            eprintln!("watchdog:     {line}");
        }
    }
}

/// Aborts every FUSE connection mounted in this namespace: blocked calls then return ECONNABORTED or ENOTCONN.
///
/// The number of a connection is the minor number of the mount's st_dev, which mountinfo has; asking the mount itself
/// would hang as well.
pub fn abort_connections() {
    let minors: BTreeSet<u32> = super::mounts()
        .iter()
        .filter(|m| m.fstype == "fuse" || m.fstype.starts_with("fuse."))
        .map(|m| m.minor)
        .collect();
    for minor in minors {
        let path = PathBuf::from(format!("/sys/fs/fuse/connections/{minor}/abort"));
        match fs::write(&path, "1") {
            Ok(()) => eprintln!("watchdog: aborted FUSE connection {minor}"),
            Err(e) => eprintln!("watchdog: {}: {e}", path.display()),
        }
    }
}
