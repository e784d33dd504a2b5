//! The rules as a tree of path components, kept so that a changed copy shares everything it did not change.

use super::chunks::Chunks;
use super::overrides::Override;
use super::path::{RulePath, components};
use std::ffi::CStr;
use std::sync::Arc;

/// "No component", "not in the order".
pub(in crate::fs) const NONE: u32 = u32::MAX;

/// Buckets of a new tree; doubled whenever there are more components than buckets.
const FIRST_BUCKETS: usize = 64;

/// A component of a configured path, as an index into one [`Rules`](super::Rules). It means nothing in another version: whoever keeps
/// a place keeps the [`Rules::version`](super::Rules::version) it is from and looks it up again when that changes. A place of another version
/// is never an error, only an answer about some other path or none.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place(pub(crate) u32);

impl Place {
    /// The root of the mount, in every version.
    pub(crate) const ROOT: Place = Place(0);
}

/// One component of a configured path.
#[derive(Clone, Debug)]
pub(in crate::fs) struct Component {
    /// From the root: `default/grub`; `.` for the root itself.
    pub(crate) path: Arc<CStr>,
    /// Where the last component begins in `path`.
    name_at: u32,
    hash: u32,
    parent: u32,
    /// The next component in the same bucket.
    chain: u32,
    first_child: u32,
    next_sibling: u32,
    /// Rules here and below. A component without any is left standing until the tree is built anew; nobody sees it.
    rules: u32,
    /// The rule "this name is global", as its index in the order of the configuration.
    pub(crate) global: u32,
    /// The override of this name.
    pub(crate) over: Option<Arc<Override>>,
    /// The override's index in the order of the configuration.
    pub(crate) over_at: u32,
}

impl Component {
    fn new(path: Arc<CStr>, name_at: u32, hash: u32, parent: u32) -> Component {
        Component {
            path,
            name_at,
            hash,
            parent,
            chain: NONE,
            first_child: NONE,
            next_sibling: NONE,
            rules: 0,
            global: NONE,
            over: None,
            over_at: NONE,
        }
    }

    /// The last component of the path.
    pub(in crate::fs) fn name(&self) -> &[u8] {
        let path = self.path.to_bytes();
        path.get(self.name_at as usize..).unwrap_or(path)
    }
}

/// The tree. Component 0 is the root.
#[derive(Clone, Debug)]
pub(in crate::fs) struct Tree {
    components: Chunks<Component>,
    /// Heads of the hash chains over (parent, name); the length is a power of two.
    buckets: Chunks<u32>,
    /// Components with rules, the root not counted.
    live: usize,
}

impl Tree {
    /// The root alone.
    pub(in crate::fs) fn new() -> Tree {
        let mut components = Chunks::new();
        components.push(Component::new(c".".into(), 0, 0, NONE));
        Tree {
            components,
            buckets: Chunks::filled(FIRST_BUCKETS, NONE),
            live: 0,
        }
    }

    /// Components that carry no rule any more.
    pub(in crate::fs) fn dead(&self) -> usize {
        self.components.len() - 1 - self.live
    }

    #[cfg(test)]
    /// Rules in the tree.
    pub(in crate::fs) fn rules(&self) -> usize {
        self.components.get(0).map_or(0, |root| root.rules as usize)
    }

    /// The component, unless `at` is another tree's.
    pub(in crate::fs) fn get(&self, at: Place) -> Option<&Component> {
        self.components.get(at.0)
    }

    /// The component `name` below `at`, if a rule is there or further below.
    pub(in crate::fs) fn child(&self, at: Place, name: &[u8]) -> Option<Place> {
        if self.get(at)?.first_child == NONE {
            return None;
        }
        let (place, component) = self.raw_child(at, hash(at, name), name)?;
        (component.rules != 0).then_some(place)
    }

    /// The component at the end of `path`, if a rule is there or below.
    pub(in crate::fs) fn locate(&self, path: &RulePath) -> Option<Place> {
        components(path.as_bytes()).try_fold(Place::ROOT, |at, name| self.child(at, name))
    }

    /// The children that have rules, in no particular order.
    pub(in crate::fs) fn children(&self, at: Place) -> impl Iterator<Item = (Place, &Component)> {
        let mut next = self.get(at).map_or(NONE, |parent| parent.first_child);
        std::iter::from_fn(move || {
            let place = Place(next);
            let component = self.get(place)?;
            next = component.next_sibling;
            Some((place, component))
        })
        .filter(|(_, component)| component.rules != 0)
    }

