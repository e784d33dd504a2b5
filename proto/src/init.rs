//! The INIT negotiation as a pure function: `negotiate(offer, wish)` gives what both sides agreed on, or a refusal.

use crate::abi::*;
use crate::flags::InitFlags;
use crate::{Frame, Opcode, WireError};
use std::fmt;
use zerocopy::FromBytes;

/// The oldest minor version that this crate can speak: its argument sizes hold from 7.31 (Linux 5.4) on.
pub const OLDEST_MINOR: u32 = 31;
/// The kernel raises a smaller `max_write` to this many bytes.
const MIN_MAX_WRITE: u32 = 4096;
/// Pages per request where MAX_PAGES is not agreed (`FUSE_DEFAULT_MAX_PAGES_PER_REQ`).
const DEFAULT_MAX_PAGES: u16 = 32;

/// What the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Protocol major version.
    pub major: u32,
    /// Protocol minor version.
    pub minor: u32,
    /// The largest readahead in bytes.
    pub max_readahead: u32,
    /// What the kernel can; bits above 31 only when it said INIT_EXT.
    pub flags: InitFlags,
}

impl Offer {
    /// Reads the offer of an INIT request, in its form of 16 bytes (before 7.36) or of 64.
    pub fn of(frame: &Frame<'_>) -> Result<Self, WireError> {
        let opcode = frame.opcode();
        if opcode != Opcode::INIT {
            return Err(WireError::NoSuchPart {
                opcode,
                part: "offer",
            });
        }
        if let Ok((init, _)) = InitIn::read_from_prefix(frame.args) {
            return Ok(Self {
                major: init.major,
                minor: init.minor,
                max_readahead: init.max_readahead,
                flags: InitFlags::join(init.flags, init.flags2),
            });
        }
        let short = WireError::WrongArgs {
            opcode,
            need: size_of::<InitInCompat>(),
            have: frame.args.len(),
        };
        let (init, _) = InitInCompat::read_from_prefix(frame.args).map_err(|_| short)?;
        Ok(Self {
            major: init.major,
            minor: init.minor,
            max_readahead: init.max_readahead,
            flags: InitFlags::join(init.flags, 0),
        })
    }
}

/// What the server wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The flags wanted; only those offered are agreed. Flags above bit 31 need INIT_EXT among them.
    pub flags: InitFlags,
    /// Most bytes of data in one WRITE.
    pub max_write: u32,
    /// Most pages in one request; counts with MAX_PAGES.
    pub max_pages: u16,
    /// Size of a page in bytes: what `max_pages` counts.
    pub page_size: u32,
    /// The largest readahead in bytes.
    pub max_readahead: u32,
    /// Stacking depth for PASSTHROUGH. 1: the lower file system must not be stacked, and overlayfs may lie on top of the
    /// mount. 2: the lower one may be overlayfs, and overlayfs on top is refused. None: no passthrough.
    pub max_stack_depth: Option<u32>,
    /// Granularity of times in nanoseconds, 1 to 1,000,000,000.
    pub time_gran: u32,
    /// Most background requests at a time; 0 for the kernel's default of 12.
    pub max_background: u16,
    /// Background requests from which the device counts as congested; 0 for the kernel's default.
    pub congestion_threshold: u16,
    /// The oldest minor version accepted; below [`OLDEST_MINOR`] that one counts.
    pub oldest_minor: u32,
    /// Whether the mount has the option `default_permissions`, which ALLOW_IDMAP needs (POSIX_ACL implies it).
    pub default_permissions: bool,
}

impl Default for Wish {
    /// No flags; 1 MiB in 256 pages of 4 KiB; times to the nanosecond; everything else the kernel's own.
    fn default() -> Self {
        Self {
            flags: InitFlags::empty(),
            max_write: 1 << 20,
            max_pages: 256,
            page_size: 4096,
            max_readahead: u32::MAX,
            max_stack_depth: None,
            time_gran: 1,
            max_background: 0,
            congestion_threshold: 0,
            oldest_minor: OLDEST_MINOR,
            default_permissions: false,
        }
    }
}

/// What both sides agreed on, once [`Agreed::to_out`] is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Protocol minor version: the smaller of both sides'.
    pub minor: u32,
    /// What the kernel can do.
    pub offered: InitFlags,
    /// What is in effect.
    pub flags: InitFlags,
    /// Most bytes of data in one WRITE.
    pub max_write: u32,
    /// Most pages in one request; 0 without MAX_PAGES, where the kernel uses 32.
    pub max_pages: u16,
    /// The smallest buffer that reads of the device may use, in bytes; one byte less and every read fails with EINVAL.
    pub buffer_size: usize,
    /// The largest readahead in bytes.
    pub max_readahead: u32,
    /// Stacking depth, 1 or 2; 0 without passthrough.
    pub max_stack_depth: u32,
    /// Whether files may be opened with a backing id.
    pub passthrough: bool,
    /// Granularity of times in nanoseconds.
    pub time_gran: u32,
    /// Most background requests at a time; 0 for the kernel's default.
    pub max_background: u16,
    /// Background requests from which the device counts as congested; 0 for the kernel's default.
    pub congestion_threshold: u16,
}

impl Agreed {
    /// The answer to INIT and how many bytes of it to send: all 64, which every kernel since 7.23 takes.
    pub fn to_out(&self) -> (InitOut, usize) {
        let (flags, flags2) = self.flags.split();
        let out = InitOut {
            major: KERNEL_VERSION,
            minor: self.minor,
            max_readahead: self.max_readahead,
            flags,
            max_background: self.max_background,
            congestion_threshold: self.congestion_threshold,
            max_write: self.max_write,
            time_gran: self.time_gran,
            max_pages: self.max_pages,
            flags2,
            max_stack_depth: self.max_stack_depth,
            ..InitOut::default()
        };
        (out, size_of::<InitOut>())
    }
}

