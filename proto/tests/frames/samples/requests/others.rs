//! Requests about the connection, devices and DAX; an unknown one.

use super::request;
use crate::samples::Sample;
use etcfs_proto::Opcode;
use etcfs_proto::abi::*;

pub fn others() -> Vec<Sample> {
    let init = InitIn {
        major: 7,
        minor: 45,
        max_readahead: 131_072,
        flags: 0x73ff_fffb,
        flags2: 0x8000_00fd,
        unused: [0; 11],
    };
    let ioctl = IoctlIn {
        fh: 5,
        flags: 0x12,
        cmd: 0x5401,
        arg: 0x7fff_0000,
        in_size: 3,
        out_size: 60,
    };
    let map = SetupmappingIn {
        fh: 5,
        foffset: 4096,
        len: 8192,
        flags: 3,
        moffset: 16_384,
    };
    let mut background = request("interrupt", Opcode::INTERRUPT);
    (background.head.unique, background.head.nodeid) = (0x2b, 0);
    vec![
        request("init", Opcode::INIT)
            .arg("fuse_init_in", &init)
            .done(),
        request("init_16", Opcode::INIT)
            .arg(
                "fuse_init_in of 16 bytes",
                &InitInCompat {
                    major: 7,
                    minor: 31,
                    max_readahead: 131_072,
                    flags: 0x03ff_fffb,
                },
            )
            .done(),
        request("cuse_init", Opcode::CUSE_INIT)
            .arg(
                "cuse_init_in",
                &CuseInitIn {
                    major: 7,
                    minor: 45,
                    unused: 0,
                    flags: 1,
                },
            )
            .done(),
        request("destroy", Opcode::DESTROY).done(),
        background
            .arg("fuse_interrupt_in", &InterruptIn { unique: 0x2a })
            .done(),
        request("ioctl", Opcode::IOCTL)
            .arg("fuse_ioctl_in", &ioctl)
            .tail("data", b"abc")
            .done(),
        request("poll", Opcode::POLL)
            .arg(
                "fuse_poll_in",
                &PollIn {
                    fh: 5,
                    kh: 77,
                    flags: 1,
                    events: 0x41,
                },
            )
            .done(),
        request("notify_reply", Opcode::NOTIFY_REPLY)
            .arg(
                "fuse_notify_retrieve_in",
                &NotifyRetrieveIn {
                    offset: 512,
                    size: 3,
                    ..NotifyRetrieveIn::default()
                },
            )
            .tail("data", b"abc")
            .done(),
        request("setupmapping", Opcode::SETUPMAPPING)
            .arg("fuse_setupmapping_in", &map)
            .done(),
        request("removemapping", Opcode::REMOVEMAPPING)
            .arg("fuse_removemapping_in", &RemovemappingIn { count: 1 })
            .arg(
                "fuse_removemapping_one",
                &RemovemappingOne {
                    moffset: 16_384,
                    len: 8192,
                },
            )
            .done(),
        request("unknown_opcode", Opcode(99))
            .tail("arguments", b"what the kernel of 2030 asks\0")
            .done(),
    ]
}
