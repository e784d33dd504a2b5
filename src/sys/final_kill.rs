//! The mark by which systemd knows what is to live to the end: a process of root's whose command line begins with `@` gets
//! neither the TERM nor the KILL that systemd-shutdown sends to all (`argv_has_at`, systemd's src/shared/killall.c).

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, Result, pwrite};

/// The field of `/proc/PID/stat`, counted after the command's name, where the arguments begin (`arg_start`, field 48).
const ARG_START: usize = 45;

/// Puts `@` in place of the first character of this process's command line, which later children inherit. Its name
/// (`comm`), by which pidof(1) finds it, stays.
///
/// # Errors
/// `/proc` is not mounted, or has no such field.
pub(crate) fn be_spared() -> Result<()> {
    let stat = std::fs::read("/proc/self/stat").map_err(|e| errno(&e))?;
    // The command's name, in parentheses, may hold anything.
    let after = stat
        .iter()
        .rposition(|&byte| byte == b')')
        .map(|at| &stat[at + 1..]);
    let at = after
        .and_then(|fields| std::str::from_utf8(fields).ok())
        .and_then(|fields| fields.split_ascii_whitespace().nth(ARG_START)?.parse().ok())
        .filter(|&at| at != 0)
        .ok_or(Errno::INVAL)?;
    // The page is this process's own and writable, so nothing is forced here (`mem_rw`, fs/proc/base.c).
    let memory = openat(
        CWD,
        "/proc/self/mem",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    pwrite(&memory, b"@", at).map(drop)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
