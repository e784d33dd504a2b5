//! What the daemon was asked and which system calls each answer took: strace's record of it, read back.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcfs_proto::Opcode;

use super::{Env, Etcfs};

/// A name that is looked up while strace attaches, and not counted.
const MARK: &str = "strace-attaches";

/// The thread that has stuck workers relieved sleeps between two looks. Traced calls are slow enough for a worker to be
/// taken for stuck, and what another thread does then is missing in the counters of the first: it sleeps through the trace.
const NOBODY_IS_RELIEVED: &str = "--inject=nanosleep,clock_nanosleep:delay_enter=60000000";

/// One request and the calls made for it, the read of the device and the write of the answer included.
#[derive(Debug, Clone)]
pub struct Request {
    /// What was asked.
    pub opcode: Opcode,
    /// About which node.
    pub nodeid: u64,
    /// strace's lines, in order.
    pub calls: Vec<String>,
}

/// A running strace of the daemon.
pub struct Trace {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    prefix: PathBuf,
}

impl Trace {
    /// Attaches to every thread of the daemon, and returns when that is done.
    pub fn of(env: &Env, etcfs: &Etcfs) -> Trace {
        Trace::with(env, etcfs, &[])
    }

    /// The same with more arguments for strace, such as `--inject=...`, whose counters are a thread's own.
    pub fn with(env: &Env, etcfs: &Etcfs, args: &[&str]) -> Trace {
        let dir = env.dir("trace");
        let prefix = dir.join("t");
        for old in std::fs::read_dir(&dir).expect("list the trace directory") {
            let _ = std::fs::remove_file(old.expect("an entry").path());
        }
        // The head of a request is 40 bytes, then comes a LOOKUP's name; -ff gives every thread a file of its own.
        let mut child = Command::new("strace")
            .args(["-ff", "-xx", "-s", "56", "-o"])
            .arg(&prefix)
            .arg(NOBODY_IS_RELIEVED)
            .args(args)
            .args(["-p", &etcfs.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start strace (apt package strace)");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("read from strace");
        assert!(line.contains("attached"), "strace: {line}");
        // strace says so a little before it sees the calls of all threads.
        let look = || drop(std::fs::symlink_metadata(etcfs.mnt().join(MARK)));
        (0..40).for_each(|_| look());
        let until = Instant::now() + Duration::from_secs(30);
        while !is_held_asleep(etcfs.pid()) {
            assert!(Instant::now() < until, "the crew's thread does not sleep");
            look();
        }
        Trace {
            child,
            stderr,
            prefix,
        }
    }

    /// Ends the trace and returns the requests of all threads; their order holds within a thread only.
    pub fn end(mut self) -> Vec<Request> {
        // RELEASE and FORGET come after the call that caused them has returned.
        std::thread::sleep(Duration::from_millis(100));
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("end strace");
        let mut rest = String::new();
        let _ = self.stderr.read_to_string(&mut rest);
        self.child.wait().expect("wait for strace");
        let dir = self.prefix.parent().expect("a directory");
        let mut requests = Vec::new();
        for file in std::fs::read_dir(dir).expect("list the trace directory") {
            requests.extend(parse(&file.expect("an entry").path()));
        }
        requests
    }
}

/// Whether strace holds the thread that looks after the workers at the beginning of its sleep.
fn is_held_asleep(daemon: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{daemon}/task")).expect("list the threads");
    let paths = tasks.map(|task| task.expect("a thread").path());
    let read = |path: &Path, file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
    let crew = paths
        .into_iter()
        .find(|path| read(path, "comm").trim() == "etcfs-crew")
        .expect("a thread looks after the workers");
    let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].map(|call| call.to_string());
    let call = read(&crew, "syscall");
    let asleep = call
        .split(' ')
        .next()
        .is_some_and(|call| sleeps.iter().any(|sleep| sleep == call));
    // `t`: stopped by its tracer.
    asleep && read(&crew, "stat").contains(") t ")
}

fn parse(path: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(path).expect("read the trace");
    let mut requests: Vec<Request> = Vec::new();
    let mut open = false;
    let mut waited = false;
    for line in text.lines() {
        if let Some(head) = head_of(line) {
            open = head.is_some();
            waited = false;
            let Some((opcode, nodeid)) = head else {
                continue;
            };
            requests.push(Request {
                opcode,
                nodeid,
                calls: vec![line.to_owned()],
            });
        } else if open && !line.starts_with("---") && !line.starts_with("+++") {
            let Some(last) = requests.last_mut() else {
                continue;
            };
            // The standard library checks a descriptor before closing it, in debug builds only.
            if line.starts_with("fcntl(") && line.contains("F_GETFD") {
                continue;
            }
            // A reader that has been relieved ends behind its last answer.
            const ENDS: [&str; 4] = ["munmap(", "sigaltstack(", "rt_sigprocmask(", "madvise("];
            if ENDS.iter().any(|call| line.starts_with(call)) {
                continue;
            }
            // Two requests at once may want the same lock; who has waited for one has others wait behind it.
            if line.contains("FUTEX_WAIT") {
                waited = true;
            }
            if waited && line.starts_with("futex(") {
                continue;
            }
            // A read that has not returned belongs to no request.
            if line.starts_with("read(") && !line.contains(" = ") || line.ends_with("= ?") {
                continue;
            }
            last.calls.push(line.to_owned());
        }
    }
    requests
}

/// Opcode and node of a line that shows a request being read: bytes 4 to 7 and 16 to 23 of what `read` returned. The
/// inner `None`: a request that is not counted.
fn head_of(line: &str) -> Option<Option<(Opcode, u64)>> {
    let bytes = line.strip_prefix("read(")?.split_once('"')?.1;
    let bytes: Vec<u8> = bytes
        .split('"')
        .next()?
        .split("\\x")
        .skip(1)
        .map(|hex| u8::from_str_radix(hex, 16))
        .collect::<Result<_, _>>()
        .ok()?;
    let opcode = bytes.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let marked = bytes
        .get(40..)
        .is_some_and(|name| name.starts_with(MARK.as_bytes()));
    let nodeid = bytes.get(16..24)?.try_into().ok().map(u64::from_ne_bytes)?;
    Some((!marked).then_some((Opcode(opcode), nodeid)))
}

/// How many of `requests` are `opcode`.
pub fn count(requests: &[Request], opcode: Opcode) -> usize {
    requests.iter().filter(|r| r.opcode == opcode).count()
}

/// What `etcfsctl stats` reports: the daemon's own counters.
pub fn stats(etcfs: &Etcfs) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
        .args(["--json", "stats"])
        .arg(etcfs.mnt())
        .output()
        .expect("run etcfsctl");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// How many requests of that name the daemon has counted since its start.
pub fn counted(etcfs: &Etcfs, op: &str) -> u64 {
    let stats = stats(etcfs);
    let ops = stats["ops"].as_array().expect("figures by opcode");
    let figures = ops.iter().find(|figures| figures["op"] == op);
    figures.map_or(0, |figures| figures["count"].as_u64().expect("a number"))
}
