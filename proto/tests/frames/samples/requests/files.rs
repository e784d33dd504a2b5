//! Requests about open files.

use super::request;
use crate::samples::Sample;
use etcfs_proto::Opcode;
use etcfs_proto::abi::*;

pub fn files() -> Vec<Sample> {
    let read = ReadIn {
        fh: 5,
        offset: 8192,
        size: 4096,
        flags: 0o100_000,
        ..ReadIn::default()
    };
    let write = WriteIn {
        fh: 5,
        offset: 10,
        size: 4,
        write_flags: 6,
        lock_owner: 0xfeed,
        flags: 0o102_001,
        padding: 0,
    };
    let release = ReleaseIn {
        fh: 5,
        flags: 0o100_002,
        release_flags: 2,
        lock_owner: 0xfeed,
    };
    let copy = CopyFileRangeIn {
        fh_in: 5,
        off_in: 1,
        nodeid_out: 8,
        fh_out: 6,
        off_out: 2,
        len: 1 << 33,
        flags: 0,
    };
    let lk = LkIn {
        fh: 5,
        owner: 0xfeed,
        lk: FileLock {
            start: 0,
            end: i64::MAX as u64,
            r#type: 1,
            pid: 4242,
        },
        lk_flags: 0,
        padding: 0,
    };
    vec![
        request("open", Opcode::OPEN)
            .arg(
                "fuse_open_in",
                &OpenIn {
                    flags: 0o101_002,
                    open_flags: 1,
                },
            )
            .done(),
        request("opendir", Opcode::OPENDIR)
            .arg(
                "fuse_open_in",
                &OpenIn {
                    flags: 0o300_000,
                    open_flags: 0,
                },
            )
            .done(),
        request("read", Opcode::READ)
            .arg(
                "fuse_read_in",
                &ReadIn {
                    read_flags: 2,
                    lock_owner: 0xfeed,
                    ..read
                },
            )
            .done(),
        request("readdir", Opcode::READDIR)
            .arg("fuse_read_in", &read)
            .done(),
        request("readdirplus", Opcode::READDIRPLUS)
            .arg("fuse_read_in", &read)
            .done(),
        request("write", Opcode::WRITE)
            .arg("fuse_write_in", &write)
            .tail("data", b"root")
            .done(),
        request("release", Opcode::RELEASE)
            .arg("fuse_release_in", &release)
            .done(),
        request("releasedir", Opcode::RELEASEDIR)
            .arg(
                "fuse_release_in",
                &ReleaseIn {
                    release_flags: 0,
                    lock_owner: 0,
                    ..release
                },
            )
            .done(),
        request("flush", Opcode::FLUSH)
            .arg(
                "fuse_flush_in",
                &FlushIn {
                    fh: 5,
                    lock_owner: 0xfeed,
                    ..FlushIn::default()
                },
            )
            .done(),
        request("fsync", Opcode::FSYNC)
            .arg(
                "fuse_fsync_in",
                &FsyncIn {
                    fh: 5,
                    fsync_flags: 1,
                    padding: 0,
                },
            )
            .done(),
        request("fsyncdir", Opcode::FSYNCDIR)
            .arg(
                "fuse_fsync_in",
                &FsyncIn {
                    fh: 5,
                    fsync_flags: 0,
                    padding: 0,
                },
            )
            .done(),
        request("fallocate", Opcode::FALLOCATE)
            .arg(
                "fuse_fallocate_in",
                &FallocateIn {
                    fh: 5,
                    offset: 0,
                    length: 4096,
                    mode: 3,
                    padding: 0,
                },
            )
            .done(),
        request("lseek", Opcode::LSEEK)
            .arg(
                "fuse_lseek_in",
                &LseekIn {
                    fh: 5,
                    offset: 100,
                    whence: 4,
                    padding: 0,
                },
            )
            .done(),
        request("copy_file_range", Opcode::COPY_FILE_RANGE)
            .arg(
                "fuse_copy_file_range_in",
                &CopyFileRangeIn {
                    len: 0xffff_f000,
                    ..copy
                },
            )
            .done(),
        request("copy_file_range_64", Opcode::COPY_FILE_RANGE_64)
            .arg("fuse_copy_file_range_in", &copy)
            .done(),
        request("getlk", Opcode::GETLK)
            .arg("fuse_lk_in", &lk)
            .done(),
        request("setlk", Opcode::SETLK)
            .arg("fuse_lk_in", &LkIn { lk_flags: 1, ..lk })
            .done(),
        request("setlkw", Opcode::SETLKW)
            .arg("fuse_lk_in", &lk)
            .done(),
        request("syncfs", Opcode::SYNCFS)
            .arg("fuse_syncfs_in", &SyncfsIn::default())
            .done(),
        request("bmap", Opcode::BMAP)
            .arg(
                "fuse_bmap_in",
                &BmapIn {
                    block: 3,
                    blocksize: 512,
                    padding: 0,
                },
            )
            .done(),
    ]
}
