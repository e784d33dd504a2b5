//! A process that locks files as it is told: the test binary started again, told by lines on its standard input.
//!
//! Locks belong to processes and open files, so a test needs processes of its own that it can keep waiting and kill.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::io::Errno;

/// Set in the environment of an agent: to 1, or to [`WAIT`].
const MARK: &str = "ETCFS_TEST_LOCK_AGENT";
/// An agent that locks one file, waits for it if need be, and ends.
const WAIT: &str = "wait";

/// How long a call may take that does not have to wait for a lock.
pub const SOON: Duration = Duration::from_secs(60);
/// How long a call is watched that must go on waiting.
pub const A_WHILE: Duration = Duration::from_millis(150);

/// What a call answers: its value, or an errno.
pub type Answer = Result<String, Errno>;

/// A process under the test's command.
pub struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<(u64, Answer)>,
    early: HashMap<u64, Answer>,
    next: u64,
}

/// A call that has been started.
#[derive(Debug, Clone, Copy)]
pub struct Started(u64);

impl Agent {
    /// What starts a process that takes a POSIX lock on a file, waiting for it, and ends. `program` is this test's own
    /// program; the file is to be added as the last argument.
    pub fn waiter(program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .args(["--exact", "agent_process", "--nocapture"])
            .args(["--test-threads=1", "--skip"])
            .env(MARK, WAIT)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts a process.
    pub fn new() -> Self {
        let exe = std::env::current_exe().expect("the test's own path");
        let mut child = Command::new(exe)
            .args([
                "--exact",
                "agent_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start an agent");
        let (tell, answers) = channel();
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut words = line.splitn(3, ' ');
                let (Some(id), Some(what)) = (words.next(), words.next()) else {
                    continue;
                };
                let rest = words.next().unwrap_or_default();
                let answer = match what {
                    "ok" => Ok(rest.to_owned()),
                    "err" => Err(Errno::from_raw_os_error(rest.parse().expect("an errno"))),
                    _ => panic!("agent: {line}"),
                };
                let id = id.parse().unwrap_or_else(|_| panic!("agent: {line}"));
                let _ = tell.send((id, answer));
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            answers,
            early: HashMap::new(),
            next: 0,
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a call in a thread of its own.
    pub fn start(&mut self, call: &str) -> Started {
        self.next += 1;
        let line = format!("{} {call}\n", self.next);
        let stdin = self.stdin.as_mut().expect("the agent lives");
        stdin.write_all(line.as_bytes()).expect("tell the agent");
        Started(self.next)
    }

    /// What a call has answered, if it did within `time`.
    pub fn answer_within(&mut self, started: Started, time: Duration) -> Option<Answer> {
        let until = std::time::Instant::now() + time;
        loop {
            if let Some(answer) = self.early.remove(&started.0) {
                return Some(answer);
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.answers.recv_timeout(left) {
                Ok((id, answer)) => {
                    self.early.insert(id, answer);
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("the agent has ended"),
            }
        }
    }

    /// What a call has answered.
    pub fn answer(&mut self, started: Started) -> Answer {
        self.answer_within(started, SOON)
            .unwrap_or_else(|| panic!("no answer within {SOON:?}"))
    }

    /// True if a call goes on waiting.
    pub fn waits(&mut self, started: Started) -> bool {
        self.answer_within(started, A_WHILE).is_none()
    }

    /// Makes a call.
    pub fn call(&mut self, call: &str) -> Answer {
        let started = self.start(call);
        self.answer(started)
    }

    /// Opens a file; the answer is the descriptor for later calls.
    pub fn open(&mut self, path: &Path, flags: i32) -> RawFd {
        let call = format!("open {flags} {}", path.display());
        let fd = self.call(&call).unwrap_or_else(|e| panic!("{call}: {e}"));
        fd.parse().expect("a descriptor")
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an agent's process does; nothing in the test's own.
pub fn main() {
    let Some(mark) = std::env::var_os(MARK) else {
        return;
    };
    if mark == WAIT {
        let path = std::env::args_os().next_back().expect("a path");
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("open");
        posix(file.as_raw_fd(), libc::F_SETLKW, "w", 0, 0).expect("lock");
        std::process::exit(0);
    }
    for line in std::io::stdin().lines().map_while(Result::ok) {
        std::thread::spawn(move || {
            let (id, call) = line.split_once(' ').expect("a number and a call");
            let text = match obey(call) {
                Ok(value) => format!("{id} ok {value}\n"),
                Err(errno) => format!("{id} err {}\n", errno.raw_os_error()),
            };
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
    }
    std::process::exit(0);
}

/// Makes the call that a line names: what an agent does with each of its lines.
pub fn obey(call: &str) -> Answer {
    let words: Vec<&str> = call.split(' ').collect();
    let number = |at: usize| -> i64 { words[at].parse().expect("a number") };
    let fd = |at: usize| number(at) as RawFd;
    match words[0] {
        "open" => {
            let path = std::ffi::CString::new(words[2]).expect("no NUL");
            // SAFETY: open(2) reads a string that ends in NUL; the third argument is the mode.
            #[allow(unsafe_code)]
            done(unsafe { libc::open(path.as_ptr(), fd(1), 0o644) })
        }
        // SAFETY: plain numbers; the descriptors are this process's own business.
        #[allow(unsafe_code)]
        "close" => done(unsafe { libc::close(fd(1)) }),
        // SAFETY: as above.
        #[allow(unsafe_code)]
        "dup" => done(unsafe { libc::dup(fd(1)) }),
        // SAFETY: as above.
        #[allow(unsafe_code)]
        "flock" => done(unsafe { libc::flock(fd(1), fd(2)) }),
        "count" => count(Path::new(words[3]), words[1], number(2)),
        "append" => append(Path::new(words[4]), words[1], number(2), words[3]),
        "end" => end_of(Path::new(words[3]), words[1], number(2)),
        // A child with the same table of descriptors that locks the file and ends.
        "shared_setlk" => shared_setlk(fd(1)),
        // A child that holds the descriptor open until it is killed.
        "inherit" => {
            // SAFETY: as above; the flag goes, so that the next program keeps the descriptor.
            #[allow(unsafe_code)]
            done(unsafe { libc::fcntl(fd(1), libc::F_SETFD, 0) })?;
            let script = "sleep 60 </dev/null >/dev/null 2>&1 & echo $!";
            let shell = Command::new("sh").args(["-c", script]).output();
            let pid = String::from_utf8(shell.expect("sh(1)").stdout).expect("a number");
            Ok(pid.trim().to_owned())
        }
        command => {
            let command = match command {
                "setlk" => libc::F_SETLK,
                "setlkw" => libc::F_SETLKW,
                "getlk" => libc::F_GETLK,
                "ofd_setlk" => libc::F_OFD_SETLK,
                "ofd_setlkw" => libc::F_OFD_SETLKW,
                other => panic!("unknown call {other}"),
            };
            posix(fd(1), command, words[2], number(3), number(4))
        }
    }
}

/// Adds 1 to the number in a file, again and again, each time opened, locked (`flock`, `posix`, or `try`: `flock(2)`
/// without waiting, until it succeeds) and closed.
fn count(path: &Path, how: &str, times: i64) -> Answer {
    use std::os::unix::fs::FileExt as _;
    for _ in 0..times {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path);
        let file = file.map_err(|e| Errno::from_io_error(&e).expect("an errno"))?;
        let fd = file.as_raw_fd();
        match how {
            "flock" => native_flock(&file, libc::LOCK_EX)?,
            "posix" => posix(fd, libc::F_SETLKW, "w", 0, 0).map(drop)?,
            _ => while native_flock(&file, libc::LOCK_EX | libc::LOCK_NB) == Err(Errno::AGAIN) {},
        }
        let mut digits = [b' '; 8];
        file.read_exact_at(&mut digits, 0).expect("read");
        let number: u64 = String::from_utf8_lossy(&digits)
            .trim()
            .parse()
            .expect("a number");
        let text = format!("{:8}", number + 1);
        file.write_all_at(text.as_bytes(), 0).expect("write");
    }
    Ok(String::new())
}

/// Adds lines of eight bytes to a file, each of them `tag` and its number, as a program that knows nothing of O_APPEND:
/// opened, locked (`flock`, `posix` or `ofd`), the end looked for, written, closed.
fn append(path: &Path, how: &str, times: i64, tag: &str) -> Answer {
    use std::io::Seek as _;
    for n in 0..times {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path);
        let mut file = file.map_err(|e| Errno::from_io_error(&e).expect("an errno"))?;
        let fd = file.as_raw_fd();
        match how {
            "flock" => native_flock(&file, libc::LOCK_EX)?,
            "posix" => posix(fd, libc::F_SETLKW, "w", 0, 0).map(drop)?,
            _ => posix(fd, libc::F_OFD_SETLKW, "w", 0, 0).map(drop)?,
        }
        file.seek(std::io::SeekFrom::End(0)).expect("seek");
        let line = format!("{tag}{n:06}\n");
        file.write_all(line.as_bytes()).expect("write");
    }
    Ok(String::new())
}

/// How often an open file did not know its end: opened (`r` or `w`), looked at, lengthened by a byte through `path` with
/// `.other` in the place of its name, which is where another party has the same file, and its end looked for.
fn end_of(path: &Path, how: &str, times: i64) -> Answer {
    use std::io::Seek as _;
    let mut wrong = 0;
    let other = std::fs::read_link(path.with_extension("other")).expect("the other's path");
    for _ in 0..times {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(how == "w")
            .open(path);
        let mut file = file.map_err(|e| Errno::from_io_error(&e).expect("an errno"))?;
        for _ in 0..3 {
            let before = file.metadata().expect("fstat").len();
            let mut more = std::fs::OpenOptions::new();
            let mut more = more.append(true).open(&other).expect("open");
            more.write_all(b"x").expect("append");
            let after = file.seek(std::io::SeekFrom::End(0)).expect("seek");
            wrong += i64::from(after != before + 1);
            let looked = file.metadata().expect("fstat").len();
            wrong += i64::from(looked != before + 1);
        }
    }
    Ok(wrong.to_string())
}

/// `fcntl(2)` locks: kind `r`, `w` or `u`, first byte, length. GETLK answers `u` or `KIND FIRST LENGTH PID`.
fn posix(fd: RawFd, command: i32, kind: &str, start: i64, len: i64) -> Answer {
    let kinds = [
        ("r", libc::F_RDLCK),
        ("w", libc::F_WRLCK),
        ("u", libc::F_UNLCK),
    ];
    let kind = kinds.iter().find(|k| k.0 == kind).expect("a kind").1;
    // SAFETY: zero is a value of every field.
    #[allow(unsafe_code)]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_start = start;
    lock.l_len = len;
    // SAFETY: the commands read, and GETLK writes, one `struct flock`, which lives until the call returns.
    #[allow(unsafe_code)]
    done(unsafe { libc::fcntl(fd, command, &raw mut lock) })?;
    if command != libc::F_GETLK {
        return Ok(String::new());
    }
    let name = kinds.iter().find(|k| k.1 == i32::from(lock.l_type));
    let name = name.expect("a kind").0;
    Ok(match name {
        "u" => name.to_owned(),
        _ => format!("{name} {} {} {}", lock.l_start, lock.l_len, lock.l_pid),
    })
}

/// A lock of the whole file by a child that has the same table of descriptors (`CLONE_FILES`) and has ended then.
fn shared_setlk(fd: RawFd) -> Answer {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: as fork(2): no stack is given, so the child has a copy of this one. It makes system calls only, and ends.
    #[allow(unsafe_code)]
    let status = unsafe {
        let child = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as i32;
        if child == 0 {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_RDLCK as _;
            libc::_exit(i32::from(
                libc::fcntl(fd, libc::F_SETLK, &raw mut lock) != 0,
            ));
        }
        let mut status = -1;
        libc::waitpid(child, &raw mut status, 0);
        status
    };
    assert_eq!(status, 0, "the child's lock");
    Ok(String::new())
}

fn done(result: i32) -> Answer {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).expect("an errno"));
    }
    Ok(result.to_string())
}

/// A native open file of the test's own process, locked with `flock(2)`.
pub fn native_flock(file: &std::fs::File, operation: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    #[allow(unsafe_code)]
    done(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}

/// A lock on the whole of an open file that belongs to the test's own process, waited for.
pub fn native_posix(file: &std::fs::File) -> Result<(), Errno> {
    posix(file.as_raw_fd(), libc::F_SETLKW, "w", 0, 0).map(drop)
}
