//! Requests about names, and those that carry extensions.

use super::request;
use crate::samples::Sample;
use etcfs_proto::Opcode;
use etcfs_proto::abi::*;
use zerocopy::IntoBytes;

fn groups() -> Vec<u8> {
    [
        ExtHeader {
            size: 16,
            r#type: 32,
        }
        .as_bytes(),
        SuppGroups { nr_groups: 1 }.as_bytes(),
        &27u32.to_ne_bytes(),
    ]
    .concat()
}

fn contexts() -> Vec<u8> {
    let mut bytes = SecctxHeader {
        size: 8 + 40,
        nr_secctx: 1,
    }
    .as_bytes()
    .to_vec();
    bytes.extend(
        Secctx {
            size: 13,
            padding: 0,
        }
        .as_bytes(),
    );
    bytes.extend(b"security.selinux\0");
    bytes.extend(b"system:etc_t\0");
    bytes.resize(48, 0);
    bytes
}

pub fn names() -> Vec<Sample> {
    let mknod = MknodIn {
        mode: 0o020_644,
        rdev: 0x0103,
        umask: 0o022,
        padding: 0,
    };
    let create = CreateIn {
        flags: 0o100_301,
        mode: 0o100_644,
        umask: 0o022,
        open_flags: 0,
    };
    let mut resent = request("unlink_resent", Opcode::UNLINK);
    resent.head.unique |= UNIQUE_RESEND;
    vec![
        request("lookup", Opcode::LOOKUP)
            .tail("name", b"passwd\0")
            .done(),
        request("lookup_not_utf8", Opcode::LOOKUP)
            .tail("name", b"caf\xe9 \"\n\\\0")
            .done(),
        request("forget", Opcode::FORGET)
            .arg("fuse_forget_in", &ForgetIn { nlookup: 3 })
            .done(),
        request("batch_forget", Opcode::BATCH_FORGET)
            .arg(
                "fuse_batch_forget_in",
                &BatchForgetIn { count: 2, dummy: 0 },
            )
            .arg(
                "fuse_forget_one",
                &ForgetOne {
                    nodeid: 8,
                    nlookup: 1,
                },
            )
            .arg(
                "fuse_forget_one",
                &ForgetOne {
                    nodeid: 9,
                    nlookup: u64::MAX,
                },
            )
            .done(),
        request("symlink", Opcode::SYMLINK)
            .tail("name", b"mtab\0")
            .tail("target", b"/proc/mounts\0")
            .done(),
        request("symlink_group", Opcode::SYMLINK)
            .tail("name", b"l\0")
            .tail("target", b"t\0")
            .ext("groups extension", &groups())
            .done(),
        request("mknod", Opcode::MKNOD)
            .arg("fuse_mknod_in", &mknod)
            .tail("name", b"null\0")
            .done(),
        request("mkdir", Opcode::MKDIR)
            .arg(
                "fuse_mkdir_in",
                &MkdirIn {
                    mode: 0o040_755,
                    umask: 0o022,
                },
            )
            .tail("name", b"conf.d\0")
            .done(),
        request("unlink", Opcode::UNLINK)
            .tail("name", b"shadow-\0")
            .done(),
        resent.tail("name", b"shadow-\0").done(),
        request("rmdir", Opcode::RMDIR)
            .tail("name", b"conf.d\0")
            .done(),
        request("rename", Opcode::RENAME)
            .arg("fuse_rename_in", &RenameIn { newdir: 1 })
            .tail("old name", b"passwd+\0")
            .tail("new name", b"passwd\0")
            .done(),
        request("rename2", Opcode::RENAME2)
            .arg(
                "fuse_rename2_in",
                &Rename2In {
                    newdir: 1,
                    flags: 0x11,
                    padding: 0,
                },
            )
            .tail("old name", b"a\0")
            .tail("new name", b"b\0")
            .done(),
        request("link", Opcode::LINK)
            .arg("fuse_link_in", &LinkIn { oldnodeid: 12 })
            .tail("new name", b"passwd.lock\0")
            .done(),
        request("create", Opcode::CREATE)
            .arg("fuse_create_in", &create)
            .tail("name", b"hosts\0")
            .done(),
        request("create_group", Opcode::CREATE)
            .arg("fuse_create_in", &create)
            .tail("name", b"hosts\0")
            .ext("groups extension", &groups())
            .done(),
        request("create_contexts_group", Opcode::CREATE)
            .arg("fuse_create_in", &create)
            .tail("name", b"hosts\0")
            .ext("security contexts", &contexts())
            .ext("groups extension", &groups())
            .done(),
        request("create_no_contexts", Opcode::CREATE)
            .arg("fuse_create_in", &create)
            .tail("name", b"h\0")
            .ext(
                "security contexts, none",
                SecctxHeader {
                    size: 8,
                    nr_secctx: 0,
                }
                .as_bytes(),
            )
            .done(),
        request("create_unknown_extension", Opcode::CREATE)
            .arg("fuse_create_in", &create)
            .tail("name", b"h\0")
            .ext(
                "extension of kind 77",
                &[
                    ExtHeader {
                        size: 16,
                        r#type: 77,
                    }
                    .as_bytes(),
                    b"whatever",
                ]
                .concat(),
            )
            .done(),
        request("tmpfile", Opcode::TMPFILE)
            .arg(
                "fuse_create_in",
                &CreateIn {
                    flags: 0o20_200_002,
                    mode: 0o100_600,
                    umask: 0o077,
                    open_flags: 0,
                },
            )
            .tail("name", b"/\0")
            .done(),
    ]
}
