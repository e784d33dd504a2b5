//! The system calls of a daemon that serves: what the tests and the suites have been seen to make, and a margin of calls
//! that do the same in another way, which another C library, kernel or architecture leads to. The margin holds nothing that
//! reaches beyond the daemon's own memory, threads, descriptors and the files of its file systems.

use seccompiler::{
    SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompRule,
};

/// Allowed whatever the arguments.
const PLAIN: &[libc::c_long] = &[
    // Requests and answers, and files' data.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_flock,
    // Names and attributes.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SETXATTRAT,
    GETXATTRAT,
    LISTXATTRAT,
    REMOVEXATTRAT,
    FILE_GETATTR,
    FILE_SETATTR,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getcwd,
    libc::SYS_umask,
    // Callers, and acting as them.
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_pidfd_open,
    libc::SYS_kcmp,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    // Memory; see below for what maps.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    // Threads, time and waiting.
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getcpu,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // Signals to and within this process.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_signalfd4,
    libc::SYS_sigaltstack,
    // The control socket and syslog's: both are open already, and no socket is made.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Descriptors.
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    NO_CALL,
];

/// What a debugger puts in place of a call that it keeps from being made (`strace --inject`): it is answered ENOSYS.
const NO_CALL: libc::c_long = u32::MAX as libc::c_long;

// Later calls have the same number on every architecture, and the libc crate does not name all of them.
const FCHMODAT2: libc::c_long = 452;
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;
const REMOVEXATTRAT: libc::c_long = 466;
const FILE_GETATTR: libc::c_long = 468;
const FILE_SETATTR: libc::c_long = 469;

/// Older calls for the same, which newer architectures lack.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_mkdir,
    libc::SYS_getdents,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[libc::c_long] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[libc::c_long] = &[];

/// Commands of fcntl(2): descriptors' flags, copies, locks and leases. `F_SETSIG` and `F_SETOWN` say who is told of a lease.
const FCNTL: &[libc::c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_GETLEASE,
    libc::F_SETLEASE,
    F_SETSIG,
    libc::F_SETOWN,
];
const F_SETSIG: libc::c_int = 10;

/// Commands of ioctl(2): files' flags, project and generation, clones of files, and the device's own.
const IOCTL: &[u64] = &[
    0x8008_6601, // FS_IOC_GETFLAGS
    0x4008_6602, // FS_IOC_SETFLAGS
    0x801c_581f, // FS_IOC_FSGETXATTR
    0x401c_5820, // FS_IOC_FSSETXATTR
    0x8008_7601, // FS_IOC_GETVERSION
    0x4004_9409, // FICLONE
    0x4020_940d, // FICLONERANGE
    0x4010_e501, // FUSE_DEV_IOC_BACKING_OPEN
    0x4004_e502, // FUSE_DEV_IOC_BACKING_CLOSE
    0x5401,      // TCGETS: whether something is a terminal
    0x541b,      // FIONREAD
];

/// Options of prctl(2): a thread's name, its capabilities' rules, and the C library's names of mappings.
const PRCTL: &[libc::c_int] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_SECUREBITS,
    libc::PR_SET_SECUREBITS,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_VMA,
];

/// A clone(2) that makes a thread of this process, in no new namespace.
const THREAD: libc::c_int = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Every call that is allowed to a process whose keeper is `keeper`, with the conditions on its arguments: one rule of a call must hold; no rule, any arguments.
pub(super) fn allowed(keeper: Option<u32>) -> Vec<(i64, Vec<SeccompRule>)> {
    let mut calls: Vec<(i64, Vec<SeccompRule>)> = PLAIN
        .iter()
        .chain(OLDER)
        .map(|number| (*number, Vec::new()))
        .collect();
    let bits = |flags: libc::c_int| u64::from(flags as u32);
    let executable = bits(libc::PROT_EXEC);
    let ours = u64::from(std::process::id());
    let detach = bits(libc::MNT_DETACH);
    calls.extend([
        (libc::SYS_fcntl, any(1, FCNTL.iter().map(|c| bits(*c)))),
        (libc::SYS_ioctl, any(1, IOCTL.iter().copied())),
        (libc::SYS_prctl, any(0, PRCTL.iter().map(|c| bits(*c)))),
        // Nothing new becomes code.
        (libc::SYS_mmap, masked(2, executable, 0)),
        (libc::SYS_mprotect, masked(2, executable, 0)),
        (
            libc::SYS_clone,
            masked(0, bits(THREAD | NAMESPACES), bits(THREAD)),
        ),
        // Answered ENOSYS by the other filter, which counts where this one allows.
        (libc::SYS_clone3, Vec::new()),
        // Each thread has a working directory and an umask of its own.
        (libc::SYS_unshare, any(0, [bits(libc::CLONE_FS)])),
        // Its own threads are woken, and itself is ended by abort(3).
        (libc::SYS_tgkill, any(0, [ours])),
        // Limits are asked for and not set: there is no new one.
        (libc::SYS_prlimit64, masked(2, u64::MAX, 0)),
        // At the end. Which mount cannot be said here; the daemon asks for its own.
        (
            libc::SYS_umount2,
            any(1, [detach, detach | bits(libc::UMOUNT_NOFOLLOW)]),
        ),
    ]);
    // The keeper is told what was asked for.
    if let Some(keeper) = keeper {
        calls.push((libc::SYS_kill, any(0, [u64::from(keeper)])));
    }
    calls
}

/// What is answered ENOSYS: the flags of clone3(2) lie in memory, where no filter can look. The C library then calls
/// clone(2).
pub(super) fn no_clone3() -> Vec<(i64, Vec<SeccompRule>)> {
    vec![(libc::SYS_clone3, Vec::new())]
}

/// The 32 bits of an argument must be one of `values`.
fn any(argument: u8, values: impl IntoIterator<Item = u64>) -> Vec<SeccompRule> {
    values
        .into_iter()
        .map(|value| rule(Condition::new(argument, Len::Dword, Op::Eq, value)))
        .collect()
}

/// The bits of an argument that `mask` names must be those of `value`.
fn masked(argument: u8, mask: u64, value: u64) -> Vec<SeccompRule> {
    vec![rule(Condition::new(
        argument,
        Len::Qword,
        Op::MaskedEq(mask),
        value,
    ))]
}

fn rule(condition: Result<Condition, seccompiler::BackendError>) -> SeccompRule {
    // An argument's number above 5, or no condition, is what can be wrong.
    condition
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .expect("a call has six arguments")
}
