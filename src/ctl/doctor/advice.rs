//! What the doctor says of what it has been told: values in, sentences out. Each finding says what is so, what it costs, and
//! what to do about it if anything can be done.

use crate::ctl::report::{CacheReport, Finding, Init, PassthroughReport, RequestReport, Severity};

/// A request older than this is worth telling, microseconds.
const SLOW: f64 = 2e6;

fn finding(level: Severity, about: &str, text: String) -> Finding {
    Finding {
        level,
        about: about.to_owned(),
        text,
    }
}

/// One word or the other, by number.
fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The requests being worked on.
pub(crate) fn requests(requests: &[RequestReport]) -> Vec<Finding> {
    let slow = requests.iter().filter(|request| request.age_us > SLOW);
    let mut all: Vec<Finding> = slow
        .map(|request| {
            let path = request.path.as_deref().unwrap_or("a forgotten node");
            let text = format!(
                "{} of {path} for pid {} (uid {}) has been worked on for {:.1} s, and that process waits; what it waits for \
                 below is in /proc/{}/stack, and nobody else is held up",
                request.op,
                request.pid,
                request.uid,
                request.age_us / 1e6,
                request.tid
            );
            finding(Severity::Problem, "requests", text)
        })
        .collect();
    if all.is_empty() {
        let text = format!("{} being worked on, none for long", requests.len());
        all.push(finding(Severity::Ok, "requests", text));
    }
    all
}

/// What the kernel keeps.
pub(crate) fn cache(cache: &CacheReport) -> Finding {
    let about = "cache";
    let level = match cache {
        CacheReport { mode, .. } if mode == "strict" => {
            let text = "strict: the kernel keeps nothing, and every name is asked for (-o cache=watch keeps local ones)";
            return finding(Severity::Ok, about, text.to_owned());
        }
        CacheReport { mode, .. } if mode != "watch" => {
            return finding(Severity::Problem, about, mode.clone());
        }
        CacheReport { failed: true, .. } => {
            let text = format!(
                "the kernel gave no watch for a directory, so {} are watched at most and others are asked for each time: raise the \
                 sysctl fs.inotify.max_user_watches and start the daemon anew (etcfsctl restart)",
                cache.most
            );
            return finding(Severity::Problem, about, text);
        }
        _ if cache.oldest_event_ms > 1000 => Severity::Problem,
        _ => Severity::Ok,
    };
    let mut text = format!(
        "{} kept in {} of at most {}, {} let go of by events, events lost {}",
        plural(cache.kept as usize, "name", "names"),
        plural(
            cache.watched as usize,
            "watched directory",
            "watched directories"
        ),
        cache.most,
        cache.dropped_by_event,
        plural(cache.overflows as usize, "time", "times"),
    );
    if level == Severity::Problem {
        text.push_str(&format!(
            "; an event has waited for {:.1} s, and what it is about is seen late: the machine is busy, or requests in many directories \
             take long",
            cache.oldest_event_ms as f64 / 1e3
        ));
    }
    finding(level, about, text)
}

/// File locks: how many owners hold some, how many requests wait, those of each user, and how many a user's may be.
pub(crate) fn locks(
    owners: usize,
    waiting: usize,
    by_user: &[(u32, usize)],
    most: usize,
) -> Vec<Finding> {
    let about = "locks";
    let crowds = by_user.iter().filter(|(_, count)| *count >= most / 2);
    let mut all: Vec<Finding> = crowds
        .map(|(uid, count)| {
            let text = format!(
                "{count} requests of uid {uid} wait for file locks, of {most} that may: beyond, that user's locking fails with \
                 ENOLCK; lslocks names the files, fuser -v on them who holds them open, and -o max_lock_waiters=N lets more wait"
            );
            finding(Severity::Problem, about, text)
        })
        .collect();
    if all.is_empty() {
        let owners = plural(owners, "owner of file locks", "owners of file locks");
        let (level, text) = match waiting {
            0 => (Severity::Ok, format!("{owners}, nobody waits")),
            n => {
                let waits = plural(n, "request waits", "requests wait");
                let hint = "its program stands still until the holder unlocks; lslocks names the file, fuser -v on it who has it open";
                (
                    Severity::Note,
                    format!("{owners}, {waits} for a file lock: {hint}"),
                )
            }
        };
        all.push(finding(level, about, text));
    }
    all
}

/// Passthrough, with so many files registered; `offered`: the kernel can do it.
pub(crate) fn passthrough(state: &PassthroughReport, ids: usize, offered: bool) -> Vec<Finding> {
    let about = "passthrough";
    let mut all = Vec::new();
    if state.on {
        let files = plural(ids, "file is registered", "files are registered");
        let text = format!("on: the kernel reads and writes files itself ({files})");
        all.push(finding(Severity::Ok, about, text));
    }
    let (level, begin) = match (state.asked, state.on) {
        (false, _) => (Severity::Note, "off"),
        (true, true) => (Severity::Problem, "on in part only"),
        (true, false) => (Severity::Problem, "off"),
    };
    let cost = "files are read and written through the daemon, which takes longer, most of all in small pieces";
    for reason in &state.reasons {
        let possible = match (state.asked, offered) {
            (false, false) => {
                "; this kernel cannot do it (Linux 6.9 can), and each stratum maps global files for itself"
            }
            _ => "",
        };
        let text = format!("{begin}: {reason}{possible}: {cost}");
        all.push(finding(level, about, text));
    }
    all
}

