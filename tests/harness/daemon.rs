//! The daemon as a child process.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::watchdog::Watch;
use super::{Env, Lower, Mount, mounts};

/// Name of the virtual configuration file at the mount's root.
pub const CONFIG: &str = ".bedrock-config-filesystem";

/// How long the mount may take to appear, and the daemon to end after its signal.
const START: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(2);

/// How to start the daemon.
#[derive(Debug, Clone)]
pub struct Opts {
    /// What the local and global directories lie on.
    pub lower: Lower,
    /// The stratum's name.
    pub stratum: String,
    /// More `-o` options, such as `threads=1`.
    pub options: Vec<String>,
    /// More flags, such as `-d`.
    pub flags: Vec<String>,
    /// Environment variables.
    pub vars: Vec<(String, String)>,
    /// False: in the foreground as a child. True: in the background, as Bedrock starts it.
    pub background: bool,
    /// Configuration lines written once it is mounted, such as `add_global /hosts`.
    pub config: Vec<String>,
}

impl Default for Opts {
    fn default() -> Self {
        Self {
            lower: Lower::Tmpfs,
            stratum: "here".to_owned(),
            options: Vec::new(),
            flags: Vec::new(),
            vars: Vec::new(),
            background: false,
            config: Vec::new(),
        }
    }
}

/// A lower file system seen twice: `fs`, in which the daemon mounts, and `below`, where its mount never appears.
#[derive(Debug, Clone)]
pub struct Bases {
    fs: PathBuf,
    below: PathBuf,
    global: PathBuf,
}

impl Bases {
    /// Mounts a lower file system and makes `etc`, `global` and `native` in it.
    pub fn new(env: &Env, lower: Lower) -> Self {
        let (fs, below) = (env.dir("fs"), env.dir("below"));
        let global = below.join("global");
        let bases = Self { fs, below, global };
        bases.mount(env, lower);
        bases
    }

    /// Another stratum: a tmpfs of its own for the local directory, and the same global directory.
    pub fn second(&self, env: &Env, name: &str) -> Self {
        Self::beside(env, name, &self.global)
    }

    /// Another stratum, whose global directory is given.
    pub fn beside(env: &Env, name: &str, global: &Path) -> Self {
        let bases = Self {
            fs: env.dir(name),
            below: env.dir(&format!("{name}-below")),
            global: global.to_owned(),
        };
        bases.mount(env, Lower::Tmpfs);
        bases
    }

    fn mount(&self, env: &Env, lower: Lower) {
        let Self { fs, below, .. } = self;
        if let Err(e) = lower.mount(env, fs) {
            panic!("{e}");
        }
        // A bind mount made now, in a private namespace, never shows what is mounted inside `fs` later.
        rustix::mount::mount_bind(fs, below).expect("bind the lower file system");
        // The daemon's mount is always nosuid and nodev (D13); native calls get the same restrictions.
        let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount_remount(below, flags, c"").expect("remount the lower file system");
        for dir in ["etc", "global", "native"] {
            fs::create_dir(below.join(dir)).expect("make the base directories");
        }
    }

    /// The mount point.
    pub fn mnt(&self) -> PathBuf {
        self.fs.join("etc")
    }

    /// The local directory beneath the mount.
    pub fn local(&self) -> PathBuf {
        self.below.join("etc")
    }

    /// The global directory.
    pub fn global(&self) -> PathBuf {
        self.global.clone()
    }

    /// An empty directory of the same lower file system that the daemon knows nothing of.
    pub fn native(&self) -> PathBuf {
        self.below.join("native")
    }
}

/// A running daemon. Dropping it unmounts lazily, sends SIGTERM and, after 2 s, SIGKILL.
pub struct Etcfs {
    bases: Bases,
    passes_through: bool,
    child: Option<Child>,
    pid: i32,
    /// A file without a name: what the daemon has said before it answers is in it when the answer comes, which would not be
    /// so with a pipe that somebody empties.
    stderr: File,
    watch: Arc<Watch>,
}

