//! Extended attributes: SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR.
//!
//! All namespaces pass through to the lower object. `user.bedrock.stratum` and `user.bedrock.localpath` are answered
//! here for every object, listed nowhere, and cannot be changed (contract D36 to D38).

use super::act::Actor;
use super::{Call, Handled};
use crate::fs::ids::NodeId;
use crate::fs::lower::pin::Pinned;
use crate::fs::stat::Stat;
use crate::sys::creds::{self, looking};
use crate::sys::proc;
use crate::sys::xattr::{self, LARGEST, Target, is_acl};
use etcfs_proto::abi::{GetxattrIn, GetxattrOut};
use etcfs_proto::flags::{InitFlags, SetxattrFlags};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::ffi::CStr;

/// The attributes whose names begin so are etcfs's own.
const OURS: &[u8] = b"user.bedrock.";

/// The ACL that the kernel asks for while it checks an ordinary user's permissions (`fuse_get_acl`).
const ACCESS_ACL: &CStr = c"system.posix_acl_access";

/// File capabilities, which the kernel asks for at execve(2) and before writes.
const CAPABILITY: &CStr = c"security.capability";

/// GETXATTR. Size 0 asks for the length.
pub(crate) fn getxattr(call: &mut Call<'_>) -> Handled {
    let size = call.args::<GetxattrIn>()?.size as usize;
    let name = call.attribute()?;
    let own = match name.to_bytes() {
        b"user.bedrock.stratum" => Some(call.fs.explain.stratum_of(call.node_id())?),
        b"user.bedrock.localpath" => {
            // The kernel has asked for rights on the object, not for those on the way to it.
            let actor = call.actor().unvouched();
            let look = |dir: BorrowedFd<'_>, name: &CStr| actor.act(|| Stat::at(dir, name));
            Some(call.fs.explain.localpath_of(call.node_id(), look)?)
        }
        _ => None,
    };
    if let Some(value) = own {
        put(call, size, |space| match space.len() {
            0 => Ok(value.len()),
            n if n < value.len() => Err(Errno::RANGE),
            _ => {
                space[..value.len()].copy_from_slice(&value);
                Ok(value.len())
            }
        })?;
        return Ok(());
    }
    let node = call.node()?;
    if name == CAPABILITY && !call.fs.grants.gives_capabilities(&node) {
        return Err(Errno::NODATA.into());
    }
    let access = name == ACCESS_ACL;
    if access && call.fs.lower.lacks_acl(&node) {
        return Err(Errno::NODATA.into());
    }
    let pinned = call.fs.lower.pin(&node)?;
    let before = match access && !node.is_dir() {
        true => Some(Stat::of(pinned.as_fd())?),
        false => None,
    };
    let actor = call.actor();
    let result = put(call, size, |space| {
        get_pinned(actor, pinned.xattr_target(), name, space)
    });
    if let (Err(Errno::NODATA), Some(before)) = (&result, &before) {
        call.fs.lower.note_no_acl(&node, &pinned, before);
    }
    // A lower file system without ACLs (ramfs, vfat, ext4 mounted with noacl). The kernel asks for them while it checks
    // an ordinary user's permissions, and any error but ENODATA becomes that of the user's call (fuse_get_acl).
    result.map_err(|errno| match errno {
        Errno::OPNOTSUPP if is_acl(name.to_bytes()) => Errno::NODATA,
        other => other,
    })?;
    Ok(())
}

/// Reads an attribute. Those of users ask for the right to read the file (`xattr_permission`), so they are read as the
/// caller; for the others the kernel has asked the caller's own capabilities.
fn get_pinned(
    actor: Actor<'_>,
    target: Target<'_>,
    name: &CStr,
    space: &mut [u8],
) -> Result<usize, Errno> {
    if name.to_bytes().starts_with(b"user.") {
        actor.act(|| xattr::get(target, name, space))
    } else {
        looking(|| xattr::get(target, name, space))
    }
}

/// LISTXATTR. Size 0 asks for the length. `trusted.*` is for the eyes of those who have CAP_SYS_ADMIN, as natively.
pub(crate) fn listxattr(call: &mut Call<'_>) -> Handled {
    let size = call.args::<GetxattrIn>()?.size as usize;
    let node = call.node()?;
    let pinned = call.fs.lower.pin(&node)?;
    let mut names = vec![0; LARGEST];
    let len = match xattr::list(pinned.xattr_target(), &mut names) {
        Err(Errno::TOOBIG) => return too_long_a_list(call, size, pinned.xattr_target()),
        listed => listed?,
    };
    let mut sees_trusted = None;
    let mut shown = Vec::with_capacity(len);
    for name in names[..len].split_inclusive(|&b| b == 0) {
        let trusted = name.starts_with(b"trusted.");
        if !name.starts_with(OURS)
            && (!trusted || *sees_trusted.get_or_insert_with(|| has_sys_admin(call)))
        {
            shown.extend_from_slice(name);
        }
    }
    put(call, size, |space| match space.len() {
        0 => Ok(shown.len()),
        n if n < shown.len() => Err(Errno::RANGE),
        _ => {
            space[..shown.len()].copy_from_slice(&shown);
            Ok(shown.len())
        }
    })?;
    Ok(())
}

/// LISTXATTR of an object that has more than [`LARGEST`] bytes of names, those for administrators included: what the lower
/// file system tells the caller. (The kernel makes E2BIG of ERANGE where the caller's buffer has room for 64 KiB, and cuts
/// the length to that, `fuse_listxattr`.)
fn too_long_a_list(call: &mut Call<'_>, size: usize, target: Target<'_>) -> Handled {
    let actor = call.actor();
    let sees_trusted = has_sys_admin(call);
    put(call, size, |space| {
        let listed = match sees_trusted {
            true => xattr::list(target, space),
            false => actor.act_without_more(|| xattr::list(target, space)),
        };
        listed.map_err(|errno| match errno {
            Errno::TOOBIG => Errno::RANGE,
            other => other,
        })
    })?;
    Ok(())
}

