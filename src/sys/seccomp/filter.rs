//! The filter's programs, built and installed.
#![allow(unsafe_code)]

use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

use super::{Mode, calls};

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` (Linux 4.17): without it a kernel before 5.16 makes every system call and context switch
/// of a filtered process slower (`spec_store_bypass_disable=seccomp`), which protects an interpreter of foreign programs and
/// nobody here.
const FLAGS: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;

pub(super) fn apply(mode: Mode, keeper: Option<u32>) -> io::Result<()> {
    let otherwise = match mode {
        Mode::Log => SeccompAction::Log,
        Mode::Kill => SeccompAction::KillProcess,
        Mode::Off => return Ok(()),
    };
    // Of two filters the stricter answer counts.
    install(&program(
        calls::no_clone3(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?)?;
    install(&program(
        calls::allowed(keeper),
        otherwise,
        SeccompAction::Allow,
    )?)
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
            let program = program(calls::allowed(Some(7)), mode, SeccompAction::Allow).unwrap();
            assert!((100..4096).contains(&program.len()), "{}", program.len());
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut numbers: Vec<i64> = calls::allowed(Some(7))
            .iter()
            .map(|(number, _)| *number)
            .collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }
}
