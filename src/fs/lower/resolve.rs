//! From (parent node, name) to a lower directory and a side: where every operation on a name begins.

use super::Lower;
use super::walk::{DIR_FLAGS, make_dirs, open_beneath, open_dir};
use crate::fs::asker::Asker;
use crate::fs::ids::{NodeId, Side};
use crate::fs::node::Node;
use crate::fs::node::climb::ClimbStep;
use crate::fs::node::link::NameBuf;
use crate::fs::node::one::PlaceEpoch;
use crate::fs::rules::{Override, Place, Rules};
use crate::fs::staging::temp_names::is_hidden;
use crate::fs::stat::Stat;
use crate::sys::file_handle::FileHandle;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where a name of the mount lives below.
pub struct Spot {
    /// The side that owns the name.
    pub(crate) side: Side,
    /// The lower directory that holds it, or would.
    pub(crate) dir: Arc<OwnedFd>,
    /// That directory is not the one whose rights the kernel asks on the mount: the name is on the other side.
    pub(crate) foreign: bool,
    /// The name's place in the rule tree, if a rule concerns it or something below it.
    pub(crate) place: Option<Place>,
    /// The override of exactly this name.
    pub(crate) over: Option<Arc<Override>>,
    /// What `place` is good for.
    pub(crate) epoch: PlaceEpoch,
}

impl Spot {
    /// The lower directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Looks at `name`, which this is the spot of. The kernel has asked whether the directory may be searched; where that
    /// is another one, it is searched by whoever asks. One system call.
    ///
    /// # Errors
    /// ENOENT; EACCES where the directory may not be searched.
    pub(crate) fn look(&self, asker: &dyn Asker, name: &CStr) -> Result<Stat, Errno> {
        if !self.foreign {
            return Stat::at(self.dir(), name);
        }
        let mut found = Err(Errno::NOENT);
        asker.act(&mut || {
            found = Stat::at(self.dir(), name);
            found.as_ref().map(drop).map_err(|errno| *errno)
        })?;
        found
    }
}

impl Lower {
    /// Finds the lower directory and the side for `name` in the directory `parent`. Where the name is on the other side,
    /// the way there is gone by `asker`: the kernel has asked for the rights on the mount's directories only.
    ///
    /// # Errors
    /// ENOENT when the name is hidden, or global with a global parent directory that does not exist (contract D40);
    /// EACCES when the way there may not be searched; ESTALE when `parent` is not where it was last seen.
    pub fn spot(&self, asker: &dyn Asker, parent: &Arc<Node>, name: &CStr) -> Result<Spot, Errno> {
        self.spot_in(asker, &self.rules(), parent, name, false)
    }

    /// As [`Lower::spot`], for a name about to be created: missing global parent directories are made, with mode 0755 and in
    /// the name of `asker`, which is root's wherever nobody else may make them.
    ///
    /// # Errors
    /// As [`Lower::spot`], and what `mkdir(2)` answers; EPERM when the name is one that only the daemon may use.
    pub(crate) fn spot_to_create(
        &self,
        asker: &dyn Asker,
        parent: &Arc<Node>,
        name: &CStr,
    ) -> Result<Spot, Errno> {
        self.spot_in(asker, &self.rules(), parent, name, true)
    }

    /// As [`Lower::spot`], under rules that the caller holds.
    ///
    /// # Errors
    /// As [`Lower::spot`].
    pub(crate) fn spot_in(
        &self,
        asker: &dyn Asker,
        rules: &Rules,
        parent: &Arc<Node>,
        name: &CStr,
        make: bool,
    ) -> Result<Spot, Errno> {
        if is_hidden(name.to_bytes()) {
            return Err(if make { Errno::PERM } else { Errno::NOENT });
        }
        let above = self.place_of(rules, parent);
        let place = above.and_then(|at| rules.child(at, name.to_bytes()));
        let side = if place.is_some_and(|at| rules.is_global(at)) {
            Side::Global
        } else if self.exact_globals && above.is_some_and(|at| rules.is_global(at)) {
            Side::Local
        } else {
            parent.side()
        };
        let twin = above.filter(|_| side != parent.side());
        let dir = match twin {
            Some(above) => self.twin_for(asker, rules.path(above), side, make)?,
            None => self.dir_fd(parent)?,
        };
        let epoch = self.place_epoch(rules);
        Ok(Spot {
            side,
            dir,
            foreign: twin.is_some(),
            place,
            over: place.and_then(|at| rules.override_at(at)).cloned(),
            epoch,
        })
    }

