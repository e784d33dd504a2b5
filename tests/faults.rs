//! Malformed, unknown, repeated and interrupted requests: exactly one answer each, and the session lives on.

mod kernel;

use etcfs_proto::abi::{
    BatchForgetIn, EntryOut, ForgetIn, ForgetOne, InterruptIn, MkdirIn, OpenOut, ReadIn, WriteIn,
};
use etcfs_proto::op::SHAPES;
use etcfs_proto::{Opcode, abi};
use kernel::{Kernel, RESENT, message};
use proptest::prelude::*;
use rustix::io::Errno;
use zerocopy::IntoBytes;

/// Known opcodes that are not handled, so that the kernel does without or never sends them.
const UNHANDLED: [Opcode; 7] = [
    Opcode::READDIRPLUS,
    Opcode::BMAP,
    Opcode::POLL,
    Opcode::SETUPMAPPING,
    Opcode::REMOVEMAPPING,
    Opcode::SYNCFS,
    Opcode::CUSE_INIT,
];

/// Requests that the kernel waits for no answer to.
const SILENT: [Opcode; 4] = [
    Opcode::FORGET,
    Opcode::BATCH_FORGET,
    Opcode::INTERRUPT,
    Opcode::NOTIFY_REPLY,
];

fn handled() -> impl Iterator<Item = Opcode> {
    SHAPES
        .iter()
        .map(|shape| shape.opcode)
        .filter(|opcode| !UNHANDLED.contains(opcode) && !SILENT.contains(opcode))
}

const EIO: i32 = Errno::IO.raw_os_error();
const EINVAL: i32 = Errno::INVAL.raw_os_error();
const ENOSYS: i32 = Errno::NOSYS.raw_os_error();

#[test]
fn arguments_cut_short_are_answered_once_with_eio_or_einval() {
    let mut kernel = Kernel::new();
    for opcode in handled() {
        let need = opcode.shape().expect("a known opcode").args;
        for nodeid in [1, 2, 77] {
            for len in 0..need {
                let error = kernel
                    .call(opcode, nodeid, &vec![0; len])
                    .expect_err("cut short");
                assert!(
                    error == EIO || error == EINVAL,
                    "{opcode} with {len} bytes of {need}: {error}"
                );
            }
        }
    }
    assert_eq!(kernel.stray_answer(), None);
    assert!(kernel.lives());
}

#[test]
fn names_that_are_none_are_answered_once_with_eio_or_einval() {
    let mut kernel = Kernel::new();
    let bad: [&[u8]; 9] = [
        b"",
        b"no end",
        b"\0",
        b"a\0b\0c\0",
        b"a/b\0",
        b"../x\0",
        b"/\0",
        b"..\0",
        b".\0",
    ];
    for opcode in [
        Opcode::LOOKUP,
        Opcode::MKNOD,
        Opcode::MKDIR,
        Opcode::UNLINK,
        Opcode::RMDIR,
        Opcode::LINK,
        Opcode::CREATE,
        Opcode::RENAME,
        Opcode::RENAME2,
        Opcode::SYMLINK,
    ] {
        let args = vec![0; opcode.shape().expect("known").args];
        for name in bad {
            let error = kernel
                .call(opcode, 1, &[&args, name].concat())
                .expect_err("no name");
            assert!(
                error == EIO || error == EINVAL,
                "{opcode} of {name:?}: {error}"
            );
        }
    }
    assert!(kernel.lives());
}

#[test]
fn lengths_that_lie_are_answered_once_with_eio() {
    let mut kernel = Kernel::new();
    for opcode in handled() {
        let unique = kernel.unique();
        let whole = message(opcode, unique, 1, &[0; 200]);
        let says: [u32; 6] = [0, 39, 40, 239, 241, u32::MAX];
        for len in says {
            let mut lying = whole.clone();
            lying[..4].copy_from_slice(&len.to_ne_bytes());
            kernel.send(&lying);
            let (head, _) = kernel.answer();
            assert_eq!(
                (head.unique, head.error),
                (unique, -EIO),
                "{opcode} that says {len}"
            );
        }
        // More extensions than there are bytes.
        let mut extended = whole.clone();
        extended[36..38].copy_from_slice(&u16::MAX.to_ne_bytes());
        kernel.send(&extended);
        let (head, _) = kernel.answer();
        assert_eq!(
            (head.unique, head.error),
            (unique, -EIO),
            "{opcode} with extensions"
        );
    }
    assert_eq!(kernel.stray_answer(), None);
}

#[test]
fn headers_cut_short_are_answered_where_they_have_a_number() {
    let mut kernel = Kernel::new();
    for len in 1..40 {
        let unique = kernel.unique();
        kernel.send(&message(Opcode::GETATTR, unique, 1, &[0; 16])[..len]);
        if len >= 16 {
            let (head, _) = kernel.answer();
            assert_eq!((head.unique, head.error), (unique, -EIO), "{len} bytes");
        }
    }
    assert_eq!(kernel.stray_answer(), None);
    assert!(kernel.lives());
}

