//! Which offers are read and taken: majors, minors, lengths.

use etcfs_proto::Frame;
use etcfs_proto::abi::*;
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Offer, Refusal, Wish, negotiate};
use zerocopy::IntoBytes;

use crate::{agree, init_message, kernel, wish};

#[test]
fn offer_of_64_bytes_holds_both_halves_of_the_flags() {
    let flags = (InitFlags::INIT_EXT | InitFlags::ASYNC_READ).bits() as u32;
    let args = InitIn {
        major: 7,
        minor: 45,
        max_readahead: 9,
        flags,
        flags2: 1 << 5,
        unused: [0; 11],
    };
    let words = init_message(&args);
    let offer = Offer::of(&Frame::cut(words.as_bytes()).unwrap()).unwrap();
    let flags = InitFlags::INIT_EXT | InitFlags::ASYNC_READ | InitFlags::PASSTHROUGH;
    assert_eq!(
        offer,
        Offer {
            major: 7,
            minor: 45,
            max_readahead: 9,
            flags
        }
    );
}

#[test]
fn offer_of_16_bytes_is_read_without_flags2() {
    let args = InitInCompat {
        major: 7,
        minor: 31,
        max_readahead: 9,
        flags: 1,
    };
    let words = init_message(&args);
    let offer = Offer::of(&Frame::cut(words.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        offer,
        Offer {
            major: 7,
            minor: 31,
            max_readahead: 9,
            flags: InitFlags::ASYNC_READ
        }
    );
}

#[test]
fn offered_flags2_without_init_ext_are_not_read() {
    let args = InitIn {
        major: 7,
        minor: 35,
        flags2: u32::MAX,
        ..InitIn::default()
    };
    let words = init_message(&args);
    assert_eq!(
        Offer::of(&Frame::cut(words.as_bytes()).unwrap())
            .unwrap()
            .flags,
        InitFlags::empty()
    );
}

#[test]
fn another_major_is_refused_in_a_sentence() {
    for major in [6, 8] {
        let refusal =
            negotiate(&Offer { major, ..kernel(3) }, &wish(InitFlags::empty())).unwrap_err();
        assert_eq!(refusal, Refusal::Major { major, minor: 3 });
        assert_eq!(
            refusal.to_string(),
            format!("the kernel speaks FUSE protocol {major}.3, but only 7 is known here")
        );
    }
}

#[test]
fn minor_30_is_refused_in_a_sentence_and_31_is_taken() {
    let refusal = negotiate(&kernel(30), &wish(InitFlags::empty())).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the kernel speaks FUSE protocol 7.30, but 7.31 or newer is needed (7.31 came with Linux 5.4)"
    );
    assert_eq!(agree(&kernel(31), &wish(InitFlags::empty())).minor, 31);
}

#[test]
fn wished_oldest_minor_can_only_raise_the_limit() {
    let newer = Wish {
        oldest_minor: 40,
        ..wish(InitFlags::empty())
    };
    assert_eq!(
        negotiate(&kernel(39), &newer),
        Err(Refusal::Minor {
            minor: 39,
            oldest: 40
        })
    );
    let older = Wish {
        oldest_minor: 5,
        ..wish(InitFlags::empty())
    };
    assert_eq!(
        negotiate(&kernel(30), &older),
        Err(Refusal::Minor {
            minor: 30,
            oldest: 31
        })
    );
}

#[test]
fn minor_of_a_newer_kernel_is_cut_to_45() {
    assert_eq!(agree(&kernel(46), &wish(InitFlags::empty())).minor, 45);
    assert_eq!(agree(&kernel(44), &wish(InitFlags::empty())).minor, 44);
}

#[test]
fn the_same_offer_and_wish_agree_on_the_same() {
    let wish = Wish {
        max_stack_depth: Some(2),
        ..wish(InitFlags::all())
    };
    assert_eq!(negotiate(&kernel(45), &wish), negotiate(&kernel(45), &wish));
}
