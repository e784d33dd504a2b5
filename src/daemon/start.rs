//! From options to a mount whose INIT is answered, and which nobody serves yet.

use super::facts::{Before, Facts};
use crate::cli::Options;
use crate::ctl;
use crate::ctl::door::Door;
use crate::fs::ids::{BELOW, BELOW_NAME};
use crate::fs::lower::BaseDir;
use crate::log;
use crate::mount::{self, Pending};
use crate::session::{self, handshake};
use crate::sys::privileges;
use anyhow::{Context as _, Result};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Agreed, Wish};
use rustix::fd::{AsFd as _, BorrowedFd, IntoRawFd as _, RawFd};
use rustix::fs::{Mode, OFlags};
use std::os::unix::ffi::OsStrExt as _;

/// A mount that waits for somebody to serve it.
pub(super) struct Unserved {
    /// What is to be known of it.
    pub(super) facts: Facts,
    /// What makes it visible.
    pub(super) pending: Pending,
    /// Others who start on the same mountpoint wait for this to go.
    pub(super) starting: Option<mount::Starting>,
}

/// Takes both base directories beneath any FUSE mount before there is a mount of our own (contract F1, D8), makes the mount,
/// and answers INIT.
///
/// # Errors
/// Nothing is left mounted then.
pub(super) fn make(options: &Options) -> Result<Unserved> {
    let mountpoint = std::path::absolute(&options.mount.mountpoint)
        .with_context(|| format!("{}", options.mount.mountpoint.display()))?;
    // Where there is no such directory, that is said below.
    let beneath = mount::take_base(&mountpoint).ok();
    let starting = beneath.map(|base| mount::Starting::wait(base.into_dir()));
    let found = mount::make_room(&mountpoint, options.mount.way, &ctl::door::serving)?;
    for remark in found.remarks(&mountpoint) {
        log::warn(format_args!("{remark}"));
    }
    if let Some(live) = found.live.filter(|_| !options.stack) {
        return Err(live.refuse(&mountpoint).into());
    }
    let point = mount::Point::open(&mountpoint)?;
    let local = point.base().context("the local directory")?;
    let global_dir = options.global_dir(&mountpoint);
    let global = mount::take_base(&global_dir)
        .context("the global directory (name another one with -o global=DIR)")?;
    // Nothing relative is left to be found, and a daemon that stays where it was started keeps that file system busy.
    std::env::set_current_dir("/").context("/")?;
    let mut request = options.mount.clone();
    if local.is_noexec() || global.is_noexec() {
        log::info(format_args!(
            "{}: nothing can be executed, as on the mounts beneath",
            mountpoint.display()
        ));
        request.noexec = true;
    }
    let (local, of_local) = local.with_times_of(&request);
    let (global, of_global) = global.with_times_of(&request);
    let times = of_local.and(of_global);
    if let Err(errno) = times {
        log::info(format_args!(
            "{}: access times change as on the mounts beneath ({errno}); with noatime and ro, files that this user may \
             open so are opened with O_NOATIME",
            mountpoint.display()
        ));
    }
    let keeps_times = times.is_err() && request.keeps_access_times();
    let stratum = stratum(options)?;
    log::set_stratum(&stratum);
    let base = |base: mount::Base| BaseDir::new(&base.into_dir());
    let before = Before {
        mountpoint: mountpoint.as_os_str().as_bytes().into(),
        global_dir: std::path::absolute(&global_dir)
            .unwrap_or(global_dir)
            .into_os_string()
            .into_encoded_bytes(),
        stratum,
        local: base(local).context("opening the local directory")?.leave(),
        global: base(global)
            .context("opening the global directory")?
            .leave(),
        generation: rand_generation(),
        keeps_access_times: keeps_times,
        suid: request.suid,
        dev: request.dev,
    };
    let prepared = mount::prepare(&request, point)?;
    if rustix::process::geteuid().is_root() {
        privileges::reduce().context("giving up what serving does not need")?;
    }
    let agreed = handshake(prepared.device.as_fd(), &wish(options)).context("/dev/fuse")?;
    let mut pending = prepared.pending;
    let below = go_below(
        &mut pending,
        prepared.device.as_fd(),
        &agreed,
        before.generation,
    );
    let door = match Door::open(pending.device(), pending.number()) {
        Ok(door) => Some(door.leave()),
        Err(errno) => {
            log::error(format_args!(
                "no control socket ({errno}): etcfsctl cannot reach this daemon; the mount works without it"
            ));
            None
        }
    };
    let device = prepared.device.into_raw_fd();
    Ok(Unserved {
        facts: before.and(device, &agreed, (pending.to_be(), below), door, program()),
        pending,
        starting,
    })
}

