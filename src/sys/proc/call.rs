//! Which system call a thread is in, as `/proc/TID/syscall` (proc(5)) says: it wants CAP_SYS_PTRACE for other users'
//! threads, and a thread that waits for an answer is in the one that asked. Numbers of 32-bit programs mean other calls on a
//! 64-bit machine.

use rustix::fs::{Mode, OFlags};
use rustix::io;

/// A system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Inside {
    number: libc::c_long,
    args: [u64; 6],
}

/// What the thread is in.
fn inside(thread: u32) -> Option<Inside> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = format!("/proc/{thread}/syscall");
    let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let mut text = [0; 256];
    let len = io::read(&fd, &mut text).ok()?;
    parse(std::str::from_utf8(&text[..len]).ok()?)
}

/// A number, and in hexadecimal six arguments, the stack and the place; "running", and -1 outside any call.
fn parse(text: &str) -> Option<Inside> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some(Inside { number, args })
}

/// True if the thread is inside one of these system calls. False also where that cannot be told.
pub(crate) fn is_inside(thread: u32, calls: &[libc::c_long]) -> bool {
    inside(thread).is_some_and(|inside| calls.contains(&inside.number))
}

/// True if the thread is inside a call that changes an owner, or that says it changes none: a program of the other word size
/// that the kernel runs has other numbers, which here mean other calls, but none of those has -1 where the ids are. False also
/// where that cannot be told.
pub(crate) fn changes_owner(thread: u32) -> bool {
    inside(thread).is_some_and(|inside| {
        let asks_for_none = |first: usize| {
            let is_none = |id: &u64| matches!(*id as u32, u32::MAX | 0xffff);
            inside.args[first..first + 2].iter().all(is_none)
        };
        OWNER_CALLS.contains(&inside.number)
            || OWNER_CALLS_32
                .iter()
                .any(|&(number, first)| inside.number == number && asks_for_none(first))
    })
}

/// Whose lock `fcntl(2)` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockCall {
    /// `F_SETLK`, `F_SETLKW`: the process's.
    OfProcess,
    /// `F_OFD_SETLK`, `F_OFD_SETLKW`: the open file's.
    OfOpenFile,
}

/// Whose lock the thread asks for, if it is inside `fcntl(2)` for that.
pub(crate) fn lock_call(thread: u32) -> Option<LockCall> {
    #[cfg(target_pointer_width = "32")]
    const FCNTL: &[libc::c_long] = &[libc::SYS_fcntl, libc::SYS_fcntl64];
    #[cfg(not(target_pointer_width = "32"))]
    const FCNTL: &[libc::c_long] = &[libc::SYS_fcntl];
    let inside = inside(thread).filter(|inside| FCNTL.contains(&inside.number))?;
    match inside.args[1] as i32 {
        libc::F_OFD_SETLK | libc::F_OFD_SETLKW => Some(LockCall::OfOpenFile),
        // F_SETLK64 and F_SETLKW64 of 32-bit architectures.
        libc::F_SETLK | libc::F_SETLKW | 13 | 14 => Some(LockCall::OfProcess),
        _ => None,
    }
}

/// `RWF_NOAPPEND` (Linux 6.9, include/uapi/linux/fs.h).
const RWF_NOAPPEND: u64 = 0x20;

/// True if the thread is inside a `pwritev2(2)` that does not append, whatever the open file says.
pub(crate) fn writes_without_append(thread: u32) -> bool {
    inside(thread).is_some_and(|inside| {
        inside.number == libc::SYS_pwritev2 && inside.args[5] & RWF_NOAPPEND != 0
    })
}

/// The system calls that remove an extended attribute; `removexattrat(2)`, Linux 6.13, has one number everywhere but on
/// alpha.
pub(crate) const REMOVE_CALLS: &[libc::c_long] = &[
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    466,
];

/// The system calls that change an owner, in this architecture's numbers.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "powerpc64",
    target_arch = "s390x"
))]
const OWNER_CALLS: &[libc::c_long] = &[
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
];
/// Newer architectures have no `chown` and `lchown`.
#[cfg(any(
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
))]
const OWNER_CALLS: &[libc::c_long] = &[libc::SYS_fchown, libc::SYS_fchownat];
/// 32-bit architectures have each of them twice, for 16-bit ids and for 32-bit ones.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const OWNER_CALLS: &[libc::c_long] = &[
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_chown32,
    libc::SYS_fchown32,
    libc::SYS_lchown32,
    libc::SYS_fchownat,
];
/// The calls of every other architecture.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "powerpc64",
    target_arch = "s390x",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "x86",
    target_arch = "arm",
)))]
const OWNER_CALLS: &[libc::c_long] = &[libc::SYS_fchown, libc::SYS_fchownat];

/// Those of 32-bit programs, and which argument is the user's id: `lchown`, `fchown`, `chown` of 16-bit ids, the same of
/// 32-bit ones, and `fchownat`; on x86-64 those of x32, too (arch/x86/entry/syscalls, arch/arm/tools/syscall.tbl).
#[cfg(target_arch = "x86_64")]
const OWNER_CALLS_32: &[(libc::c_long, usize)] = &[
    (16, 1),
    (95, 1),
    (182, 1),
    (198, 1),
    (207, 1),
    (212, 1),
    (298, 2),
    (0x4000_0000 | libc::SYS_chown, 1),
    (0x4000_0000 | libc::SYS_fchown, 1),
    (0x4000_0000 | libc::SYS_lchown, 1),
    (0x4000_0000 | libc::SYS_fchownat, 2),
];
#[cfg(target_arch = "aarch64")]
const OWNER_CALLS_32: &[(libc::c_long, usize)] = &[
    (16, 1),
    (95, 1),
    (182, 1),
    (198, 1),
    (207, 1),
    (212, 1),
    (325, 2),
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OWNER_CALLS_32: &[(libc::c_long, usize)] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_number_and_six_arguments() {
        let text = "72 0x3 0x7 0x7ffd10 0x0 0x0 0x22 0x7ffd00 0x7f01\n";
        let inside = parse(text).unwrap();
        assert_eq!(
            (inside.number, inside.args),
            (72, [3, 7, 0x7f_fd10, 0, 0, 0x22])
        );
        assert_eq!(parse("running\n"), None);
        assert_eq!(parse("-1 0x7ffd00 0x7f01\n"), None);
    }

    #[test]
    fn a_thread_that_looks_at_itself_is_inside_read() {
        let own = rustix::thread::gettid().as_raw_pid() as u32;
        assert!(is_inside(own, &[libc::SYS_read]));
        assert!(!is_inside(own, REMOVE_CALLS));
        assert_eq!(lock_call(own), None);
        assert!(!is_inside(0, &[libc::SYS_read]));
    }
}
