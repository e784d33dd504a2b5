//! Answers, directory listings and notices as bytes.

use etcfs_proto::abi::*;
use etcfs_proto::flags::InvalEntryFlags;
use etcfs_proto::notify::Notice;
use etcfs_proto::{DirPacker, Reply};
use zerocopy::{FromBytes, IntoBytes};

fn head(message: &[u8]) -> OutHeader {
    OutHeader::read_from_prefix(message).unwrap().0
}

#[test]
fn answer_without_body_is_a_header_of_16_bytes() {
    let mut reply = Reply::default();
    let message = reply.finish(0x1234);
    assert_eq!(
        message,
        OutHeader {
            len: 16,
            error: 0,
            unique: 0x1234
        }
        .as_bytes()
    );
}

#[test]
fn answer_counts_its_body() {
    let mut reply = Reply::with_capacity(64);
    reply.put(&WriteOut {
        size: 7,
        padding: 0,
    });
    reply.put_bytes(b"abc");
    assert_eq!((reply.body_len(), &reply.body()[8..]), (11, &b"abc"[..]));
    let message = reply.finish(2);
    assert_eq!(
        head(message),
        OutHeader {
            len: 27,
            error: 0,
            unique: 2
        }
    );
    assert_eq!(message.len(), 27);
}

#[test]
fn error_is_negative_and_drops_the_body() {
    let mut reply = Reply::default();
    reply.put_bytes(b"half an answer");
    assert_eq!(
        reply.finish_error(2, 2),
        OutHeader {
            len: 16,
            error: -2,
            unique: 2
        }
        .as_bytes()
    );
}

#[test]
fn error_that_the_kernel_would_refuse_becomes_eio() {
    for errno in [0, -2, 512, i32::MAX, i32::MIN] {
        assert_eq!(head(Reply::default().finish_error(2, errno)).error, -5);
    }
    assert_eq!(head(Reply::default().finish_error(2, 511)).error, -511);
}

#[test]
fn cleared_answer_starts_again() {
    let mut reply = Reply::default();
    reply.put_bytes(b"first answer");
    reply.finish(1);
    reply.clear();
    reply.put_bytes(b"x");
    assert_eq!(reply.finish(4)[16..], *b"x");
    assert_eq!(reply.body(), b"x");
}

#[test]
fn space_is_cut_to_what_was_filled() {
    let mut reply = Reply::default();
    reply.put_bytes(b"ab");
    reply.space(100)[..3].copy_from_slice(b"cde");
    reply.truncate_body(5);
    assert_eq!(reply.finish(2)[16..], *b"abcde");
    reply.truncate_body(50);
    assert_eq!(reply.body(), b"abcde");
}

#[test]
fn answers_within_the_capacity_do_not_move_the_buffer() {
    let mut reply = Reply::with_capacity(4096);
    let begin = reply.finish(0).as_ptr();
    for round in 0..3 {
        reply.clear();
        let mut packer = DirPacker::new(&mut reply, 4096);
        while packer.push(1, 1, 8, b"some name") {}
        assert_eq!(reply.finish(round).as_ptr(), begin);
    }
}

#[test]
fn entries_are_padded_to_8_bytes_with_zeros() {
    let mut reply = Reply::default();
    reply.space(200).fill(0xff);
    reply.clear();
    let mut packer = DirPacker::new(&mut reply, 4096);
    assert!(packer.push(11, 1, 4, b"a"));
    assert!(packer.push(12, 2, 8, b"12345678"));
    assert_eq!(packer.left(), 4096 - 64);
    let body = reply.body();
    assert_eq!(body.len(), 64);
    let (first, rest) = Dirent::read_from_prefix(body).unwrap();
    assert_eq!(
        first,
        Dirent {
            ino: 11,
            off: 1,
            namelen: 1,
            r#type: 4
        }
    );
    assert_eq!(rest[..8], *b"a\0\0\0\0\0\0\0");
    let (second, name) = Dirent::read_from_prefix(&rest[8..]).unwrap();
    assert_eq!(
        second,
        Dirent {
            ino: 12,
            off: 2,
            namelen: 8,
            r#type: 8
        }
    );
    assert_eq!(name, b"12345678");
}

