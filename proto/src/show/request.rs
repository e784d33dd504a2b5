//! Requests as text.

use super::words::{Falloc, LockType, OpenBits, RenameBits, ShownMode, Whence, Xattr};
use super::{fields, hex, name, time};
use crate::abi::*;
use crate::ext::Extension;
use crate::flags::*;
use crate::init::Offer;
use crate::op::Tail;
use crate::{Frame, Opcode, WireError};
use std::fmt::{Display, Formatter, Result};

pub(super) struct ShownRequest<'a>(pub Frame<'a>);

impl Display for ShownRequest<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let frame = &self.0;
        let head = frame.head;
        write!(
            f,
            "{} unique={}",
            frame.opcode(),
            head.unique & !UNIQUE_RESEND
        )?;
        if frame.is_resent() {
            f.write_str(" resent")?;
        }
        write!(
            f,
            " node={} uid={} gid={} pid={}",
            head.nodeid, head.uid, head.gid, head.pid
        )?;
        match frame.opcode().shape() {
            Some(shape) => {
                let shown = args(f, frame);
                or_bad(f, shown)?;
                let shown = tail(f, frame, shape.tail);
                or_bad(f, shown)?;
            }
            None if frame.args.is_empty() => hex(f, "bytes", frame.tail)?,
            None => {
                hex(f, "args", frame.args)?;
                hex(f, "bytes", frame.tail)?;
            }
        }
        extensions(f, frame)
    }
}