#[test]
fn malformed_requests_that_want_no_answer_get_none() {
    let mut kernel = Kernel::new();
    for opcode in SILENT {
        for len in 0..40 {
            let unique = kernel.unique();
            kernel.send(&message(opcode, unique, 1, &vec![0xff; len]));
            let mut lying = message(opcode, unique, 1, &vec![0; len]);
            lying[0] ^= 1;
            kernel.send(&lying);
        }
    }
    assert_eq!(kernel.stray_answer(), None);
    assert!(kernel.lives());
}

#[test]
fn an_unknown_opcode_is_enosys_and_a_handled_one_never_is() {
    let mut kernel = Kernel::new();
    for number in [0, 7, 19, 54, 55, 1000, 4095, 4097, u32::MAX] {
        assert_eq!(
            kernel.call(Opcode(number), 1, &[0; 64]),
            Err(ENOSYS),
            "opcode {number}"
        );
    }
    for opcode in UNHANDLED {
        assert_eq!(kernel.call(opcode, 1, &[0; 200]), Err(ENOSYS), "{opcode}");
    }
    // The root, the configuration file, a file, and nothing: of every node, with arguments of the right length.
    let make = abi::MknodIn {
        mode: libc::S_IFREG | 0o600,
        ..Default::default()
    };
    let file: EntryOut = kernel
        .ask(Opcode::MKNOD, 1, &[make.as_bytes(), b"f\0"].concat())
        .expect("MKNOD");
    for opcode in handled() {
        for nodeid in [1, 2, file.nodeid, 0, u64::MAX] {
            let mut body = vec![0; opcode.shape().expect("known").args];
            body.extend_from_slice(b"name\0other\0");
            for body in [&body[..], &body[..body.len() - 6], &body[..body.len() - 11]] {
                let result = kernel.call(opcode, nodeid, body);
                assert_ne!(result, Err(ENOSYS), "{opcode} of node {nodeid}");
            }
        }
    }
    assert!(kernel.lives());
}

#[test]
fn forgetting_is_silent_and_empties_the_table() {
    let mut kernel = Kernel::new();
    let before = kernel.session().fs.lower.nodes.count();
    let mut nodes = Vec::new();
    for n in 0..200 {
        let body = [
            MkdirIn {
                mode: 0o755,
                umask: 0,
            }
            .as_bytes(),
            format!("d{n}\0").as_bytes(),
        ]
        .concat();
        let entry: EntryOut = kernel.ask(Opcode::MKDIR, 1, &body).expect("MKDIR");
        let again: EntryOut = kernel
            .ask(Opcode::LOOKUP, 1, format!("d{n}\0").as_bytes())
            .expect("LOOKUP");
        assert_eq!(again.nodeid, entry.nodeid);
        nodes.push(entry.nodeid);
    }
    assert_eq!(kernel.session().fs.lower.nodes.count(), before + 200);
    for chunk in nodes.chunks(50) {
        let items: Vec<_> = chunk
            .iter()
            .map(|&nodeid| ForgetOne { nodeid, nlookup: 1 })
            .collect();
        let head = BatchForgetIn {
            count: items.len() as u32,
            dummy: 0,
        };
        let body = [head.as_bytes(), items.as_bytes()].concat();
        kernel.send(&message(Opcode::BATCH_FORGET, 0, 0, &body));
    }
    assert!(kernel.lives());
    assert_eq!(
        kernel.session().fs.lower.nodes.count(),
        before + 200,
        "one lookup each is left"
    );
    for &node in &nodes {
        kernel.send(&message(
            Opcode::FORGET,
            0,
            node,
            ForgetIn { nlookup: 1 }.as_bytes(),
        ));
    }
    // Two workers read, so the last of these may still be at work when the next answer comes.
    for _ in 0..500 {
        if kernel.session().fs.lower.nodes.count() == before {
            break;
        }
        assert!(kernel.lives());
    }
    assert_eq!(kernel.session().fs.lower.nodes.count(), before);
    // Too many, of nobody, of the root: nothing happens.
    for (node, nlookup) in [(nodes[0], 5), (1, u64::MAX), (2, 9), (0, 1), (u64::MAX, 1)] {
        kernel.send(&message(
            Opcode::FORGET,
            0,
            node,
            ForgetIn { nlookup }.as_bytes(),
        ));
    }
    assert_eq!(kernel.stray_answer(), None);
    assert!(kernel.lives());
    assert_eq!(
        kernel.call(Opcode::GETATTR, nodes[0], &[0; 16]),
        Err(Errno::STALE.raw_os_error())
    );
}

#[test]
fn a_resent_request_is_answered_with_its_number_as_it_is() {
    let mut kernel = Kernel::new();
    let unique = kernel.unique() | RESENT;
    for opcode in [Opcode::GETATTR, Opcode::FSYNCDIR, Opcode(999)] {
        kernel.send(&message(opcode, unique, 1, &[0; 16]));
        assert_eq!(kernel.answer().0.unique, unique, "{opcode}");
    }
}

