//! Who is charged for what a request takes for longer than a moment: a thread, a place in a queue, a descriptor.
//!
//! One person may have many uids. Whoever has a range of subordinate ones (subuid(5)) becomes any of them in a user
//! namespace without asking anybody, so a bound for each uid would be no bound: 65,536 times a little is everything.
//! Such ranges are charged as one. What remains is bounded in all, with a reserve for root.

mod account;
mod descriptors;

pub(crate) use account::Account;
pub(crate) use descriptors::{Charge, Descriptors, HeldDescriptor, handles_of, slot_of};
