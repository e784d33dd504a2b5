//! Sizes and limits.

use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Offer, Wish};

use crate::{agree, kernel, wish};

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
