//! Shared support of the tests that use real mounts: a private mount namespace with a watchdog ([`private`]), lower
//! file systems ([`Lower`]), the daemon as a child process ([`Etcfs`]), other users' threads ([`as_user`]) and the
//! comparison of a mount with a native tree ([`Pair`], [`snapshot`]).
//!
//! A test file says `mod harness;` and starts as root. Nothing made here outlives the test: mounts die with the
//! namespace, daemons are ended by their pid, and a mount that hangs is aborted through fusectl, never by touching it.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test file is a crate of its own and uses its own part of this module"
)]

mod acl;
mod cache;
mod daemon;
mod forget;
mod kernel;
mod lower;
mod ordinary;
mod overrides;
mod pair;
mod processes;
mod requests;
mod rng;
mod server;
mod tree;
mod user;
mod watchdog;

pub use acl::acl;
pub use daemon::{Bases, CONFIG, Etcfs, Opts, c_path};
pub use forget::forget_names;
pub use kernel::linux;
pub use lower::{Lower, run};
pub use ordinary::{NOBODY, for_everybody};
pub use overrides::{hidden_names, inject, rest, source, target, text};
pub use pair::{Pair, Root, errno};
pub use processes::{Processes, all_of};
pub use requests::{Request, Trace, count, counted, stats};
pub use rng::{Rng, number};
pub use tree::{Entry, differences, facts, fnv, snapshot};
pub use user::{User, as_user};

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use watchdog::Watch;

/// What a test body gets: its scratch directory, in a mount namespace that nobody else sees.
pub struct Env {
    scratch: PathBuf,
    watch: Arc<Watch>,
    at_end: Mutex<Vec<PathBuf>>,
}

impl Env {
    /// The scratch directory, a tmpfs of this test alone.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Makes (if need be) and returns a directory of the scratch tmpfs.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.scratch.join(name);
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("mkdir {}: {e}", dir.display()));
        dir
    }

    /// Removes a directory outside the scratch tmpfs once everything is unmounted.
    fn remove_at_end(&self, dir: &Path) {
        self.at_end
            .lock()
            .expect("at_end's lock")
            .push(dir.to_owned());
    }

    /// The watchdog's list of processes to print and to end.
    fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

/// Runs `body` in a thread with its own mount namespace, in which every mount is private, a fresh tmpfs is the scratch
/// directory and fusectl is mounted. Threads and processes that the body starts share that namespace.
///
/// After `deadline` the watchdog prints what every process of the namespace is doing, aborts the FUSE connections
/// mounted in it so that blocked calls return, and fails the test; a body that still does not return is ended with
/// the whole test process.
pub fn private(deadline: Duration, body: impl FnOnce(&Env) + Send + 'static) {
    let thread = std::thread::Builder::new()
        .name("private".to_owned())
        .spawn(move || {
            // rustix marks this unsafe because file descriptor tables can be unshared through it; only the mount
            // namespace (with it, the root and working directory) of this thread is.
            #[allow(unsafe_code)]
            // SAFETY: NEWNS does not concern descriptors or memory; no other thread relies on this thread's namespace.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.unwrap_or_else(|e| {
                panic!("unshare the mount namespace: {e}; these tests run as root")
            });
            rustix::mount::mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )
            .expect("make every mount private");
            mount_fusectl();
            let scratch = scratch_dir();
            rustix::mount::mount(
                "etcfs-test",
                &scratch,
                "tmpfs",
                MountFlags::empty(),
                c"mode=0755",
            )
            .expect("mount the scratch tmpfs");
            let watch = Watch::start(deadline);
            let env = Env {
                scratch: scratch.clone(),
                watch: Arc::clone(&watch),
                at_end: Mutex::default(),
            };
            let result = catch_unwind(AssertUnwindSafe(|| body(&env)));
            let expired = watch.finish();
            unmount_below(&scratch);
            let _ = std::fs::remove_dir(&scratch);
            for dir in env.at_end.lock().expect("at_end's lock").drain(..) {
                let _ = std::fs::remove_dir_all(dir);
            }
            match result {
                Err(panic) => resume_unwind(panic),
                Ok(()) if expired => panic!("the watchdog expired after {deadline:?}; see above"),
                Ok(()) => {}
            }
        })
        .expect("start the test's thread");
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// A new empty directory under the system's temporary directory.
fn scratch_dir() -> PathBuf {
    let base = std::env::temp_dir();
    for n in 0..1000 {
        let dir = base.join(format!("etcfs-test-{}-{n}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => return dir,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => panic!("mkdir {}: {e}", dir.display()),
        }
    }
    panic!("no free scratch name below {}", base.display());
}

/// fusectl is what the watchdog aborts a hung connection with; many machines do not mount it by themselves.
fn mount_fusectl() {
    const AT: &str = "/sys/fs/fuse/connections";
    let mounted = mounts().iter().any(|m| m.at == Path::new(AT));
    if !mounted {
        rustix::mount::mount("fusectl", AT, "fusectl", MountFlags::empty(), None)
            .expect("mount fusectl");
    }
}

/// Lazily unmounts all that is mounted at or below `dir`, the newest first.
fn unmount_below(dir: &Path) {
    for mount in mounts().iter().rev().filter(|m| m.at.starts_with(dir)) {
        let _ = rustix::mount::unmount(&mount.at, UnmountFlags::DETACH);
    }
}

/// One line of /proc/thread-self/mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Minor number of st_dev; for a FUSE mount also the number of its connection in fusectl.
    pub minor: u32,
    /// What of its file system is mounted, such as `/`.
    pub root: PathBuf,
    /// Where it is mounted, with the octal escapes undone.
    pub at: PathBuf,
    /// Per-mount options, such as `rw,nosuid,nodev`.
    pub options: String,
    /// Propagation fields (`shared:1`), empty for a private mount.
    pub propagation: String,
    /// Type, such as `fuse.etcfs`.
    pub fstype: String,
    /// Source, such as `etcfs`.
    pub source: String,
    /// Options of the file system, such as `rw,user_id=0`.
    pub super_options: String,
}

/// The mounts of the calling thread's namespace, oldest first. Reads the table only, so it cannot hang on a mount.
pub fn mounts() -> Vec<Mount> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("read mountinfo");
    text.lines().map(parse_mount).collect()
}

/// mountinfo's fields (proc(5)): id parent major:minor root mountpoint options optional... - type source super-options.
fn parse_mount(line: &str) -> Mount {
    let bad = || panic!("mountinfo line {line:?}");
    let (front, back) = line.split_once(" - ").unwrap_or_else(bad);
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.splitn(3, ' ');
    let minor = front[2].split_once(':').unwrap_or_else(bad).1;
    Mount {
        minor: minor
            .parse()
            .unwrap_or_else(|_| panic!("mountinfo line {line:?}")),
        root: PathBuf::from(unescape(front[3])),
        at: PathBuf::from(unescape(front[4])),
        options: front[5].to_owned(),
        propagation: front[6..].join(" "),
        fstype: back.next().unwrap_or_default().to_owned(),
        source: back.next().unwrap_or_default().to_owned(),
        super_options: back.next().unwrap_or_default().to_owned(),
    }
}

/// Undoes `\040`-style escapes.
fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match u8::from_str_radix(rest.get(at + 1..at + 4).unwrap_or(""), 8) {
            Ok(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            Err(_) => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}
