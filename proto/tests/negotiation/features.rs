//! Which features are agreed on.

use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Offer, Wish, negotiate};

use crate::{agree, kernel, wish};

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
fn pages_are_dropped_for_a_changed_file_only_where_files_without_pages_cannot_be_mapped() {
    let both = InitFlags::AUTO_INVAL_DATA | InitFlags::DIRECT_IO_ALLOW_MMAP;
    let mut offer = kernel(45);
    let agreed = agree(&offer, &wish(both)).flags & both;
    assert_eq!(agreed, InitFlags::DIRECT_IO_ALLOW_MMAP);
    offer.flags.remove(InitFlags::DIRECT_IO_ALLOW_MMAP);
    let agreed = agree(&offer, &wish(both)).flags & both;
    assert_eq!(agreed, InitFlags::AUTO_INVAL_DATA);
}
