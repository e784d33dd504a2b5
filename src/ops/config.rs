//! The configuration file: its own, smaller handler table. Root reads and writes it; anyone may look at it.

use super::answer::{ATTR_VALID, attr_out, config_attr, entry_out};
use super::{Call, Handled, Row, connection, looks, lookup, row, slow, xattr};
use crate::fs::config::CommandError;
use crate::fs::configuration::Refused;
use crate::fs::ids::{CONFIG_NAME, NodeId, is_config};
use crate::fs::journal::Process;
use crate::fs::watch::Valid;
use crate::log;
use crate::printable::printable;
use etcfs_proto::abi::{
    GetxattrIn, GetxattrOut, LinkIn, OpenOut, ReadIn, ReleaseIn, SetattrIn, Statx, StatxOut,
    WriteIn, WriteOut,
};
use etcfs_proto::flags::{OpenFlags, SetattrValid};
use etcfs_proto::{Frame, Opcode, WireError};
use rustix::io::Errno;
use std::ffi::CStr;
use zerocopy::FromBytes as _;

/// What stands for every operation that the configuration file has no row for and other files have.
pub(crate) static REFUSED: Row = row(Opcode(0), refuse);

/// What can be done with the configuration file. The rest is [`REFUSED`]: ENOSYS would be remembered by the kernel and
/// switch the operation off for every other file of the mount.
pub(crate) static TABLE: &[Row] = &[
    looks(Opcode::FORGET, connection::destroy),
    looks(Opcode::GETATTR, getattr),
    looks(Opcode::STATX, statx),
    row(Opcode::SETATTR, setattr),
    row(Opcode::OPEN, open),
    looks(Opcode::READ, read),
    // Reading the source of an injection may lead through the mount itself, so no worker may do it (contract D21).
    slow(row(Opcode::WRITE, write)),
    looks(Opcode::FLUSH, nothing),
    looks(Opcode::FSYNC, nothing),
    // Without a lower file there is nothing to hold a lock on.
    looks(Opcode::GETLK, no_locks),
    row(Opcode::SETLK, no_locks),
    row(Opcode::SETLKW, no_locks),
    row(Opcode::RELEASE, release),
    looks(Opcode::GETXATTR, xattr::getxattr_config),
    looks(Opcode::LISTXATTR, listxattr),
    row(Opcode::SETXATTR, forbid),
    row(Opcode::REMOVEXATTR, forbid),
    looks(Opcode::ACCESS, nothing),
    looks(Opcode::STATFS, statfs),
    looks(Opcode::INTERRUPT, connection::interrupt),
    looks(Opcode::BATCH_FORGET, lookup::batch_forget),
    row(Opcode::OPENDIR, refuse_dir),
    row(Opcode::LOOKUP, lookup_itself),
    row(Opcode::IOCTL, no_ioctl),
];

/// What can be done with its name: it can be looked up.
static NAMED: Row = row(Opcode::LOOKUP, look_up);
static EXISTS: Row = row(Opcode(0), exists);
static FORBIDDEN: Row = row(Opcode(0), forbid);

