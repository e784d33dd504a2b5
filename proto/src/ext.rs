//! Extensions: what may follow the names of a request that creates something (7.36 security contexts, 7.38 groups).
//!
//! They lie at an arbitrary offset, because the name before them is not padded; so their headers are copied, not borrowed.

use crate::abi::{EXT_GROUPS, ExtHeader, MAX_NR_SECCTX, Secctx, SuppGroups, rec_align};
use crate::{Opcode, WireError};
use std::ffi::CStr;
use zerocopy::FromBytes;

/// One extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension<'a> {
    /// Supplementary groups of the caller.
    Groups(Groups<'a>),
    /// Security contexts.
    Contexts(Contexts<'a>),
    /// Of a kind that is not known.
    Unknown {
        /// The kind.
        kind: u32,
        /// What follows the header.
        body: &'a [u8],
    },
}

/// Walks the extensions of one request. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    opcode: Opcode,
    rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    pub(crate) fn new(opcode: Opcode, bytes: &'a [u8]) -> Self {
        Self {
            opcode,
            rest: bytes,
        }
    }

    fn cut(&mut self) -> Result<Extension<'a>, WireError> {
        let have = self.rest.len();
        let (head, _) =
            ExtHeader::read_from_prefix(self.rest).map_err(|_| WireError::BadExtension {
                opcode: self.opcode,
                size: 0,
                have,
            })?;
        let bad = WireError::BadExtension {
            opcode: self.opcode,
            size: head.size,
            have,
        };
        let size = usize::try_from(head.size).map_err(|_| bad)?;
        let body = self.rest.get(size_of::<ExtHeader>()..size).ok_or(bad)?;
        self.rest = self.rest.get(rec_align(size)..).unwrap_or_default();
        match head.r#type {
            EXT_GROUPS => {
                let (fixed, gids) = SuppGroups::read_from_prefix(body).map_err(|_| bad)?;
                let len = usize::try_from(fixed.nr_groups)
                    .ok()
                    .and_then(|n| n.checked_mul(4))
                    .ok_or(bad)?;
                Ok(Extension::Groups(Groups {
                    gids: gids.get(..len).ok_or(bad)?,
                }))
            }
            nr @ 0..=MAX_NR_SECCTX => Contexts::check(nr, body)
                .map(Extension::Contexts)
                .ok_or(bad),
            kind => Ok(Extension::Unknown { kind, body }),
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.cut();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// The supplementary groups of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups<'a> {
    gids: &'a [u8],
}

impl Groups<'_> {
    /// The group ids, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.gids
            .chunks_exact(4)
            .map(|gid| u32::from_ne_bytes([gid[0], gid[1], gid[2], gid[3]]))
    }
}

/// The security contexts of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contexts<'a> {
    count: u32,
    body: &'a [u8],
}

/// One security context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// Name of the extended attribute that holds it, such as `security.selinux`.
    pub name: &'a CStr,
    /// The label, in whatever form the security module uses.
    pub label: &'a [u8],
}

impl<'a> Contexts<'a> {
    fn check(count: u32, body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        for _ in 0..count {
            (_, rest) = Context::cut(rest)?;
        }
        Some(Self { count, body })
    }

    /// The contexts, in the kernel's order; an empty list is what a kernel without a security module sends.
    pub fn iter(&self) -> impl Iterator<Item = Context<'a>> {
        let mut rest = self.body;
        (0..self.count).map_while(move |_| {
            let (context, after) = Context::cut(rest)?;
            rest = after;
            Some(context)
        })
    }
}

impl<'a> Context<'a> {
    fn cut(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = Secctx::read_from_prefix(bytes).ok()?;
        let name = CStr::from_bytes_until_nul(rest).ok()?;
        let begin = name.count_bytes() + 1;
        let end = begin.checked_add(usize::try_from(fixed.size).ok()?)?;
        let label = rest.get(begin..end)?;
        let after = bytes
            .get(rec_align(size_of::<Secctx>() + end)..)
            .unwrap_or_default();
        Some((Self { name, label }, after))
    }
}
