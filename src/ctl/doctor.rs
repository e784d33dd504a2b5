//! The doctor: what is as it should be, what is worth knowing, and what somebody should do something about.

use super::Control;
use super::report::{Doctor, Finding, Level};
use crate::fs::hidden;
use crate::fs::rules::Side;
use crate::session::meter;
use crate::trace::{printable, side_word};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, fstatfs, fstatvfs};
use rustix::process::{Resource, getrlimit};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// A request older than this is worth telling, ns.
const SLOW: u64 = 2_000_000_000;
/// How long the search for stale temporaries may take.
const SEARCH: Duration = Duration::from_secs(1);
/// Temporary names that have not changed for so many seconds are nobody's.
const STALE: i64 = 60;
/// How many directories deep it goes.
const DEEP: usize = 64;
/// `FUSE_SUPER_MAGIC` (`fs/fuse/inode.c`).
const FUSE: u64 = 0x6573_5546;

/// Types of file systems by the magic numbers of `include/uapi/linux/magic.h`, as far as they are likely here.
const TYPES: &[(u64, &str)] = &[
    (0xef53, "ext4 (or ext2, ext3)"),
    (0x9123_683e, "btrfs"),
    (0x5846_5342, "xfs"),
    (0x0102_1994, "tmpfs"),
    (0xf2f5_2010, "f2fs"),
    (0x794c_7630, "overlayfs"),
    (0x7371_7368, "squashfs"),
    (0x6969, "nfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xca45_1a4e, "bcachefs"),
    (0x3153_464a, "jfs"),
    (FUSE, "fuse"),
];

/// Findings as they come up.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn say(&mut self, level: Level, about: &str, text: String) {
        self.0.push(Finding {
            level,
            about: about.to_owned(),
            text,
        });
    }
}

impl Control {
    pub(super) fn doctor(&self) -> Doctor {
        let mut findings = Findings::default();
        self.look_at_requests(&mut findings);
        self.look_at_locks(&mut findings);
        self.look_at_passthrough(&mut findings);
        self.look_at_kernel(&mut findings);
        for side in [Side::Local, Side::Global] {
            self.look_at_lower(side, &mut findings);
        }
        self.look_at_overrides(&mut findings);
        look_at_limits(&mut findings);
        look_at_rights(&mut findings);
        Doctor {
            findings: findings.0,
        }
    }

    fn look_at_requests(&self, findings: &mut Findings) {
        let now = meter::now();
        let requests = self.in_flight(now);
        let slow = requests.iter().filter(|r| r.age_us * 1e3 > SLOW as f64);
        let mut any = false;
        for request in slow {
            any = true;
            let path = request.path.as_deref().unwrap_or("a forgotten node");
            let text = format!(
                "{} of {path} for pid {} has been worked on for {:.1} s (thread {}): the lower file system does not answer",
                request.op,
                request.pid,
                request.age_us / 1e6,
                request.tid
            );
            findings.say(Level::Problem, "requests", text);
        }
        match self.session.waiters.len() {
            0 => {}
            n => {
                let text = format!("{n} requests wait for a file lock that somebody holds");
                findings.say(Level::Note, "locks", text);
            }
        }
        if !any {
            let text = format!(
                "{} being worked on, none for long",
                match requests.len() {
                    0 => "none".to_owned(),
                    n => n.to_string(),
                }
            );
            findings.say(Level::Ok, "requests", text);
        }
    }

    fn look_at_locks(&self, findings: &mut Findings) {
        let waiters = &self.session.waiters;
        let owners = self.session.fs.locks.len();
        let mut crowd = false;
        for (uid, count) in waiters.by_user() {
            if count >= waiters.most() / 2 {
                crowd = true;
                let text = format!(
                    "{count} requests of uid {uid} wait for file locks, {} may (-o max_lock_waiters=N); lslocks tells who holds them",
                    waiters.most()
                );
                findings.say(Level::Problem, "locks", text);
            }
        }
        if !crowd {
            let text = format!(
                "{owners} owners of file locks, {} requests wait",
                waiters.len()
            );
            findings.say(Level::Ok, "locks", text);
        }
    }