/// The row for a request that names the configuration file, by its name in the root or as what another name is to be for.
pub(crate) fn by_name(frame: &Frame<'_>) -> Option<&'static Row> {
    let dir = NodeId::of(frame.head.nodeid);
    let in_root = dir == NodeId::ROOT;
    let (row, concerns) = match frame.opcode() {
        Opcode::LOOKUP if in_root => (&NAMED, named(dir, frame.name())),
        Opcode::MKNOD | Opcode::MKDIR if in_root => (&EXISTS, named(dir, frame.name())),
        Opcode::SYMLINK if in_root => (&EXISTS, named(dir, frame.names2().map(|both| both.0))),
        Opcode::CREATE | Opcode::UNLINK | Opcode::RMDIR if in_root => {
            (&FORBIDDEN, named(dir, frame.name()))
        }
        Opcode::LINK => {
            let old = frame.args::<LinkIn>().map(|args| args.oldnodeid);
            let is_old = old.is_ok_and(|old| old == NodeId::CONFIG.0);
            (&FORBIDDEN, is_old || named(dir, frame.name()))
        }
        Opcode::RENAME | Opcode::RENAME2 => {
            // The longer arguments begin with those of the shorter ones.
            let to = u64::read_from_prefix(frame.args).map(|(newdir, _)| NodeId::of(newdir));
            let names = frame.names2();
            let is_old = named(dir, names.map(|both| both.0));
            let is_new = to.is_ok_and(|to| named(to, names.map(|both| both.1)));
            (&FORBIDDEN, is_old || is_new)
        }
        _ => return None,
    };
    concerns.then_some(row)
}

fn named(dir: NodeId, name: Result<&CStr, WireError>) -> bool {
    name.is_ok_and(|name| is_config(dir, name))
}

/// LOOKUP of its name.
fn look_up(call: &mut Call<'_>) -> Handled {
    let attr = config_attr(call.fs.configuration.size());
    let id = NodeId::CONFIG.0;
    call.reply
        .put(&entry_out(call.fs, id, attr, Valid::NOT, ATTR_VALID));
    Ok(())
}

/// LOOKUP of its number. Nothing lies in it.
fn lookup_itself(call: &mut Call<'_>) -> Handled {
    match lookup::by_number(call)? {
        Some(false) => look_up(call),
        _ => Err(Errno::NOTDIR.into()),
    }
}

fn exists(_: &mut Call<'_>) -> Handled {
    Err(Errno::EXIST.into())
}

fn refuse(_: &mut Call<'_>) -> Handled {
    Err(Errno::INVAL.into())
}

fn nothing(_: &mut Call<'_>) -> Handled {
    Ok(())
}

fn no_ioctl(_: &mut Call<'_>) -> Handled {
    Err(Errno::NOTTY.into())
}

fn no_locks(_: &mut Call<'_>) -> Handled {
    Err(Errno::NOLCK.into())
}

fn refuse_dir(_: &mut Call<'_>) -> Handled {
    Err(Errno::NOTDIR.into())
}

fn forbid(_: &mut Call<'_>) -> Handled {
    Err(Errno::PERM.into())
}

fn getattr(call: &mut Call<'_>) -> Handled {
    call.reply.put(&attr_out(
        config_attr(call.fs.configuration.size()),
        ATTR_VALID,
    ));
    Ok(())
}

fn statx(call: &mut Call<'_>) -> Handled {
    let attr = config_attr(call.fs.configuration.size());
    call.reply.put(&StatxOut {
        attr_valid: 0,
        attr_valid_nsec: ATTR_VALID.nsec,
        flags: 0,
        spare: [0; 2],
        stat: Statx {
            mask: rustix::fs::StatxFlags::BASIC_STATS.bits(),
            blksize: attr.blksize,
            nlink: attr.nlink,
            mode: attr.mode as u16,
            ino: attr.ino,
            size: attr.size,
            blocks: attr.blocks,
            ..Statx::default()
        },
    });
    Ok(())
}

/// Truncation by path is EINVAL (contract D26); `O_TRUNC` comes with OPEN and means nothing. The rest is fixed.
fn setattr(call: &mut Call<'_>) -> Handled {
    let valid = SetattrValid::from_bits_retain(call.args::<SetattrIn>()?.valid);
    if valid.contains(SetattrValid::SIZE) {
        return Err(Errno::INVAL.into());
    }
    Err(Errno::PERM.into())
}

/// For uid 0 only, whatever capabilities another user has (contract D24).
fn open(call: &mut Call<'_>) -> Handled {
    let caller = call.frame.head.uid;
    if caller != 0 && caller != rustix::process::geteuid().as_raw() {
        return Err(Errno::ACCESS.into());
    }
    let (fs, unique) = (call.fs, call.frame.head.unique);
    let fh = fs.configuration.open(unique, || fs.opens.new_handle())?;
    call.reply.put(&OpenOut {
        fh,
        open_flags: (OpenFlags::DIRECT_IO | OpenFlags::NOFLUSH).bits(),
        backing_id: 0,
    });
    Ok(())
}

fn read(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReadIn>()?;
    let (range, reply) = ((args.offset, args.size as usize), &mut call.reply);
    let configuration = &call.fs.configuration;
    configuration.read(args.fh, range, |bytes| reply.put_bytes(bytes))?;
    Ok(())
}

fn write(call: &mut Call<'_>) -> Handled {
    let args = call.args::<WriteIn>()?;
    let data = call.frame.data().map_err(super::malformed)?;
    let unique = call.frame.head.unique;
    match call.fs.write_config((unique, args.fh), data) {
        Ok(size) => {
            call.reply.put(&WriteOut {
                size: size as u32,
                padding: 0,
            });
            Ok(())
        }
        Err(Refused::Now(error)) => {
            tell(call, &error);
            Err(Errno::from_raw_os_error(error.errno()).into())
        }
        Err(Refused::Silently(errno)) => Err(Errno::from_raw_os_error(errno).into()),
    }
}

fn release(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReleaseIn>()?;
    if let Some(error) = call.fs.configuration.close(args.fh) {
        tell(call, &error);
    }
    Ok(())
}

/// Says what was wrong with a command and who had written it: the writer sees the errno alone.
fn tell(call: &Call<'_>, error: &CommandError) {
    let head = call.frame.head;
    let at = printable(&call.fs.settings.mountpoint);
    let name = CONFIG_NAME.to_string_lossy();
    match head.pid {
        // A close(2) is told of later, and by nobody.
        0 => log::error(format_args!("{at}/{name}: {error}")),
        pid => log::error(format_args!(
            "{at}/{name}: {error} (written by {}, uid {})",
            Process::named(pid),
            head.uid
        )),
    }
}

fn listxattr(call: &mut Call<'_>) -> Handled {
    if call.args::<GetxattrIn>()?.size == 0 {
        call.reply.put(&GetxattrOut::default());
    }
    Ok(())
}

fn statfs(call: &mut Call<'_>) -> Handled {
    super::attr::statfs_of(call, &call.fs.lower.nodes.root().clone())
}
