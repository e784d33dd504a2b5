//! The one way up the tree of known nodes, for whoever wants a path, a place among the rules or a directory's descriptor.
//!
//! Each directory remembers where it was last found. Directories are moved beneath the mount and through other strata at
//! any time, so what two of them remember need not have been true at the same moment. Two rules keep every climb short:
//!
//! - A directory is never noted as lying in something that lies in itself. Of the links that contradict one another the
//!   newest is kept, and an older one is forgotten: its directory lies [`NodeId::NOWHERE`] until it is found again.
//! - No climb passes more than [`DEEPEST`] directories. What lies deeper has no path here. No rule reaches so deep
//!   (PATH_MAX holds 2048 components), and a directory is found again by its file handle.
//!
//! A climb takes no lock that lasts. One that meets moves on its way may see parts of several states.

use super::{Node, Nodes};
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many directories above one another a climb passes at most.
pub(crate) const DEEPEST: usize = 4096;

/// A node that a climb has passed, and the name that it had.
pub(crate) struct ClimbStep {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// Its name in the next directory above.
    pub(crate) name: Box<CStr>,
}

/// Goes up from `from` until `stop` has an answer. `above` tells the next one above and something about the step, which
/// is handed back for all that were passed, the lowest first.
fn climb<N, S, T>(
    from: N,
    mut stop: impl FnMut(&N) -> Option<T>,
    mut above: impl FnMut(N) -> Option<(S, N)>,
) -> Option<(T, Vec<S>)> {
    let mut passed = Vec::new();
    let mut at = from;
    loop {
        if let Some(end) = stop(&at) {
            return Some((end, passed));
        }
        if passed.len() == DEEPEST {
            return None;
        }
        let (step, next) = above(at)?;
        passed.push(step);
        at = next;
    }
}

impl Nodes {
    /// Goes up from `node` to the first that `stop` has an answer for, `node` itself being the first that is asked about
    /// and the root the last. Also returns what was passed, the lowest first.
    ///
    /// # Errors
    /// ESTALE when the way up is not known, or longer than [`DEEPEST`].
    pub(crate) fn climb<T>(
        &self,
        node: &Arc<Node>,
        stop: impl FnMut(&Arc<Node>) -> Option<T>,
    ) -> Result<(T, Vec<ClimbStep>), Errno> {
        let above = |node: Arc<Node>| {
            let (parent, name) = {
                let link = node.link();
                (link.parent(), link.name().as_c_str().into())
            };
            let parent = self.above(&node, parent)?;
            Some((ClimbStep { node, name }, parent))
        };
        climb(node.clone(), stop, above).ok_or(Errno::STALE)
    }

    /// Notes that `node` has just been found as `name` in `parent`.
    pub(crate) fn note(&self, node: &Node, parent: NodeId, name: &CStr) {
        if node.id == NodeId::ROOT || node.link().is(parent, name) {
            return;
        }
        if !node.is_dir() {
            node.link().set(parent, name);
            if !node.key().is_ambiguous() {
                // It has a name again.
                drop(node.let_go());
            }
            return;
        }
        let _turn = lock(&self.moving);
        let parent = if self.make_way(node, parent) {
            parent
        } else {
            NodeId::NOWHERE
        };
        {
            let mut link = node.link();
            if link.is(parent, name) {
                return;
            }
            link.set(parent, name);
        }
        // Places derived from the old link are good no more.
        self.moves.fetch_add(1, Ordering::AcqRel);
    }

    /// Sees to it that `parent` does not lie in `node`. False if it is too deep to tell, or `node` itself.
    ///
    /// Links of directories are changed under `moving` only, so no circle can come about meanwhile.
    fn make_way(&self, node: &Node, parent: NodeId) -> bool {
        let Some(start) = self.get(parent) else {
            return true;
        };
        if start.id == node.id {
            return false;
        }
        enum Climbed {
            Apart,
            Within(Arc<Node>),
        }
        let stop = |at: &Arc<Node>| {
            let next = at.link().parent();
            if next == node.id {
                return Some(Climbed::Within(at.clone()));
            }
            (at.id == NodeId::ROOT || self.get(next).is_none()).then_some(Climbed::Apart)
        };
        let above = |at: Arc<Node>| {
            let next = at.link().parent();
            Some(((), self.get(next)?))
        };
        match climb(start, stop, above) {
            None => false,
            Some((Climbed::Apart, _)) => true,
            Some((Climbed::Within(child), _)) => {
                child.link().set_parent(NodeId::NOWHERE);
                true
            }
        }
    }

