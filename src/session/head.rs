//! What the head of a message says, without cutting the message: who asks, for whom it counts, and whether an answer is owed.

use crate::fs::budget::Account;
use etcfs_proto::Opcode;
use etcfs_proto::abi::InHeader;
use zerocopy::FromBytes as _;

/// The length that a message says it has: bytes 0 to 3.
pub(crate) fn len_of(message: &[u8]) -> usize {
    let bytes = message.first_chunk().copied();
    u32::from_ne_bytes(bytes.unwrap_or_default()) as usize
}

/// The opcode of a message that has its number: bytes 4 to 7.
pub(crate) fn opcode_of(message: &[u8]) -> Opcode {
    let bytes = message.get(4..8).and_then(|bytes| bytes.try_into().ok());
    Opcode(bytes.map_or(0, u32::from_ne_bytes))
}

/// The thread that asks, of a message that has a whole head; 0 otherwise.
pub(crate) fn caller_of(message: &[u8]) -> u32 {
    InHeader::ref_from_prefix(message).map_or(0, |(head, _)| head.pid)
}

/// Who is charged for a message that has a whole head.
pub(crate) fn account_of(message: &[u8]) -> Account {
    let Ok((head, _)) = InHeader::ref_from_prefix(message) else {
        return Account::KERNEL;
    };
    account(Opcode(head.opcode), head.uid)
}

/// Who is charged for a request.
pub(crate) fn account(opcode: Opcode, uid: u32) -> Account {
    match opcode {
        Opcode::FORGET
        | Opcode::BATCH_FORGET
        | Opcode::INTERRUPT
        | Opcode::RELEASE
        | Opcode::RELEASEDIR
        | Opcode::DESTROY => Account::KERNEL,
        _ => Account::of(uid),
    }
}

/// True for INTERRUPT, which is for requests that wait and must not wait with them.
pub(crate) fn is_interrupt(message: &[u8]) -> bool {
    opcode_of(message) == Opcode::INTERRUPT
}

/// The number of a message that the kernel waits for an answer to.
pub(crate) fn owed(message: &[u8]) -> Option<u64> {
    let opcode = opcode_of(message);
    let waits = opcode.wants_answer() && opcode != Opcode::INTERRUPT;
    unique_of(message).filter(|_| waits)
}

/// The number of a message too short or too wrong to be cut, if it has one: bytes 8 to 15.
pub(crate) fn unique_of(message: &[u8]) -> Option<u64> {
    let bytes = message.get(8..16)?.try_into().ok()?;
    Some(u64::from_ne_bytes(bytes))
}
