//! The kernel's calls: the only place, with `mount`, where `unsafe` is allowed.
//!
//! Everything here is a thin, typed wrapper around one system call or one fixed sequence of them. Nothing here knows
//! a FUSE opcode or a rule of etcfs. What [`rustix`] already offers is used from there and not wrapped again.

pub mod background;
pub mod creds;
pub mod dev;
pub mod file_handle;
pub mod fileattr;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod object;
pub mod peer;
pub mod privileges;
pub mod proc;
pub mod seccomp;
pub mod signals;
pub mod xattr;
