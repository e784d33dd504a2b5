//! Whatever is done, and whenever the daemon is killed, it goes on as one that was not.

use super::world::{NOBODY, World};
use crate::fs::ids::NodeId;
use proptest::prelude::*;
use rustix::fs::OFlags;

const NAMES: [&str; 4] = [
    "a",
    "b",
    "a name that does not fit into its record, whatever is left of it",
    "medium-sized-name-of-thirty-two-b",
];

/// What is done. Nodes are chosen among those that were found, names among [`NAMES`].
#[derive(Debug, Clone, Copy)]
enum Step {
    Make(usize, usize),
    MakeDir(usize, usize),
    LookUp(usize, usize),
    Link(usize, usize, usize),
    Rename(usize, usize, usize, usize),
    Unlink(usize, usize),
    Open(usize, bool),
    OpenDir(usize),
    Close(usize),
    Use(usize),
    Forget(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, name) = (0..12_usize, 0..NAMES.len());
    prop_oneof![
        3 => (node.clone(), name.clone()).prop_map(|(n, m)| Step::Make(n, m)),
        3 => (node.clone(), name.clone()).prop_map(|(n, m)| Step::MakeDir(n, m)),
        6 => (node.clone(), name.clone()).prop_map(|(n, m)| Step::LookUp(n, m)),
        2 => (node.clone(), node.clone(), name.clone()).prop_map(|(f, n, m)| Step::Link(f, n, m)),
        3 => (node.clone(), name.clone(), node.clone(), name.clone())
            .prop_map(|(n, m, o, p)| Step::Rename(n, m, o, p)),
        3 => (node.clone(), name).prop_map(|(n, m)| Step::Unlink(n, m)),
        3 => (node.clone(), any::<bool>()).prop_map(|(n, w)| Step::Open(n, w)),
        2 => node.clone().prop_map(Step::OpenDir),
        2 => node.clone().prop_map(Step::Close),
        1 => node.clone().prop_map(Step::Use),
        2 => (node, 1..3_u64).prop_map(|(n, c)| Step::Forget(n, c)),
    ]
}

/// What the kernel refers to by number.
#[derive(Default)]
struct Kernel {
    nodes: Vec<NodeId>,
    open: Vec<(NodeId, u64, bool)>,
}

impl Kernel {
    fn node(&self, at: usize) -> NodeId {
        match self.nodes.is_empty() {
            true => NodeId::ROOT,
            false => self.nodes[at % self.nodes.len()],
        }
    }

    fn found(&mut self, id: NodeId) {
        if !self.nodes.contains(&id) {
            self.nodes.push(id);
        }
    }

    fn take(&mut self, world: &World, step: Step) {
        match step {
            Step::Make(dir, name) => {
                let id = world.try_make(self.node(dir), NAMES[name]);
                id.into_iter().for_each(|id| self.found(id));
            }
            Step::MakeDir(dir, name) => {
                let id = world.try_make_dir(self.node(dir), NAMES[name]);
                id.into_iter().for_each(|id| self.found(id));
            }
            Step::LookUp(dir, name) => {
                let id = world.try_look_up(self.node(dir), NAMES[name]);
                id.into_iter().for_each(|id| self.found(id));
            }
            Step::Link(file, dir, name) => {
                let _ = world.link(self.node(file), self.node(dir), NAMES[name]);
            }
            Step::Rename(dir, name, to_dir, to) => {
                let (dir, to_dir) = (self.node(dir), self.node(to_dir));
                let _ = world.rename(dir, NAMES[name], to_dir, NAMES[to]);
            }
            Step::Unlink(dir, name) => drop(world.try_unlink(self.node(dir), NAMES[name])),
            Step::Open(file, writes) => {
                let id = self.node(file);
                let flags = if writes { OFlags::RDWR } else { OFlags::RDONLY };
                let fh = world.try_open(id, flags);
                self.open.extend(fh.map(|fh| (id, fh, false)));
            }
            Step::OpenDir(dir) => {
                let id = self.node(dir);
                let fh = world.try_open_dir(id);
                self.open.extend(fh.map(|fh| (id, fh, true)));
            }
            Step::Close(at) if !self.open.is_empty() => {
                let (id, fh, is_dir) = self.open.swap_remove(at % self.open.len());
                match is_dir {
                    true => world.close_dir(id, fh),
                    false => world.close(id, fh),
                }
            }
            Step::Close(_) => {}
            Step::Use(dir) => {
                let _ = world.fs().lower.dir_fd(&world.node(self.node(dir)));
            }
            Step::Forget(at, count) => {
                let id = self.node(at);
                // The kernel holds what is open.
                if id != NodeId::ROOT && self.open.iter().all(|open| open.0 != id) {
                    let count = count.min(world.lookups(id));
                    world.fs().lower.nodes.forget(id, count, NOBODY);
                    if world
                        .fs()
                        .lower
                        .nodes
                        .get(id)
                        .is_none_or(|n| n.lookups() == 0)
                    {
                        self.nodes.retain(|&known| known != id);
                    }
                }
            }
        }
    }

    /// Everything that can be asked about.
    fn see(&self, world: &World) -> Vec<String> {
        let mut seen = vec![format!(
            "{} nodes, {} descriptors",
            world.fs().lower.nodes.count(),
            world.fs().opens.descriptors.len()
        )];
        for &id in &self.nodes {
            let stat = world
                .try_stat(id)
                .map(|s| (s.0.stx_nlink, s.kind(), s.0.stx_size));
            let path = world.fs().lower.path_of(id);
            seen.push(format!("{id:?}: {} {stat:?} {path:?}", world.lookups(id)));
        }
        for &(id, fh, is_dir) in &self.open {
            let what = match is_dir {
                true => format!("{:?}", world.list_all(id, fh)),
                false => format!("{:?}", world.read(id, fh)),
            };
            seen.push(what);
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_daemon_that_is_killed_answers_as_one_that_is_not(
        steps in prop::collection::vec((step(), prop::bool::weighted(0.3)), 1..60),
    ) {
        let (mut killed, spared) = (World::new(), World::new());
        let (mut its, others) = (Kernel::default(), &mut Kernel::default());
        for (step, kill) in steps {
            its.take(&killed, step);
            others.take(&spared, step);
            prop_assert_eq!(&its.nodes, &others.nodes);
            if kill {
                killed.crash();
            }
            prop_assert_eq!(its.see(&killed), others.see(&spared), "after {:?}", step);
        }
        for (id, fh, is_dir) in its.open.drain(..) {
            match is_dir {
                true => killed.close_dir(id, fh),
                false => killed.close(id, fh),
            }
        }
        for id in its.nodes.drain(..) {
            killed.fs().lower.nodes.forget(id, u64::MAX, NOBODY);
        }
        killed.crash();
        prop_assert_eq!(killed.left_open(), 0);
        prop_assert_eq!(killed.fs().lower.nodes.count(), 1);
        prop_assert!(killed.fs().opens.descriptors.is_empty());
    }
}