    /// The lower directory for an object without a name in the directory `parent`: on the directory's own side.
    ///
    /// # Errors
    /// As [`Lower::spot`].
    pub(crate) fn spot_unnamed(&self, parent: &Arc<Node>) -> Result<Spot, Errno> {
        Ok(Spot {
            side: parent.side(),
            dir: self.dir_fd(parent)?,
            foreign: false,
            place: None,
            over: None,
            epoch: self.place_epoch(&self.rules()),
        })
    }

    /// Where `node` was last found: its lower directory and its name there. The side is the node's own, whatever the rules
    /// have become since: a request that follows a lookup under the old rules acts on what that lookup found.
    ///
    /// # Errors
    /// ESTALE when the directory above is not known any more.
    pub(crate) fn spot_of(&self, node: &Node) -> Result<(Arc<OwnedFd>, NameBuf), Errno> {
        let (parent, name) = {
            let link = node.link();
            (link.parent(), link.name())
        };
        let parent = self.nodes.get(parent).ok_or(Errno::STALE)?;
        Ok((self.dir_on(&parent, node.side())?, name))
    }

    /// The lower directory on `side` for the directory `node`: its own, or what stands for it on the other side.
    ///
    /// # Errors
    /// As [`Lower::dir_fd`]; ENOENT when nothing stands there.
    pub(crate) fn dir_on(&self, node: &Arc<Node>, side: Side) -> Result<Arc<OwnedFd>, Errno> {
        match node.side() == side {
            true => self.dir_fd(node),
            false => self.twin_of(node, side),
        }
    }

    /// What stands on `side` for the directory `node` of the other side.
    fn twin_of(&self, node: &Node, side: Side) -> Result<Arc<OwnedFd>, Errno> {
        let path = CString::new(self.path_of(node.id)?).map_err(|_| Errno::STALE)?;
        self.twin(&path, side)
    }

    /// The override of exactly the name under which `node` was last found.
    pub(crate) fn override_of(&self, node: &Node) -> Option<Arc<Override>> {
        let (parent, name) = {
            let link = node.link();
            (link.parent(), link.name())
        };
        let rules = self.rules();
        let parent = self.nodes.get(parent)?;
        let above = self.place_of(&rules, &parent)?;
        let place = rules.child(above, name.as_c_str().to_bytes())?;
        rules.override_at(place).cloned()
    }

    /// The descriptor of the directory `node`; opened if it has none at the moment.
    ///
    /// # Errors
    /// ENOTDIR for anything else; ENOENT when it was removed; ESTALE when it is not where it was last seen and that is all
    /// that is known; EMFILE or ENFILE.
    pub(crate) fn dir_fd(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = &*node.dir() {
            if !node.dir_used.load(Ordering::Relaxed) {
                node.dir_used.store(true, Ordering::Relaxed);
            }
            return Ok(fd.clone());
        }
        if !node.is_dir() {
            return Err(Errno::NOTDIR);
        }
        match self.reopen_dir(node) {
            // Natively a removed directory has no entries; the kernel asks for its attributes before it looks for one.
            Err(Errno::STALE) if self.is_gone(node) => Err(Errno::NOENT),
            other => other,
        }
    }