#[test]
fn entry_that_does_not_fit_leaves_the_listing_as_it_was() {
    let mut reply = Reply::default();
    let mut packer = DirPacker::new(&mut reply, 63);
    assert!(packer.push(1, 1, 8, b"12345678"));
    assert!(!packer.push(2, 2, 8, b"a"));
    assert_eq!((packer.left(), reply.body_len()), (31, 32));

    reply.clear();
    assert!(!DirPacker::new(&mut reply, 0).push(1, 1, 8, b"a"));
    assert_eq!(reply.body_len(), 0);
}

#[test]
fn entry_that_fits_to_the_last_byte_is_packed() {
    let mut reply = Reply::default();
    let mut packer = DirPacker::new(&mut reply, 32);
    assert!(packer.push(1, 1, 8, b"12345678"));
    assert_eq!((packer.left(), reply.body_len()), (0, 32));
}

fn notice(notice: Notice<'_>, code: i32) -> Vec<u8> {
    let mut out = Reply::default();
    out.put_bytes(b"left from before");
    let message = notice.pack(&mut out);
    assert_eq!(
        head(message),
        OutHeader {
            len: message.len() as u32,
            error: code,
            unique: 0
        }
    );
    message[16..].to_vec()
}

#[test]
fn inval_inode_carries_node_and_range() {
    let body = notice(
        Notice::InvalInode {
            nodeid: 5,
            off: -1,
            len: 0,
        },
        2,
    );
    assert_eq!(
        body,
        NotifyInvalInodeOut {
            ino: 5,
            off: -1,
            len: 0
        }
        .as_bytes()
    );
}

#[test]
fn inval_entry_ends_in_a_nul_that_its_length_leaves_out() {
    let flags = InvalEntryFlags::EXPIRE_ONLY;
    let body = notice(
        Notice::InvalEntry {
            parent: 1,
            name: b"hosts",
            flags,
        },
        3,
    );
    assert_eq!(
        body[..16],
        *NotifyInvalEntryOut {
            parent: 1,
            namelen: 5,
            flags: 1
        }
        .as_bytes()
    );
    assert_eq!(body[16..], *b"hosts\0");
}

#[test]
fn delete_names_parent_and_child() {
    let body = notice(
        Notice::Delete {
            parent: 1,
            child: 7,
            name: b"x",
        },
        6,
    );
    assert_eq!(
        body[..24],
        *NotifyDeleteOut {
            parent: 1,
            child: 7,
            namelen: 1,
            padding: 0
        }
        .as_bytes()
    );
    assert_eq!(body[24..], *b"x\0");
}

#[test]
fn resend_and_inc_epoch_have_no_body() {
    assert!(notice(Notice::Resend, 7).is_empty());
    assert!(notice(Notice::IncEpoch, 8).is_empty());
}

#[test]
fn prune_lists_its_nodes() {
    let body = notice(
        Notice::Prune {
            nodeids: &[3, 1 << 40],
        },
        9,
    );
    assert_eq!(
        body[..16],
        *NotifyPruneOut {
            count: 2,
            padding: 0,
            spare: 0
        }
        .as_bytes()
    );
    assert_eq!(body[16..], *[3u64, 1 << 40].as_bytes());
}

#[test]
fn store_retrieve_and_poll_carry_their_fields() {
    let body = notice(
        Notice::Store {
            nodeid: 3,
            offset: 4096,
            data: b"data",
        },
        4,
    );
    assert_eq!(
        body[..24],
        *NotifyStoreOut {
            nodeid: 3,
            offset: 4096,
            size: 4,
            padding: 0
        }
        .as_bytes()
    );
    assert_eq!(body[24..], *b"data");
    let body = notice(
        Notice::Retrieve {
            notify_unique: 9,
            nodeid: 3,
            offset: 1,
            size: 2,
        },
        5,
    );
    let out = NotifyRetrieveOut {
        notify_unique: 9,
        nodeid: 3,
        offset: 1,
        size: 2,
        padding: 0,
    };
    assert_eq!(body, out.as_bytes());
    assert_eq!(
        notice(Notice::Poll { kh: 8 }, 1),
        NotifyPollWakeupOut { kh: 8 }.as_bytes()
    );
}
