//! Arbitrary bytes through the fuzzer's entry points.

use crate::{entry, samples};
use proptest::prelude::*;

/// Bytes that begin as a message does, so that they come past the header: any opcode, right length, some extensions.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![0u32..60, Just(4096), any::<u32>()];
    let rest = prop::collection::vec(
        prop_oneof![3 => Just(0u8), 2 => any::<u8>(), 1 => b'a'..=b'z'],
        0..300,
    );
    (opcode, any::<u64>(), 0u16..6, rest).prop_map(|(opcode, unique, extlen, rest)| {
        let mut bytes = vec![0; 40];
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        bytes[36..38].copy_from_slice(&extlen.to_ne_bytes());
        bytes.extend(rest);
        entry::with_length(&bytes)
    })
}

/// A golden message with some bytes replaced and the end cut off or prolonged.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let mut all = samples::requests();
    all.extend(samples::answers());
    all.extend(samples::notices());
    let all: Vec<_> = all.iter().map(samples::Sample::message).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(all), changes, 0usize..400).prop_map(|(mut bytes, changes, len)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if len < 100 {
            bytes.resize(len, 0);
        }
        bytes
    })
}

/// A recording of golden and damaged messages with some bytes replaced and the end cut off.
fn recording() -> impl Strategy<Value = Vec<u8>> {
    let messages = prop::collection::vec((1u8..6, damaged()), 0..12);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (messages, changes, 0usize..4000).prop_map(|(messages, changes, len)| {
        let mut bytes = crate::capture::recording(&messages);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(len.max(20));
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_cut_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        entry::parse(&bytes);
    }

    #[test]
    fn any_message_is_cut_or_refused(bytes in message()) {
        entry::parse(&bytes);
    }

    #[test]
    fn any_damaged_message_is_cut_or_refused(bytes in damaged()) {
        entry::parse(&bytes);
    }

    #[test]
    fn any_message_is_shown_in_one_line(bytes in message()) {
        entry::show(&bytes);
    }

    #[test]
    fn any_damaged_message_is_shown_in_one_line(bytes in damaged()) {
        entry::show(&bytes);
    }

    #[test]
    fn any_offer_is_agreed_on_or_refused(bytes in prop::collection::vec(any::<u8>(), 104)) {
        entry::init(&bytes);
    }

    #[test]
    fn any_bytes_are_read_as_a_recording_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        entry::capture(&bytes);
    }

    #[test]
    fn any_damaged_recording_is_read_or_refused(bytes in recording()) {
        entry::capture(&bytes);
    }
}
