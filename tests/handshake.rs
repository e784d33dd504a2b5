//! INIT on a fake kernel: every supported minor version works (K10), every other one is refused with a sentence.

mod kernel;

use etcfs::session::HandshakeError;
use etcfs_proto::Opcode;
use etcfs_proto::abi::{
    AttrOut, EntryOut, InitOut, MknodIn, OpenOut, SetxattrIn, SetxattrInCompat,
};
use etcfs_proto::flags::{InitFlags, OpenFlags};
use etcfs_proto::init::Refusal;
use kernel::{ALL_FLAGS, Kernel, init_message, message, offer};
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

/// The flags that a kernel of this minor version knows (fuse.md section 1).
fn known_to(minor: u32) -> InitFlags {
    let newer = [
        (32, InitFlags::SUBMOUNTS),
        (33, InitFlags::HANDLE_KILLPRIV_V2 | InitFlags::SETXATTR_EXT),
        (36, InitFlags::INIT_EXT),
        (38, InitFlags::CREATE_SUPP_GROUP),
        (39, InitFlags::DIRECT_IO_ALLOW_MMAP),
        (40, InitFlags::PASSTHROUGH | InitFlags::HAS_RESEND),
    ];
    newer
        .into_iter()
        .filter(|(since, _)| minor < *since)
        .fold(ALL_FLAGS, |flags, (_, unknown)| flags.difference(unknown))
}

#[test]
fn every_minor_version_from_7_31_on_is_agreed_on() {
    for minor in 31..=46 {
        let offered = known_to(minor);
        let (agreed, answer) = offer(&init_message(7, minor, offered));
        let agreed = agreed.unwrap_or_else(|e| panic!("7.{minor}: {e}"));
        let (head, body) = answer.expect("an answer");
        assert_eq!(
            (head.error, head.unique, body.len()),
            (0, 1, 64),
            "7.{minor}"
        );
        let out = InitOut::read_from_bytes(&body).expect("InitOut");
        assert_eq!((out.major, out.minor), (7, minor.min(45)));
        let flags = InitFlags::join(out.flags, out.flags2);
        assert!(
            offered.contains(flags),
            "7.{minor}: only what is offered: {flags:?}"
        );
        assert_eq!(flags, agreed.flags);
        assert_eq!(
            minor >= 36,
            flags.contains(InitFlags::INIT_EXT),
            "7.{minor}"
        );
        assert!(
            minor >= 36 || out.flags2 == 0,
            "7.{minor}: bits 32 and up are for INIT_EXT only"
        );
        assert!(agreed.buffer_size >= 8192 && agreed.buffer_size >= out.max_write as usize + 80);
        assert!(
            !flags.contains(InitFlags::WRITEBACK_CACHE) && !flags.contains(InitFlags::PASSTHROUGH)
        );
    }
}

#[test]
fn an_old_init_of_16_bytes_is_understood() {
    let old = init_message(7, 31, known_to(31));
    assert_eq!(old.len(), 40 + 16);
    let (agreed, answer) = offer(&old);
    assert_eq!(agreed.expect("agreed").minor, 31);
    assert!(answer.is_some());
}

#[test]
fn other_versions_are_refused_with_a_sentence_and_an_answer() {
    for (major, minor) in [
        (6, 45),
        (8, 0),
        (7, 30),
        (7, 0),
        (0, 0),
        (u32::MAX, u32::MAX),
    ] {
        let (result, answer) = offer(&init_message(major, minor, ALL_FLAGS));
        let error = result.expect_err("refused");
        assert!(matches!(
            error,
            HandshakeError::Refused(Refusal::Major { .. } | Refusal::Minor { .. })
        ));
        assert!(error.to_string().contains("FUSE protocol"), "{error}");
        let (head, _) = answer.expect("the kernel is told");
        assert_eq!(head.error, -Errno::PROTO.raw_os_error());
    }
}

#[test]
fn what_is_no_init_ends_the_handshake() {
    let (result, _) = offer(&message(Opcode::LOOKUP, 7, 1, b"name\0"));
    assert!(matches!(
        result,
        Err(HandshakeError::NotInit(Opcode::LOOKUP))
    ));
    let whole = init_message(7, 45, ALL_FLAGS);
    for len in 1..whole.len() {
        let mut cut = whole[..len].to_vec();
        let (result, _) = offer(&cut);
        assert!(
            matches!(result, Err(HandshakeError::Malformed(_))),
            "{len} bytes"
        );
        if len >= 40 {
            // The same with a header that tells the truth; from 16 bytes of arguments on that is an old INIT.
            cut[..4].copy_from_slice(&(len as u32).to_ne_bytes());
            assert_eq!(offer(&cut).0.is_ok(), len >= 56, "{len} bytes");
        }
    }
}

#[test]
fn files_are_made_read_and_marked_under_every_minor_version() {
    for minor in 31..=45 {
        let mut kernel = Kernel::of_minor(minor);
        let make = MknodIn {
            mode: libc::S_IFREG | 0o644,
            ..MknodIn::default()
        };
        let body = [make.as_bytes(), b"file\0"].concat();
        let entry: EntryOut = kernel.ask(Opcode::MKNOD, 1, &body).expect("MKNOD");
        assert_eq!(entry.attr.mode & 0o7777, 0o644, "7.{minor}");
        let opened: OpenOut = kernel
            .ask(Opcode::OPEN, entry.nodeid, &[0; 8])
            .expect("OPEN");
        let direct = opened.open_flags & OpenFlags::DIRECT_IO.bits() != 0;
        let mappable = kernel
            .agreed()
            .flags
            .contains(InitFlags::DIRECT_IO_ALLOW_MMAP);
        assert_eq!(
            direct, mappable,
            "7.{minor}: a file opened for direct I/O alone cannot be mapped"
        );
        let args = SetxattrIn {
            size: 1,
            ..SetxattrIn::default()
        };
        let name_and_value = b"user.k\0v";
        let body = if kernel.agreed().flags.contains(InitFlags::SETXATTR_EXT) {
            [args.as_bytes(), name_and_value].concat()
        } else {
            [
                SetxattrInCompat { size: 1, flags: 0 }.as_bytes(),
                name_and_value,
            ]
            .concat()
        };
        let set = kernel.call(Opcode::SETXATTR, entry.nodeid, &body);
        assert!(
            set == Ok(Vec::new()) || set == Err(Errno::OPNOTSUPP.raw_os_error()),
            "7.{minor}: {set:?}"
        );
        let attr: AttrOut = kernel
            .ask(Opcode::GETATTR, entry.nodeid, &[0; 16])
            .expect("GETATTR");
        assert_eq!(attr.attr.ino, entry.attr.ino);
        kernel.end_connection();
    }
}
