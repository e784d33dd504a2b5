//! One test per rule of the INIT negotiation.

use etcfs_proto::Frame;
use etcfs_proto::abi::*;
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Agreed, Offer, Refusal, Wish, negotiate};
use zerocopy::IntoBytes;

/// A kernel that offers everything.
fn kernel(minor: u32) -> Offer {
    Offer {
        major: 7,
        minor,
        max_readahead: 131_072,
        flags: InitFlags::all(),
    }
}

fn wish(flags: InitFlags) -> Wish {
    Wish {
        flags: flags | InitFlags::INIT_EXT | InitFlags::MAX_PAGES,
        ..Wish::default()
    }
}

fn agree(offer: &Offer, wish: &Wish) -> Agreed {
    negotiate(offer, wish).expect("an offer that suits the wish is agreed on")
}

fn init_message<T: IntoBytes + zerocopy::Immutable>(args: &T) -> Vec<u64> {
    let mut bytes = Vec::new();
    let len = (size_of::<InHeader>() + size_of::<T>()) as u32;
    bytes.extend_from_slice(
        InHeader {
            len,
            opcode: 26,
            unique: 2,
            ..InHeader::default()
        }
        .as_bytes(),
    );
    bytes.extend_from_slice(args.as_bytes());
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect()
}

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
fn only_offered_bits_are_agreed() {
    let offer = Offer {
        flags: InitFlags::INIT_EXT | InitFlags::ASYNC_READ,
        ..kernel(45)
    };
    let agreed = agree(
        &offer,
        &wish(InitFlags::ASYNC_READ | InitFlags::ASYNC_DIO | InitFlags::HAS_RESEND),
    );
    assert_eq!(agreed.flags, InitFlags::INIT_EXT | InitFlags::ASYNC_READ);
}

#[test]
fn only_wished_bits_are_agreed_unknown_offers_included() {
    let offer = Offer {
        flags: InitFlags::from_bits_retain(u64::MAX),
        ..kernel(60)
    };
    let agreed = agree(&offer, &wish(InitFlags::ASYNC_READ));
    assert_eq!(
        agreed.flags,
        InitFlags::ASYNC_READ | InitFlags::INIT_EXT | InitFlags::MAX_PAGES
    );
}

#[test]
fn high_flags_go_when_init_ext_is_not_offered() {
    let offer = Offer {
        flags: InitFlags::all() - InitFlags::INIT_EXT,
        ..kernel(35)
    };
    let agreed = agree(&offer, &wish(InitFlags::HAS_RESEND | InitFlags::ASYNC_READ));
    assert_eq!(agreed.flags, InitFlags::ASYNC_READ | InitFlags::MAX_PAGES);
    assert_eq!(agreed.to_out().0.flags2, 0);
}

#[test]
fn high_flags_go_when_init_ext_is_not_wished() {
    let wish = Wish {
        flags: InitFlags::HAS_RESEND,
        ..Wish::default()
    };
    assert_eq!(agree(&kernel(45), &wish).flags, InitFlags::empty());
}

#[test]
fn high_flags_are_answered_in_flags2() {
    let (out, len) = agree(&kernel(45), &wish(InitFlags::HAS_RESEND)).to_out();
    assert_eq!((out.flags, out.flags2), (1 << 30 | 1 << 22, 1 << 7));
    assert_eq!((out.major, out.minor, len), (7, 45, 64));
}

#[test]
fn passthrough_with_depth_1_or_2_is_agreed_and_answered() {
    for depth in [1, 2] {
        let wish = Wish {
            max_stack_depth: Some(depth),
            ..wish(InitFlags::PASSTHROUGH)
        };
        let agreed = agree(&kernel(45), &wish);
        assert!(agreed.passthrough && agreed.flags.contains(InitFlags::PASSTHROUGH));
        assert_eq!(agreed.max_stack_depth, depth);
        assert_eq!(agreed.to_out().0.max_stack_depth, depth);
    }
}

#[test]
fn other_stack_depths_are_refused_because_the_kernel_would_switch_passthrough_off() {
    for depth in [0, 3, u32::MAX] {
        let wish = Wish {
            max_stack_depth: Some(depth),
            ..wish(InitFlags::PASSTHROUGH)
        };
        let refusal = negotiate(&kernel(45), &wish).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!("max_stack_depth is {depth}, but the kernel takes 1 or 2")
        );
    }
}

#[test]
fn no_stack_depth_means_no_passthrough() {
    let agreed = agree(&kernel(45), &wish(InitFlags::PASSTHROUGH));
    assert!(!agreed.passthrough && !agreed.flags.contains(InitFlags::PASSTHROUGH));
    assert_eq!(agreed.to_out().0.max_stack_depth, 0);
}

#[test]
fn passthrough_that_is_not_offered_leaves_no_depth() {
    let offer = Offer {
        flags: InitFlags::all() - InitFlags::PASSTHROUGH,
        ..kernel(39)
    };
    let agreed = agree(
        &offer,
        &Wish {
            max_stack_depth: Some(1),
            ..wish(InitFlags::PASSTHROUGH)
        },
    );
    assert!(!agreed.passthrough);
    assert_eq!(agreed.max_stack_depth, 0);
}

