//! Names: looking up, creating, renaming, forgetting; directory entries; extended attributes.

use super::{Attr, wire};

wire! {
    /// `struct fuse_entry_out`: answers LOOKUP and everything that makes a name; adds one to the node's lookup count.
    struct EntryOut [128] {
        /// The node; 0 says that the name does not exist and may be cached as such for `entry_valid`.
        nodeid: u64,
        /// Generation: a pair of nodeid and generation is never used for two objects during a mount.
        generation: u64,
        /// How long the name may be cached, seconds.
        entry_valid: u64,
        /// How long the attributes may be cached, seconds.
        attr_valid: u64,
        /// Nanoseconds of `entry_valid`.
        entry_valid_nsec: u32,
        /// Nanoseconds of `attr_valid`; the kernel rounds the sum up to a tick.
        attr_valid_nsec: u32,
        /// The attributes.
        attr: Attr,
    }

    /// `struct fuse_forget_in`: takes lookups back; not answered.
    struct ForgetIn [8] {
        /// By how much the node's lookup count drops.
        nlookup: u64,
    }

    /// `struct fuse_forget_one`: one item of BATCH_FORGET (7.16).
    struct ForgetOne [16] {
        /// The node.
        nodeid: u64,
        /// By how much its lookup count drops.
        nlookup: u64,
    }

    /// `struct fuse_batch_forget_in`: `count` [`ForgetOne`] follow; not answered (7.16).
    struct BatchForgetIn [8] {
        /// How many items follow.
        count: u32,
        /// Zero.
        dummy: u32,
    }

    /// `struct fuse_mknod_in`: makes a file that is no directory and no symlink.
    struct MknodIn [16] {
        /// File type and permission bits; the umask is already applied unless DONT_MASK was agreed.
        mode: u32,
        /// Device number, encoded as [`Attr::rdev`].
        rdev: u32,
        /// The caller's umask (7.12).
        umask: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_mkdir_in`: makes a directory.
    struct MkdirIn [8] {
        /// Permission bits with the directory type; the umask is already applied unless DONT_MASK was agreed.
        mode: u32,
        /// The caller's umask (7.12).
        umask: u32,
    }

    /// `struct fuse_rename_in`: the old and the new name follow.
    struct RenameIn [8] {
        /// The node of the new parent directory.
        newdir: u64,
    }

    /// `struct fuse_rename2_in`: `renameat2(2)`; the old and the new name follow (7.23).
    struct Rename2In [16] {
        /// The node of the new parent directory.
        newdir: u64,
        /// `RENAME_*` bits.
        flags: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_link_in`: makes a hard link; the new name follows.
    struct LinkIn [8] {
        /// The node that gets a further name.
        oldnodeid: u64,
    }

    /// `struct fuse_dirent`: one entry of READDIR; `namelen` bytes of name follow without a NUL, then zeros up to 8 bytes.
    struct Dirent [24] {
        /// Inode number as `readdir(3)` shows it.
        ino: u64,
        /// The offset that continues the listing after this entry.
        off: u64,
        /// Length of the name in bytes: 1 to 1024, or the kernel answers the listing with EIO.
        namelen: u32,
        /// `DT_*`: the file type bits of a mode shifted right by 12.
        r#type: u32,
    }

    /// `struct fuse_direntplus`: one entry of READDIRPLUS, with the lookup's answer; the name follows as in [`Dirent`] (7.21).
    struct Direntplus [152] {
        /// The lookup's answer; a nodeid of 0 makes this a plain entry.
        entry_out: EntryOut,
        /// The entry.
        dirent: Dirent,
    }

    /// `struct fuse_setxattr_in`: the name and `size` bytes of value follow. Only with SETXATTR_EXT (7.33); else [`SetxattrInCompat`].
    struct SetxattrIn [16] {
        /// Length of the value in bytes.
        size: u32,
        /// `XATTR_CREATE`, `XATTR_REPLACE`.
        flags: u32,
        /// [`SetxattrFlags`](crate::flags::SetxattrFlags).
        setxattr_flags: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_setxattr_in` up to `FUSE_COMPAT_SETXATTR_IN_SIZE`: what is sent without SETXATTR_EXT.
    struct SetxattrInCompat [8] {
        /// Length of the value in bytes.
        size: u32,
        /// `XATTR_CREATE`, `XATTR_REPLACE`.
        flags: u32,
    }

    /// `struct fuse_getxattr_in`: GETXATTR, where the name follows, and LISTXATTR, where nothing does.
    struct GetxattrIn [8] {
        /// The caller's room in bytes; 0 asks for the length only, to be answered with [`GetxattrOut`].
        size: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_getxattr_out`: the length of a value or of a list of names.
    struct GetxattrOut [8] {
        /// Length in bytes.
        size: u32,
        /// Zero.
        padding: u32,
    }
}