    fn look_at_passthrough(&self, findings: &mut Findings) {
        let passthrough = self.passthrough();
        let about = "passthrough";
        if passthrough.on {
            let text = format!(
                "on: the kernel reads and writes files itself ({} registered)",
                self.session.fs.backing.ids()
            );
            findings.say(Level::Ok, about, text);
        }
        let level = match passthrough.asked {
            true => Level::Problem,
            false => Level::Note,
        };
        let state = if passthrough.on { "partly off" } else { "off" };
        for reason in passthrough.reasons {
            findings.say(level, about, format!("{state}: {reason}"));
        }
    }

    fn look_at_kernel(&self, findings: &mut Findings) {
        let init = self.init();
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy().into_owned();
        findings.say(
            Level::Ok,
            "kernel",
            format!("Linux {release}, FUSE protocol {}", init.protocol),
        );
        for flag in init.missing {
            let text = format!("it lacks {flag}{}", what_is_missing(&flag));
            findings.say(Level::Note, "kernel", text);
        }
    }

    fn look_at_lower(&self, side: Side, findings: &mut Findings) {
        let about = format!("{} files", side_word(side));
        let path = match side {
            Side::Local => &self.start.local,
            Side::Global => &self.start.global,
        };
        let path = printable(path.as_os_str().as_encoded_bytes());
        let dir = self.session.fs.base(side).dir.as_fd();
        let kind = match fstatfs(dir) {
            // The field is signed or not, of 32 bits or of 64; the magic numbers have 32.
            Ok(stat) => u64::from(stat.f_type as u32),
            Err(errno) => {
                findings.say(Level::Problem, &about, format!("{path}: {errno}"));
                return;
            }
        };
        let name = TYPES.iter().find(|(magic, _)| *magic == kind);
        let name = name.map_or_else(
            || format!("a file system of type {kind:#x}"),
            |t| t.1.to_owned(),
        );
        if kind == FUSE {
            let text = format!(
                "{path} is itself served by a FUSE daemon: every request takes two of them, and if that one dies these \
                 files are gone"
            );
            findings.say(Level::Problem, &about, text);
        } else {
            findings.say(Level::Ok, &about, format!("{path} on {name}"));
        }
        look_at_space(dir, &about, findings);
        let stale = stale(dir);
        if stale > 0 {
            let text = format!(
                "{stale} temporary files of daemons that were killed are in {path} ({}*): no client sees them, and they \
                 can be removed",
                printable(hidden::PREFIX)
            );
            findings.say(Level::Note, &about, text);
        }
    }

    fn look_at_overrides(&self, findings: &mut Findings) {
        let entries = self.session.fs.journal().entries();
        let mut failing = 0;
        for (at, entry) in entries.iter().enumerate() {
            let Err(errno) = entry.result else { continue };
            // Only what the last word about a path is.
            if entries[at + 1..].iter().any(|e| e.path == entry.path) {
                continue;
            }
            failing += 1;
            let text = format!(
                "/{} should be a {} and cannot be made one: {} is there ({errno})",
                printable(&entry.path),
                entry.kind.word(),
                entry.found
            );
            findings.say(Level::Problem, "overrides", text);
        }
        if failing == 0 {
            let text = format!(
                "none fails ({} enforced so far)",
                self.session.fs.journal().total()
            );
            findings.say(Level::Ok, "overrides", text);
        }
    }
}