#[test]
fn passthrough_is_never_agreed_with_the_writeback_cache() {
    let flags = InitFlags::PASSTHROUGH | InitFlags::WRITEBACK_CACHE;
    let agreed = agree(
        &kernel(45),
        &Wish {
            max_stack_depth: Some(1),
            ..wish(flags)
        },
    );
    assert!(!agreed.passthrough && !agreed.flags.contains(InitFlags::PASSTHROUGH));
    assert!(agreed.flags.contains(InitFlags::WRITEBACK_CACHE));
    assert_eq!(agreed.max_stack_depth, 0);

    let offer = Offer {
        flags: InitFlags::all() - InitFlags::WRITEBACK_CACHE,
        ..kernel(45)
    };
    assert!(
        agree(
            &offer,
            &Wish {
                max_stack_depth: Some(1),
                ..wish(flags)
            }
        )
        .passthrough
    );
}

#[test]
fn readdirplus_auto_alone_means_nothing_and_goes() {
    let auto = InitFlags::READDIRPLUS_AUTO;
    assert!(!agree(&kernel(45), &wish(auto)).flags.intersects(auto));
    assert!(
        agree(&kernel(45), &wish(auto | InitFlags::DO_READDIRPLUS))
            .flags
            .contains(auto)
    );
}

#[test]
fn idmap_needs_kernel_side_permission_checks() {
    let idmap = InitFlags::ALLOW_IDMAP;
    assert!(!agree(&kernel(45), &wish(idmap)).flags.intersects(idmap));
    assert!(
        agree(&kernel(45), &wish(idmap | InitFlags::POSIX_ACL))
            .flags
            .contains(idmap)
    );
    let checked = Wish {
        default_permissions: true,
        ..wish(idmap)
    };
    assert!(agree(&kernel(45), &checked).flags.contains(idmap));
}

#[test]
fn request_timeout_is_never_agreed_because_it_aborts_the_connection() {
    let agreed = agree(&kernel(45), &wish(InitFlags::REQUEST_TIMEOUT));
    assert!(!agreed.flags.intersects(InitFlags::REQUEST_TIMEOUT));
    assert_eq!(agreed.to_out().0.request_timeout, 0);
}

#[test]
fn buffer_holds_the_largest_write_with_its_headers_and_at_least_8192_bytes() {
    for (max_write, buffer) in [
        (1 << 20, (1 << 20) + 80),
        (4096, 8192),
        (8112, 8192),
        (8113, 8193),
    ] {
        let agreed = agree(
            &kernel(45),
            &Wish {
                max_write,
                ..wish(InitFlags::empty())
            },
        );
        assert_eq!((agreed.max_write, agreed.buffer_size), (max_write, buffer));
        assert_eq!(agreed.to_out().0.max_write, max_write);
    }
}

#[test]
fn max_write_is_at_least_4096_as_the_kernel_has_it() {
    assert_eq!(
        agree(
            &kernel(45),
            &Wish {
                max_write: 1,
                ..wish(InitFlags::empty())
            }
        )
        .max_write,
        4096
    );
}

#[test]
fn max_write_is_cut_to_what_max_pages_hold() {
    let wide = Wish {
        max_write: 4 << 20,
        max_pages: 16,
        ..wish(InitFlags::empty())
    };
    let agreed = agree(&kernel(45), &wide);
    assert_eq!((agreed.max_write, agreed.max_pages), (16 * 4096, 16));
    let large_pages = Wish {
        page_size: 65_536,
        ..wide
    };
    assert_eq!(agree(&kernel(45), &large_pages).max_write, 16 * 65_536);
}

#[test]
fn without_max_pages_32_pages_limit_a_write() {
    let offer = Offer {
        flags: InitFlags::all() - InitFlags::MAX_PAGES,
        ..kernel(31)
    };
    let agreed = agree(&offer, &wish(InitFlags::empty()));
    assert_eq!((agreed.max_write, agreed.max_pages), (32 * 4096, 0));
    assert_eq!(agreed.to_out().0.max_pages, 0);
}

#[test]
fn max_readahead_is_the_smaller_of_both() {
    let small = Wish {
        max_readahead: 4096,
        ..wish(InitFlags::empty())
    };
    assert_eq!(agree(&kernel(45), &small).to_out().0.max_readahead, 4096);
    assert_eq!(
        agree(&kernel(45), &wish(InitFlags::empty()))
            .to_out()
            .0
            .max_readahead,
        131_072
    );
}

#[test]
fn background_limits_and_granularity_are_answered_as_wished() {
    let wish = Wish {
        max_background: 64,
        congestion_threshold: 48,
        time_gran: 0,
        ..wish(InitFlags::empty())
    };
    let (out, _) = agree(&kernel(45), &wish).to_out();
    assert_eq!(
        (out.max_background, out.congestion_threshold, out.time_gran),
        (64, 48, 1)
    );
}

#[test]
fn the_same_offer_and_wish_agree_on_the_same() {
    let wish = Wish {
        max_stack_depth: Some(2),
        ..wish(InitFlags::all())
    };
    assert_eq!(negotiate(&kernel(45), &wish), negotiate(&kernel(45), &wish));
}

#[test]
fn pages_are_dropped_for_a_changed_file_only_where_files_without_pages_cannot_be_mapped() {
    let both = InitFlags::AUTO_INVAL_DATA | InitFlags::DIRECT_IO_ALLOW_MMAP;
    let mut offer = kernel(45);
    let agreed = agree(&offer, &wish(both)).flags & both;
    assert_eq!(agreed, InitFlags::DIRECT_IO_ALLOW_MMAP);
    offer.flags.remove(InitFlags::DIRECT_IO_ALLOW_MMAP);
    let agreed = agree(&offer, &wish(both)).flags & both;
    assert_eq!(agreed, InitFlags::AUTO_INVAL_DATA);
}
