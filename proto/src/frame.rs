//! One request, cut into its parts without copying.

use crate::abi::*;
use crate::ext::{Extension, Extensions};
use crate::op::Tail;
use crate::{Opcode, WireError};
use std::ffi::CStr;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// One request in its pieces. `/dev/fuse` delivers one message: `InHeader | fixed arguments | tail | extensions`. The tail is names and data.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The header.
    pub head: &'a InHeader,
    /// The fixed arguments; empty for an opcode that is not known.
    pub args: &'a [u8],
    /// Names and data; everything behind the header for an opcode that is not known.
    pub tail: &'a [u8],
    /// The extensions.
    pub ext: &'a [u8],
}

/// What SETXATTR carries, whichever of its two forms came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setxattr<'a> {
    /// `XATTR_CREATE`, `XATTR_REPLACE`.
    pub flags: u32,
    /// [`SetxattrFlags`](crate::flags::SetxattrFlags); 0 in the form without SETXATTR_EXT.
    pub setxattr_flags: u32,
    /// The attribute's name.
    pub name: &'a CStr,
    /// The attribute's value.
    pub value: &'a [u8],
}

const HEAD: usize = size_of::<InHeader>();

impl<'a> Frame<'a> {
    /// Cuts a message as read from `/dev/fuse`. `msg` begins at a multiple of 8 and holds exactly what one read gave.
    ///
    /// Two requests come in two sizes. INIT has 64 bytes of arguments from 7.36 on and 16 before; whichever is complete
    /// is cut. SETXATTR has 16 bytes when SETXATTR_EXT was agreed, else 8; always 8 are cut, and [`Frame::setxattr`]
    /// finds the rest.
    pub fn cut(msg: &'a [u8]) -> Result<Self, WireError> {
        let (head, rest) = head(msg)?;
        let opcode = Opcode(head.opcode);
        if u32::try_from(msg.len()) != Ok(head.len) {
            return Err(WireError::WrongLength {
                opcode,
                says: head.len,
                have: msg.len(),
            });
        }
        let need = match opcode.shape() {
            Some(_) if opcode == Opcode::INIT && rest.len() >= size_of::<InitIn>() => {
                size_of::<InitIn>()
            }
            Some(shape) => shape.args,
            None => 0,
        };
        let (args, tail) = rest.split_at_checked(need).ok_or(WireError::WrongArgs {
            opcode,
            need,
            have: rest.len(),
        })?;
        Self::without_extensions(head, args, tail)
    }

    fn without_extensions(
        head: &'a InHeader,
        args: &'a [u8],
        tail: &'a [u8],
    ) -> Result<Self, WireError> {
        let need = usize::from(head.total_extlen) * 8;
        let short = WireError::ShortExtensions {
            opcode: Opcode(head.opcode),
            need,
            have: tail.len(),
        };
        let at = tail.len().checked_sub(need).ok_or(short)?;
        let (tail, ext) = tail.split_at(at);
        Ok(Self {
            head,
            args,
            tail,
            ext,
        })
    }

    /// What is asked.
    pub fn opcode(&self) -> Opcode {
        Opcode(self.head.opcode)
    }

    /// Whether the kernel sent this request again after a RESEND notice, so that it may already have been carried out.
    pub fn is_resent(&self) -> bool {
        self.head.unique & UNIQUE_RESEND != 0
    }

