//! The filter of system calls: after the start the daemon makes those of [`calls`] and no others, so that whoever finds a
//! hole in it cannot start a program, open a socket, trace, mount, or reach the many calls of the kernel that it never needs.
#![allow(unsafe_code)]

mod calls;

use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

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

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` (Linux 4.17): without it a kernel before 5.16 makes every system call and context switch
/// of a filtered process slower (`spec_store_bypass_disable=seccomp`), which protects an interpreter of foreign programs and
/// nobody here.
const FLAGS: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;

/// Filters the calls of every thread of this process, those started later included. Call it when everything is open and
/// mounted. Each thread must have no_new_privs set, or CAP_SYS_ADMIN.
///
/// What is allowed whatever its arguments costs no more than the way through the kernel's slow entry, since Linux 5.11
/// (`seccomp_cache_check_allow`).
///
/// # Errors
/// The kernel has no seccomp, or this machine's architecture has no list.
pub fn apply(mode: Mode) -> io::Result<()> {
    let otherwise = match mode {
        Mode::Log => SeccompAction::Log,
        Mode::Kill => SeccompAction::KillProcess,
        Mode::Off => return Ok(()),
    };
    // Of two filters the stricter answer counts.
    install(&program(
        calls::no_clone3(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
    )?)?;
    install(&program(calls::allowed(), otherwise, SeccompAction::Allow)?)
}

fn program(
    rules: Vec<(i64, Vec<SeccompRule>)>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> io::Result<BpfProgram> {
    let unsupported = |error: seccompiler::BackendError| {
        io::Error::new(io::ErrorKind::Unsupported, error.to_string())
    };
    let arch = std::env::consts::ARCH.try_into().map_err(unsupported)?;
    SeccompFilter::new(rules.into_iter().collect(), otherwise, matching, arch)
        .and_then(BpfProgram::try_from)
        .map_err(unsupported)
}

fn install(program: &BpfProgram) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|one| libc::sock_filter {
            code: one.code,
            jt: one.jt,
            jf: one.jf,
            k: one.k,
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(io::Error::other)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the program and its instructions live until the call returns, and the kernel only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        match result {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            thread => Err(io::Error::other(format!(
                "thread {thread} has another filter"
            ))),
        }
    };
    match install(FLAGS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            install(libc::SECCOMP_FILTER_FLAG_TSYNC)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_make_a_program_of_the_kernels_size() {
        // BPF_MAXINSNS
        for mode in [SeccompAction::Log, SeccompAction::KillProcess] {
            let program = program(calls::allowed(), mode, SeccompAction::Allow).unwrap();
            assert!((100..4096).contains(&program.len()), "{}", program.len());
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut numbers: Vec<i64> = calls::allowed().iter().map(|(number, _)| *number).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }
}
