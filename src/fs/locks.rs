//! The locks of this mount's clients, held on the lower files, so that two mounts over one global file exclude each
//! other, and native processes too (contract B16).
//!
//! Every owner of locks on a node has an open file description of its own here, and with it what natively belongs to
//! the owner: open-file-description locks for POSIX locks, the `flock(2)` lock for that of an open file. Owners thus
//! exclude each other below as they would natively, conversions happen within one description, and a lock goes when
//! its description is closed. A description is opened when the first lock is asked for and closed with the last one.
//!
//! Who an owner is, the kernel says with a number: a table of descriptors (a process, threads included) for
//! `fcntl(F_SETLK)`, an open file for `F_OFD_SETLK`. For `flock(2)` it is the handle.
//!
//! Nodes have nothing to do with each other here: each has a table and a mutex of its own. What all share is counted
//! (`budget`) or looked at by whoever is about to wait (`waits`), in a bounded number of steps; a lock that is had or
//! refused at once never waits for that.
//!
//! A successor of a killed process goes on with all of it (`restore`): the lower locks live on with their descriptors,
//! and what there is to know of them is written down as it changes (`kept`).
//!
//! What differs from native: locks are seen below as `OFDLCK` entries without a process (`lslocks`), and EDEADLK is found
//! within one mount only.

mod all;
mod ask;
mod budget;
mod ends;
mod holder;
mod in_use;
mod kept;
mod lookout;
mod ranges;
mod restore;
mod table;
mod wait;
mod waits;

pub(crate) use all::Locks;
pub(crate) use ask::{Ask, Owner, may_lack_flush};
pub(crate) use wait::{Asked, Locker, Wait};