/// The kernel, by its release.
pub(crate) fn kernel(release: &str, init: &Init) -> Vec<Finding> {
    let about = "kernel";
    let text = format!("Linux {release}, FUSE protocol {}", init.protocol);
    let mut all = vec![finding(Severity::Ok, about, text)];
    for flag in &init.missing {
        // Passthrough has a finding of its own, which knows whether anybody wants it.
        if flag == "PASSTHROUGH" {
            continue;
        }
        let text = match what_is_missing(flag) {
            Some((since, cost)) => format!("it lacks {flag}: {cost}; Linux {since} has it"),
            None => format!("it lacks {flag}, which every kernel has that etcfs runs on"),
        };
        all.push(finding(Severity::Note, about, text));
    }
    all
}

/// The first Linux with an ability that etcfs wants, and what its lack costs.
pub(crate) fn what_is_missing(flag: &str) -> Option<(&'static str, &'static str)> {
    Some(match flag {
        "PASSTHROUGH" => ("6.9", "files are read and written through the daemon"),
        "HANDLE_KILLPRIV_V2" => (
            "5.11",
            "the kernel asks for an attribute before writes, to see whether set-id bits and capabilities must go",
        ),
        "SETXATTR_EXT" => (
            "5.12",
            "the kernel does not say when an ACL takes the set-group-id bit away, and the lower file system decides alone",
        ),
        "INIT_EXT" => ("5.17", "none of the newer abilities can be agreed on"),
        "CREATE_SUPP_GROUP" => (
            "6.3",
            "a caller's groups are looked up in /proc where something is made in a directory with the set-group-id bit",
        ),
        "DIRECT_IO_ALLOW_MMAP" => (
            "6.6",
            "files are read through the kernel's page cache, and what changes beneath a file that is open may be seen late",
        ),
        "ALLOW_IDMAP" => ("6.12", "id-mapped mounts of it (containers) are refused"),
        _ => return None,
    })
}

/// A side's directory.
#[derive(Debug)]
pub(crate) struct SideFacts<'a> {
    /// `local files` or `global files`.
    pub(crate) about: &'a str,
    /// As it may be shown.
    pub(crate) path: &'a str,
    /// The type of its file system.
    pub(crate) kind: &'a str,
    /// That is FUSE.
    pub(crate) is_fuse: bool,
    /// Bytes and inodes: free for ordinary users, and in all. 0 in all: the file system does not count them.
    pub(crate) bytes: (u64, u64),
    /// Inodes.
    pub(crate) inodes: (u64, u64),
    /// What killed daemons have left.
    pub(crate) left_over: usize,
}

/// A side's directory.
pub(crate) fn lower(lower: &SideFacts<'_>) -> Vec<Finding> {
    let SideFacts { about, path, .. } = lower;
    let mut all = Vec::new();
    if lower.is_fuse {
        let text = format!(
            "{path} is itself served by a FUSE daemon: every request takes two of them, and if that one dies these files are \
             gone; name a directory on another file system (-o global=DIR), or start etcfs as root with CAP_SYS_ADMIN, so that \
             it can go beneath another etcfs"
        );
        all.push(finding(Severity::Problem, about, text));
    } else {
        all.push(finding(
            Severity::Ok,
            about,
            format!("{path} on {}", lower.kind),
        ));
    }
    let few = |(free, all): (u64, u64)| all > 0 && free < all / 50;
    let soon = "what is made or grows there will soon be refused (ENOSPC); remove something, or give it more";
    if few(lower.bytes) {
        let text = format!(
            "less than 2 % of the space below {path} is free ({} MiB): {soon}",
            lower.bytes.0 >> 20
        );
        all.push(finding(Severity::Problem, about, text));
    }
    if few(lower.inodes) {
        let text = format!(
            "less than 2 % of the inodes below {path} are free ({}): {soon}",
            lower.inodes.0
        );
        all.push(finding(Severity::Problem, about, text));
    }
    if lower.left_over > 0 {
        let things = plural(lower.left_over, "thing", "things");
        let text = format!(
            "{things} that a killed daemon had set aside (.etcfs-hidden-*) in {path} or below: no client sees them, they take \
             space; the next rename or enforcement in their directory removes them, or you do"
        );
        all.push(finding(Severity::Note, about, text));
    }
    all
}

/// An override that is not in place.
#[derive(Debug)]
pub(crate) struct Failing {
    /// Below the mount, as it may be shown.
    pub(crate) path: String,
    /// `symlink` and so on.
    pub(crate) kind: &'static str,
    /// What is there.
    pub(crate) found: String,
    /// Why it stays.
    pub(crate) errno: String,
}

