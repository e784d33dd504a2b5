//! IOCTL: the inode flags of lsattr(1) and chattr(1), and the attributes of project quotas (contract B18).
//!
//! Since Linux 5.13 the kernel sends these by itself (`fuse_fileattr_get` and `_set` of `fs/fuse/ioctl.c`), with OPEN and
//! RELEASE around them and an argument of 0, and has checked the caller before it sends a change (`vfs_fileattr_set`
//! of `fs/file_attr.c`): the owner or CAP_FOWNER for any, CAP_LINUX_IMMUTABLE for append-only and immutable, the first
//! user namespace for project ids. Older kernels pass on what the caller wrote without a check. Either way the change is
//! made as the caller, so the lower file system asks for all of these itself, and ext4 for CAP_SYS_RESOURCE besides
//! (journalling of contents).

use super::{Call, Handled};
use crate::fs::lower::walk::open_dir;
use crate::sys::fileattr::{self, Fsxattr};
use etcfs_proto::abi::{IoctlIn, IoctlOut};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

/// IOCTL. ENOTTY for every other command, as natively where a file system does not know one.
pub(crate) fn ioctl(call: &mut Call<'_>) -> Handled {
    let args = call.args::<IoctlIn>()?;
    let command = args.cmd as rustix::ioctl::Opcode;
    if !matches!(
        command,
        fileattr::GETFLAGS | fileattr::FSGETXATTR | fileattr::SETFLAGS | fileattr::FSSETXATTR
    ) {
        return Err(Errno::NOTTY.into());
    }
    let fd = call.or_later(lower(call))?;
    match command {
        fileattr::GETFLAGS => answer(call, args, fileattr::get_flags(&fd)?.as_bytes()),
        fileattr::FSGETXATTR => answer(call, args, fileattr::get_xattr(&fd)?.as_bytes()),
        fileattr::SETFLAGS => {
            let flags = given::<u32>(call)?;
            call.act(|| fileattr::set_flags(&fd, flags))?;
            answer(call, args, &[])
        }
        _ => {
            let attributes = given::<Fsxattr>(call)?;
            call.act(|| fileattr::set_xattr(&fd, attributes))?;
            answer(call, args, &[])
        }
    }
}

/// The head of the data that came with the request: a caller on a kernel before 5.13 sends 8 bytes for 32 bits of flags.
fn given<T: FromBytes>(call: &Call<'_>) -> Result<T, Errno> {
    let data = call.frame.data().map_err(super::malformed)?;
    let (value, _) = T::read_from_prefix(data).map_err(|_| Errno::INVAL)?;
    Ok(value)
}

fn answer(call: &mut Call<'_>, args: &IoctlIn, data: &[u8]) -> Handled {
    if data.len() > args.out_size as usize {
        return Err(Errno::INVAL.into());
    }
    call.reply.put(&IoctlOut::default());
    call.reply.put_bytes(data);
    Ok(())
}

/// A descriptor to ask: the handle's own may be without one, or `O_PATH`.
fn lower(call: &Call<'_>) -> Result<OwnedFd, Errno> {
    let node = call.node()?;
    if node.is_dir() {
        let dir = call.fs.lower.dir_fd(&node)?;
        return open_dir(dir.as_fd(), c".");
    }
    call.fs
        .lower
        .open_file(&node, OFlags::RDONLY)
        .map(|(fd, _)| fd)
}
