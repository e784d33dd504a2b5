//! What requests consist of, part by part, and the errors of parts that are not as they should be.

use crate::entry::{Aligned, examine, with_length};
use crate::samples;
use etcfs_proto::abi::*;
use etcfs_proto::op::SHAPES;
use etcfs_proto::{Frame, Opcode, WireError};
use zerocopy::IntoBytes;

#[test]
fn every_opcode_has_a_sample_of_its_request_and_its_answer() {
    let (requests, answers) = (samples::requests(), samples::answers());
    for shape in SHAPES {
        assert!(
            requests.iter().any(|sample| sample.opcode == shape.opcode),
            "{}",
            shape.name
        );
        assert_eq!(
            answers.iter().any(|sample| sample.opcode == shape.opcode),
            shape.opcode.wants_answer() || shape.opcode == Opcode::INTERRUPT,
            "{}",
            shape.name
        );
    }
}

#[test]
fn sample_requests_give_all_their_parts() {
    for sample in samples::requests() {
        let (file, message) = (&sample.file, Aligned::new(&sample.message()));
        let frame = Frame::cut(message.bytes()).unwrap_or_else(|error| panic!("{file}: {error}"));
        examine(&frame).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn message_at_an_odd_address_is_an_error_and_no_crash() {
    let message = samples::requests().swap_remove(0).message();
    let shifted = Aligned::new(&[&[0], &message[..]].concat());
    assert_eq!(
        Frame::cut(&shifted.bytes()[1..]).unwrap_err(),
        WireError::Unaligned
    );
}

/// A request with this tail; extensions counted in 8-byte units.
fn build(opcode: Opcode, total_extlen: u16, rest: &[&[u8]]) -> Aligned {
    let head = InHeader {
        opcode: opcode.0,
        unique: 2,
        total_extlen,
        ..InHeader::default()
    };
    Aligned::new(&with_length(&[head.as_bytes(), &rest.concat()].concat()))
}

#[test]
fn names_are_taken_only_when_they_are_exactly_what_the_opcode_has() {
    let opcode = Opcode::UNLINK;
    let name = |tail: &[u8]| {
        let message = build(opcode, 0, &[tail]);
        Frame::cut(message.bytes())
            .unwrap()
            .name()
            .map(|name| name.to_bytes().to_vec())
    };
    assert_eq!(name(b"hosts\0"), Ok(b"hosts".to_vec()));
    assert_eq!(name(b""), Err(WireError::MissingNul { opcode, name: 1 }));
    assert_eq!(
        name(b"hosts"),
        Err(WireError::MissingNul { opcode, name: 1 })
    );
    assert_eq!(name(b"\0"), Err(WireError::EmptyName { opcode, name: 1 }));
    assert_eq!(
        name(b"ho\0ts\0"),
        Err(WireError::BytesAfterName { opcode, extra: 3 })
    );
}

#[test]
fn second_names_are_checked_as_the_first() {
    let opcode = Opcode::SYMLINK;
    let names = |tail: &[u8]| {
        let message = build(opcode, 0, &[tail]);
        Frame::cut(message.bytes()).unwrap().names2().map(|_| ())
    };
    assert_eq!(names(b"a\0b\0"), Ok(()));
    assert_eq!(
        names(b"a\0"),
        Err(WireError::MissingNul { opcode, name: 2 })
    );
    assert_eq!(
        names(b"a\0\0"),
        Err(WireError::EmptyName { opcode, name: 2 })
    );
    assert_eq!(
        names(b"a\0b\0c"),
        Err(WireError::BytesAfterName { opcode, extra: 1 })
    );
}

#[test]
fn part_that_the_opcode_does_not_have_is_an_error() {
    let message = build(Opcode::STATFS, 0, &[b"name\0"]);
    let frame = Frame::cut(message.bytes()).unwrap();
    let opcode = Opcode::STATFS;
    assert_eq!(
        frame.name(),
        Err(WireError::NoSuchPart {
            opcode,
            part: "name"
        })
    );
    assert_eq!(
        frame.data(),
        Err(WireError::NoSuchPart {
            opcode,
            part: "data"
        })
    );
    assert!(frame.forgets().is_err() && frame.names2().is_err() && frame.setxattr(true).is_err());
}

#[test]
fn struct_of_another_size_than_the_arguments_is_an_error() {
    let message = build(Opcode::FORGET, 0, &[&[0; 8]]);
    let frame = Frame::cut(message.bytes()).unwrap();
    assert_eq!(frame.args::<ForgetIn>(), Ok(&ForgetIn::default()));
    let error = frame.args::<GetattrIn>().unwrap_err();
    assert_eq!(error.to_string(), "FORGET: arguments need 16 bytes, 8 came");
}

#[test]
fn write_whose_data_is_shorter_or_longer_than_it_says_is_an_error() {
    for (data, have) in [(&b"abc"[..], 3), (b"abcde", 5)] {
        let args = WriteIn {
            size: 4,
            ..WriteIn::default()
        };
        let message = build(Opcode::WRITE, 0, &[args.as_bytes(), data]);
        let error = Frame::cut(message.bytes()).unwrap().data().unwrap_err();
        assert_eq!(
            error,
            WireError::WrongData {
                opcode: Opcode::WRITE,
                need: 4,
                have
            }
        );
    }
}

#[test]
fn batch_forget_whose_count_overflows_is_an_error() {
    let args = BatchForgetIn {
        count: u32::MAX,
        dummy: 0,
    };
    let message = build(Opcode::BATCH_FORGET, 0, &[args.as_bytes(), &[0; 16]]);
    let error = Frame::cut(message.bytes())
        .unwrap()
        .forgets()
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "BATCH_FORGET: data needs 68719476720 bytes, 16 came"
    );
}

#[test]
fn batch_forget_gives_its_items_in_order() {
    let sample = samples::requests()
        .into_iter()
        .find(|sample| sample.file == "batch_forget")
        .unwrap();
    let message = Aligned::new(&sample.message());
    let items: Vec<_> = Frame::cut(message.bytes())
        .unwrap()
        .forgets()
        .unwrap()
        .collect();
    assert_eq!(
        items,
        [
            ForgetOne {
                nodeid: 8,
                nlookup: 1
            },
            ForgetOne {
                nodeid: 9,
                nlookup: u64::MAX
            }
        ]
    );
}

#[test]
fn setxattr_is_read_in_the_form_that_was_agreed() {
    for (file, ext, flags) in [
        ("setxattr", true, (1, 1)),
        ("setxattr_compat", false, (2, 0)),
    ] {
        let sample = samples::requests()
            .into_iter()
            .find(|sample| sample.file == file)
            .unwrap();
        let message = Aligned::new(&sample.message());
        let frame = Frame::cut(message.bytes()).unwrap();
        let set = frame.setxattr(ext).unwrap();
        assert_eq!((set.flags, set.setxattr_flags), flags);
        assert_eq!(
            (set.name.to_bytes(), set.value),
            (&b"user.colour"[..], &b"green"[..])
        );
        assert_eq!(frame.setxattr_is_ext(), ext);
    }
}

#[test]
fn supplementary_group_is_found_behind_a_security_context() {
    for (file, group) in [
        ("create", None),
        ("create_group", Some(27)),
        ("create_contexts_group", Some(27)),
        ("symlink_group", Some(27)),
    ] {
        let sample = samples::requests()
            .into_iter()
            .find(|sample| sample.file == file)
            .unwrap();
        let message = Aligned::new(&sample.message());
        assert_eq!(
            Frame::cut(message.bytes()).unwrap().supplementary_group(),
            group,
            "{file}"
        );
    }
}

#[test]
fn more_extensions_than_the_message_holds_are_an_error() {
    let message = build(Opcode::UNLINK, 9, &[b"name\0"]);
    let error = Frame::cut(message.bytes()).unwrap_err();
    assert_eq!(
        error,
        WireError::ShortExtensions {
            opcode: Opcode::UNLINK,
            need: 72,
            have: 5
        }
    );
}

#[test]
fn extension_that_lies_about_its_size_ends_the_walk_with_an_error() {
    for size in [0u32, 7, 17, u32::MAX] {
        let ext = [&size.to_ne_bytes()[..], &32u32.to_ne_bytes(), &[0; 8]].concat();
        let message = build(Opcode::MKDIR, 2, &[&[0; 8], b"d\0", &ext]);
        let frame = Frame::cut(message.bytes()).unwrap();
        let all: Vec<_> = frame.extensions().collect();
        assert_eq!(
            all,
            [Err(WireError::BadExtension {
                opcode: Opcode::MKDIR,
                size,
                have: 16
            })]
        );
        assert_eq!(frame.supplementary_group(), None);
    }
}

#[test]
fn groups_extension_with_more_groups_than_bytes_is_an_error() {
    let ext = [16u32, 32, u32::MAX, 5].map(u32::to_ne_bytes).concat();
    let message = build(Opcode::MKDIR, 2, &[&[0; 8], b"d\0", &ext]);
    let frame = Frame::cut(message.bytes()).unwrap();
    assert!(matches!(
        frame.extensions().next(),
        Some(Err(WireError::BadExtension { size: 16, .. }))
    ));
}