/// Whether the caller has CAP_SYS_ADMIN. Who serves its own user only sees no more than that user.
fn has_sys_admin(call: &Call<'_>) -> bool {
    let held = || call.actor().held();
    !creds::acts_for_others()
        || held().is_some_and(|held| held.capabilities.contains(CapabilitySet::SYS_ADMIN))
}

/// Puts what `get` writes into the reply, or only its length when `size` is 0.
fn put(
    call: &mut Call<'_>,
    size: usize,
    get: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    if size == 0 {
        let len = get(&mut [])?;
        call.reply.put(&GetxattrOut {
            size: len as u32,
            padding: 0,
        });
        return Ok(());
    }
    call.reply.clear();
    let len = get(call.reply.space(size.min(LARGEST)))?;
    call.reply.truncate_body(len);
    Ok(())
}

/// SETXATTR.
pub(crate) fn setxattr(call: &mut Call<'_>) -> Handled {
    let ext = call.agreed.flags.contains(InitFlags::SETXATTR_EXT);
    let args = call.frame.setxattr(ext).map_err(super::malformed)?;
    if args.name.to_bytes().starts_with(OURS) {
        return Err(Errno::PERM.into());
    }
    let node = call.node()?;
    let pinned = call.fs.lower.pin(&node)?;
    let flags = XattrFlags::from_bits_retain(args.flags);
    if flags.contains(XattrFlags::CREATE) {
        // Who creates it finds it created when the request is carried out again.
        let had = has(&pinned, args.name);
        match call.begun() {
            Some([0, ..]) if had && is_value(&pinned, args.name, args.value) => return Ok(()),
            Some([had, ..]) => call.begin(&[had]),
            None => call.begin(&[had.into()]),
        }
    }
    let set = || xattr::set(pinned.xattr_target(), args.name, args.value, flags);
    let kills =
        SetxattrFlags::from_bits_retain(args.setxattr_flags).contains(SetxattrFlags::ACL_KILL_SGID);
    if is_acl(args.name.to_bytes())
        && !(ext && kills)
        && may_drop_set_group_id(call, pinned.as_fd())?
    {
        return Ok(call.actor().act_truly(set)?);
    }
    Ok(call.act(set)?)
}

/// Whether a change of the ACL of `fd` may take set-group-id away, in silence: unless the caller is in the file's group or
/// has CAP_FSETID (`posix_acl_update_mode`). With SETXATTR the kernel may say that it is not.
fn may_drop_set_group_id(call: &Call<'_>, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = Stat::of(fd)?;
    let set_group_id = u32::from(stat.0.stx_mode) & libc::S_ISGID != 0;
    Ok(set_group_id && stat.0.stx_gid != call.frame.head.gid)
}

/// REMOVEXATTR.
pub(crate) fn removexattr(call: &mut Call<'_>) -> Handled {
    let name = call.attribute()?;
    if name.to_bytes().starts_with(OURS) {
        return Err(Errno::PERM.into());
    }
    let node = call.node()?;
    let pinned = call.fs.lower.pin(&node)?;
    let had = has(&pinned, name);
    match call.begun() {
        Some([1, ..]) if !had => return Ok(()),
        Some([had, ..]) => call.begin(&[had]),
        None => call.begin(&[had.into()]),
    }
    let remove = || xattr::remove(pinned.xattr_target(), name);
    // tmpfs has it that no ACL is one, too (`simple_set_acl`).
    if is_acl(name.to_bytes()) && may_drop_set_group_id(call, pinned.as_fd())? {
        return Ok(call.actor().act_truly(remove)?);
    }
    match call.act(remove) {
        // The kernel asks nobody's right when it takes file capabilities away before a write or a chown
        // (`cap_inode_killpriv`), which the lower file system does by itself at that very change.
        Err(Errno::PERM) if name == CAPABILITY && !asks_for_it(call) => Ok(()),
        done => Ok(done?),
    }
}

/// Whether the object has the attribute.
fn has(pinned: &Pinned, name: &CStr) -> bool {
    looking(|| xattr::get(pinned.xattr_target(), name, &mut [])).is_ok()
}

/// Whether that is its value.
fn is_value(pinned: &Pinned, name: &CStr, value: &[u8]) -> bool {
    let mut found = vec![0; LARGEST];
    let len = looking(|| xattr::get(pinned.xattr_target(), name, &mut found));
    len.is_ok_and(|len| found[..len] == *value)
}

/// Whether the caller itself wants an attribute removed, so that it must not be told that it was when it was not.
fn asks_for_it(call: &Call<'_>) -> bool {
    let thread = call.frame.head.pid;
    creds::own(|| Ok(proc::is_inside(thread, proc::REMOVE_CALLS))) == Ok(true)
}

/// GETXATTR of the configuration file: etcfs's own attributes only.
pub(crate) fn getxattr_config(call: &mut Call<'_>) -> Handled {
    let name = call.attribute()?;
    if !name.to_bytes().starts_with(OURS) {
        return Err(Errno::NODATA.into());
    }
    debug_assert_eq!(call.node_id(), NodeId::CONFIG);
    match name.to_bytes() {
        b"user.bedrock.stratum" | b"user.bedrock.localpath" => getxattr(call),
        _ => Err(Errno::NODATA.into()),
    }
}
