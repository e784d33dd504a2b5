//! What an answer may say: how long the kernel may keep what it is told.

use super::clock::{ATTRIBUTES, NAMES};
use super::dirs::{KeptState, WatchedDir, WrittenDown};
use super::mode::On;
use crate::fs::ids::{NodeId, Side};
use crate::fs::lower::resolve::Spot;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::ledger::kept::LONGEST_KEPT;
use crate::ledger::table::Slot;
use crate::mutex::lock;
use crate::sys::creds::looking;
use crate::sys::object::ProcName;
use rustix::fd::AsFd as _;
use rustix::fs::inotify::{WatchFlags, add_watch};
use rustix::io::Errno;
use std::ffi::CStr;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is told of a directory: all that changes what an answer says, but reads and writes themselves. Who writes through the
/// mount is known to the kernel, and whoever else does closes the file in the end.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// How long the kernel may use something. It rounds up to a tick of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Valid {
    /// Seconds.
    pub(crate) sec: u64,
    /// Nanoseconds.
    pub(crate) nsec: u32,
}

impl Valid {
    /// Not at all.
    pub(crate) const NOT: Valid = Valid { sec: 0, nsec: 0 };

    /// For a tick.
    pub(crate) const TICK: Valid = Valid { sec: 0, nsec: 1 };

    const fn of(time: Duration) -> Valid {
        Valid {
            sec: time.as_secs(),
            nsec: 0,
        }
    }
}

/// A directory that is watched, as of a moment before something was looked at.
pub(crate) struct WatchLease {
    pub(super) dir: Arc<WatchedDir>,
    /// No batch of events later than this had been taken up.
    seq: u64,
}

impl WatchLease {
    /// True if nothing has been told of `dir`, locked, since the lease began.
    fn holds(&self, dir: &WatchedDir, state: &KeptState) -> bool {
        !state.ended && dir.born <= self.seq && state.changed <= self.seq
    }

    /// Takes up that `name` leads to `node`. False: it may not be kept.
    fn take_up(&self, on: &On, name: &CStr, node: NodeId) -> bool {
        let name = name.to_bytes();
        if name.len() > LONGEST_KEPT {
            return false;
        }
        let mut state = self.dir.state();
        if !self.holds(&self.dir, &state) {
            return false;
        }
        let noted = state.keep(on.table, self.dir.node, name, node);
        drop(state);
        if noted == WrittenDown::NoRoom {
            on.make_room();
        }
        noted == WrittenDown::Yes
    }
}

/// True if what stands at `spot` is this mount's own alone: what nobody else's daemon changes and nothing enforces.
pub(super) fn is_plain(spot: &Spot) -> bool {
    spot.side == Side::Local && !spot.foreign && spot.over.is_none()
}

/// True if `stat` says that the object has this one name, and that no later one will be taken for it.
fn is_single(stat: &Stat) -> bool {
    let has_one_name = stat.is_dir() || stat.0.stx_nlink == 1;
    has_one_name && !stat.key(Side::Local).is_ambiguous()
}

/// A digest of all attributes that the kernel keeps, but the time of the last access.
pub(super) fn digest(stat: &Stat) -> u64 {
    let s = &stat.0;
    let mut hasher = foldhash::quality::FixedState::default().build_hasher();
    for word in [
        s.stx_ino,
        s.stx_size,
        s.stx_blocks,
        s.stx_mtime.tv_sec as u64,
        s.stx_ctime.tv_sec as u64,
        u64::from(s.stx_mtime.tv_nsec) << 32 | u64::from(s.stx_ctime.tv_nsec),
        u64::from(s.stx_uid) << 32 | u64::from(s.stx_gid),
        u64::from(s.stx_nlink) << 32 | u64::from(s.stx_mode),
    ] {
        hasher.write_u64(word);
    }
    hasher.finish()
}

impl On {
    /// To be taken before anything in the directory `dir` is looked at that is to be kept. `None`: nothing of it is.
    pub(crate) fn lease(&self, dir: &Arc<Node>) -> Option<WatchLease> {
        if dir.side() != Side::Local || !dir.is_dir() {
            return None;
        }
        let known = lock(&self.dirs).of_node(dir.id);
        let dir = match known {
            Some(known) => known,
            None => self.watch(dir)?,
        };
        dir.touch();
        let seq = self.seq.load(Ordering::Acquire);
        Some(WatchLease { dir, seq })
    }

    /// As [`On::lease`], before `node` itself is looked at: of the directory that it lies in, if that is watched, or is.
    pub(crate) fn lease_of(&self, node: &Arc<Node>) -> Option<WatchLease> {
        if node.is_dir() {
            return self.lease(node);
        }
        if node.side() != Side::Local {
            return None;
        }
        let parent = node.link().parent();
        let dir = lock(&self.dirs).of_node(parent)?;
        let seq = self.seq.load(Ordering::Acquire);
        Some(WatchLease { dir, seq })
    }

