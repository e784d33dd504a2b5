//! Opcodes, and what the messages of each consist of.

use crate::abi::*;
use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `enum fuse_opcode`: what a request asks. An open set: numbers that this crate does not know are kept and printed.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(transparent)]
pub struct Opcode(pub u32);

/// What follows the fixed arguments of a request, extensions excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Nothing,
    /// One name with its NUL.
    Name,
    /// Two names, each with its NUL: the old and the new one, or a symlink's name and its target.
    Names,
    /// Data whose length the arguments tell.
    Data,
    /// A name with its NUL, then a value whose length the arguments tell.
    NameAndValue,
    /// [`ForgetOne`] items.
    Forgets,
    /// [`RemovemappingOne`] items.
    Mappings,
    /// Not known.
    Unknown,
}

/// What the body of a successful answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The request is never answered.
    NoAnswer,
    /// Only the header.
    Empty,
    /// [`EntryOut`].
    Entry,
    /// [`AttrOut`].
    Attr,
    /// [`StatxOut`].
    Statx,
    /// Bytes: a symlink's target or a file's data.
    Bytes,
    /// [`OpenOut`].
    Open,
    /// [`EntryOut`], then [`OpenOut`].
    Create,
    /// [`WriteOut`].
    Write,
    /// [`StatfsOut`].
    Statfs,
    /// [`GetxattrOut`] where the length was asked, else bytes.
    Xattr,
    /// [`InitOut`] or a prefix of it.
    Init,
    /// [`Dirent`] records.
    Dirents,
    /// [`Direntplus`] records.
    Direntplus,
    /// [`LkOut`].
    Lk,
    /// [`BmapOut`].
    Bmap,
    /// [`IoctlOut`], then data or [`IoctlIovec`]s.
    Ioctl,
    /// [`PollOut`].
    Poll,
    /// [`LseekOut`].
    Lseek,
    /// [`CopyFileRangeOut`].
    Copied,
    /// Not known.
    Unknown,
}

/// One row of the opcode table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The opcode.
    pub opcode: Opcode,
    /// The kernel's name without its prefix.
    pub name: &'static str,
    /// Length of the fixed arguments in bytes, from protocol 7.31 on. INIT and SETXATTR may be longer, see
    /// [`Frame::cut`](crate::Frame::cut).
    pub args: usize,
    /// What follows the fixed arguments.
    pub tail: Tail,
    /// What answers.
    pub body: Body,
}