/// Why the offer cannot be taken. Displays as a sentence without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another major version than 7.
    Major {
        /// The kernel's.
        major: u32,
        /// The kernel's minor version.
        minor: u32,
    },
    /// A minor version that is too old.
    Minor {
        /// The kernel's.
        minor: u32,
        /// The oldest accepted.
        oldest: u32,
    },
    /// A stacking depth that would silently switch passthrough off.
    StackDepth {
        /// The one wished.
        depth: u32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Major { major, minor } => {
                write!(
                    f,
                    "the kernel speaks FUSE protocol {major}.{minor}, but only {KERNEL_VERSION} is known here"
                )
            }
            Self::Minor { minor, oldest } => write!(
                f,
                "the kernel speaks FUSE protocol {KERNEL_VERSION}.{minor}, but {KERNEL_VERSION}.{oldest} or newer is \
                 needed ({KERNEL_VERSION}.{OLDEST_MINOR} came with Linux 5.4)"
            ),
            Self::StackDepth { depth } => {
                write!(f, "max_stack_depth is {depth}, but the kernel takes 1 or 2")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Agrees on a connection: only what is both wanted and offered, and only combinations that the kernel keeps.
pub fn negotiate(offer: &Offer, wish: &Wish) -> Result<Agreed, Refusal> {
    if offer.major != KERNEL_VERSION {
        return Err(Refusal::Major {
            major: offer.major,
            minor: offer.minor,
        });
    }
    let oldest = wish.oldest_minor.max(OLDEST_MINOR);
    if offer.minor < oldest {
        return Err(Refusal::Minor {
            minor: offer.minor,
            oldest,
        });
    }
    match wish.max_stack_depth {
        None | Some(1 | 2) => {}
        Some(depth) => return Err(Refusal::StackDepth { depth }),
    }
    let flags = agree_on_flags(offer, wish);
    let passthrough = flags.contains(InitFlags::PASSTHROUGH);
    let max_pages = if flags.contains(InitFlags::MAX_PAGES) {
        wish.max_pages.max(1)
    } else {
        0
    };
    let pages = if max_pages == 0 {
        DEFAULT_MAX_PAGES
    } else {
        max_pages
    };
    // The kernel cuts WRITEs at max_pages but demands read buffers for max_write, so more than the pages hold is waste.
    let max_write = wish
        .max_write
        .min(u32::from(pages).saturating_mul(wish.page_size))
        .max(MIN_MAX_WRITE);
    Ok(Agreed {
        minor: offer.minor.min(KERNEL_MINOR_VERSION),
        offered: offer.flags,
        flags,
        max_write,
        max_pages,
        buffer_size: buffer_size(max_write),
        max_readahead: offer.max_readahead.min(wish.max_readahead),
        max_stack_depth: if passthrough {
            wish.max_stack_depth.unwrap_or(0)
        } else {
            0
        },
        passthrough,
        time_gran: wish.time_gran.clamp(1, 1_000_000_000),
        max_background: wish.max_background,
        congestion_threshold: wish.congestion_threshold,
    })
}

/// The smallest read buffer for a `max_write`, in bytes (`fuse_dev_do_read`): the largest WRITE must fit even where the
/// request at hand is small.
fn buffer_size(max_write: u32) -> usize {
    let heads = size_of::<InHeader>() + size_of::<WriteIn>();
    MIN_READ_BUFFER.max(
        usize::try_from(max_write)
            .unwrap_or(usize::MAX)
            .saturating_add(heads),
    )
}

fn agree_on_flags(offer: &Offer, wish: &Wish) -> InitFlags {
    let mut flags = wish.flags & offer.flags;
    if !flags.contains(InitFlags::INIT_EXT) {
        flags = InitFlags::from_bits_retain(flags.bits() & u64::from(u32::MAX));
    }
    // The kernel switches passthrough off silently in these cases, and every registration then fails with EPERM.
    if flags.contains(InitFlags::WRITEBACK_CACHE) || wish.max_stack_depth.is_none() {
        flags.remove(InitFlags::PASSTHROUGH);
    }
    if !flags.contains(InitFlags::DO_READDIRPLUS) {
        flags.remove(InitFlags::READDIRPLUS_AUTO);
    }
    // Files that bypass the kernel's pages are always fresh. Only where such files cannot be mapped (before Linux 6.6) are
    // pages kept, and then the kernel should drop those that a changed size or mtime makes old.
    if flags.contains(InitFlags::DIRECT_IO_ALLOW_MMAP) {
        flags.remove(InitFlags::AUTO_INVAL_DATA);
    }
    // Where a symlink leads is kept for whoever lets names expire, which is known from Linux 6.2 on. It is kept for good.
    if !offer.flags.contains(InitFlags::HAS_EXPIRE_ONLY) {
        flags.remove(InitFlags::CACHE_SYMLINKS);
    }
    // Without kernel-side permission checks the kernel fails the whole connection over this bit.
    if !wish.default_permissions && !flags.contains(InitFlags::POSIX_ACL) {
        flags.remove(InitFlags::ALLOW_IDMAP);
    }
    // A timeout aborts the whole connection when one request is late; none is ever asked for here.
    flags.remove(InitFlags::REQUEST_TIMEOUT);
    flags
}
