//! Recordings that go on over a restart of the server.

use crate::capture::{entry, findings, name_request};
use etcfs_proto::Opcode;
use etcfs_proto::abi::{ForgetIn, InHeader, UNIQUE_RESEND};
use etcfs_proto::capture::{Fault, RecordKind};
use zerocopy::IntoBytes as _;

/// A successor does again what it cannot know to be done, and the kernel hears of it once.
#[test]
fn what_is_done_again_after_a_restart_is_no_fault_and_counts_once() {
    let lookup = |unique| name_request(unique, Opcode::LOOKUP, b"a\0");
    let forget = |unique| {
        let head = InHeader {
            len: 48,
            opcode: Opcode::FORGET.0,
            unique,
            nodeid: 5,
            ..InHeader::default()
        };
        [head.as_bytes(), ForgetIn { nlookup: 1 }.as_bytes()].concat()
    };
    let again = 2 | UNIQUE_RESEND;
    let restart = (RecordKind::Restart, Opcode::INIT, Vec::new());
    let request = |message| (RecordKind::Request, Opcode::LOOKUP, message);
    let answer = |unique| (RecordKind::Answer, Opcode::LOOKUP, entry(unique, 5));
    let answered = [
        request(lookup(2)),
        answer(2),
        restart.clone(),
        request(lookup(again)),
        answer(again),
        restart.clone(),
        request(lookup(2)),
        answer(2),
        (RecordKind::Request, Opcode::FORGET, forget(4)),
        restart.clone(),
        (RecordKind::Request, Opcode::FORGET, forget(4)),
    ];
    assert_eq!(findings(&answered), []);
    let open = [
        request(lookup(2)),
        restart.clone(),
        request(lookup(again)),
        answer(again),
    ];
    let kept = [Fault::NotForgotten {
        nodeid: 5,
        lookups: 1,
    }];
    assert_eq!(findings(&open), kept);
    // Without a restart, and where nobody has asked again, it is a fault still.
    let opcode = Opcode::LOOKUP;
    let twice = Fault::AnsweredTwice { opcode, unique: 2 };
    let last = [request(lookup(2)), answer(2), restart, answer(2)];
    assert_eq!(findings(&last), [twice, kept[0]]);
    let lost = findings(&open[..3]);
    assert!(
        matches!(lost[..], [Fault::Unanswered { unique: 2, .. }]),
        "{lost:?}"
    );
}
