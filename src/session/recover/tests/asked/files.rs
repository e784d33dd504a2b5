//! What is asked of open files and directories.

use super::*;

pub(super) static SCENARIOS: &[Scenario] = &[
    scenario(
        "OPEN",
        |w| {
            (
                Opcode::OPEN,
                w.look_up("f"),
                OpenIn::default().as_bytes().to_vec(),
            )
        },
        opened,
    ),
    scenario(
        "OPEN that empties",
        |w| {
            let args = OpenIn {
                flags: (libc::O_RDWR | libc::O_TRUNC) as u32,
                open_flags: 0,
            };
            (Opcode::OPEN, w.look_up("f"), args.as_bytes().to_vec())
        },
        opened,
    ),
    scenario(
        "READ",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDONLY);
            (
                Opcode::READ,
                node,
                body(
                    &ReadIn {
                        fh,
                        size: 100,
                        ..ReadIn::default()
                    },
                    &[],
                ),
            )
        },
        same,
    ),
    scenario(
        "WRITE",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            (Opcode::WRITE, node, write_of(fh, libc::O_RDWR, 2, b"data"))
        },
        same,
    ),
    scenario(
        "WRITE of much",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            (
                Opcode::WRITE,
                node,
                write_of(fh, libc::O_RDWR, 2, &[7; 100_000]),
            )
        },
        same,
    ),
    scenario(
        "WRITE that appends",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR | libc::O_APPEND);
            (
                Opcode::WRITE,
                node,
                write_of(fh, libc::O_RDWR | libc::O_APPEND, 4, b"data"),
            )
        },
        same,
    ),
    scenario(
        "WRITE that appends as before",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR | libc::O_APPEND);
            let data = || write_of(fh, libc::O_RDWR | libc::O_APPEND, 4, b"data");
            assert_eq!(
                w.ask(Opcode::WRITE, node, &data()),
                Ok(body(
                    &WriteOut {
                        size: 4,
                        padding: 0
                    },
                    &[]
                ))
            );
            (Opcode::WRITE, node, data())
        },
        same,
    ),
    scenario(
        "WRITE that appends aside",
        |w| {
            let flags = libc::O_RDWR | libc::O_APPEND | libc::O_DSYNC;
            let (node, fh) = w.open("f", flags);
            (Opcode::WRITE, node, write_of(fh, flags, 4, b"data"))
        },
        same,
    ),
    scenario(
        "RELEASE",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            (
                Opcode::RELEASE,
                node,
                body(
                    &ReleaseIn {
                        fh,
                        ..ReleaseIn::default()
                    },
                    &[],
                ),
            )
        },
        same,
    ),
    scenario(
        "FLUSH",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            w.ask(Opcode::SETLK, node, &lock_of(fh, libc::F_WRLCK, false))
                .unwrap();
            (Opcode::FLUSH, node, [fh, 0, 77].as_bytes().to_vec())
        },
        same,
    ),
    scenario(
        "FSYNC",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            (Opcode::FSYNC, node, [fh, 0].as_bytes().to_vec())
        },
        same,
    ),
    scenario(
        "SETXATTR",
        |w| {
            let args = SetxattrInCompat { size: 1, flags: 0 };
            (Opcode::SETXATTR, w.look_up("f"), body(&args, b"user.x\0v"))
        },
        same,
    ),
    scenario(
        "SETXATTR that creates",
        |w| {
            let args = SetxattrInCompat {
                size: 1,
                flags: libc::XATTR_CREATE as u32,
            };
            (Opcode::SETXATTR, w.look_up("f"), body(&args, b"user.x\0v"))
        },
        same,
    ),
    scenario(
        "SETXATTR that creates what is there",
        |w| {
            rustix::fs::setxattr(
                w.dir.join("local/f"),
                c"user.x",
                b"v",
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
            let args = SetxattrInCompat {
                size: 1,
                flags: libc::XATTR_CREATE as u32,
            };
            (Opcode::SETXATTR, w.look_up("f"), body(&args, b"user.x\0v"))
        },
        same,
    ),
    scenario(
        "REMOVEXATTR",
        |w| {
            rustix::fs::setxattr(
                w.dir.join("local/f"),
                c"user.x",
                b"v",
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
            (Opcode::REMOVEXATTR, w.look_up("f"), b"user.x\0".to_vec())
        },
        same,
    ),
    scenario(
        "REMOVEXATTR of nothing",
        |w| (Opcode::REMOVEXATTR, w.look_up("f"), b"user.x\0".to_vec()),
        same,
    ),
    scenario(
        "OPENDIR",
        |w| {
            (
                Opcode::OPENDIR,
                w.look_up("d"),
                OpenIn::default().as_bytes().to_vec(),
            )
        },
        opened,
    ),
    scenario(
        "RELEASEDIR",
        |w| {
            let node = w.look_up("d");
            let answer = w
                .ask(Opcode::OPENDIR, node, OpenIn::default().as_bytes())
                .unwrap();
            let fh = OpenOut::read_from_prefix(&answer).unwrap().0.fh;
            (
                Opcode::RELEASEDIR,
                node,
                body(
                    &ReleaseIn {
                        fh,
                        ..ReleaseIn::default()
                    },
                    &[],
                ),
            )
        },
        same,
    ),
    scenario(
        "CREATE",
        |_| (Opcode::CREATE, 1, body(&CREATE, b"new\0")),
        entry,
    ),
    scenario(
        "CREATE of what nobody may write",
        |_| {
            let args = CreateIn {
                mode: libc::S_IFREG | 0o400,
                ..CREATE
            };
            (Opcode::CREATE, 1, body(&args, b"new\0"))
        },
        entry,
    ),
    scenario(
        "CREATE of a name that is there",
        |_| {
            tick();
            (Opcode::CREATE, 1, body(&CREATE, b"f\0"))
        },
        entry,
    ),
    scenario(
        "TMPFILE",
        |_| (Opcode::TMPFILE, 1, body(&CREATE, b"x\0")),
        entry,
    ),
    scenario(
        "FALLOCATE",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            (
                Opcode::FALLOCATE,
                node,
                body(
                    &FallocateIn {
                        fh,
                        length: 8192,
                        ..FallocateIn::default()
                    },
                    &[],
                ),
            )
        },
        same,
    ),
    scenario(
        "FALLOCATE that inserts",
        |w| {
            std::fs::write(w.dir.join("local/f"), [b'x'; 8192]).unwrap();
            let (node, fh) = w.open("f", libc::O_RDWR);
            let mode = FallocateFlags::INSERT_RANGE.bits();
            (
                Opcode::FALLOCATE,
                node,
                body(
                    &FallocateIn {
                        fh,
                        length: 4096,
                        mode,
                        ..FallocateIn::default()
                    },
                    &[],
                ),
            )
        },
        same,
    ),
    scenario(
        "COPY_FILE_RANGE",
        |w| {
            let ((node, fh_in), (nodeid_out, fh_out)) =
                (w.open("f", libc::O_RDWR), w.open("g", libc::O_RDWR));
            let args = CopyFileRangeIn {
                fh_in,
                nodeid_out,
                fh_out,
                off_out: 1,
                len: 3,
                ..CopyFileRangeIn::default()
            };
            (Opcode::COPY_FILE_RANGE, node, body(&args, &[]))
        },
        same,
    ),
    scenario(
        "IOCTL that sets",
        |w| {
            let args = IoctlIn {
                cmd: crate::sys::fileattr::SETFLAGS,
                in_size: 4,
                ..IoctlIn::default()
            };
            (
                Opcode::IOCTL,
                w.look_up("f"),
                body(&args, &0x80080_u32.to_ne_bytes()),
            )
        },
        same,
    ),
    scenario(
        "SETLK",
        |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            (Opcode::SETLK, node, lock_of(fh, libc::F_WRLCK, false))
        },
        same,
    ),
    Scenario {
        name: "SETLKW that waits",
        ask: |w| {
            let (node, fh) = w.open("f", libc::O_RDWR);
            hold(w);
            (Opcode::SETLKW, node, lock_of(fh, libc::F_WRLCK, true))
        },
        shown: same,
        meanwhile: let_go,
    },
];