/// What keeps a part from being shown: the message, or the writer.
enum Stop {
    Wire(WireError),
    Write(std::fmt::Error),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<std::fmt::Error> for Stop {
    fn from(error: std::fmt::Error) -> Self {
        Self::Write(error)
    }
}

fn or_bad(f: &mut Formatter<'_>, shown: std::result::Result<(), Stop>) -> Result {
    match shown {
        Ok(()) => Ok(()),
        Err(Stop::Wire(error)) => write!(f, " bad({error})"),
        Err(Stop::Write(error)) => Err(error),
    }
}

/// Arguments that are one struct, shown by field.
macro_rules! plain {
    ($f:expr, $frame:expr, $type:ty; $($field:ident)*) => {{
        let args = $frame.args::<$type>()?;
        fields!($f, args; $($field)*);
    }};
}

/// Writes ` field=FLAGS` where any is set.
macro_rules! flags {
    ($f:expr, $args:expr; $($field:ident: $type:ty),*) => {$(
        if $args.$field != 0 {
            write!($f, concat!(" ", stringify!($field), "={}"), <$type>::from_bits_retain($args.$field))?;
        }
    )*};
}

fn args(f: &mut Formatter<'_>, frame: &Frame<'_>) -> std::result::Result<(), Stop> {
    match frame.opcode() {
        Opcode::FORGET => plain!(f, frame, ForgetIn; nlookup),
        Opcode::BATCH_FORGET => plain!(f, frame, BatchForgetIn; count),
        Opcode::GETATTR => {
            let args = frame.args::<GetattrIn>()?;
            flags!(f, args; getattr_flags: GetattrFlags);
            if args.fh != 0 {
                fields!(f, args; fh);
            }
        }
        Opcode::STATX => {
            let args = frame.args::<StatxIn>()?;
            flags!(f, args; getattr_flags: GetattrFlags);
            write!(
                f,
                " fh={} sx_flags={:#x} sx_mask={:#x}",
                args.fh, args.sx_flags, args.sx_mask
            )?;
        }
        Opcode::SETATTR => setattr(f, frame.args()?)?,
        Opcode::MKNOD => {
            let args = frame.args::<MknodIn>()?;
            write!(
                f,
                " mode={} rdev={:#x} umask={}",
                ShownMode(args.mode),
                args.rdev,
                ShownMode(args.umask)
            )?;
        }
        Opcode::MKDIR => {
            let args = frame.args::<MkdirIn>()?;
            write!(
                f,
                " mode={} umask={}",
                ShownMode(args.mode),
                ShownMode(args.umask)
            )?;
        }
        Opcode::RENAME => plain!(f, frame, RenameIn; newdir),
        Opcode::RENAME2 => {
            let args = frame.args::<Rename2In>()?;
            write!(
                f,
                " newdir={} flags={}",
                args.newdir,
                RenameBits(args.flags)
            )?;
        }
        Opcode::LINK => plain!(f, frame, LinkIn; oldnodeid),
        Opcode::OPEN | Opcode::OPENDIR => {
            let args = frame.args::<OpenIn>()?;
            write!(f, " flags={}", OpenBits(args.flags))?;
            flags!(f, args; open_flags: OpenInFlags);
        }
        Opcode::CREATE | Opcode::TMPFILE => {
            let args = frame.args::<CreateIn>()?;
            write!(
                f,
                " flags={} mode={} umask={}",
                OpenBits(args.flags),
                ShownMode(args.mode),
                ShownMode(args.umask)
            )?;
            flags!(f, args; open_flags: OpenInFlags);
        }
        Opcode::READ | Opcode::READDIR | Opcode::READDIRPLUS => {
            let args = frame.args::<ReadIn>()?;
            fields!(f, args; fh offset size);
            flags!(f, args; read_flags: ReadFlags);
            lock_owner(f, args.lock_owner)?;
            write!(f, " flags={}", OpenBits(args.flags))?;
        }
        Opcode::WRITE => {
            let args = frame.args::<WriteIn>()?;
            fields!(f, args; fh offset size);
            flags!(f, args; write_flags: WriteFlags);
            lock_owner(f, args.lock_owner)?;
            write!(f, " flags={}", OpenBits(args.flags))?;
        }
        Opcode::RELEASE | Opcode::RELEASEDIR => {
            let args = frame.args::<ReleaseIn>()?;
            write!(f, " fh={} flags={}", args.fh, OpenBits(args.flags))?;
            flags!(f, args; release_flags: ReleaseFlags);
            lock_owner(f, args.lock_owner)?;
        }
        Opcode::FLUSH => {
            let args = frame.args::<FlushIn>()?;
            fields!(f, args; fh);
            lock_owner(f, args.lock_owner)?;
        }
        Opcode::FSYNC | Opcode::FSYNCDIR => {
            let args = frame.args::<FsyncIn>()?;
            fields!(f, args; fh);
            flags!(f, args; fsync_flags: FsyncFlags);
        }
        Opcode::GETXATTR | Opcode::LISTXATTR => plain!(f, frame, GetxattrIn; size),
        Opcode::INIT => {
            let offer = Offer::of(frame)?;
            fields!(f, offer; major minor max_readahead flags);
        }
        Opcode::CUSE_INIT => {
            let args = frame.args::<CuseInitIn>()?;
            fields!(f, args; major minor);
            write!(f, " flags={:#x}", args.flags)?;
        }
        Opcode::GETLK | Opcode::SETLK | Opcode::SETLKW => {
            let args = frame.args::<LkIn>()?;
            write!(f, " fh={} owner={:#x}", args.fh, args.owner)?;
            lock(f, &args.lk)?;
            flags!(f, args; lk_flags: LkFlags);
        }
        Opcode::ACCESS => plain!(f, frame, AccessIn; mask),
        Opcode::INTERRUPT => write!(
            f,
            " of={}",
            frame.args::<InterruptIn>()?.unique & !UNIQUE_RESEND
        )?,
        Opcode::BMAP => plain!(f, frame, BmapIn; block blocksize),
        Opcode::IOCTL => {
            let args = frame.args::<IoctlIn>()?;
            write!(f, " fh={} cmd={:#x} arg={:#x}", args.fh, args.cmd, args.arg)?;
            flags!(f, args; flags: IoctlFlags);
            fields!(f, args; in_size out_size);
        }
        Opcode::POLL => {
            let args = frame.args::<PollIn>()?;
            write!(
                f,
                " fh={} kh={} events={:#x}",
                args.fh, args.kh, args.events
            )?;
            flags!(f, args; flags: PollFlags);
        }
        Opcode::NOTIFY_REPLY => plain!(f, frame, NotifyRetrieveIn; offset size),
        Opcode::FALLOCATE => {
            let args = frame.args::<FallocateIn>()?;
            fields!(f, args; fh offset length);
            write!(f, " mode={}", Falloc(args.mode))?;
        }
        Opcode::LSEEK => {
            let args = frame.args::<LseekIn>()?;
            write!(
                f,
                " fh={} offset={} whence={}",
                args.fh,
                args.offset,
                Whence(args.whence)
            )?;
        }
        Opcode::COPY_FILE_RANGE | Opcode::COPY_FILE_RANGE_64 => {
            plain!(f, frame, CopyFileRangeIn; fh_in off_in nodeid_out fh_out off_out len flags);
        }
        Opcode::SETUPMAPPING => {
            let args = frame.args::<SetupmappingIn>()?;
            fields!(f, args; fh foffset len);
            flags!(f, args; flags: SetupmappingFlags);
            fields!(f, args; moffset);
        }
        Opcode::REMOVEMAPPING => plain!(f, frame, RemovemappingIn; count),
        // LOOKUP, READLINK, SYMLINK, UNLINK, RMDIR, STATFS, REMOVEXATTR, DESTROY and SYNCFS say nothing here, and
        // SETXATTR is shown with its tail.
        _ => {}
    }
    Ok(())
}

/// Only what `valid` names; the rest of the struct is the kernel's leftovers.
fn setattr(f: &mut Formatter<'_>, args: &SetattrIn) -> Result {
    let valid = SetattrValid::from_bits_retain(args.valid);
    write!(f, " valid={valid}")?;
    if valid.contains(SetattrValid::FH) {
        fields!(f, args; fh);
    }
    if valid.contains(SetattrValid::MODE) {
        write!(f, " mode={}", ShownMode(args.mode))?;
    }
    if valid.contains(SetattrValid::UID) {
        fields!(f, args; uid);
    }
    if valid.contains(SetattrValid::GID) {
        fields!(f, args; gid);
    }
    if valid.contains(SetattrValid::SIZE) {
        fields!(f, args; size);
    }
    if valid.contains(SetattrValid::ATIME) {
        time(f, "atime", args.atime, args.atimensec)?;
    }
    if valid.contains(SetattrValid::MTIME) {
        time(f, "mtime", args.mtime, args.mtimensec)?;
    }
    if valid.contains(SetattrValid::CTIME) {
        time(f, "ctime", args.ctime, args.ctimensec)?;
    }
    if valid.contains(SetattrValid::LOCKOWNER) {
        lock_owner(f, args.lock_owner)?;
    }
    Ok(())
}

pub(super) fn lock(f: &mut Formatter<'_>, lock: &FileLock) -> Result {
    write!(
        f,
        " {} start={} end={} lock_pid={}",
        LockType(lock.r#type),
        lock.start,
        lock.end,
        lock.pid
    )
}

fn lock_owner(f: &mut Formatter<'_>, owner: u64) -> Result {
    if owner == 0 {
        Ok(())
    } else {
        write!(f, " lock_owner={owner:#x}")
    }
}

fn tail(f: &mut Formatter<'_>, frame: &Frame<'_>, tail: Tail) -> std::result::Result<(), Stop> {
    match tail {
        Tail::Nothing if frame.tail.is_empty() => {}
        Tail::Nothing | Tail::Unknown => hex(f, "bytes", frame.tail)?,
        Tail::Name => name(f, "name", frame.name()?.to_bytes())?,
        Tail::Names => {
            let (first, second) = frame.names2()?;
            let (one, two) = if frame.opcode() == Opcode::SYMLINK {
                ("name", "target")
            } else {
                ("old", "new")
            };
            name(f, one, first.to_bytes())?;
            name(f, two, second.to_bytes())?;
        }
        Tail::Data => {
            frame.data()?;
        }
        Tail::NameAndValue => {
            let set = frame.setxattr(frame.setxattr_is_ext())?;
            write!(f, " size={} flags={}", set.value.len(), Xattr(set.flags))?;
            flags!(f, set; setxattr_flags: SetxattrFlags);
            name(f, "name", set.name.to_bytes())?;
        }
        Tail::Forgets => {
            for (at, item) in frame.forgets()?.enumerate() {
                let comma = if at == 0 { " forgets=" } else { "," };
                write!(f, "{comma}{}:{}", item.nodeid, item.nlookup)?;
            }
        }
        Tail::Mappings => {
            for (at, item) in frame.mappings()?.enumerate() {
                let comma = if at == 0 { " mappings=" } else { "," };
                write!(f, "{comma}{}+{}", item.moffset, item.len)?;
            }
        }
    }
    Ok(())
}

fn extensions(f: &mut Formatter<'_>, frame: &Frame<'_>) -> Result {
    for ext in frame.extensions() {
        match ext {
            Ok(Extension::Groups(groups)) => {
                f.write_str(" groups=[")?;
                for (at, gid) in groups.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{gid}")?;
                }
                f.write_str("]")?;
            }
            Ok(Extension::Contexts(contexts)) => {
                f.write_str(" contexts=[")?;
                for (at, context) in contexts.iter().enumerate() {
                    let gap = if at == 0 { "" } else { " " };
                    write!(
                        f,
                        "{gap}{}={}",
                        super::Quoted(context.name.to_bytes()),
                        super::Quoted(context.label)
                    )?;
                }
                f.write_str("]")?;
            }
            Ok(Extension::Unknown { kind, body }) => hex(f, &format!("ext{kind}"), body)?,
            Err(error) => write!(f, " bad({error})")?,
        }
    }
    Ok(())
}
