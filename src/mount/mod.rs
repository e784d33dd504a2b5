//! Mounting: taking the directories beneath, making the mount, taking it away again.
#![allow(unsafe_code)]

mod request;

pub use request::{Atime, Calls, MountRequest, Way};