/// Has what is attached be a directory below the FUSE root, where that is possible.
fn go_below(
    pending: &mut Pending,
    device: BorrowedFd<'_>,
    agreed: &Agreed,
    generation: u32,
) -> bool {
    if pending.is_visible() {
        return false;
    }
    let name = session::Name {
        name: BELOW_NAME,
        node: BELOW,
        generation,
    };
    let answer = |done: BorrowedFd<'_>| session::answer_until(device, agreed, name, done);
    let gone = pending.go_below(BELOW_NAME, answer);
    if let Err(errno) = gone {
        log::info(format_args!(
            "the kernel asks for the root's access control list at every step of an ordinary user ({errno})"
        ));
    }
    gone.is_ok()
}

/// This program, for whoever is to go on with it. None where no `/proc` is mounted.
fn program() -> Option<RawFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(c"/proc/self/exe", flags, Mode::empty());
    opened.ok().map(|fd| fd.into_raw_fd())
}

/// A number that an earlier daemon of the same mountpoint hardly had. The standard library seeds these at random.
fn rand_generation() -> u32 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(0) as u32 | 1
}

/// The stratum's name: an option, or what Bedrock has written on the stratum's root (contract D8).
fn stratum(options: &Options) -> Result<Vec<u8>> {
    if let Some(name) = &options.stratum {
        return Ok(name.as_bytes().to_vec());
    }
    let mut value = vec![0; 4096];
    let len = rustix::fs::lgetxattr(c"/", c"user.bedrock.stratum", &mut value[..]).context(
        "reading attribute user.bedrock.stratum of / (outside a stratum, give -o stratum=NAME)",
    )?;
    value.truncate(len);
    Ok(value)
}

/// What etcfs wants of the kernel.
pub(crate) fn wish(options: &Options) -> Wish {
    let mut flags = InitFlags::INIT_EXT
        | InitFlags::ASYNC_READ
        | InitFlags::POSIX_LOCKS
        | InitFlags::FLOCK_LOCKS
        | InitFlags::ATOMIC_O_TRUNC
        | InitFlags::EXPORT_SUPPORT
        | InitFlags::AUTO_INVAL_DATA
        | InitFlags::BIG_WRITES
        | InitFlags::DONT_MASK
        | InitFlags::ASYNC_DIO
        | InitFlags::PARALLEL_DIROPS
        | InitFlags::POSIX_ACL
        | InitFlags::ABORT_ERROR
        | InitFlags::MAX_PAGES
        | InitFlags::HANDLE_KILLPRIV_V2
        | InitFlags::SETXATTR_EXT
        | InitFlags::CREATE_SUPP_GROUP
        | InitFlags::DIRECT_IO_ALLOW_MMAP;
    if options.cache.is_watch() {
        flags |= InitFlags::CACHE_SYMLINKS | InitFlags::HAS_EXPIRE_ONLY;
    }
    // Where nobody has asked for passthrough, root's daemon uses it for mappings of global files.
    let registers = options.passthrough || rustix::process::geteuid().is_root();
    if registers {
        flags |= InitFlags::PASSTHROUGH;
    }
    Wish {
        flags,
        max_stack_depth: registers.then(|| options.max_stack_depth.into()),
        default_permissions: true,
        ..Wish::default()
    }
}