    /// The fixed arguments as the struct that belongs to the opcode. A struct of another size is an error.
    pub fn args<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&'a T, WireError> {
        let wrong = WireError::WrongArgs {
            opcode: self.opcode(),
            need: size_of::<T>(),
            have: self.args.len(),
        };
        if self.args.len() != size_of::<T>() {
            return Err(wrong);
        }
        T::ref_from_bytes(self.args).map_err(|_| WireError::Unaligned)
    }

    /// The one name of the request.
    pub fn name(&self) -> Result<&'a CStr, WireError> {
        self.expect(Tail::Name, "name")?;
        let (name, rest) = self.cut_name(self.tail, 1)?;
        self.expect_end(rest)?;
        Ok(name)
    }

    /// The two names of RENAME and RENAME2 (old, new) and of SYMLINK (name, target).
    pub fn names2(&self) -> Result<(&'a CStr, &'a CStr), WireError> {
        self.expect(Tail::Names, "two names")?;
        let (first, rest) = self.cut_name(self.tail, 1)?;
        let (second, rest) = self.cut_name(rest, 2)?;
        self.expect_end(rest)?;
        Ok((first, second))
    }

    /// The data of WRITE, IOCTL and NOTIFY_REPLY, as long as the arguments say.
    pub fn data(&self) -> Result<&'a [u8], WireError> {
        self.expect(Tail::Data, "data")?;
        let size = match self.opcode() {
            Opcode::WRITE => self.args::<WriteIn>()?.size,
            Opcode::IOCTL => self.args::<IoctlIn>()?.in_size,
            _ => self.args::<NotifyRetrieveIn>()?.size,
        };
        self.expect_len(self.tail, size.into())?;
        Ok(self.tail)
    }

    /// What SETXATTR carries. `ext` says whether SETXATTR_EXT was agreed.
    pub fn setxattr(&self, ext: bool) -> Result<Setxattr<'a>, WireError> {
        self.expect(Tail::NameAndValue, "name and value")?;
        let opcode = self.opcode();
        let need = if ext {
            size_of::<SetxattrIn>()
        } else {
            size_of::<SetxattrInCompat>()
        };
        if self.args.len() > need {
            return Err(WireError::WrongArgs {
                opcode,
                need,
                have: self.args.len(),
            });
        }
        let more = need - self.args.len();
        let wrong = WireError::WrongArgs {
            opcode,
            need,
            have: self.args.len() + self.tail.len().min(more),
        };
        let (late, rest) = self.tail.split_at_checked(more).ok_or(wrong)?;
        let (fixed, early) = SetxattrInCompat::read_from_prefix(self.args).map_err(|_| wrong)?;
        let setxattr_flags = match u32::read_from_prefix(if more > 0 { late } else { early }) {
            Ok((flags, _)) if ext => flags,
            _ => 0,
        };
        let (name, value) = self.cut_name(rest, 1)?;
        self.expect_len(value, fixed.size.into())?;
        Ok(Setxattr {
            flags: fixed.flags,
            setxattr_flags,
            name,
            value,
        })
    }

    /// Whether SETXATTR came in the form of 16 bytes, judged by the message alone. Read in the short form, a message in
    /// the long one has an empty name, or one whose value is longer than it says; so this never errs on what a kernel
    /// sends.
    pub fn setxattr_is_ext(&self) -> bool {
        self.setxattr(false).is_err()
    }

    /// The items of BATCH_FORGET.
    pub fn forgets(&self) -> Result<impl ExactSizeIterator<Item = ForgetOne> + 'a, WireError> {
        self.expect(Tail::Forgets, "forgets")?;
        self.items(self.args::<BatchForgetIn>()?.count)
    }

    /// The items of REMOVEMAPPING.
    pub fn mappings(
        &self,
    ) -> Result<impl ExactSizeIterator<Item = RemovemappingOne> + 'a, WireError> {
        self.expect(Tail::Mappings, "mappings")?;
        self.items(self.args::<RemovemappingIn>()?.count)
    }

    /// The extensions, in the kernel's order.
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions::new(self.opcode(), self.ext)
    }

    /// The supplementary group that CREATE_SUPP_GROUP sends: the parent directory's, when the caller is a member. A
    /// malformed extension counts as none here; [`Frame::extensions`] tells.
    pub fn supplementary_group(&self) -> Option<u32> {
        self.extensions().find_map(|ext| match ext {
            Ok(Extension::Groups(groups)) => groups.iter().next(),
            _ => None,
        })
    }

    fn items<T: FromBytes>(
        &self,
        count: u32,
    ) -> Result<impl ExactSizeIterator<Item = T> + 'a, WireError> {
        self.expect_len(self.tail, u64::from(count) * size_of::<T>() as u64)?;
        Ok(self.tail.chunks_exact(size_of::<T>()).map(|item| {
            T::read_from_bytes(item)
                .unwrap_or_else(|_| unreachable!("every chunk has the size of its item"))
        }))
    }

    fn cut_name(&self, bytes: &'a [u8], nth: u8) -> Result<(&'a CStr, &'a [u8]), WireError> {
        let opcode = self.opcode();
        let name = CStr::from_bytes_until_nul(bytes)
            .map_err(|_| WireError::MissingNul { opcode, name: nth })?;
        if name.is_empty() {
            return Err(WireError::EmptyName { opcode, name: nth });
        }
        Ok((name, &bytes[name.count_bytes() + 1..]))
    }

    fn expect(&self, tail: Tail, part: &'static str) -> Result<(), WireError> {
        match self.opcode().shape() {
            Some(shape) if shape.tail == tail => Ok(()),
            _ => Err(WireError::NoSuchPart {
                opcode: self.opcode(),
                part,
            }),
        }
    }

    fn expect_end(&self, rest: &[u8]) -> Result<(), WireError> {
        match rest.len() {
            0 => Ok(()),
            extra => Err(WireError::BytesAfterName {
                opcode: self.opcode(),
                extra,
            }),
        }
    }

    fn expect_len(&self, bytes: &[u8], need: u64) -> Result<(), WireError> {
        if bytes.len() as u64 == need {
            return Ok(());
        }
        Err(WireError::WrongData {
            opcode: self.opcode(),
            need,
            have: bytes.len(),
        })
    }
}

fn head(bytes: &[u8]) -> Result<(&InHeader, &[u8]), WireError> {
    if bytes.len() < HEAD {
        return Err(WireError::ShortHead { have: bytes.len() });
    }
    InHeader::ref_from_prefix(bytes).map_err(|_| WireError::Unaligned)
}
