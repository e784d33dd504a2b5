//! The filter of system calls: after the start the daemon makes those of [`calls`] and no others, so that whoever finds a
//! hole in it cannot start a program, open a socket, trace, mount, or reach the many calls of the kernel that it never needs.

// The architectures that the list is known for.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod calls;
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod filter;

use std::io;

/// What happens at a system call that is not on the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The kernel logs it, as an audit record of type 1326 (SECCOMP), and carries it out.
    #[default]
    Log,
    /// The kernel ends the daemon with SIGSYS, and logs it.
    Kill,
    /// Nothing: there is no filter.
    Off,
}

/// Filters the calls of every thread of this process, those started later included. Call it when everything is open and
/// mounted; `keeper` is the only other process that it may signal. Each thread must have no_new_privs set, or CAP_SYS_ADMIN.
///
/// What is allowed whatever its arguments costs no more than the way through the kernel's slow entry, since Linux 5.11
/// (`seccomp_cache_check_allow`).
///
/// # Errors
/// The kernel has no seccomp, or this machine's architecture has no list.
pub fn apply(mode: Mode, keeper: Option<u32>) -> io::Result<()> {
    if mode == Mode::Off {
        return Ok(());
    }
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))]
    return filter::apply(mode, keeper);
    #[cfg(not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )))]
    {
        let _ = keeper;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "there is no list of system calls for this architecture",
        ))
    }
}
