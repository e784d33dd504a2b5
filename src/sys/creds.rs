//! Per-thread credentials: with whose rights a serving thread touches the lower directories.
//!
//! The kernel has checked a request on the mount, with attributes that were true a moment ago. What changes something is
//! therefore done as the caller ([`act_as`]): with its file system ids and without any capability that overrules
//! permissions, so that the lower file system decides a second time, under its own locks. The daemon's looks at the lower
//! tree need no more than to reach what they look at ([`looking`]), and its own work ([`own`]) is root's.
//!
//! Every change of identity is a system call that copies the thread's credentials (1.7 us where this was measured), so a
//! thread remembers what it has on and changes what differs: a row of requests of one caller costs no call. What stays on
//! between requests is [`ACTING`] or [`LOOKING`], never more. Sets of capabilities are rustix's; what remembers them is ours.
#![allow(unsafe_code)]

use rustix::fs::{Gid, Mode};
use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, capabilities,
    capabilities_secure_bits, set_capabilities, set_capabilities_secure_bits, set_thread_groups,
};
use std::cell::Cell;
use std::marker::PhantomData;

/// What a thread has in effect while it acts for a caller. None of these overrules a permission that the lower file
/// system checks: SETUID and SETGID change the identity, SYS_ADMIN registers backing files and reaches `trusted.*`
/// attributes (for which the kernel asks the caller's own capabilities on the mount, each time), LEASE takes leases.
pub(crate) const ACTING: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::LEASE);

/// What reaches every object whatever its mode.
pub(crate) const REACHING: CapabilitySet = ACTING
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// What it has in effect while it looks for the daemon: it reaches everything, with `O_NOATIME` too (FOWNER).
pub const LOOKING: CapabilitySet = REACHING.union(CapabilitySet::FOWNER);

/// A user id that nobody has, not even for a file system that keeps blocks for a user of its own. `(uid_t)-1` is none.
const NOBODY: u32 = u32::MAX - 1;

/// Supplementary groups, as far as they are remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownGroups {
    None,
    One(u32),
    Many,
    /// Those of whoever started the daemon: a user namespace whose maker may not change groups (`setgroups` is `deny`)
    /// holds nobody else's anyway.
    Fixed,
}

/// What a serving thread has on.
#[derive(Clone, Copy)]
struct Worn {
    uid: u32,
    gid: u32,
    groups: KnownGroups,
    /// In effect.
    effective: CapabilitySet,
    /// What can be put into effect.
    permitted: CapabilitySet,
    /// Inside an act: a look must not put on more.
    acting: bool,
}

thread_local! {
    /// The umask of this thread, once it has one of its own. `None`: it shares the process's.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
    /// `None`: the thread serves nobody, or nobody but the daemon's own user, and keeps the rights that it has.
    static WORN: Cell<Option<Worn>> = const { Cell::new(None) };
}

/// Prepares the calling thread for serving requests.
///
/// It gets a working directory and an umask of its own (`unshare(CLONE_FS)`), loses the supplementary groups that whoever
/// started the daemon had, and keeps its capabilities when its file system uid changes (`SECBIT_NO_SETUID_FIXUP`): without
/// that bit the kernel drops and raises some with every `setfsuid` between 0 and others. The root directory of the thread
/// is not changed (contract D10). A daemon of an ordinary user serves that user only and has nothing to change.
///
/// # Errors
/// What `unshare(2)` answers; EPERM for root without CAP_SETUID and CAP_SETGID: it could not act as anybody else, and
/// would do for all what root may.
pub(crate) fn prepare_thread() -> io::Result<()> {
    // SAFETY: `CLONE_FS` affects the calling thread's cwd and umask only; no file descriptor table is shared out.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
    rustix::process::umask(Mode::empty());
    UMASK.set(Some(0));
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let permitted = capabilities(None)?.permitted;
    if !permitted.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        return Err(Errno::PERM);
    }
    if let Ok(bits) = capabilities_secure_bits() {
        let fixed = bits | CapabilitiesSecureBits::NO_SETUID_FIXUP;
        // Lacking CAP_SETPCAP is no error: what the kernel adds or drops by itself is set right by the next change.
        if fixed != bits {
            let _ = set_capabilities_secure_bits(fixed);
        }
    }
    let groups = match set_thread_groups(&[]) {
        Ok(()) => KnownGroups::None,
        Err(Errno::PERM) => KnownGroups::Fixed,
        Err(errno) => return Err(errno),
    };
    let worn = Worn {
        uid: 0,
        gid: 0,
        groups,
        effective: LOOKING & permitted,
        permitted,
        acting: false,
    };
    set_effective(&worn)?;
    set_fs_gid(0);
    set_fs_uid(0);
    WORN.set(Some(worn));
    Ok(())
}