/// Declares the constants and the table from one list. `()` stands for no arguments.
macro_rules! opcodes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $args:ty, $tail:ident, $body:ident;)*) => {
        impl Opcode {
            $($(#[$meta])* pub const $name: Self = Self($number);)*
        }

        /// Every known opcode, in ascending order.
        pub static SHAPES: &[Shape] = &[$(Shape {
            opcode: Opcode::$name,
            name: stringify!($name),
            args: size_of::<$args>(),
            tail: Tail::$tail,
            body: Body::$body,
        }),*];
    };
}

opcodes! {
    /// Finds a name in a directory.
    LOOKUP = 1, (), Name, Entry;
    /// Takes lookups of one node back.
    FORGET = 2, ForgetIn, Nothing, NoAnswer;
    /// Asks for attributes.
    GETATTR = 3, GetattrIn, Nothing, Attr;
    /// Changes attributes.
    SETATTR = 4, SetattrIn, Nothing, Attr;
    /// Reads a symlink.
    READLINK = 5, (), Nothing, Bytes;
    /// Makes a symlink: its name, then its target.
    SYMLINK = 6, (), Names, Entry;
    /// Makes a file, FIFO, socket or device node.
    MKNOD = 8, MknodIn, Name, Entry;
    /// Makes a directory.
    MKDIR = 9, MkdirIn, Name, Entry;
    /// Removes a name.
    UNLINK = 10, (), Name, Empty;
    /// Removes a directory.
    RMDIR = 11, (), Name, Empty;
    /// Renames.
    RENAME = 12, RenameIn, Names, Empty;
    /// Makes a hard link.
    LINK = 13, LinkIn, Name, Entry;
    /// Opens a file.
    OPEN = 14, OpenIn, Nothing, Open;
    /// Reads a file.
    READ = 15, ReadIn, Nothing, Bytes;
    /// Writes a file.
    WRITE = 16, WriteIn, Data, Write;
    /// Asks for the file system's figures.
    STATFS = 17, (), Nothing, Statfs;
    /// Ends an open file.
    RELEASE = 18, ReleaseIn, Nothing, Empty;
    /// Makes a file durable.
    FSYNC = 20, FsyncIn, Nothing, Empty;
    /// Sets an extended attribute.
    SETXATTR = 21, SetxattrInCompat, NameAndValue, Empty;
    /// Reads an extended attribute.
    GETXATTR = 22, GetxattrIn, Name, Xattr;
    /// Lists extended attributes.
    LISTXATTR = 23, GetxattrIn, Nothing, Xattr;
    /// Removes an extended attribute.
    REMOVEXATTR = 24, (), Name, Empty;
    /// A descriptor of an open file was closed.
    FLUSH = 25, FlushIn, Nothing, Empty;
    /// Begins the connection.
    INIT = 26, InitInCompat, Nothing, Init;
    /// Opens a directory.
    OPENDIR = 27, OpenIn, Nothing, Open;
    /// Lists a directory.
    READDIR = 28, ReadIn, Nothing, Dirents;
    /// Ends an open directory.
    RELEASEDIR = 29, ReleaseIn, Nothing, Empty;
    /// Makes a directory durable.
    FSYNCDIR = 30, FsyncIn, Nothing, Empty;
    /// Tests a POSIX lock.
    GETLK = 31, LkIn, Nothing, Lk;
    /// Sets a lock or fails.
    SETLK = 32, LkIn, Nothing, Empty;
    /// Sets a lock, waiting for it.
    SETLKW = 33, LkIn, Nothing, Empty;
    /// Asks whether the caller may.
    ACCESS = 34, AccessIn, Nothing, Empty;
    /// Creates and opens a file.
    CREATE = 35, CreateIn, Name, Create;
    /// The caller of another request was interrupted.
    INTERRUPT = 36, InterruptIn, Nothing, NoAnswer;
    /// Maps a block of a file.
    BMAP = 37, BmapIn, Nothing, Bmap;
    /// Ends the connection; fuseblk and virtiofs only.
    DESTROY = 38, (), Nothing, Empty;
    /// An ioctl.
    IOCTL = 39, IoctlIn, Data, Ioctl;
    /// Asks for poll events.
    POLL = 40, PollIn, Nothing, Poll;
    /// Answers a RETRIEVE notice.
    NOTIFY_REPLY = 41, NotifyRetrieveIn, Data, NoAnswer;
    /// Takes lookups of many nodes back.
    BATCH_FORGET = 42, BatchForgetIn, Forgets, NoAnswer;
    /// Allocates or frees space.
    FALLOCATE = 43, FallocateIn, Nothing, Empty;
    /// Lists a directory and looks its entries up.
    READDIRPLUS = 44, ReadIn, Nothing, Direntplus;
    /// Renames with flags.
    RENAME2 = 45, Rename2In, Names, Empty;
    /// Finds data or a hole.
    LSEEK = 46, LseekIn, Nothing, Lseek;
    /// Copies between two files, answered with 32 bits.
    COPY_FILE_RANGE = 47, CopyFileRangeIn, Nothing, Write;
    /// Maps into the DAX window.
    SETUPMAPPING = 48, SetupmappingIn, Nothing, Empty;
    /// Unmaps from the DAX window.
    REMOVEMAPPING = 49, RemovemappingIn, Mappings, Empty;
    /// Makes the whole file system durable.
    SYNCFS = 50, SyncfsIn, Nothing, Empty;
    /// Creates and opens a file without a name.
    TMPFILE = 51, CreateIn, Name, Create;
    /// Asks for extended attributes of an inode, such as its birth time.
    STATX = 52, StatxIn, Nothing, Statx;
    /// Copies between two files, answered with 64 bits.
    COPY_FILE_RANGE_64 = 53, CopyFileRangeIn, Nothing, Copied;
    /// Begins the connection of a character device.
    CUSE_INIT = 4096, CuseInitIn, Nothing, Unknown;
}

impl Opcode {
    /// INIT of a kernel of the other byte order (`FUSE_INIT_BSWAP_RESERVED`); never a real request.
    pub const INIT_BSWAP_RESERVED: Self = Self(436_207_616);
    /// CUSE_INIT of a kernel of the other byte order (`CUSE_INIT_BSWAP_RESERVED`); never a real request.
    pub const CUSE_INIT_BSWAP_RESERVED: Self = Self(1_048_576);

    /// The opcode's row in the table; none for one that is not known.
    pub fn shape(self) -> Option<&'static Shape> {
        SHAPES
            .binary_search_by_key(&self, |row| row.opcode)
            .ok()
            .map(|at| &SHAPES[at])
    }

    /// The kernel's name without its prefix; none for one that is not known.
    pub fn name(self) -> Option<&'static str> {
        self.shape().map(|shape| shape.name)
    }

    /// Whether the kernel waits for an answer. It takes none to FORGET, BATCH_FORGET and NOTIFY_REPLY; to INTERRUPT only
    /// the errors EAGAIN and ENOSYS. Unknown requests are waited for: without an answer the caller would hang.
    pub fn wants_answer(self) -> bool {
        self.shape()
            .is_none_or(|shape| shape.body != Body::NoAnswer)
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "opcode {}", self.0),
        }
    }
}

impl fmt::Debug for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
