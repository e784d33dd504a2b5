//! Requests about attributes, ordinary and extended.

use super::request;
use crate::samples::Sample;
use etcfs_proto::Opcode;
use etcfs_proto::abi::*;

pub fn attributes() -> Vec<Sample> {
    let valid =
        (1 << 1) | (1 << 2) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 8) | (1 << 11);
    let setattr = SetattrIn {
        valid,
        fh: 5,
        size: 4096,
        atime: (-1i64) as u64,
        atimensec: 999_999_999,
        mtime: 1_700_000_000,
        mtimensec: 1,
        mode: 0o4755,
        uid: 1,
        gid: 2,
        ..SetattrIn::default()
    };
    let all = SetattrIn {
        valid: 0xffff_f000 | (1 << 0) | (1 << 9) | (1 << 10),
        ctime: 9,
        lock_owner: 0xabc,
        ..setattr
    };
    let statx = StatxIn {
        getattr_flags: 1,
        fh: 5,
        sx_flags: 0x2000,
        sx_mask: 0xfff,
        ..StatxIn::default()
    };
    vec![
        request("getattr", Opcode::GETATTR)
            .arg("fuse_getattr_in", &GetattrIn::default())
            .done(),
        request("getattr_handle", Opcode::GETATTR)
            .arg(
                "fuse_getattr_in",
                &GetattrIn {
                    getattr_flags: 1,
                    dummy: 0,
                    fh: 99,
                },
            )
            .done(),
        request("setattr", Opcode::SETATTR)
            .arg("fuse_setattr_in", &setattr)
            .done(),
        request("setattr_unknown_bits", Opcode::SETATTR)
            .arg("fuse_setattr_in", &all)
            .done(),
        request("statx", Opcode::STATX)
            .arg("fuse_statx_in", &statx)
            .done(),
        request("readlink", Opcode::READLINK).done(),
        request("statfs", Opcode::STATFS).done(),
        request("access", Opcode::ACCESS)
            .arg(
                "fuse_access_in",
                &AccessIn {
                    mask: 4,
                    padding: 0,
                },
            )
            .done(),
    ]
}

pub fn xattrs() -> Vec<Sample> {
    let set = SetxattrIn {
        size: 5,
        flags: 1,
        setxattr_flags: 1,
        padding: 0,
    };
    let compat = SetxattrInCompat { size: 5, flags: 2 };
    vec![
        request("setxattr", Opcode::SETXATTR)
            .arg("fuse_setxattr_in", &set)
            .tail("name", b"user.colour\0")
            .tail("value", b"green")
            .done(),
        request("setxattr_compat", Opcode::SETXATTR)
            .arg("fuse_setxattr_in of 8 bytes", &compat)
            .tail("name", b"user.colour\0")
            .tail("value", b"green")
            .done(),
        request("getxattr", Opcode::GETXATTR)
            .arg(
                "fuse_getxattr_in",
                &GetxattrIn {
                    size: 256,
                    padding: 0,
                },
            )
            .tail("name", b"user.bedrock.stratum\0")
            .done(),
        request("listxattr", Opcode::LISTXATTR)
            .arg(
                "fuse_getxattr_in",
                &GetxattrIn {
                    size: 0,
                    padding: 0,
                },
            )
            .done(),
        request("removexattr", Opcode::REMOVEXATTR)
            .tail("name", b"user.colour\0")
            .done(),
    ]
}
