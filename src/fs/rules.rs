//! The rules in force: which names are global, and what overrides enforce.
//!
//! Rules form a tree of path components. A directory that has a [`Place`] in the tree asks [`Rules::child`] for each name
//! looked up in it; a directory without one has no rules below it, and nothing is asked. So a lookup costs the same with
//! 40 rules and with 10,000 (U6).
//!
//! # When rules meet
//!
//! A global rule says in which directory a name lives, an override says what is enforced there, so both may name one
//! path and both hold: the override is enforced in the global directory (the default configuration injects into the
//! global `sudoers`). For the rest:
//!
//! 1. Everything below a global directory is global (D39). A global rule below another changes nothing while the upper
//!    one exists, is printed, and counts again when the upper one is removed.
//! 2. One path has one override. A later `add_override` of the same path replaces type and content and keeps its line's
//!    place in the printed order (D32).
//! 3. An override below a symlink override sleeps while the symlink is in place: the kernel follows the symlink and
//!    never looks below it, and nothing is created to reach it. Where the symlink cannot be put (a non-empty directory
//!    is in the way, S16), what is there is served, and the overrides below it hold.
//! 4. An inject override of a directory does nothing, so rules below it hold.
//! 5. A directory override and rules below it all hold; that is how Bedrock writes nested keys (D42).
//! 6. No override makes the directories above it; only a directory override makes a directory.

mod chunks;
mod overrides;
mod path;
mod tree;

use super::ids::Side;
pub(in crate::fs) use chunks::Chunks;
pub use overrides::{Override, OverrideKind};
pub use path::{COMPONENT_MAX, DEPTH_MAX, PATH_MAX, PathProblem, RulePath};
use std::ffi::CStr;
use std::sync::Arc;
pub(crate) use tree::Place;
pub(in crate::fs) use tree::{NONE, Tree};

/// What the rules say about a path, for explaining (P5).
#[derive(Clone, Debug)]
pub struct Ruling<'a> {
    /// The deepest component of the path that is in the tree.
    pub place: Place,
    /// Whether `place` is the whole path; otherwise no rule names it or anything below it.
    pub(crate) exact: bool,
    /// The side the path lives on.
    pub(crate) side: Side,
    /// The directory or file whose global rule put it there.
    pub global: Option<Place>,
    /// The override of exactly this path.
    pub over: Option<&'a Arc<Override>>,
    /// A symlink override above the path, under which it is not reached while the symlink is in place.
    pub hidden_by: Option<&'a Arc<Override>>,
}

/// The side that `rules` put a path on, of which they say `found`; `exact`: only listed names are global.
pub(crate) fn side_of(found: &Ruling<'_>, rules: &Rules, exact: bool) -> Side {
    let by_itself = found.exact && rules.is_global(found.place);
    if exact && !by_itself {
        Side::Local
    } else {
        found.side
    }
}

/// One version of the rules. Never changes; shared by reference count.
#[derive(Clone, Debug)]
pub struct Rules {
    version: u64,
    tree: Arc<Tree>,
}

impl Rules {
    pub(in crate::fs) fn new(version: u64, tree: Arc<Tree>) -> Rules {
        Rules { version, tree }
    }

    /// The number this version was compiled with.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    #[cfg(test)]
    /// Whether there is no rule at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.rules() == 0
    }

    /// The component `name` below `at`, if a rule names it or something below it. One hash and usually one comparison,
    /// without allocation.
    pub(crate) fn child(&self, at: Place, name: &[u8]) -> Option<Place> {
        self.tree.child(at, name)
    }

    /// Whether a global rule names exactly this path. What is below a global directory is global too (D39), which is for
    /// the caller to carry downwards, or for [`Rules::find`] to find out.
    pub(crate) fn is_global(&self, at: Place) -> bool {
        self.tree
            .get(at)
            .is_some_and(|component| component.global != NONE)
    }

    #[cfg(test)]
    /// The side `at` lives on: global if a global rule names it or anything above it (D39). Costs one step per component.
    pub(crate) fn side(&self, at: Place) -> Side {
        match self.tree.upwards(at).any(|(_, above)| above.global != NONE) {
            true => Side::Global,
            false => Side::Local,
        }
    }

    /// The override of exactly this path.
    pub(crate) fn override_at(&self, at: Place) -> Option<&Arc<Override>> {
        self.tree.get(at)?.over.as_ref()
    }

    /// The path from the root, `default/grub`; the root, and a place that is not in the tree, is `.`.
    pub fn path(&self, at: Place) -> &CStr {
        self.tree.get(at).map_or(c".", |component| &component.path)
    }

    /// The components below `at` that have rules or lead to some, sorted by name. Sorting costs time and memory in
    /// proportion to their number; it is for listings.
    pub(crate) fn children(&self, at: Place) -> impl Iterator<Item = (&[u8], Place)> {
        let mut children: Vec<_> = self
            .tree
            .children(at)
            .map(|(place, component)| (component.name(), place))
            .collect();
        children.sort_unstable_by_key(|(name, _)| *name);
        children.into_iter()
    }

    /// What the rules say about `path`, given from the root with or without slashes at either end. Empty components and
    /// `.` are skipped; `..` is a name like any other and matches nothing.
    pub fn find(&self, path: &[u8]) -> Ruling<'_> {
        let mut found = Ruling {
            place: Place::ROOT,
            exact: true,
            side: Side::Local,
            global: None,
            over: None,
            hidden_by: None,
        };
        for name in path::components(path).filter(|name| !matches!(*name, b"" | b".")) {
            if let Some(over) = found.over.take() {
                if over.kind == OverrideKind::Symlink {
                    found.hidden_by.get_or_insert(over);
                }
            }
            match self.child(found.place, name).filter(|_| found.exact) {
                Some(place) => {
                    found.place = place;
                    found.over = self.override_at(place);
                    if self.is_global(place) {
                        found.side = Side::Global;
                        found.global.get_or_insert(place);
                    }
                }
                None => found.exact = false,
            }
        }
        found
    }
}

impl Default for Rules {
    /// No rules, version 0.
    fn default() -> Rules {
        Rules::new(0, Arc::new(Tree::new()))
    }
}
