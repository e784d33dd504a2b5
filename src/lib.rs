//! etcfs: Bedrock Linux's /etc, served over the raw FUSE protocol.
//!
//! Layers, imports going down only: the wire (`etcfs_proto`), [`sys`] and [`mount`], [`ledger`], [`fs`], [`ops`], [`session`], and
//! the wiring in `main`, [`cli`], [`daemon`] and [`trace`].

// Programs and tests outside use a part of this; the compiler finds the rest where nobody calls it.
#![deny(unreachable_pub)]

pub mod cli;
pub mod ctl;
pub mod daemon;
pub mod fs;
pub(crate) mod ledger;
pub mod log;
pub mod mount;
pub mod mutex;
pub mod ops;
pub mod printable;
pub mod replay;
pub mod session;
pub mod sys;
pub mod trace;
pub mod watchdog;
