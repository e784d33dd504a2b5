//! Words for the numbers of system calls: file modes, `O_*` bits, errors, directory entry types.

use std::fmt;

/// A name in quotes, escaped.
pub(super) struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A file mode or umask, in octal as C writes it.
pub(super) struct ShownMode(pub u32);

impl fmt::Display for ShownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0{:o}", self.0)
    }
}

/// Bits with names, the unknown ones as one octal number.
fn bits(
    f: &mut fmt::Formatter<'_>,
    first: &str,
    mut rest: u32,
    names: &[(u32, &str)],
) -> fmt::Result {
    f.write_str(first)?;
    let mut bar = if first.is_empty() { "" } else { "|" };
    for &(bit, name) in names {
        if rest & bit == bit {
            write!(f, "{bar}{name}")?;
            rest &= !bit;
            bar = "|";
        }
    }
    match rest {
        0 if bar.is_empty() => f.write_str("0"),
        0 => Ok(()),
        rest => write!(f, "{bar}0{rest:o}"),
    }
}

/// `O_*` bits. Some differ between architectures; those of architectures not listed here are shown as a number.
pub(super) struct OpenBits(pub u32);

impl fmt::Display for OpenBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "3"][(self.0 & 3) as usize];
        bits(
            f,
            access,
            self.0 & !3,
            if GENERIC { OPEN_BITS } else { &[] },
        )
    }
}

/// Whether the architecture uses the numbers of `include/uapi/asm-generic`, but for four `O_*` bits.
const GENERIC: bool = !cfg!(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "sparc",
    target_arch = "sparc64"
));
const ARM: bool = cfg!(any(target_arch = "arm", target_arch = "aarch64"));
const POWER: bool = cfg!(any(target_arch = "powerpc", target_arch = "powerpc64"));

const DIRECTORY: u32 = if ARM || POWER { 0o40_000 } else { 0o200_000 };
const NOFOLLOW: u32 = if ARM || POWER { 0o100_000 } else { 0o400_000 };
const DIRECT: u32 = match (ARM, POWER) {
    (true, _) => 0o200_000,
    (_, true) => 0o400_000,
    _ => 0o40_000,
};
const LARGEFILE: u32 = match (ARM, POWER) {
    (true, _) => 0o400_000,
    (_, true) => 0o200_000,
    _ => 0o100_000,
};

const OPEN_BITS: &[(u32, &str)] = &[
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o4_010_000, "O_SYNC"),
    (0o10_000, "O_DSYNC"),
    (0o20_000, "O_ASYNC"),
    (DIRECT, "O_DIRECT"),
    (LARGEFILE, "O_LARGEFILE"),
    (0o20_000_000 | DIRECTORY, "O_TMPFILE"),
    (DIRECTORY, "O_DIRECTORY"),
    (NOFOLLOW, "O_NOFOLLOW"),
    (0o1_000_000, "O_NOATIME"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o10_000_000, "O_PATH"),
];

/// `RENAME_*` bits.
pub(super) struct RenameBits(pub u32);

impl fmt::Display for RenameBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bits(
            f,
            "",
            self.0,
            &[(1, "NOREPLACE"), (2, "EXCHANGE"), (4, "WHITEOUT")],
        )
    }
}

/// `XATTR_*` bits.
pub(super) struct Xattr(pub u32);

impl fmt::Display for Xattr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bits(f, "", self.0, &[(1, "CREATE"), (2, "REPLACE")])
    }
}

/// `FALLOC_FL_*` bits.
pub(super) struct Falloc(pub u32);

impl fmt::Display for Falloc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = &[
            (0x01, "KEEP_SIZE"),
            (0x02, "PUNCH_HOLE"),
            (0x08, "COLLAPSE_RANGE"),
            (0x10, "ZERO_RANGE"),
            (0x20, "INSERT_RANGE"),
            (0x40, "UNSHARE_RANGE"),
            (0x80, "WRITE_ZEROES"),
        ];
        bits(f, "", self.0, names)
    }
}

/// `SEEK_*`.
pub(super) struct Whence(pub u32);

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(
            f,
            self.0,
            &["SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"],
        )
    }
}

/// `F_RDLCK` and the like.
pub(super) struct LockType(pub u32);

impl fmt::Display for LockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(f, self.0, &["F_RDLCK", "F_WRLCK", "F_UNLCK"])
    }
}

/// `DT_*`.
pub(super) struct ShownType(pub u32);

impl fmt::Display for ShownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = &[
            "UNKNOWN", "FIFO", "CHR", "", "DIR", "", "BLK", "", "REG", "", "LNK", "", "SOCK", "",
            "WHT",
        ];
        word(f, self.0, names)
    }
}

fn word(f: &mut fmt::Formatter<'_>, number: u32, names: &[&str]) -> fmt::Result {
    match names.get(number as usize) {
        Some(name) if !name.is_empty() => f.write_str(name),
        _ => write!(f, "{number}"),
    }
}

/// An error, positive, by name and number.
pub(super) struct Errno(pub u32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = LOW_ERRORS.get(self.0 as usize).copied();
        let high = || {
            HIGH_ERRORS
                .iter()
                .find(|(number, _)| GENERIC && *number == self.0)
                .map(|(_, name)| *name)
        };
        match low.or_else(high) {
            Some(name) => write!(f, "{name}({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// `include/uapi/asm-generic/errno-base.h`: the same on every architecture.
const LOW_ERRORS: &[&str] = &[
    "0", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF",
    "ECHILD", "EAGAIN", "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV",
    "ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENFILE", "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG",
    "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM", "ERANGE",
];

/// Errors of file systems in `include/uapi/asm-generic/errno.h`.
const HIGH_ERRORS: &[(u32, &str)] = &[
    (35, "EDEADLK"),
    (36, "ENAMETOOLONG"),
    (37, "ENOLCK"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (61, "ENODATA"),
    (75, "EOVERFLOW"),
    (95, "EOPNOTSUPP"),
    (103, "ECONNABORTED"),
    (107, "ENOTCONN"),
    (110, "ETIMEDOUT"),
    (116, "ESTALE"),
    (122, "EDQUOT"),
];