#[test]
fn interrupts_are_silent_whatever_they_name() {
    let mut kernel = Kernel::new();
    for target in [0, 1, 2, 4, 1 << 40, u64::MAX] {
        let unique = kernel.unique() | 1;
        kernel.send(&message(
            Opcode::INTERRUPT,
            unique,
            0,
            InterruptIn { unique: target }.as_bytes(),
        ));
    }
    assert_eq!(kernel.stray_answer(), None);
    assert!(kernel.lives());
}

#[test]
fn a_wish_for_more_bytes_than_agreed_is_cut() {
    let mut kernel = Kernel::new();
    std::fs::write(kernel.local().join("big"), vec![7; 3 << 20]).expect("write");
    let entry: EntryOut = kernel.ask(Opcode::LOOKUP, 1, b"big\0").expect("LOOKUP");
    let opened: OpenOut = kernel
        .ask(Opcode::OPEN, entry.nodeid, &[0; 8])
        .expect("OPEN");
    let read = ReadIn {
        fh: opened.fh,
        size: u32::MAX,
        ..ReadIn::default()
    };
    let data = kernel
        .call(Opcode::READ, entry.nodeid, read.as_bytes())
        .expect("READ");
    assert_eq!(data.len(), 65536);
    let listing: OpenOut = kernel.ask(Opcode::OPENDIR, 1, &[0; 8]).expect("OPENDIR");
    for n in 0..3000 {
        std::fs::write(
            kernel.local().join(format!("a-name-of-some-length-{n}")),
            "",
        )
        .expect("write");
    }
    let read = ReadIn {
        fh: listing.fh,
        size: u32::MAX,
        ..ReadIn::default()
    };
    let list = kernel
        .call(Opcode::READDIR, 1, read.as_bytes())
        .expect("a listing");
    assert!(
        !list.is_empty() && list.len() <= 65536,
        "{} bytes",
        list.len()
    );
}

#[test]
fn handles_that_do_not_exist_are_ebadf() {
    let mut kernel = Kernel::new();
    std::fs::write(kernel.local().join("f"), "x").expect("write");
    let entry: EntryOut = kernel.ask(Opcode::LOOKUP, 1, b"f\0").expect("LOOKUP");
    let read = ReadIn {
        fh: 4711,
        size: 10,
        ..ReadIn::default()
    };
    assert_eq!(
        kernel.call(Opcode::READ, entry.nodeid, read.as_bytes()),
        Err(Errno::BADF.raw_os_error())
    );
    let write = WriteIn {
        fh: 4711,
        size: 1,
        ..WriteIn::default()
    };
    let body = [write.as_bytes(), b"x"].concat();
    assert_eq!(
        kernel.call(Opcode::WRITE, entry.nodeid, &body),
        Err(Errno::BADF.raw_os_error())
    );
    assert_eq!(
        kernel.call(Opcode::READDIR, 1, read.as_bytes()),
        Err(Errno::BADF.raw_os_error())
    );
    assert_eq!(std::fs::read(kernel.local().join("f")).expect("read"), b"x");
}

/// A request that is a request in its header and anything behind it.
fn any_request() -> impl Strategy<Value = (u32, u64, u16, Vec<u8>)> {
    // Allocation is left out: a random length may be the disk's whole free space.
    let known: Vec<u32> = SHAPES
        .iter()
        .map(|s| s.opcode.0)
        .filter(|&o| o != Opcode::FALLOCATE.0)
        .collect();
    let opcode = prop_oneof![8 => prop::sample::select(known), 1 => any::<u32>()];
    let nodeid = prop_oneof![4 => 0..8_u64, 1 => any::<u64>()];
    let extensions = prop_oneof![6 => Just(0_u16), 1 => 0..4_u16, 1 => any::<u16>()];
    let byte = prop_oneof![3 => Just(0_u8), 1 => Just(b'a'), 1 => Just(b'/'), 1 => any::<u8>()];
    (
        opcode,
        nodeid,
        extensions,
        prop::collection::vec(byte, 0..160),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_row_of_requests_gets_exactly_one_answer_each(requests in prop::collection::vec(any_request(), 1..120)) {
        let mut kernel = Kernel::new();
        std::fs::write(kernel.local().join("a"), "text").expect("write");
        for (opcode, nodeid, extensions, body) in requests {
            let opcode = Opcode(opcode);
            let unique = kernel.unique();
            let mut bytes = message(opcode, unique, nodeid, &body);
            bytes[36..38].copy_from_slice(&extensions.to_ne_bytes());
            kernel.send(&bytes);
            if !SILENT.contains(&opcode) {
                let (head, _) = kernel.answer();
                prop_assert_eq!(head.unique, unique, "{}", opcode);
            }
        }
        prop_assert_eq!(kernel.stray_answer(), None);
        prop_assert!(kernel.lives());
    }

    #[test]
    fn any_bytes_at_all_leave_the_session_alive(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..60)) {
        let mut kernel = Kernel::new();
        let sent = messages.len();
        for bytes in &messages {
            kernel.send(bytes);
        }
        prop_assert!(kernel.answers_before_getattr() <= sent);
    }
}