    /// Opens a directory again, from the first above it that can be had otherwise.
    fn reopen_dir(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>, Errno> {
        let had = |at: &Arc<Node>| {
            let fd = at.dir().clone().or_else(|| {
                let fd = self.by_file_handle(at, DIR_FLAGS)?;
                Some(self.clock.keep(&self.nodes, at, fd))
            })?;
            Some((fd, at.clone()))
        };
        let ((mut fd, mut above), passed) = self.nodes.climb(node, had)?;
        for ClimbStep { node, name } in passed.into_iter().rev() {
            fd = match node.dir().clone() {
                Some(fd) => fd,
                None => {
                    let dir = match node.side() == above.side() {
                        true => fd,
                        false => self.twin_of(&above, node.side())?,
                    };
                    let fd = self.with_relief(|| open_dir(dir.as_fd(), &name))?;
                    if Stat::of(fd.as_fd())?.key(node.side()) != node.key() {
                        return Err(Errno::STALE);
                    }
                    self.clock.keep(&self.nodes, &node, fd)
                }
            };
            above = node;
        }
        Ok(fd)
    }

    /// Keeps `fd` for `node`, whose identity is safe while it is open.
    pub(crate) fn hold_identity(&self, node: &Arc<Node>, fd: OwnedFd) {
        self.clock.keep(&self.nodes, node, fd);
    }

    /// Runs `open`; when descriptors have run out, gives up some directories' and runs it again: clients' open files come
    /// first, and a directory is opened again when it is used.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn with_relief<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) if self.clock.relieve(&self.nodes) => open(),
            other => other,
        }
    }

    /// Opens `node` by its file handle, if it has one and still is the inode that it was.
    pub(crate) fn by_file_handle(&self, node: &Node, flags: OFlags) -> Option<OwnedFd> {
        let handle = node.link().handle()?;
        let base = &self.base(node.side()).dir;
        let fd = self.with_relief(|| handle.open(&**base, flags)).ok()?;
        let stat = Stat::of(fd.as_fd()).ok()?;
        (stat.key(node.side()) == node.key()).then_some(fd)
    }

    /// Gives the directory `node`, just found as `name` in `dir`, a file handle: whoever holds it as a working directory
    /// can then use it after it was moved beneath.
    pub(crate) fn remember_dir(&self, node: &Node, dir: BorrowedFd<'_>, name: &CStr) {
        if let Ok(handle) = FileHandle::at(dir, name) {
            node.link().keep_handle(&handle);
        }
    }

    /// True if the lower file system says that the inode is no more.
    fn is_gone(&self, node: &Node) -> bool {
        let handle = node.link().handle();
        let base = self.base(node.side());
        // Of another file system that lies below, the base cannot say it.
        let handle = handle.filter(|_| base.dev == node.dev());
        handle.is_some_and(|handle| {
            matches!(handle.open(&*base.dir, OFlags::PATH), Err(Errno::STALE))
        })
    }

    /// The place of the directory `node` in the rule tree.
    pub(crate) fn place_of(&self, rules: &Rules, node: &Arc<Node>) -> Option<Place> {
        if node.id == NodeId::ROOT {
            return Some(Place::ROOT);
        }
        let epoch = self.place_epoch(rules);
        if let Some(known) = node.place(epoch) {
            return known;
        }
        let known = |at: &Arc<Node>| match at.id {
            NodeId::ROOT => Some(Some(Place::ROOT)),
            _ => at.place(epoch),
        };
        let (mut place, passed) = self.nodes.climb(node, known).ok()?;
        for ClimbStep { node, name } in passed.into_iter().rev() {
            place = place.and_then(|at| rules.child(at, name.to_bytes()));
            node.set_place(epoch, place);
        }
        place
    }

    /// What places derived now are good for.
    pub(crate) fn place_epoch(&self, rules: &Rules) -> PlaceEpoch {
        PlaceEpoch::new(rules.version(), self.nodes.moves())
    }

    /// The directory `path` of `side`, where the mount shows the other side's.
    fn twin(&self, path: &CStr, side: Side) -> Result<Arc<OwnedFd>, Errno> {
        let base = &self.base(side).dir;
        if path == c"." || path.is_empty() {
            return Ok(base.clone());
        }
        self.with_relief(|| open_beneath(base.as_fd(), path))
            .map(Arc::new)
    }

    /// As [`Lower::twin`], gone to by `asker`, who must be allowed to search every directory on the way. (Whoever uses the
    /// directory searches the last one.) `make`: what is missing of it is made.
    fn twin_for(
        &self,
        asker: &dyn Asker,
        path: &CStr,
        side: Side,
        make: bool,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let mut found = Err(Errno::NOENT);
        let gone = asker.act(&mut || {
            found = self.twin(path, side);
            found.as_ref().map(drop).map_err(|errno| *errno)
        });
        if gone == Err(Errno::NOENT) && make {
            asker.act(&mut || make_dirs(self.base(side).dir.as_fd(), path))?;
            return self.twin_for(asker, path, side, false);
        }
        gone.and(found)
    }
}
