//! What no user can do with a mount that could not be done natively, and what no user can do to the daemon.

#[path = "../harness/mod.rs"]
mod harness;

mod alive;
mod circles;
mod confined;
mod control;
mod descriptors;
mod former_owner;
mod frozen;
mod full_directories;
mod global_rights;
mod grants;
mod idmapped;
mod just_made;
mod locks;
mod model;
mod mount_flags;
mod mount_point;
mod own_places;
mod renamed_over;
mod reserved;
mod reused_numbers;
mod set_ids;
mod start;
mod sticky;
mod swapped;
mod terminal;
mod told_paths;

use std::time::Duration;

/// Far more than any of these tests takes.
const DEADLINE: Duration = Duration::from_secs(120);
