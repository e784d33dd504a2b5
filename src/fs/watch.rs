//! What the kernel keeps of local directories, and the watches that make it let go (`-o cache=watch`).
//!
//! A name, an attribute or a listing may be kept by the kernel only while its directory is watched (`inotify(7)`), so that a
//! change by whoever else is heard of. The order is what makes it right:
//!
//! - An answer that is to be kept begins with a [`WatchLease`]: the directory is watched from then on. What the lower tree is asked
//!   comes after that. The answer is kept only if no event of the directory has been taken up since.
//! - What is kept is written down *before* the answer is sent, and an event is looked for among what is written down. So a
//!   change either comes before the look, or finds the name written down, or takes the lease away.
//! - An answer may still be on its way to the kernel when its name is dropped. The kernel refuses such attributes itself
//!   (`attr_version`, fs/fuse/inode.c), but not such a name. So a name that was answered a moment ago is dropped again, and
//!   again ([`again`]). No name is kept for longer than [`clock::NAMES`] without being asked for.
//!
//! Never kept: what is on the global side, or has an override; the configuration file; listings that merge; what lies on a
//! file system that others change without an event ([`places`]); objects of several names, whose attributes change under
//! another one. What a client changes through the mount the kernel itself drops.
//!
//! | part | what is in it |
//! |---|---|
//! | [`mode`], [`clock`] | what it holds, and for how long |
//! | [`places`] | which file systems tell of changes |
//! | [`dirs`] | the watched directories, and what is kept of each |
//! | [`keep`] | what an answer may say |
//! | [`own`] | what the mount's own clients change |
//! | [`events`] | what an event means |
//! | [`drops`] | letting go |
//! | [`again`] | letting go once more |
//! | [`reader`] | the threads |
//! | [`counts`], [`explain`] | telling of it |

mod again;
mod clock;
mod counts;
mod dirs;
mod drops;
mod events;
mod explain;
mod keep;
mod mode;
mod own;
mod places;
mod reader;

pub(crate) use clock::WATCHES;
pub(crate) use counts::Counted;
pub(crate) use keep::{KeptPages, Valid, WatchLease};
pub(crate) use mode::{CacheWatch, On};
pub(crate) use own::RenameEnd;
pub(crate) use reader::start;