    fn above(&self, node: &Node, parent: NodeId) -> Option<Arc<Node>> {
        // The root's parent is the root.
        (node.id != NodeId::ROOT)
            .then(|| self.get(parent))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ids::Key;
    use crate::ledger::Ledger;
    use crate::ledger::flight::tally::Changer;
    use crate::sys::inherit::Inherited;
    use proptest::prelude::*;

    const DIRS: usize = 12;

    fn table() -> Nodes {
        let root = std::fs::File::open("/").expect("open the root");
        let ledger = Ledger::private().expect("memory");
        let (nodes, _) = Nodes::over(ledger, &Inherited::default(), Key::of_ino(0), root.into())
            .expect("an empty ledger");
        nodes
    }

    fn dir(nodes: &Nodes, ino: u64, parent: NodeId) -> Arc<Node> {
        let name = std::ffi::CString::new(format!("d{ino}")).expect("a name");
        nodes
            .look_up(
                Key::of_ino(ino),
                libc::S_IFDIR,
                parent,
                &name,
                Changer::NOBODY,
            )
            .expect("room")
    }

    /// How many are passed on the way to the root, or to where it is not known.
    fn height(nodes: &Nodes, from: &Arc<Node>) -> usize {
        let mut height = 0;
        let _ = nodes.climb(from, |at| {
            height += 1;
            (at.id == NodeId::ROOT).then_some(())
        });
        height
    }

    /// A chain of `depth` directories below the root, the deepest last.
    fn chain(nodes: &Nodes, depth: u64) -> Vec<Arc<Node>> {
        let mut all = Vec::new();
        let mut parent = NodeId::ROOT;
        for ino in 1..=depth {
            let next = dir(nodes, ino, parent);
            parent = next.id;
            all.push(next);
        }
        all
    }

    proptest! {
        /// Whatever is found in whatever, no way up passes a directory twice, and what was found last stands.
        #[test]
        fn no_circle_is_ever_stored(found in prop::collection::vec((0..DIRS, 0..=DIRS), 1..80)) {
            let nodes = table();
            let dirs: Vec<_> = (1..=DIRS as u64).map(|ino| dir(&nodes, ino, NodeId::ROOT)).collect();
            for (child, parent) in found {
                let child = &dirs[child];
                let parent = dirs.get(parent).map_or(NodeId::ROOT, |dir| dir.id);
                nodes.note(child, parent, c"moved");
                let stored = child.link().parent();
                let kept = if parent == child.id { NodeId::NOWHERE } else { parent };
                prop_assert_eq!(stored, kept);
                for dir in &dirs {
                    prop_assert!(height(&nodes, dir) <= DIRS + 1);
                }
            }
        }
    }

    #[test]
    fn of_two_that_lie_in_each_other_the_one_found_first_lies_nowhere() {
        let nodes = table();
        let all = chain(&nodes, 2);
        nodes.note(&all[0], all[1].id, c"d1");
        assert_eq!(all[0].link().parent(), all[1].id);
        assert_eq!(all[1].link().parent(), NodeId::NOWHERE);
        let up = nodes.climb(&all[0], |at| (at.id == NodeId::ROOT).then_some(()));
        assert_eq!(up.map(drop), Err(Errno::STALE));
        // Found again, it has its place.
        nodes.note(&all[1], NodeId::ROOT, c"d2");
        let up = nodes.climb(&all[0], |at| (at.id == NodeId::ROOT).then_some(()));
        assert_eq!(up.map(|(_, passed)| passed.len()), Ok(2));
    }

    #[test]
    fn no_climb_passes_more_than_the_deepest() {
        let nodes = table();
        let all = chain(&nodes, DEEPEST as u64 + 3);
        assert_eq!(height(&nodes, &all[DEEPEST - 1]), DEEPEST + 1);
        let up = nodes.climb(&all[DEEPEST - 1], |at| {
            (at.id == NodeId::ROOT).then_some(())
        });
        assert_eq!(up.map(|(_, passed)| passed.len()), Ok(DEEPEST));
        let up = nodes.climb(&all[DEEPEST], |at| (at.id == NodeId::ROOT).then_some(()));
        assert_eq!(up.map(drop), Err(Errno::STALE));
        // What may lie in itself, for all that can be told, lies nowhere, and says so without a move.
        let moves = nodes.moves();
        nodes.note(&all[0], all[DEEPEST + 2].id, c"deep");
        nodes.note(&all[0], all[DEEPEST + 2].id, c"deep");
        assert_eq!(all[0].link().parent(), NodeId::NOWHERE);
        assert_eq!(nodes.moves(), moves + 1);
    }

    /// Two threads move directories into one another while a third climbs.
    #[test]
    fn climbs_end_while_directories_move() {
        let nodes = table();
        let dirs: Vec<_> = (1..=DIRS as u64)
            .map(|ino| dir(&nodes, ino, NodeId::ROOT))
            .collect();
        std::thread::scope(|scope| {
            for seed in 1..=2 {
                let (nodes, dirs) = (&nodes, &dirs);
                scope.spawn(move || {
                    let mut at = seed;
                    for _ in 0..5_000 {
                        at = (at * 7 + seed) % (DIRS * DIRS);
                        nodes.note(&dirs[at % DIRS], dirs[at / DIRS].id, c"moved");
                    }
                });
            }
            for _ in 0..5_000 {
                assert!(height(&nodes, &dirs[3]) <= DEEPEST + 1);
            }
        });
        for dir in &dirs {
            assert!(height(&nodes, dir) <= DIRS + 1);
        }
    }
}