/// Sets the umask of the calling thread, if it differs from the one it has.
///
/// The lower file system applies it exactly when the directory has no default ACL, as it does for a native caller.
pub(crate) fn set_umask(mask: u32) {
    let mask = mask & 0o777;
    UMASK.with(|current| {
        if current.get() != Some(mask) {
            rustix::process::umask(Mode::from_raw_mode(mask));
            if current.get().is_some() {
                current.set(Some(mask));
            }
        }
    });
}

/// What a caller really holds, beyond its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Effective capabilities, all of the daemon's own user namespace.
    pub(crate) capabilities: CapabilitySet,
}

/// True if this thread acts in callers' names; false where it serves its own user only.
pub(crate) fn acts_for_others() -> bool {
    WORN.get().is_some()
}

/// Runs `op` as `uid:gid` with [`ACTING`] in effect, and with the one supplementary `group` that is known of the caller.
///
/// # Errors
/// Those of `op`; EPERM when the identity cannot be put on.
pub(crate) fn act_as<T>(
    (uid, gid): (u32, u32),
    group: Option<u32>,
    op: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(worn) = WORN.get() else {
        return op();
    };
    let groups = group.map_or(KnownGroups::None, KnownGroups::One);
    let effective = ACTING & worn.permitted;
    put_on(worn, (uid, gid), groups, group.as_slice(), effective)?;
    let _act = Act::begin();
    op()
}

/// Runs `op` as `uid:gid` with all that it really holds.
///
/// # Errors
/// As [`act_as`].
pub(crate) fn act_as_held<T>(
    ids: (u32, u32),
    held: &Held,
    op: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(worn) = WORN.get() else {
        return op();
    };
    let groups = if held.groups.is_empty() {
        KnownGroups::None
    } else {
        KnownGroups::Many
    };
    let effective = held.capabilities & worn.permitted;
    put_on(worn, ids, groups, &held.groups, effective)?;
    let _back = Back::to(ACTING);
    let _act = Act::begin();
    op()
}

/// Runs `op`, a look of the daemon's at the lower tree, with what is on; if that does not reach what is to be seen, once
/// more with [`LOOKING`], which stays on.
///
/// # Errors
/// Those of `op`.
pub(crate) fn looking<T>(mut op: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match op() {
        Err(Errno::ACCESS | Errno::PERM) if reaches_more() => op(),
        done => done,
    }
}

/// Puts [`LOOKING`] on; false if nothing is gained by that.
fn reaches_more() -> bool {
    let Some(worn) = WORN.get() else {
        return false;
    };
    let wanted = LOOKING & worn.permitted;
    if worn.acting || worn.effective.contains(wanted) {
        return false;
    }
    let worn = Worn {
        effective: wanted,
        ..worn
    };
    if set_effective(&worn).is_err() {
        return false;
    }
    WORN.set(Some(worn));
    true
}

/// Runs `work` of the daemon's own as root, with every capability that it has.
///
/// # Errors
/// Those of `work`; EPERM inside an act, and when the identity cannot be put on.
pub(crate) fn own<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(worn) = WORN.get() else {
        return work();
    };
    // What a caller's act calls must not get more than the act has, whatever it asks for.
    if worn.acting {
        return Err(Errno::PERM);
    }
    if worn.uid == 0 && worn.effective == worn.permitted {
        return work();
    }
    put_on(worn, (0, 0), KnownGroups::None, &[], worn.permitted)?;
    let _back = Back::to(LOOKING);
    work()
}

