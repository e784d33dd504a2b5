//! Per-thread credentials: whose name an object is created in.
#![allow(unsafe_code)]

use rustix::fs::Mode;
use rustix::io;
use rustix::thread::{
    CapabilitiesSecureBits, UnshareFlags, capabilities_secure_bits, set_capabilities_secure_bits,
};
use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    /// The umask of this thread, once it has one of its own. `None`: it shares the process's.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Prepares the calling thread for serving requests.
///
/// It gets a working directory and an umask of its own (`unshare(CLONE_FS)`), and keeps its capabilities when its
/// file system uid changes (`SECBIT_NO_SETUID_FIXUP`): without that bit the kernel drops CAP_DAC_OVERRIDE on
/// `setfsuid(1000)`, and a caller whom the kernel has already allowed (by an ACL or a capability) would be refused
/// below. The root directory of the thread is not changed (contract D10).
///
/// # Errors
/// What `unshare(2)` answers. Lacking CAP_SETPCAP is no error: then the daemon serves its own user only.
pub fn prepare_thread() -> io::Result<()> {
    // SAFETY: `CLONE_FS` affects the calling thread's cwd and umask only; no file descriptor table is shared out.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
    UMASK.set(Some(rustix::process::umask(Mode::empty()).bits()));
    rustix::process::umask(Mode::empty());
    UMASK.set(Some(0));
    if let Ok(bits) = capabilities_secure_bits() {
        let _ = set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP);
    }
    Ok(())
}

/// Sets the umask of the calling thread, if it differs from the one it has.
///
/// The lower file system applies it exactly when the directory has no default ACL, as it does for a native caller.
pub fn set_umask(mask: u32) {
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

/// While it lives, objects made by this thread belong to `uid:gid`. Dropping it restores root.
#[must_use = "the identity ends when this is dropped"]
pub struct ActingAs {
    uid: u32,
    gid: u32,
    thread_bound: PhantomData<*const ()>,
}

impl ActingAs {
    /// Enters the identity. Costs nothing when it is root's own (0:0) and four system calls in all otherwise.
    pub fn enter(uid: u32, gid: u32) -> ActingAs {
        if gid != 0 {
            set_fs_gid(gid);
        }
        if uid != 0 {
            set_fs_uid(uid);
        }
        ActingAs {
            uid,
            gid,
            thread_bound: PhantomData,
        }
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if self.uid != 0 {
            set_fs_uid(0);
        }
        if self.gid != 0 {
            set_fs_gid(0);
        }
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
