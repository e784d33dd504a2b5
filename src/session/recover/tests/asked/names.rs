//! What is asked of names, and of what has them.

use super::*;

pub(super) static SCENARIOS: &[Scenario] = &[
    scenario("LOOKUP", |_| (Opcode::LOOKUP, 1, b"f\0".to_vec()), entry),
    scenario(
        "LOOKUP of nothing",
        |_| (Opcode::LOOKUP, 1, b"no\0".to_vec()),
        entry,
    ),
    scenario(
        "LOOKUP again",
        |w| {
            w.look_up("f");
            (Opcode::LOOKUP, 1, b"f\0".to_vec())
        },
        entry,
    ),
    scenario(
        "GETATTR",
        |w| (Opcode::GETATTR, w.look_up("f"), vec![0; 16]),
        attributes,
    ),
    scenario(
        "FORGET",
        |w| {
            w.look_up("f");
            w.look_up("f");
            (
                Opcode::FORGET,
                w.look_up("f"),
                body(&ForgetIn { nlookup: 2 }, &[]),
            )
        },
        same,
    ),
    scenario(
        "BATCH_FORGET",
        |w| {
            let mut tail = vec![];
            for name in ["f", "g", "d"] {
                w.look_up(name);
                let one = ForgetOne {
                    nodeid: w.look_up(name),
                    nlookup: 1,
                };
                tail.extend_from_slice(one.as_bytes());
            }
            (
                Opcode::BATCH_FORGET,
                0,
                body(&BatchForgetIn { count: 3, dummy: 0 }, &tail),
            )
        },
        same,
    ),
    scenario(
        "SETATTR of mode and owner",
        |w| {
            let valid = SetattrValid::MODE | SetattrValid::UID;
            let change = SetattrIn {
                mode: libc::S_IFREG | 0o4600,
                uid: 1000,
                ..SetattrIn::default()
            };
            (Opcode::SETATTR, w.look_up("f"), setattr_of(valid, change))
        },
        attributes,
    ),
    scenario(
        "SETATTR of size",
        |w| {
            let change = SetattrIn {
                size: 2,
                ..SetattrIn::default()
            };
            (
                Opcode::SETATTR,
                w.look_up("f"),
                setattr_of(SetattrValid::SIZE, change),
            )
        },
        attributes,
    ),
    scenario(
        "MKNOD",
        |_| {
            let args = MknodIn {
                mode: libc::S_IFIFO | 0o644,
                ..MknodIn::default()
            };
            (Opcode::MKNOD, 1, body(&args, b"new\0"))
        },
        entry,
    ),
    scenario(
        "MKNOD of a name that is there",
        |_| {
            tick();
            let args = MknodIn {
                mode: libc::S_IFREG | 0o644,
                ..MknodIn::default()
            };
            (Opcode::MKNOD, 1, body(&args, b"f\0"))
        },
        entry,
    ),
    scenario(
        "MKDIR",
        |_| {
            (
                Opcode::MKDIR,
                1,
                body(
                    &MkdirIn {
                        mode: 0o750,
                        umask: 0,
                    },
                    b"new\0",
                ),
            )
        },
        entry,
    ),
    scenario(
        "MKDIR of a name that is there",
        |_| {
            tick();
            (
                Opcode::MKDIR,
                1,
                body(
                    &MkdirIn {
                        mode: 0o755,
                        umask: 0,
                    },
                    b"d\0",
                ),
            )
        },
        entry,
    ),
    scenario(
        "SYMLINK",
        |_| (Opcode::SYMLINK, 1, b"new\0target\0".to_vec()),
        entry,
    ),
    scenario(
        "LINK",
        |w| {
            let args = LinkIn {
                oldnodeid: w.look_up("f"),
            };
            (Opcode::LINK, 1, body(&args, b"new\0"))
        },
        entry,
    ),
    scenario(
        "LINK to a name that is there",
        |w| {
            let args = LinkIn {
                oldnodeid: w.look_up("f"),
            };
            (Opcode::LINK, 1, body(&args, b"g\0"))
        },
        entry,
    ),
    scenario(
        "UNLINK",
        |w| {
            w.look_up("f");
            (Opcode::UNLINK, 1, b"f\0".to_vec())
        },
        same,
    ),
    scenario(
        "UNLINK of nothing",
        |_| (Opcode::UNLINK, 1, b"no\0".to_vec()),
        same,
    ),
    scenario("RMDIR", |_| (Opcode::RMDIR, 1, b"d\0".to_vec()), same),
    scenario(
        "RMDIR of a directory in use",
        |w| {
            std::fs::write(w.dir.join("local/d/x"), "").unwrap();
            (Opcode::RMDIR, 1, b"d\0".to_vec())
        },
        same,
    ),
    scenario(
        "RENAME",
        |w| {
            w.look_up("f");
            (Opcode::RENAME, 1, body(&RenameIn { newdir: 1 }, NAMES))
        },
        same,
    ),
    scenario(
        "RENAME over a file",
        |w| {
            w.look_up("g");
            (Opcode::RENAME, 1, body(&RenameIn { newdir: 1 }, b"f\0g\0"))
        },
        same,
    ),
    scenario(
        "RENAME to the other side",
        |w| {
            w.look_up("f");
            let names = b"f\0fresh\0";
            (Opcode::RENAME, 1, body(&RenameIn { newdir: 1 }, names))
        },
        same,
    ),
    scenario(
        "RENAME over a file of the other side",
        |w| {
            w.look_up("f");
            let names = b"f\0shared\0";
            (Opcode::RENAME, 1, body(&RenameIn { newdir: 1 }, names))
        },
        same,
    ),
    scenario(
        "RENAME2 from the other side, not over anything",
        |_| {
            let flags = libc::RENAME_NOREPLACE;
            (Opcode::RENAME2, 1, rename_of(1, flags, b"shared\0new\0"))
        },
        same,
    ),
    scenario(
        "RENAME of nothing",
        |_| (Opcode::RENAME, 1, body(&RenameIn { newdir: 1 }, b"no\0g\0")),
        same,
    ),
    scenario(
        "RENAME of one link to another",
        |w| {
            std::fs::hard_link(w.dir.join("local/f"), w.dir.join("local/f2")).unwrap();
            (Opcode::RENAME, 1, body(&RenameIn { newdir: 1 }, b"f\0f2\0"))
        },
        same,
    ),
    scenario(
        "RENAME2, not over anything",
        |_| {
            (
                Opcode::RENAME2,
                1,
                rename_of(1, libc::RENAME_NOREPLACE, NAMES),
            )
        },
        same,
    ),
    scenario(
        "RENAME2 over what is there",
        |_| {
            (
                Opcode::RENAME2,
                1,
                rename_of(1, libc::RENAME_NOREPLACE, b"f\0g\0"),
            )
        },
        same,
    ),
    scenario(
        "RENAME2 that exchanges",
        |w| {
            w.look_up("g");
            (
                Opcode::RENAME2,
                1,
                rename_of(1, libc::RENAME_EXCHANGE, b"f\0g\0"),
            )
        },
        same,
    ),
];
