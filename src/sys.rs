//! The kernel's calls: the only place, with `mount`, where `unsafe` is allowed.
//!
//! Everything here is a thin, typed wrapper around one system call or one fixed sequence of them. Nothing here knows
//! a FUSE opcode or a rule of etcfs. What [`rustix`] already offers is used from there and not wrapped again.

pub mod background;
pub(crate) mod child;
pub mod creds;
pub(crate) mod dev;
pub(crate) mod file_handle;
pub mod fileattr;
pub(crate) mod final_kill;
pub mod heap;
pub(crate) mod inherit;
pub mod lease;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod object;
pub(crate) mod peer;
pub mod privileges;
pub(crate) mod proc;
pub mod seccomp;
pub(crate) mod shared;
pub mod signals;
pub(crate) mod slots;
pub(crate) mod stop;
pub(crate) mod stuck;
pub(crate) mod xattr;
