//! The doctor: what is as it should be, what is worth knowing, and what somebody should do something about.

mod advice;
#[cfg(test)]
mod tests;

use super::Control;
use super::answer::reason;
use super::report::{Doctor, Finding, Severity};
use crate::fs::ids::Side;
use crate::fs::journal::Restart;
use crate::fs::staging::sweep::{STALE_AFTER, is_stale};
use crate::fs::staging::temp_names::is_hidden;
use crate::ledger::header::FirstPage;
use crate::printable::printable;
use crate::session::meter;
use crate::sys::limits;
use crate::trace::side_word;
use advice::{Failing, InUse, SideFacts};
use etcfs_proto::flags::InitFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, fstatfs, fstatvfs};
use rustix::process::{Resource, getrlimit};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
/// How long the search for stale temporaries may take.
const SEARCH: Duration = Duration::from_secs(1);
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

impl Control {
    pub(super) fn doctor(&self) -> Doctor {
        let session = &self.session;
        let init = self.init();
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        let waiters = &session.waiters;
        let offered = session.agreed.offered.contains(InitFlags::PASSTHROUGH);
        let mut findings = advice::requests(&self.in_flight(meter::now()));
        findings.extend(advice::locks(
            session.fs.locks.len(),
            waiters.len(),
            &waiters.by_user(),
            waiters.most(),
        ));
        let ids = session.fs.passthrough.registry.ids();
        findings.extend(advice::passthrough(&self.passthrough(), ids, offered));
        findings.extend(advice::kernel(&release, &init));
        findings.push(advice::cache(&self.cache()));
        for side in [Side::Local, Side::Global] {
            findings.extend(self.lower(side));
        }
        let enforced = session.fs.enforcer.journal().total();
        findings.extend(advice::overrides(&self.failing(), enforced));
        findings.extend(advice::limits(used()));
        findings.push(rights());
        let (restarts, all) = session.fs.enforcer.journal().restarts();
        let told = |restart: &Restart| (printable(&restart.why), restart.stall.as_secs_f64());
        let restarts: Vec<_> = restarts.iter().map(told).collect();
        findings.push(advice::survival(
            self.start.keeper.is_some_and(FirstPage::has_keeper),
            &restarts,
            all,
        ));
        Doctor { findings }
    }

    fn lower(&self, side: Side) -> Vec<Finding> {
        let about = format!("{} files", side_word(side));
        let path = match side {
            Side::Local => &self.start.local,
            Side::Global => &self.start.global,
        };
        let path = printable(path.as_os_str().as_encoded_bytes());
        let dir = self.session.fs.lower.base(side).dir.as_fd();
        let (kind, space) = match fstatfs(dir).and_then(|kind| Ok((kind, fstatvfs(dir)?))) {
            // The field is signed or not, of 32 bits or of 64; the magic numbers have 32.
            Ok((stat, space)) => (u64::from(stat.f_type as u32), space),
            Err(errno) => {
                let text = format!(
                    "{path}: its file system does not answer ({}): nothing on this side can be reached; mend that file \
                     system and start the daemon anew",
                    reason(errno)
                );
                let level = Severity::Problem;
                return vec![Finding { level, about, text }];
            }
        };
        let name = TYPES.iter().find(|(magic, _)| *magic == kind);
        let name = name.map_or_else(
            || format!("a file system of type {kind:#x}"),
            |t| t.1.to_owned(),
        );
        let size = space.f_frsize;
        advice::lower(&SideFacts {
            about: &about,
            path: &path,
            kind: &name,
            is_fuse: kind == FUSE,
            bytes: (
                space.f_bavail.saturating_mul(size),
                space.f_blocks.saturating_mul(size),
            ),
            inodes: (space.f_favail, space.f_files),
            left_over: stale(dir),
        })
    }

    /// The overrides that failed when they were last tried, are in force still, and are not in place by now.
    fn failing(&self) -> Vec<Failing> {
        let fs = &self.session.fs;
        let rules = fs.lower.rules();
        let entries = fs.enforcer.journal().entries();
        let mut failing = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let Err(errno) = entry.result else { continue };
            // Only what the last word about a path is.
            if entries[at + 1..].iter().any(|e| e.path == entry.path) {
                continue;
            }
            let Some(over) = rules.find(&entry.path).over else {
                continue;
            };
            if over.kind == entry.kind && fs.enforcer.is_off(entry.side, over) {
                failing.push(Failing {
                    path: printable(&entry.path),
                    kind: entry.kind.word(),
                    found: entry.found.to_string(),
                    errno: reason(errno),
                });
            }
        }
        failing
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
            if is_hidden(name.to_bytes()) {
                count += usize::from(is_stale(dir.as_fd(), name, STALE_AFTER));
            } else if entry.file_type().is_dir()
                && !matches!(name.to_bytes(), b"." | b"..")
                && depth < DEEP
            {
                todo.extend(open(dir.as_fd(), name).map(|below| (below, depth + 1)));
            }
        }
    }
    count
}

/// What is in use of what is limited.
fn used() -> InUse {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    // proc_loadavg(5): `0.00 0.01 0.05 RUNNING/ALL LAST`.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let there = load
        .split(' ')
        .nth(3)
        .and_then(|both| both.split('/').nth(1));
    let most = std::fs::read_to_string("/proc/sys/kernel/threads-max");
    let most = most.ok().and_then(|text| text.trim().parse().ok());
    InUse {
        files: (
            std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64),
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        ),
        nr_open: limits::most_files(),
        threads: field("Threads:").unwrap_or(0),
        all_threads: (
            there.and_then(|n| n.parse().ok()).unwrap_or(0),
            most.unwrap_or(0),
        ),
        memory: field("VmRSS:").unwrap_or(0),
    }
}

fn rights() -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    let held = field("CapPrm:").and_then(|set| u64::from_str_radix(set, 16).ok());
    let root = rustix::process::geteuid().is_root();
    advice::rights(
        held.map_or(0, u64::count_ones),
        field("Seccomp:") == Some("2"),
        root,
    )
}