/// Overrides: those that fail, and how many have been enforced.
pub(crate) fn overrides(failing: &[Failing], enforced: u64) -> Vec<Finding> {
    let about = "overrides";
    if failing.is_empty() {
        let text = format!("none fails ({enforced} enforced so far)");
        return vec![finding(Severity::Ok, about, text)];
    }
    let one = |failing: &Failing| {
        let Failing {
            path,
            kind,
            found,
            errno,
        } = failing;
        let should = match *kind {
            "symlink" => "should be a symlink, and cannot be made one",
            "directory" => "should be a directory, and cannot be made one",
            _ => "should have text injected, and cannot be edited",
        };
        let text = format!(
            "/{path} {should} ({errno}): {found} is there, and that is what everybody sees; move it away or mend what is in \
             the way, and the next look at the path tries again"
        );
        finding(Severity::Problem, about, text)
    };
    failing.iter().map(one).collect()
}

/// How much of what is limited is in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InUse {
    /// Descriptors of the daemon, and how many it may have.
    pub(crate) files: (u64, u64),
    /// How many the kernel lets any process have (`fs.nr_open`).
    pub(crate) nr_open: u64,
    /// The daemon's threads.
    pub(crate) threads: u64,
    /// All threads of the machine, and how many there may be; 0: not known.
    pub(crate) all_threads: (u64, u64),
    /// Resident memory, KiB.
    pub(crate) memory: u64,
}

/// Limits.
pub(crate) fn limits(used: InUse) -> Vec<Finding> {
    let about = "limits";
    let near = |(used, most): (u64, u64)| most > 0 && used > most / 5 * 4;
    let mut all = Vec::new();
    if used.files.1 < used.nr_open {
        let text = format!(
            "{} files may be open, where fs.nr_open allows {}: without CAP_SYS_RESOURCE the limit cannot be raised, and clients \
             get ENFILE beyond their share of it; start the daemon with a higher one (LimitNOFILE= of its unit, ulimit -Hn)",
            used.files.1, used.nr_open
        );
        all.push(finding(Severity::Note, about, text));
    }
    let calm = all.len();
    if near(used.files) {
        let (open, most) = used.files;
        let text = format!(
            "{open} of {most} file descriptors are in use: users who hold their share get ENFILE; lsof on the mount tells who \
             has files open, and a daemon that is started with a higher limit (ulimit -Hn) has more"
        );
        all.push(finding(Severity::Problem, about, text));
    }
    if near(used.all_threads) {
        let (there, most) = used.all_threads;
        let text = format!(
            "{there} of {most} threads of this machine exist: long requests and lock waiters may be refused; ps -eLf tells \
             whose they are, sysctl kernel.threads-max raises the limit"
        );
        all.push(finding(Severity::Problem, about, text));
    }
    if all.len() == calm {
        let text = format!(
            "none is near: {} of {} descriptors, {} threads, {} KiB of memory",
            used.files.0, used.files.1, used.threads, used.memory
        );
        all.push(finding(Severity::Ok, about, text));
    }
    all
}

/// What somebody would gain who found a hole in the daemon: its capabilities, and whether its system calls are filtered.
pub(crate) fn rights(capabilities: u32, filtered: bool, root: bool) -> Finding {
    let about = "rights";
    let held = plural(
        capabilities as usize,
        "capability is left to the daemon",
        "capabilities are left to the daemon",
    );
    match (filtered, root) {
        (true, _) => finding(
            Severity::Ok,
            about,
            format!("{held}, its system calls are filtered"),
        ),
        (false, false) => finding(
            Severity::Ok,
            about,
            format!("{held}: it has its user's rights alone"),
        ),
        (false, true) => {
            let text = format!(
                "{held}, its system calls are not filtered: who finds a hole in it can do more than serve files; leave out \
                 -o seccomp=off, and let the kernel have seccomp (CONFIG_SECCOMP_FILTER)"
            );
            finding(Severity::Note, about, text)
        }
    }
}

/// Whether the mount outlives this process. `restarts`: those that the journal tells, as why and how long nobody served (s),
/// and how many of them there have been.
pub(crate) fn survival(kept: bool, restarts: &[(String, f64)], all: u64) -> Finding {
    let about = "survival";
    if !kept {
        let text =
            "no other process would serve the mount if this one died (-o keeper=yes has one)";
        return finding(Severity::Note, about, text.to_owned());
    }
    let Some((why, stall)) = restarts.last() else {
        let text = "another process would serve the mount if this one died; none has had to";
        return finding(Severity::Ok, about, text.to_owned());
    };
    let longest = restarts.iter().map(|(_, stall)| *stall).fold(0.0, f64::max);
    let died = restarts.iter().any(|(why, _)| why.contains("died"));
    let times = plural(all as usize, "time", "times");
    finding(
        if died {
            Severity::Problem
        } else {
            Severity::Note
        },
        about,
        format!(
            "another process has taken over {times}, the last time because {why} (nobody served for {:.1} ms, {:.1} ms at most); \
             etcfsctl journal has all of them, and the log what went wrong",
            stall * 1e3,
            longest * 1e3
        ),
    )
}