impl Etcfs {
    /// Makes new lower directories and serves them.
    pub fn start(env: &Env, opts: Opts) -> Self {
        let bases = Bases::new(env, opts.lower);
        Self::serve(env, bases, opts)
    }

    /// Serves lower directories that the test has filled.
    pub fn serve(env: &Env, bases: Bases, opts: Opts) -> Self {
        let mut command = Self::command(&bases, &opts);
        let stderr: File = memfd_create("stderr", MemfdFlags::CLOEXEC)
            .expect("a file for what the daemon says")
            .into();
        // The processes and threads that write to it take turns at the position in a regular file (`fdget_pos`), but not in
        // this one, where one would write over what another has written.
        rustix::fs::fcntl_setfl(&stderr, OFlags::APPEND | OFlags::RDWR).expect("append to it");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().expect("another descriptor of it"));
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let pid = i32::try_from(child.id()).expect("a pid");
        let watch = Arc::clone(env.watch());
        watch.add(pid);
        let mut etcfs = Self {
            bases,
            passes_through: opts.options.iter().any(|option| option == "passthrough"),
            child: Some(child),
            pid,
            stderr,
            watch,
        };
        if opts.background {
            etcfs.wait_for_background();
        } else {
            etcfs.wait_for_mount();
        }
        for line in &opts.config {
            etcfs
                .write_config(&[line])
                .unwrap_or_else(|e| panic!("configure {line:?}: {e}"));
        }
        etcfs
    }

    /// The command line, as Bedrock's, with the directories that stand for its own.
    pub fn command(bases: &Bases, opts: &Opts) -> Command {
        let binary =
            std::env::var_os("ETCFS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_etcfs").into());
        let mut command = Command::new(binary);
        if !opts.background {
            command.arg("-f");
        }
        let mut options = OsString::from("allow_other,global=");
        options.push(bases.global());
        options.push(format!(",stratum={}", opts.stratum));
        for option in &opts.options {
            options.push(format!(",{option}"));
        }
        command
            .args(&opts.flags)
            .arg("-o")
            .arg(options)
            .arg(bases.mnt());
        command.envs(opts.vars.iter().map(|(k, v)| (k, v)));
        command
    }

    fn wait_for_mount(&mut self) {
        let until = Instant::now() + START;
        while self.mount().is_none() {
            let exit = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().ok().flatten());
            if let Some(status) = exit {
                panic!(
                    "the daemon ended before it mounted: {status}\n{}",
                    self.stderr()
                );
            }
            assert!(
                Instant::now() < until,
                "no mount after {START:?}\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The parent's exit is the promise that the mount answers (D1, D2); the daemon is found by its mount point.
    fn wait_for_background(&mut self) {
        let mut child = self.child.take().expect("the parent process");
        let until = Instant::now() + START;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for the parent") {
                break status;
            }
            if Instant::now() >= until {
                let _ = child.kill();
                let _ = child.wait();
                self.watch.remove(self.pid);
                panic!(
                    "the parent is still there after {START:?}\n{}",
                    self.stderr()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.watch.remove(self.pid);
        assert!(
            status.success(),
            "the parent exited with {status}\n{}",
            self.stderr()
        );
        assert!(
            self.mount().is_some(),
            "the parent exited 0 without a mount"
        );
        let mnt = self.mnt();
        let found: Vec<i32> = fs::read_dir("/proc")
            .expect("list /proc")
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                    line.split(|b| *b == 0)
                        .any(|arg| arg == mnt.as_os_str().as_encoded_bytes())
                })
            })
            .collect();
        let heads = super::server::heads(&found);
        assert_eq!(
            heads.len(),
            1,
            "one daemon serves {}: {found:?}",
            mnt.display()
        );
        self.pid = heads[0];
        self.watch.add(self.pid);
    }

    /// The mount point.
    pub fn mnt(&self) -> PathBuf {
        self.bases.mnt()
    }

    /// The local directory beneath the mount.
    pub fn local(&self) -> PathBuf {
        self.bases.local()
    }

    /// The global directory.
    pub fn global(&self) -> PathBuf {
        self.bases.global()
    }

    /// An empty directory of the same lower file system, for comparisons.
    pub fn native(&self) -> PathBuf {
        self.bases.native()
    }

    /// True if it was told to pass files through.
    pub fn passes_through(&self) -> bool {
        self.passes_through
    }

    /// The process id of what serves: of the keeper's child if there is a keeper.
    pub fn pid(&self) -> i32 {
        self.server().unwrap_or(self.pid)
    }

    /// The process id of the daemon that was started.
    pub fn head(&self) -> i32 {
        self.pid
    }

    /// The mount's line of mountinfo, while it is mounted.
    pub fn mount(&self) -> Option<Mount> {
        let mnt = self.mnt();
        mounts()
            .into_iter()
            .rev()
            .find(|m| m.at == mnt && m.fstype.starts_with("fuse"))
    }

    /// What the daemon has written to standard error so far.
    pub fn stderr(&self) -> String {
        let mut said = vec![0; self.stderr.metadata().map_or(0, |file| file.len() as usize)];
        self.stderr
            .read_exact_at(&mut said, 0)
            .expect("read what the daemon says");
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Writes configuration lines as awk does: the file opened for appending, one write(2) per line.
    pub fn write_config(&self, lines: &[impl AsRef<str>]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.mnt().join(CONFIG))?;
        for line in lines {
            let line = format!("{}\n", line.as_ref());
            let n = file.write(line.as_bytes())?;
            assert_eq!(
                n,
                line.len(),
                "a command is written whole or not at all: {line:?}"
            );
        }
        Ok(())
    }

    /// The configuration as it reads.
    pub fn read_config(&self) -> io::Result<String> {
        fs::read_to_string(self.mnt().join(CONFIG))
    }

    /// Sends a signal to the daemon alone: SIGSTOP and SIGCONT to what serves, SIGKILL to all of its processes, and others to the
    /// one that was started.
    pub fn signal(&self, signal: Signal) {
        let all = match signal {
            Signal::STOP | Signal::CONT => vec![self.pid()],
            Signal::KILL => self.processes(),
            _ => vec![self.pid],
        };
        for pid in all {
            let pid = Pid::from_raw(pid).expect("a pid");
            kill_process(pid, signal).unwrap_or_else(|e| panic!("signal {pid:?}: {e}"));
        }
        // Threads on other CPUs go on for a moment, and would answer what is asked next.
        while signal == Signal::STOP && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("list the threads");
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat"));
            stat.is_ok_and(|stat| stat.contains(") T "))
        })
    }

    /// Waits for a foreground daemon to end by itself; None if it is still there after `time`.
    pub fn wait(&mut self, time: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("a daemon in the foreground");
        let until = Instant::now() + time;
        loop {
            if let Some(status) = child.try_wait().expect("wait for the daemon") {
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets the value of a daemon that has ended go without unmounting what it has left.
    pub fn leave(self) {
        self.watch.remove(self.pid);
        std::mem::forget(self);
    }

    /// True while the daemon's process exists and is no zombie.
    fn lives(&mut self) -> bool {
        match self.child.as_mut() {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => {
                fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|line| !line.is_empty())
            }
        }
    }
}

impl Drop for Etcfs {
    fn drop(&mut self) {
        while self.mount().is_some() {
            if rustix::mount::unmount(self.mnt(), UnmountFlags::DETACH).is_err() {
                break;
            }
        }
        for (signal, time) in [(Signal::TERM, END), (Signal::KILL, END)] {
            if !self.lives() {
                break;
            }
            // All of them: another one would take a dead one's place.
            for pid in self.processes().into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
            let until = Instant::now() + time;
            while self.lives() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.watch.remove(self.pid);
        if std::thread::panicking() {
            eprintln!("--- the daemon's standard error\n{}---", self.stderr());
        }
    }
}

/// A path as a C string for calls that take one.
pub fn c_path(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without NUL")
}