    fn watch(&self, node: &Arc<Node>) -> Option<Arc<WatchedDir>> {
        if lock(&self.dirs).len() >= self.most.load(Ordering::Relaxed) {
            self.make_room();
            return None;
        }
        let fd = self.lower.dir_fd(node).ok()?;
        if node.key().is_ambiguous() || !self.tells(node.dev(), fd.as_fd()) {
            return None;
        }
        let noted = Slot::take(self.table);
        let Some(noted) = noted else {
            self.make_room();
            return None;
        };
        let name = ProcName::of(fd.as_fd());
        let mut dirs = lock(&self.dirs);
        if let Some(known) = dirs.of_node(node.id) {
            return Some(known);
        }
        let wd = match looking(|| add_watch(&self.inotify, name.as_c_str(), CHANGES)) {
            Ok(wd) => wd,
            Err(errno) => {
                drop(dirs);
                self.cannot_watch(errno);
                return None;
            }
        };
        let born = self.seq.fetch_add(1, Ordering::AcqRel) + 1;
        let dir = Arc::new(WatchedDir::new(node.id, wd, born, noted));
        if let Some(before) = dirs.of_watch(wd) {
            before.state().ended = true;
        }
        dirs.add(&dir);
        Some(dir)
    }

    /// The kernel gives no more watches. Those that there are have to do.
    fn cannot_watch(&self, errno: Errno) {
        if errno != Errno::NOSPC && errno != Errno::NOMEM {
            return;
        }
        self.failed.store(true, Ordering::Relaxed);
        let had = lock(&self.dirs).len().max(1);
        self.most.fetch_min(had, Ordering::Relaxed);
        self.make_room();
    }

    /// How long the kernel may keep it that `name`, looked up at `spot` under `lease`, leads to `node`.
    pub(crate) fn name(
        &self,
        lease: &WatchLease,
        (spot, name): (&Spot, &CStr),
        (node, stat): (&Node, &Stat),
    ) -> Valid {
        let kept = is_plain(spot)
            && node.side() == Side::Local
            && is_single(stat)
            && lease.take_up(self, name, node.id);
        match kept {
            true => Valid::of(NAMES),
            false => Valid::NOT,
        }
    }

    /// As [`On::name`] of a name that is not there.
    pub(crate) fn absence(&self, lease: &WatchLease, (spot, name): (&Spot, &CStr)) -> Valid {
        match is_plain(spot) && lease.take_up(self, name, NodeId::NOWHERE) {
            true => Valid::of(NAMES),
            false => Valid::NOT,
        }
    }

    /// How long the kernel may keep the attributes `stat` of `node`, looked at under `lease`. `None`: as without this mode.
    pub(crate) fn attributes(&self, lease: &WatchLease, node: &Node, stat: &Stat) -> Option<Valid> {
        if node.is_dir() {
            let other = || lock(&self.dirs).of_node(node.id);
            let dir = match lease.dir.node == node.id {
                true => lease.dir.clone(),
                false => other()?,
            };
            let mut state = dir.state();
            if !lease.holds(&dir, &state) {
                return None;
            }
            state.attributes = Some(digest(stat));
            return Some(Valid::of(NAMES));
        }
        let (parent, name) = {
            let link = node.link();
            (link.parent(), link.name())
        };
        if parent != lease.dir.node || !is_single(stat) || is_written(node) {
            return None;
        }
        let mut state = lease.dir.state();
        if !lease.holds(&lease.dir, &state) {
            return None;
        }
        let kept = state.get_mut(name.as_c_str().to_bytes())?;
        if kept.node != node.id {
            return None;
        }
        kept.attributes = Some(digest(stat));
        Some(Valid::of(ATTRIBUTES))
    }

    /// What OPENDIR of `node` says, looked at under `lease`, of a listing in which no rule has a part, and which is read
    /// through handle `fh`.
    pub(crate) fn listing(&self, lease: &WatchLease, node: &Node, fh: u64) -> KeptPages {
        let open = node.handles().dirs();
        let mut state = lease.dir.state();
        if !lease.holds(&lease.dir, &state) || lease.dir.node != node.id {
            return KeptPages::Unkept;
        }
        let changed = state.changed;
        let listing = &mut state.listing;
        listing.fresh.retain(|(fh, _)| open.contains(fh));
        let is_fresh = |other: &u64| {
            let mut fresh = listing.fresh.iter();
            *other == fh || fresh.any(|(fresh, seq)| fresh == other && *seq >= changed)
        };
        if !open.iter().all(is_fresh) {
            // Whoever reads through an older handle would put what that says beside what is read from here on.
            listing.emptied = None;
            return KeptPages::Unkept;
        }
        listing.fresh.push((fh, lease.seq));
        if listing.emptied.is_some_and(|emptied| emptied >= changed) {
            return KeptPages::Kept;
        }
        listing.emptied = Some(lease.seq);
        KeptPages::Filled
    }
}

/// What becomes of the pages of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptPages {
    /// There are none.
    Unkept,
    /// They are dropped, and filled by this handle.
    Filled,
    /// They are good.
    Kept,
}

/// True while a client may write the file: its attributes change without an event.
fn is_written(node: &Node) -> bool {
    node.kind() == libc::S_IFREG && node.handles().may_be_written()
}
