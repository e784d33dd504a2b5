//! Answers and notices as text.

use super::request::lock;
use super::words::{Errno, Quoted, ShownMode, ShownType};
use super::{attr, fields, hex, name, valid};
use crate::abi::*;
use crate::flags::*;
use crate::op::Body;
use crate::reply::cut_answer;
use crate::{Opcode, WireError};
use std::fmt::{Display, Formatter, Result};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub(super) struct Answer<'a> {
    pub opcode: Opcode,
    pub message: &'a [u8],
}

impl Display for Answer<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (head, body) = match cut_answer(self.opcode, self.message) {
            Ok(cut) => cut,
            Err(error) => return write!(f, "{} bad({error})", self.opcode),
        };
        if head.unique == 0 {
            return notice(f, head.error, body);
        }
        write!(f, "{} unique={}", self.opcode, head.unique & !UNIQUE_RESEND)?;
        if head.unique & UNIQUE_RESEND != 0 {
            f.write_str(" resent")?;
        }
        if head.error != 0 {
            match head
                .error
                .checked_neg()
                .and_then(|errno| u32::try_from(errno).ok())
            {
                Some(errno) => write!(f, " error={}", Errno(errno))?,
                None => write!(f, " error={}, which is no error", head.error)?,
            }
            return if body.is_empty() {
                Ok(())
            } else {
                hex(f, "bytes", body)
            };
        }
        f.write_str(" ok")?;
        let mut rest = Rest {
            opcode: self.opcode,
            bytes: body,
        };
        let kind = self
            .opcode
            .shape()
            .map_or(Body::Unknown, |shape| shape.body);
        let shown = show_body(f, kind, &mut rest)?;
        if let Err(error) = shown {
            write!(f, " bad({error})")?;
        }
        if rest.bytes.is_empty() {
            Ok(())
        } else {
            hex(f, "bytes", rest.bytes)
        }
    }
}

/// What of the body is not shown yet.
struct Rest<'a> {
    opcode: Opcode,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    /// Copies a struct off the front; the bytes may lie anywhere.
    fn take<T: FromBytes>(&mut self) -> std::result::Result<T, WireError> {
        let wrong = WireError::WrongBody {
            opcode: self.opcode,
            need: size_of::<T>(),
            have: self.bytes.len(),
        };
        let (value, rest) = T::read_from_prefix(self.bytes).map_err(|_| wrong)?;
        self.bytes = rest;
        Ok(value)
    }

    fn take_bytes(&mut self, need: usize) -> std::result::Result<&'a [u8], WireError> {
        let wrong = WireError::WrongBody {
            opcode: self.opcode,
            need,
            have: self.bytes.len(),
        };
        let (bytes, rest) = self.bytes.split_at_checked(need).ok_or(wrong)?;
        self.bytes = rest;
        Ok(bytes)
    }

    fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}