    #[cfg(test)]
    /// From `at` up to, and without, the root.
    pub(in crate::fs) fn upwards(&self, at: Place) -> impl Iterator<Item = (Place, &Component)> {
        let mut next = at;
        std::iter::from_fn(move || {
            let place = next;
            let component = self.get(place).filter(|_| place != Place::ROOT)?;
            next = Place(component.parent);
            Some((place, component))
        })
    }

    /// The component at the end of `path`, made with all those above it where it does not exist.
    pub(in crate::fs) fn make(&mut self, path: &RulePath) -> Place {
        let mut at = Place::ROOT;
        let mut end = 0;
        for name in components(path.as_bytes()) {
            let start = end;
            end += name.len();
            let hash = hash(at, name);
            at = match self.raw_child(at, hash, name) {
                Some((place, _)) => place,
                None => self.attach(at, hash, &path.as_bytes()[..end], start),
            };
            end += 1;
        }
        at
    }

    /// Says that `at` is (an index) or is not ([`NONE`]) global.
    pub(in crate::fs) fn set_global(&mut self, at: Place, order: u32) {
        let Some(component) = self.components.get_mut(at.0) else {
            return;
        };
        let before = u32::from(component.global != NONE);
        component.global = order;
        self.count(at, before, u32::from(order != NONE));
    }

    /// Puts an override at `at`, or takes it away; returns what was there.
    pub(in crate::fs) fn set_override(
        &mut self,
        at: Place,
        over: Option<Arc<Override>>,
        order: u32,
    ) -> Option<Arc<Override>> {
        let component = self.components.get_mut(at.0)?;
        let after = u32::from(over.is_some());
        component.over_at = if over.is_some() { order } else { NONE };
        let found = std::mem::replace(&mut component.over, over);
        self.count(at, u32::from(found.is_some()), after);
        found
    }

    /// Tells `at` and everything above it that one kind of rule at `at` went from `before` to `after`, each 0 or 1.
    fn count(&mut self, at: Place, before: u32, after: u32) {
        if before == after {
            return;
        }
        let mut next = at.0;
        while let Some(component) = self.components.get_mut(next) {
            let was = component.rules;
            component.rules = was + after - before;
            if next != Place::ROOT.0 {
                self.live += usize::from(was == 0);
                self.live -= usize::from(component.rules == 0);
            }
            next = component.parent;
        }
    }

    /// The component `name` below `at`, with or without rules.
    fn raw_child(&self, at: Place, hash: u32, name: &[u8]) -> Option<(Place, &Component)> {
        let mut next = *self.buckets.get(hash & self.mask())?;
        while let Some(component) = self.components.get(next) {
            if component.hash == hash && component.parent == at.0 && component.name() == name {
                return Some((Place(next), component));
            }
            next = component.chain;
        }
        None
    }

    fn mask(&self) -> u32 {
        (self.buckets.len() - 1) as u32
    }

    fn attach(&mut self, at: Place, hash: u32, path: &[u8], name_at: usize) -> Place {
        if self.components.len() > self.buckets.len() {
            self.grow();
        }
        let path = std::ffi::CString::new(path).expect("a rule's path holds no NUL byte");
        let mut component = Component::new(path.into(), name_at as u32, hash, at.0);
        let place = self.components.len() as u32;
        let mask = self.mask();
        if let Some(head) = self.buckets.get_mut(hash & mask) {
            component.chain = std::mem::replace(head, place);
        }
        if let Some(parent) = self.components.get_mut(at.0) {
            component.next_sibling = std::mem::replace(&mut parent.first_child, place);
        }
        Place(self.components.push(component))
    }

    fn grow(&mut self) {
        let len = self.buckets.len() * 2;
        self.buckets = Chunks::filled(len, NONE);
        let mask = self.mask();
        for place in 1..self.components.len() as u32 {
            let Some(component) = self.components.get_mut(place) else {
                continue;
            };
            if let Some(head) = self.buckets.get_mut(component.hash & mask) {
                component.chain = std::mem::replace(head, place);
            }
        }
    }
}

/// FNV-1a over the parent's number and the name. Names to look up come from anyone, but only root's rules are ever put
/// in, so nobody else can make a chain long.
fn hash(at: Place, name: &[u8]) -> u32 {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(at.0);
    let hash = name.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}
