//! Answers and notices.

use super::Sample;
use etcfs_proto::abi::*;
use etcfs_proto::flags::InvalEntryFlags;
use etcfs_proto::notify::Notice;
use etcfs_proto::op::{Body, SHAPES};
use etcfs_proto::{DirPacker, Opcode, Reply};
use zerocopy::IntoBytes;

const HEAD: &str = "fuse_out_header";

fn attr() -> Attr {
    Attr {
        ino: 131_077,
        size: 1042,
        blocks: 8,
        atime: 1_700_000_000,
        mtime: (-2i64) as u64,
        ctime: 1_700_000_002,
        atimensec: 1,
        mtimensec: 20,
        ctimensec: 999_999_999,
        mode: 0o100_644,
        nlink: 1,
        uid: 0,
        gid: 42,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn entry() -> EntryOut {
    EntryOut {
        nodeid: 12,
        generation: 0,
        attr_valid_nsec: 1,
        attr: attr(),
        ..EntryOut::default()
    }
}

fn open() -> OpenOut {
    OpenOut {
        fh: 5,
        open_flags: 0x1a0,
        backing_id: 3,
    }
}

/// A message whose header counts the parts put into it.
fn sealed(file: &str, opcode: Opcode, error: i32, mut sample: Sample) -> Sample {
    let len = (size_of::<OutHeader>() + sample.message().len()) as u32;
    sample.file = file.to_owned();
    sample.opcode = opcode;
    let head = Sample::new("", opcode).put(
        HEAD,
        &OutHeader {
            len,
            error,
            unique: 0x2a,
        },
    );
    sample.parts.splice(0..0, head.parts);
    sample
}

fn statx() -> StatxOut {
    let time = |tv_sec, tv_nsec| SxTime {
        tv_sec,
        tv_nsec,
        __reserved: 0,
    };
    let stat = Statx {
        mask: 0xfff,
        blksize: 4096,
        attributes: 0x10,
        nlink: 1,
        gid: 42,
        mode: 0o100_644,
        ino: 131_077,
        size: 1042,
        blocks: 8,
        attributes_mask: 0x3070,
        atime: time(1_700_000_000, 1),
        btime: time(-2, 20),
        ctime: time(1_700_000_002, 999_999_999),
        mtime: time(1_700_000_001, 0),
        dev_major: 254,
        dev_minor: 1,
        ..Statx::default()
    };
    StatxOut {
        attr_valid_nsec: 1,
        stat,
        ..StatxOut::default()
    }
}

/// As much of an answer to INIT as was sent before 7.23.
fn init_prefix() -> Vec<u8> {
    let out = InitOut {
        major: 7,
        minor: 31,
        max_readahead: 131_072,
        flags: 9,
        max_write: 131_072,
        ..InitOut::default()
    };
    out.as_bytes()[..24].to_vec()
}

/// The listing of two names, with lookups or without.
fn listing(plus: bool) -> Vec<u8> {
    let mut reply = Reply::default();
    let mut bytes = Vec::new();
    for (nodeid, name) in [(0, &b"."[..]), (12, b"caf\xe9")] {
        reply.clear();
        let (off, kind) = if plus { (8, 8) } else { (3, 4) };
        assert!(DirPacker::new(&mut reply, 4096).push(131_077, off, kind, name));
        if plus {
            bytes.extend_from_slice(EntryOut { nodeid, ..entry() }.as_bytes());
        }
        bytes.extend_from_slice(reply.body());
    }
    bytes
}

fn body(opcode: Opcode, body: Body) -> Sample {
    let sample = Sample::new("", opcode);
    match body {
        Body::Entry => sample.put("fuse_entry_out", &entry()),
        Body::Attr => {
            let out = AttrOut {
                attr_valid: u64::MAX,
                attr_valid_nsec: 1,
                dummy: 0,
                attr: attr(),
            };
            sample.put("fuse_attr_out", &out)
        }
        Body::Statx => sample.put("fuse_statx_out", &statx()),
        Body::Bytes => sample.bytes("bytes", b"/proc/mounts"),
        Body::Open => sample.put("fuse_open_out", &open()),
        Body::Create => sample
            .put("fuse_entry_out", &entry())
            .put("fuse_open_out", &open()),
        Body::Write => sample.put(
            "fuse_write_out",
            &WriteOut {
                size: 4,
                padding: 0,
            },
        ),
        Body::Statfs => {
            let st = Kstatfs {
                blocks: 1000,
                bfree: 500,
                bavail: 400,
                files: 64,
                ffree: 32,
                ..Kstatfs::default()
            };
            sample.put(
                "fuse_statfs_out",
                &StatfsOut {
                    st: Kstatfs {
                        bsize: 4096,
                        namelen: 255,
                        frsize: 512,
                        ..st
                    },
                },
            )
        }
        Body::Xattr => sample.bytes("value or list", b"user.a\0user.b\0"),
        Body::Init => {
            let out = InitOut {
                major: 7,
                minor: 45,
                max_readahead: 131_072,
                flags: 0x4050_0009,
                max_background: 12,
                congestion_threshold: 9,
                max_write: 1 << 20,
                time_gran: 1,
                max_pages: 256,
                flags2: 0xb0,
                max_stack_depth: 1,
                ..InitOut::default()
            };
            sample.put("fuse_init_out", &out)
        }
        Body::Dirents => sample.bytes("fuse_dirent, twice", &listing(false)),
        Body::Direntplus => sample.bytes("fuse_direntplus, twice", &listing(true)),
        Body::Lk => {
            let lk = FileLock {
                start: 0,
                end: 99,
                r#type: 0,
                pid: 4242,
            };
            sample.put("fuse_lk_out", &LkOut { lk })
        }
        Body::Bmap => sample.put("fuse_bmap_out", &BmapOut { block: 7 }),
        Body::Ioctl => sample
            .put(
                "fuse_ioctl_out",
                &IoctlOut {
                    result: -1,
                    flags: 4,
                    in_iovs: 1,
                    out_iovs: 0,
                },
            )
            .put("fuse_ioctl_iovec", &IoctlIovec { base: 4096, len: 8 }),
        Body::Poll => sample.put(
            "fuse_poll_out",
            &PollOut {
                revents: 0x41,
                padding: 0,
            },
        ),
        Body::Lseek => sample.put("fuse_lseek_out", &LseekOut { offset: 4096 }),
        Body::Copied => sample.put(
            "fuse_copy_file_range_out",
            &CopyFileRangeOut {
                bytes_copied: 1 << 33,
            },
        ),
        Body::Unknown => sample.put(
            "cuse_init_out",
            &CuseInitOut {
                major: 7,
                minor: 45,
                ..CuseInitOut::default()
            },
        ),
        Body::NoAnswer | Body::Empty => sample,
    }
}

/// A successful answer of every opcode that is answered, and some special ones.
pub fn answers() -> Vec<Sample> {
    let mut all: Vec<_> = SHAPES
        .iter()
        .filter(|shape| shape.body != Body::NoAnswer)
        .map(|shape| {
            sealed(
                &shape.name.to_lowercase(),
                shape.opcode,
                0,
                body(shape.opcode, shape.body),
            )
        })
        .collect();
    let empty = |opcode| Sample::new("", opcode);
    let special = [
        ("error_of_lookup", Opcode::LOOKUP, -2, empty(Opcode::LOOKUP)),
        (
            "error_of_interrupt",
            Opcode::INTERRUPT,
            -11,
            empty(Opcode::INTERRUPT),
        ),
        (
            "error_without_name",
            Opcode::OPEN,
            -500,
            empty(Opcode::OPEN),
        ),
        (
            "error_of_the_wrong_sign",
            Opcode::OPEN,
            2,
            empty(Opcode::OPEN),
        ),
        (
            "getxattr_size",
            Opcode::GETXATTR,
            0,
            empty(Opcode::GETXATTR).put(
                "fuse_getxattr_out",
                &GetxattrOut {
                    size: 20,
                    padding: 0,
                },
            ),
        ),
        (
            "init_24",
            Opcode::INIT,
            0,
            empty(Opcode::INIT).bytes("24 bytes of fuse_init_out", &init_prefix()),
        ),
        (
            "too_long",
            Opcode::LSEEK,
            0,
            body(Opcode::LSEEK, Body::Lseek).bytes("what nobody asked for", b"more"),
        ),
        (
            "too_short",
            Opcode::GETATTR,
            0,
            empty(Opcode::GETATTR).bytes("half a struct", b"\x01\x02\x03"),
        ),
        (
            "unknown_opcode",
            Opcode(99),
            0,
            empty(Opcode(99)).bytes("body", &[0xab; 70]),
        ),
    ];
    all.extend(special.map(|(file, opcode, error, sample)| sealed(file, opcode, error, sample)));
    all
}

/// Every notice.
pub fn notices() -> Vec<Sample> {
    let all = [
        ("poll", Notice::Poll { kh: 77 }),
        (
            "inval_inode",
            Notice::InvalInode {
                nodeid: 12,
                off: -1,
                len: 0,
            },
        ),
        (
            "inval_entry",
            Notice::InvalEntry {
                parent: 1,
                name: b"passwd",
                flags: InvalEntryFlags::empty(),
            },
        ),
        (
            "expire_entry",
            Notice::InvalEntry {
                parent: 1,
                name: b"passwd",
                flags: InvalEntryFlags::EXPIRE_ONLY,
            },
        ),
        (
            "store",
            Notice::Store {
                nodeid: 12,
                offset: 4096,
                data: b"data",
            },
        ),
        (
            "retrieve",
            Notice::Retrieve {
                notify_unique: 9,
                nodeid: 12,
                offset: 4096,
                size: 100,
            },
        ),
        (
            "delete",
            Notice::Delete {
                parent: 1,
                child: 12,
                name: b"shadow",
            },
        ),
        ("resend", Notice::Resend),
        ("inc_epoch", Notice::IncEpoch),
        ("prune", Notice::Prune { nodeids: &[12, 13] }),
    ];
    all.iter()
        .map(|(name, notice)| {
            let mut out = Reply::default();
            let message = notice.pack(&mut out);
            let sample =
                Sample::new(&format!("notify_{name}"), Opcode(0)).bytes(HEAD, &message[..16]);
            if message.len() > 16 {
                sample.bytes("body", &message[16..])
            } else {
                sample
            }
        })
        .collect()
}
