//! What an act names: paths and descriptors.

use super::act::{Act, On};

fn places(act: &mut Act) -> Vec<&mut On> {
    match act {
        Act::Open { on, .. }
        | Act::Link { on, .. }
        | Act::Chmod { on, .. }
        | Act::Chown { on, .. }
        | Act::Times { on, .. }
        | Act::Truncate { on, .. }
        | Act::SetAttribute { on, .. }
        | Act::GetAttribute { on, .. }
        | Act::ListAttributes { on }
        | Act::RemoveAttribute { on, .. }
        | Act::Flags { on, .. }
        | Act::Stat { on } => vec![on],
        _ => Vec::new(),
    }
}

/// Whether an act is done with a descriptor.
pub fn wants_descriptor(act: &Act) -> bool {
    let data = matches!(
        act,
        Act::Write { .. } | Act::Read { .. } | Act::Allocate { .. } | Act::Copy { .. }
    );
    data || places(&mut act.clone())
        .iter()
        .any(|on| !matches!(on, On::Path(_)))
}

/// The same act, on a descriptor.
pub fn on_descriptor(mut act: Act, to: On) -> Act {
    for on in places(&mut act) {
        on.clone_from(&to);
    }
    act
}

/// Leaves the last component of every path.
pub fn shorten(act: &mut Act) {
    let last = |path: &mut String| {
        if let Some(at) = path.rfind('/') {
            path.drain(..=at);
        }
    };
    for on in places(act) {
        if let On::Path(path) = on {
            last(path);
        }
    }
    match act {
        Act::Link { to: path, .. }
        | Act::Mkdir { path, .. }
        | Act::Mknod { path, .. }
        | Act::Symlink { path, .. }
        | Act::Remove { path, .. }
        | Act::Access { path, .. }
        | Act::ReadLink { path }
        | Act::List { path } => last(path),
        Act::Rename { from, to, .. } => {
            last(from);
            last(to);
        }
        _ => {}
    }
}
