//! Removing names: UNLINK, RMDIR.

use super::intent::{NOTHING, words_of};
use super::{Call, Handled};
use crate::fs::lower::walk::open_dir;
use crate::fs::staging::sweep;
use rustix::fd::AsFd;
use rustix::fs::AtFlags;
use rustix::io::Errno;

/// UNLINK. Open handles go on working: they have descriptors of their own.
pub(crate) fn unlink(call: &mut Call<'_>) -> Handled {
    remove(call, AtFlags::empty())
}

/// RMDIR.
pub(crate) fn rmdir(call: &mut Call<'_>) -> Handled {
    remove(call, AtFlags::REMOVEDIR)
}

fn remove(call: &mut Call<'_>, flags: AtFlags) -> Handled {
    let name = call.name()?;
    let parent = call.node()?;
    let spot = call
        .fs
        .lower
        .spot(&call.actor().unvouched(), &parent, name)?;
    let actor = call.actor_at(&spot);
    let (key, held) = call.fs.lower.hold(&spot, name);
    let now = words_of(key.as_ref());
    let was = call
        .begun()
        .map(|[dev, ino, generation, ..]| [dev, ino, generation]);
    if was.is_some_and(|was| was != NOTHING && was != now) {
        // It was removed, and what has the name is another.
        call.fs.enforcer.note_change(&spot, call.frame.head.pid);
        call.changed(parent.id, name);
        return Ok(());
    }
    call.begin(&now);
    let unlink = || actor.act(|| rustix::fs::unlinkat(spot.dir(), name, flags));
    let removed = match unlink() {
        // What looks empty through the mount can be removed, whatever a killed daemon has left in it.
        Err(Errno::NOTEMPTY) if flags.contains(AtFlags::REMOVEDIR) => {
            let dir = open_dir(spot.dir(), name)?;
            if !sweep::sweep_empty(dir.as_fd(), sweep::STALE_AFTER).unwrap_or(false) {
                return Err(Errno::NOTEMPTY.into());
            }
            unlink()
        }
        other => other,
    };
    removed?;
    if let Some(held) = held {
        held.keep(&call.fs.lower);
    }
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    call.changed(parent.id, name);
    Ok(())
}