/// What the lack of a flag means.
fn what_is_missing(flag: &str) -> &'static str {
    match flag {
        "PASSTHROUGH" => {
            " (Linux 6.9): files are read and written through the daemon, and each stratum has its own pages of mapped global files"
        }
        "HANDLE_KILLPRIV_V2" => {
            " (Linux 5.11): the kernel asks one more time per write whether bits must go"
        }
        "CREATE_SUPP_GROUP" => {
            " (Linux 6.3): group rights on a directory with the set-group-id bit are looked up in /proc"
        }
        "SETXATTR_EXT" => {
            " (Linux 5.12): setting an ACL cannot tell when set-group-id must be cleared"
        }
        "DIRECT_IO_ALLOW_MMAP" => " (Linux 6.6): files open for direct I/O cannot be mapped shared",
        "HAS_RESEND" => " (Linux 6.9): requests in progress are lost if the daemon is replaced",
        "INIT_EXT" => " (Linux 5.17): none of the newer abilities can be agreed on",
        _ => "",
    }
}

fn look_at_space(dir: BorrowedFd<'_>, about: &str, findings: &mut Findings) {
    let Ok(space) = fstatvfs(dir) else { return };
    let low = |free: u64, all: u64| all > 0 && free < all / 50;
    if low(space.f_bavail, space.f_blocks) {
        let text = format!(
            "less than 2 % of the space is free ({} MiB)",
            space.f_bavail.saturating_mul(space.f_frsize) >> 20
        );
        findings.say(Level::Problem, about, text);
    }
    if low(space.f_favail, space.f_files) {
        let text = format!("less than 2 % of the inodes are free ({})", space.f_favail);
        findings.say(Level::Problem, about, text);
    }
}

/// Counts hidden names in `dir` and below, for as long as [`SEARCH`] allows. Names in use right now are among them, so
/// only those older than a minute count.
fn stale(dir: BorrowedFd<'_>) -> usize {
    let until = Instant::now() + SEARCH;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |dir: BorrowedFd<'_>, name: &std::ffi::CStr| {
        rustix::fs::openat(dir, name, flags, Mode::empty()).ok()
    };
    let mut count = 0;
    let mut todo: Vec<(OwnedFd, usize)> = open(dir, c".").map(|fd| (fd, 0)).into_iter().collect();
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 16 * 1024];
    while let Some((dir, depth)) = todo.pop() {
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            if Instant::now() > until {
                return count;
            }
            let name = entry.file_name();
            if hidden::is_hidden(name.to_bytes()) {
                count += usize::from(hidden::is_stale(dir.as_fd(), name, STALE));
            } else if entry.file_type().is_dir()
                && !matches!(name.to_bytes(), b"." | b"..")
                && depth < DEEP
                && let Some(below) = open(dir.as_fd(), name)
            {
                todo.push((below, depth + 1));
            }
        }
    }
    count
}

fn look_at_limits(findings: &mut Findings) {
    let near = |used: u64, most: u64| used > most / 5 * 4;
    let about = "limits";
    let before = findings.0.len();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64);
    if near(open, files) {
        let text = format!("{open} of {files} file descriptors are in use");
        findings.say(Level::Problem, about, text);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let threads = field("Threads:").unwrap_or(0);
    let most = std::fs::read_to_string("/proc/sys/kernel/threads-max");
    let most = most.ok().and_then(|text| text.trim().parse().ok());
    if let Some(most) = most
        && near(threads, most)
    {
        let text = format!("{threads} of {most} threads exist");
        findings.say(Level::Problem, about, text);
    }
    if findings.0.len() == before {
        let text = format!(
            "none is near: {open} of {files} descriptors, {threads} threads, {} KiB of memory",
            field("VmRSS:").unwrap_or(0)
        );
        findings.say(Level::Ok, about, text);
    }
}

/// What somebody would gain who found a hole in the daemon.
fn look_at_rights(findings: &mut Findings) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    let held = field("CapPrm:").and_then(|set| u64::from_str_radix(set, 16).ok());
    let filtered = field("Seccomp:") == Some("2");
    let text = format!(
        "{} capabilities are left to the daemon, its system calls are {}filtered",
        held.map_or(0, u64::count_ones),
        if filtered { "" } else { "not " }
    );
    let level = match filtered || !rustix::process::geteuid().is_root() {
        true => Level::Ok,
        false => Level::Note,
    };
    findings.say(level, "rights", text);
}