/// Takes a struct off the body, or ends the showing with what is wrong.
macro_rules! take {
    ($rest:expr, $type:ty) => {
        match $rest.take::<$type>() {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

type ShowResult = std::result::Result<std::result::Result<(), WireError>, std::fmt::Error>;

fn show_body(f: &mut Formatter<'_>, body: Body, rest: &mut Rest<'_>) -> ShowResult {
    match body {
        Body::NoAnswer | Body::Empty | Body::Unknown => {}
        Body::Entry => entry(f, &take!(rest, EntryOut))?,
        Body::Attr => {
            let out = take!(rest, AttrOut);
            valid(f, "attr_valid", out.attr_valid, out.attr_valid_nsec)?;
            attr(f, &out.attr)?;
        }
        Body::Statx => statx(f, &take!(rest, StatxOut))?,
        Body::Bytes if rest.opcode == Opcode::READLINK => name(f, "target", rest.take_all())?,
        Body::Bytes => write!(f, " size={}", rest.take_all().len())?,
        Body::Open => open(f, &take!(rest, OpenOut))?,
        Body::Create => {
            entry(f, &take!(rest, EntryOut))?;
            open(f, &take!(rest, OpenOut))?;
        }
        Body::Write => write!(f, " size={}", take!(rest, WriteOut).size)?,
        Body::Statfs => {
            let out = take!(rest, StatfsOut);
            fields!(f, out.st; blocks bfree bavail files ffree bsize namelen frsize);
        }
        Body::Xattr => xattr(f, rest)?,
        Body::Init => init(f, rest.take_all())?,
        Body::Dirents => {
            while !rest.bytes.is_empty() {
                let entry = take!(rest, Dirent);
                if let Err(error) = dirent(f, &entry, None, rest)? {
                    return Ok(Err(error));
                }
            }
        }
        Body::Direntplus => {
            while !rest.bytes.is_empty() {
                let entry = take!(rest, Direntplus);
                if let Err(error) = dirent(f, &entry.dirent, Some(&entry.entry_out), rest)? {
                    return Ok(Err(error));
                }
            }
        }
        Body::Lk => lock(f, &take!(rest, LkOut).lk)?,
        Body::Bmap => write!(f, " block={}", take!(rest, BmapOut).block)?,
        Body::Ioctl => {
            let out = take!(rest, IoctlOut);
            write!(f, " result={}", out.result)?;
            if out.flags != 0 {
                write!(f, " flags={}", IoctlFlags::from_bits_retain(out.flags))?;
            }
            fields!(f, out; in_iovs out_iovs);
            write!(f, " size={}", rest.take_all().len())?;
        }
        Body::Poll => write!(f, " revents={:#x}", take!(rest, PollOut).revents)?,
        Body::Lseek => write!(f, " offset={}", take!(rest, LseekOut).offset)?,
        Body::Copied => write!(
            f,
            " bytes_copied={}",
            take!(rest, CopyFileRangeOut).bytes_copied
        )?,
    }
    Ok(Ok(()))
}

fn entry(f: &mut Formatter<'_>, out: &EntryOut) -> Result {
    fields!(f, out; nodeid generation);
    valid(f, "entry_valid", out.entry_valid, out.entry_valid_nsec)?;
    valid(f, "attr_valid", out.attr_valid, out.attr_valid_nsec)?;
    attr(f, &out.attr)
}

fn open(f: &mut Formatter<'_>, out: &OpenOut) -> Result {
    let flags = OpenFlags::from_bits_retain(out.open_flags);
    write!(f, " fh={} open_flags={flags}", out.fh)?;
    if out.backing_id == 0 {
        Ok(())
    } else {
        write!(f, " backing_id={}", out.backing_id)
    }
}

fn statx(f: &mut Formatter<'_>, out: &StatxOut) -> Result {
    valid(f, "attr_valid", out.attr_valid, out.attr_valid_nsec)?;
    let stat = &out.stat;
    write!(
        f,
        " mask={:#x} mode={}",
        stat.mask,
        ShownMode(stat.mode.into())
    )?;
    fields!(f, stat; ino size blocks blksize nlink uid gid);
    write!(
        f,
        " attributes={:#x}/{:#x}",
        stat.attributes, stat.attributes_mask
    )?;
    for (key, time) in [
        ("atime", stat.atime),
        ("btime", stat.btime),
        ("ctime", stat.ctime),
        ("mtime", stat.mtime),
    ] {
        write!(f, " {key}={}.{:09}", time.tv_sec, time.tv_nsec)?;
    }
    write!(
        f,
        " rdev={}:{} dev={}:{}",
        stat.rdev_major, stat.rdev_minor, stat.dev_major, stat.dev_minor
    )
}

/// Whether the length was asked or the value is known from the request alone; 8 bytes may be either.
fn xattr(f: &mut Formatter<'_>, rest: &mut Rest<'_>) -> Result {
    let bytes = rest.take_all();
    match GetxattrOut::read_from_bytes(bytes) {
        Ok(GetxattrOut { size, padding: 0 }) => write!(f, " size={size} or 8 bytes"),
        _ => write!(f, " {} bytes", bytes.len()),
    }
}

/// The kernel reads a short answer as if zeros followed, so it is shown in full.
fn init(f: &mut Formatter<'_>, bytes: &[u8]) -> Result {
    let mut out = InitOut::new_zeroed();
    let len = bytes.len().min(size_of::<InitOut>());
    out.as_mut_bytes()[..len].copy_from_slice(&bytes[..len]);
    fields!(f, out; major minor max_readahead);
    write!(f, " flags={}", InitFlags::join(out.flags, out.flags2))?;
    fields!(f, out; max_background congestion_threshold max_write time_gran max_pages map_alignment);
    fields!(f, out; max_stack_depth request_timeout);
    if bytes.len() > len {
        hex(f, "bytes", &bytes[len..])
    } else {
        Ok(())
    }
}

fn dirent(
    f: &mut Formatter<'_>,
    dirent: &Dirent,
    plus: Option<&EntryOut>,
    rest: &mut Rest<'_>,
) -> ShowResult {
    let have = rest.bytes.len();
    let need = usize::try_from(dirent.namelen).unwrap_or(usize::MAX);
    // The last name's padding may be missing; the kernel then ignores the entry, which is worth seeing.
    let name = match rest.take_bytes(need) {
        Ok(name) => name,
        Err(error) => return Ok(Err(error)),
    };
    let padding = rec_align(need) - need;
    if rest.bytes.len() < padding {
        return Ok(Err(WireError::WrongBody {
            opcode: rest.opcode,
            need: need + padding,
            have,
        }));
    }
    rest.bytes = &rest.bytes[padding..];
    write!(
        f,
        " {}(ino={} off={} {}",
        Quoted(name),
        dirent.ino,
        dirent.off,
        ShownType(dirent.r#type)
    )?;
    if let Some(out) = plus {
        entry(f, out)?;
    }
    f.write_str(")")?;
    Ok(Ok(()))
}

fn notice(f: &mut Formatter<'_>, code: i32, body: &[u8]) -> Result {
    let names = [
        "POLL",
        "INVAL_INODE",
        "INVAL_ENTRY",
        "STORE",
        "RETRIEVE",
        "DELETE",
        "RESEND",
        "INC_EPOCH",
        "PRUNE",
    ];
    let known = usize::try_from(code)
        .ok()
        .and_then(|code| names.get(code.checked_sub(1)?));
    match known {
        Some(name) => write!(f, "NOTIFY_{name}")?,
        None => write!(f, "NOTIFY {code}")?,
    }
    let mut rest = Rest {
        opcode: Opcode(0),
        bytes: body,
    };
    if notice_body(f, code, &mut rest)?.is_err() {
        f.write_str(" bad(cut off)")?;
    }
    if rest.bytes.is_empty() {
        Ok(())
    } else {
        hex(f, "bytes", rest.bytes)
    }
}

fn notice_body(f: &mut Formatter<'_>, code: i32, rest: &mut Rest<'_>) -> ShowResult {
    match code {
        1 => write!(f, " kh={}", take!(rest, NotifyPollWakeupOut).kh)?,
        2 => {
            let out = take!(rest, NotifyInvalInodeOut);
            write!(f, " node={} off={} len={}", out.ino, out.off, out.len)?;
        }
        3 => {
            let out = take!(rest, NotifyInvalEntryOut);
            write!(
                f,
                " parent={} flags={}",
                out.parent,
                InvalEntryFlags::from_bits_retain(out.flags)
            )?;
            return notice_name(f, out.namelen, rest);
        }
        4 => {
            let out = take!(rest, NotifyStoreOut);
            write!(
                f,
                " node={} offset={} size={}",
                out.nodeid, out.offset, out.size
            )?;
            rest.take_all();
        }
        5 => {
            let out = take!(rest, NotifyRetrieveOut);
            write!(
                f,
                " notify_unique={} node={} offset={} size={}",
                out.notify_unique, out.nodeid, out.offset, out.size
            )?;
        }
        6 => {
            let out = take!(rest, NotifyDeleteOut);
            write!(f, " parent={} child={}", out.parent, out.child)?;
            return notice_name(f, out.namelen, rest);
        }
        9 => {
            let out = take!(rest, NotifyPruneOut);
            write!(f, " count={} nodes=", out.count)?;
            let mut comma = "";
            while !rest.bytes.is_empty() {
                write!(f, "{comma}{}", take!(rest, u64))?;
                comma = ",";
            }
        }
        _ => {}
    }
    Ok(Ok(()))
}

fn notice_name(f: &mut Formatter<'_>, namelen: u32, rest: &mut Rest<'_>) -> ShowResult {
    match rest.take_bytes(usize::try_from(namelen).unwrap_or(usize::MAX)) {
        Ok(bytes) => name(f, "name", bytes)?,
        Err(error) => return Ok(Err(error)),
    }
    if rest.bytes == [0] {
        rest.bytes = &[];
    }
    Ok(Ok(()))
}
