//! One test per rule of the INIT negotiation.

mod features;
mod sizes;
mod versions;

use etcfs_proto::abi::*;
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Agreed, Offer, Wish, negotiate};
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
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
        .collect()
}