/// Runs `register`, which hands a lower file to the kernel: the kernel will read and write it for every client with what
/// this thread has on then, so that must be nothing that overrules: without CAP_FSETID set-id bits go at a write, without
/// CAP_SYS_RESOURCE what is reserved stays reserved. Where the lower file system keeps blocks for a user (`reserves`: ext4,
/// f2fs), it is a user that nobody is.
///
/// # Errors
/// Those of `register`; EPERM when the identity cannot be put on.
pub(crate) fn registering<T>(
    reserves: bool,
    register: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(worn) = WORN.get() else {
        return register();
    };
    let uid = if reserves { NOBODY } else { 0 };
    let plain = worn.effective.difference(LOOKING).is_empty();
    if worn.uid != uid || worn.groups == KnownGroups::Many || !plain {
        let effective = match plain {
            true => worn.effective,
            false => ACTING & worn.permitted,
        };
        put_on(worn, (uid, worn.gid), KnownGroups::None, &[], effective)?;
    }
    register()
}

/// Runs `op`, which writes what the kernel has kept of shared mappings: whose stores those were, nobody knows any more, so
/// it has a user id that nobody has. As natively (`page_mkwrite`) a store leaves set-id bits as they are, hence CAP_FSETID.
///
/// # Errors
/// As [`act_as`].
pub(crate) fn act_as_nobody<T>(op: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let held = Held {
        groups: Vec::new(),
        capabilities: ACTING | CapabilitySet::FSETID,
    };
    act_as_held((NOBODY, NOBODY), &held, op)
}

/// Puts on what differs from `worn`.
fn put_on(
    mut worn: Worn,
    (uid, gid): (u32, u32),
    groups: KnownGroups,
    list: &[u32],
    effective: CapabilitySet,
) -> io::Result<()> {
    // (uid_t)-1 asks and sets nothing, so it would leave the identity of whoever was served before.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::PERM);
    }
    let other_groups =
        worn.groups != KnownGroups::Fixed && (groups != worn.groups || groups == KnownGroups::Many);
    if (uid, gid) != (worn.uid, worn.gid) || other_groups {
        if !worn
            .effective
            .contains(CapabilitySet::SETUID | CapabilitySet::SETGID)
        {
            worn.effective = ACTING & worn.permitted;
            set_effective(&worn)?;
            WORN.set(Some(worn));
        }
        if gid != worn.gid {
            set_fs_gid(gid);
            worn.gid = gid;
        }
        if uid != worn.uid {
            set_fs_uid(uid);
            worn.uid = uid;
        }
        WORN.set(Some(worn));
        if other_groups {
            let list: Vec<Gid> = list.iter().map(|&gid| Gid::from_raw(gid)).collect();
            set_thread_groups(&list)?;
            worn.groups = groups;
            WORN.set(Some(worn));
        }
    }
    if effective != worn.effective {
        worn.effective = effective;
        set_effective(&worn)?;
        WORN.set(Some(worn));
    }
    Ok(())
}

/// Puts what `worn` says into effect.
fn set_effective(worn: &Worn) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: worn.effective,
        permitted: worn.permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

fn set_acting(acting: bool) {
    WORN.set(WORN.get().map(|worn| Worn { acting, ..worn }));
}

/// While it lives, looks put on nothing more.
struct Act {
    before: bool,
    thread_bound: PhantomData<*const ()>,
}

impl Act {
    fn begin() -> Act {
        let before = WORN.get().is_some_and(|worn| worn.acting);
        set_acting(true);
        Act {
            before,
            thread_bound: PhantomData,
        }
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        set_acting(self.before);
    }
}

/// Takes off at its end what must not stay on.
struct Back {
    to: CapabilitySet,
    thread_bound: PhantomData<*const ()>,
}

impl Back {
    fn to(to: CapabilitySet) -> Back {
        Back {
            to,
            thread_bound: PhantomData,
        }
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let Some(worn) = WORN.get() else { return };
        let worn = Worn {
            effective: self.to & worn.permitted,
            ..worn
        };
        // Giving up is always allowed; a thread that could not would go on with more than it may have.
        if set_effective(&worn).is_err() {
            crate::log::error(format_args!(
                "the capabilities put on for the daemon's own work cannot be taken off; the daemon ends, so that nobody is served with them"
            ));
            std::process::abort();
        }
        WORN.set(Some(worn));
    }
}

fn set_fs_uid(uid: u32) {
    // SAFETY: setfsuid(2) takes an integer and changes the calling thread only; glibc does not broadcast it.
    unsafe { libc::setfsuid(uid) };
}

fn set_fs_gid(gid: u32) {
    // SAFETY: setfsgid(2) takes an integer and changes the calling thread only; glibc does not broadcast it.
    unsafe { libc::setfsgid(gid) };
}

#[cfg(test)]
mod tests;
