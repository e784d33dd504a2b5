//! The configuration: the ordered text that `.bedrock-config-filesystem` shows, and the rules made from it.
//!
//! # The text (D25)
//!
//! First every global rule, `global /path`, then every override, `override type /path content`, each line ended by a
//! newline. Within both groups the order is that of adding; an override that replaces another keeps its line's place.
//! Paths have exactly one leading slash, contents are printed byte for byte as they came. The writer compares whole
//! lines, so a single byte printed differently would make it remove and add the rule at every run.
//!
//! # Commands (D27)
//!
//! `add_global P`, `rm_global P`, `add_override {symlink|directory|inject} P C`, `rm_override P`, single spaces, one
//! line each. Adding what is there and removing what is not there succeed (D27, D28). What a path may be is said at
//! [`PathProblem`](super::rules::PathProblem); a content runs to the end of the line and may hold spaces.
//!
//! # Several lines in one write (D30)
//!
//! All of them hold, or the write fails and nothing has changed: commands are applied to a copy, and the copy takes the
//! original's place only when the last one succeeded.

mod command;
mod error;
mod lines;

pub use command::{CONTENT_MAX, Command, INJECT_MAX, parse_line};
pub use error::{CommandError, Problem};
pub(crate) use lines::LineBuffer;

use super::rules::{Chunks, NONE, Override, OverrideKind, Place, RulePath, Rules, Tree};
use std::sync::Arc;

/// Largest rendered configuration in bytes; a rule that would exceed it is refused with ENOSPC. It bounds the memory
/// that a runaway writer can take: some 80 times what it wrote in the worst case, deep paths of one-letter components.
pub(crate) const TEXT_MAX: u64 = 4 << 20;

/// Removed entries that may stay in the order and in the tree, beside as many as there are living ones, before both
/// are built anew.
const SPARE: usize = 64;

/// The configuration. Cloning is one reference count; a changed copy shares all but a few hundred entries with the
/// original.
#[derive(Clone, Debug)]
pub struct Config(Arc<Model>);

#[derive(Clone, Debug)]
struct Model {
    tree: Arc<Tree>,
    globals: Order,
    overrides: Order,
    text_len: u64,
}

/// Places in the order of their lines, with gaps where rules were removed.
#[derive(Clone, Debug)]
struct Order {
    places: Chunks<u32>,
    gaps: usize,
}

impl Order {
    const fn new() -> Order {
        Order {
            places: Chunks::new(),
            gaps: 0,
        }
    }

    fn len(&self) -> usize {
        self.places.len() - self.gaps
    }

    fn remove(&mut self, at: u32) {
        if let Some(place) = self.places.get_mut(at) {
            *place = NONE;
            self.gaps += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = Place> {
        self.places
            .iter()
            .filter(|place| **place != NONE)
            .map(|place| Place(*place))
    }
}

impl Config {
    /// No rules.
    pub fn new() -> Config {
        Config(Arc::new(Model {
            tree: Arc::new(Tree::new()),
            globals: Order::new(),
            overrides: Order::new(),
            text_len: 0,
        }))
    }

    /// The rules, as version `version`. Shares everything with the configuration and costs two reference counts.
    pub fn compile(&self, version: u64) -> Rules {
        Rules::new(version, Arc::clone(&self.0.tree))
    }

    /// The text of the configuration file.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.0.text_len as usize);
        for path in self.globals() {
            text.extend_from_slice(b"global /");
            text.extend_from_slice(path);
            text.push(b'\n');
        }
        for over in self.overrides() {
            text.extend_from_slice(b"override ");
            text.extend_from_slice(over.kind.word().as_bytes());
            text.extend_from_slice(b" /");
            text.extend_from_slice(&over.path);
            text.push(b' ');
            text.extend_from_slice(&over.content);
            text.push(b'\n');
        }
        text
    }

    /// The length of [`Config::render`] without rendering: the size that stat shows (D24).
    pub(crate) fn rendered_len(&self) -> u64 {
        self.0.text_len
    }

    /// Global paths without a leading slash, in the order of their lines.
    pub(crate) fn globals(&self) -> impl Iterator<Item = &[u8]> {
        let tree = &self.0.tree;
        self.0
            .globals
            .iter()
            .filter_map(|place| Some(tree.get(place)?.path.to_bytes()))
    }

    /// Overrides in the order of their lines.
    pub(crate) fn overrides(&self) -> impl Iterator<Item = &Arc<Override>> {
        let tree = &self.0.tree;
        self.0
            .overrides
            .iter()
            .filter_map(|place| tree.get(place)?.over.as_ref())
    }

    /// The override of `path`, to see what a command took away or replaced (D32, D34).
    pub fn override_of(&self, path: &RulePath) -> Option<&Arc<Override>> {
        let tree = &self.0.tree;
        tree.get(tree.locate(path)?)?.over.as_ref()
    }

    /// Whether `path` has a global rule of its own.
    pub fn is_global(&self, path: &RulePath) -> bool {
        let tree = &self.0.tree;
        let component = tree.locate(path).and_then(|place| tree.get(place));
        component.is_some_and(|component| component.global != NONE)
    }

    /// Whether both are the same configuration because nothing was changed between them; then the rules in force need
    /// not be replaced.
    pub(crate) fn is_unchanged_from(&self, other: &Config) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The configuration after `command`. `text` is what was read from the source of an inject override, and nothing
    /// for other commands.
    ///
    /// # Errors
    ///
    /// [`Problem::SourceNotRead`] for an inject override without text, [`Problem::Full`] beyond [`TEXT_MAX`].
    pub fn apply(
        &self,
        command: &Command,
        text: Option<Arc<[u8]>>,
    ) -> Result<Config, CommandError> {
        let mut changed = self.clone();
        changed.change(command, text)?;
        Ok(changed)
    }

    /// The configuration after all of `commands`, in order, or the first error (D30).
    ///
    /// # Errors
    ///
    /// As [`Config::apply`].
    pub(crate) fn apply_all<'a>(
        &self,
        commands: impl IntoIterator<Item = (&'a Command, Option<Arc<[u8]>>)>,
    ) -> Result<Config, CommandError> {
        self.clone().with_all(commands)
    }

    /// The same, of a configuration that nobody else is left with: what nobody shares with it is changed where it is.
    ///
    /// # Errors
    ///
    /// As [`Config::apply`].
    pub(crate) fn with_all<'a>(
        mut self,
        commands: impl IntoIterator<Item = (&'a Command, Option<Arc<[u8]>>)>,
    ) -> Result<Config, CommandError> {
        for (command, text) in commands {
            self.change(command, text)?;
        }
        Ok(self)
    }

    /// The commands that make this configuration of an empty one, with the texts of injections.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (Command, Option<Arc<[u8]>>)> {
        let globals = self.globals().filter_map(|path| {
            let path = RulePath::parse(path).ok()?;
            Some((Command::AddGlobal(path), None))
        });
        let overrides = self.overrides().filter_map(|over| {
            let command = Command::AddOverride {
                kind: over.kind,
                path: RulePath::parse(&over.path).ok()?,
                content: over.content.clone(),
            };
            let text = command.source().is_some().then(|| over.text.clone());
            Some((command, text))
        });
        globals.chain(overrides)
    }

    fn change(&mut self, command: &Command, text: Option<Arc<[u8]>>) -> Result<(), CommandError> {
        match command {
            Command::AddGlobal(path) => self.add_global(path),
            Command::RmGlobal(path) => {
                self.rm_global(path);
                Ok(())
            }
            Command::AddOverride {
                kind,
                path,
                content,
            } => {
                let text = match kind {
                    OverrideKind::Inject => text.ok_or(Problem::SourceNotRead),
                    OverrideKind::Symlink | OverrideKind::Directory => Ok([].into()),
                };
                text.and_then(|text| {
                    self.add_override(
                        path,
                        Override {
                            kind: *kind,
                            path: path.as_bytes().into(),
                            content: content.clone(),
                            text,
                            number: Override::next_number(),
                        },
                    )
                })
            }
            Command::RmOverride(path) => {
                self.rm_override(path);
                Ok(())
            }
        }
        .map_err(|problem| CommandError::new(&command.line(), problem))
    }

    fn add_global(&mut self, path: &RulePath) -> Result<(), Problem> {
        if self.is_global(path) {
            return Ok(());
        }
        let text_len = self.room(0, global_len(path.as_bytes()))?;
        let model = Arc::make_mut(&mut self.0);
        model.text_len = text_len;
        let tree = Arc::make_mut(&mut model.tree);
        let place = tree.make(path);
        tree.set_global(place, model.globals.places.push(place.0));
        Ok(())
    }

    fn rm_global(&mut self, path: &RulePath) {
        if !self.is_global(path) {
            return;
        }
        let model = Arc::make_mut(&mut self.0);
        let tree = Arc::make_mut(&mut model.tree);
        let place = tree.make(path);
        if let Some(component) = tree.get(place) {
            model.globals.remove(component.global);
        }
        tree.set_global(place, NONE);
        model.text_len -= global_len(path.as_bytes());
        model.compact();
    }

    fn add_override(&mut self, path: &RulePath, over: Override) -> Result<(), Problem> {
        let old_len = match self.override_of(path) {
            Some(old) if **old == over => return Ok(()),
            Some(old) => override_len(old),
            None => 0,
        };
        let text_len = self.room(old_len, override_len(&over))?;
        let model = Arc::make_mut(&mut self.0);
        model.text_len = text_len;
        let tree = Arc::make_mut(&mut model.tree);
        let place = tree.make(path);
        let order = match tree.get(place) {
            Some(component) if component.over.is_some() => component.over_at,
            _ => model.overrides.places.push(place.0),
        };
        tree.set_override(place, Some(Arc::new(over)), order);
        Ok(())
    }

    fn rm_override(&mut self, path: &RulePath) {
        let Some(old_len) = self.override_of(path).map(|over| override_len(over)) else {
            return;
        };
        let model = Arc::make_mut(&mut self.0);
        let tree = Arc::make_mut(&mut model.tree);
        let place = tree.make(path);
        if let Some(component) = tree.get(place) {
            model.overrides.remove(component.over_at);
        }
        tree.set_override(place, None, NONE);
        model.text_len -= old_len;
        model.compact();
    }

    /// The length of the text once `removed` bytes have become `added`.
    fn room(&self, removed: u64, added: u64) -> Result<u64, Problem> {
        let text_len = self.0.text_len - removed + added;
        match text_len <= TEXT_MAX {
            true => Ok(text_len),
            false => Err(Problem::Full),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}

impl Model {
    /// Builds the tree and both orders anew when most of them is left over from removed rules, which spreads the cost
    /// over the removals that made it necessary.
    fn compact(&mut self) {
        let living = self.globals.len() + self.overrides.len();
        let left_over = self.globals.gaps + self.overrides.gaps + self.tree.dead();
        if left_over <= 2 * living + SPARE {
            return;
        }
        let mut tree = Tree::new();
        let mut globals = Order::new();
        let mut overrides = Order::new();
        for place in self.globals.iter() {
            if let Some(path) = self.path(place) {
                let place = tree.make(&path);
                tree.set_global(place, globals.places.push(place.0));
            }
        }
        for place in self.overrides.iter() {
            let over = self.tree.get(place).and_then(|found| found.over.clone());
            if let Some(path) = self.path(place) {
                let place = tree.make(&path);
                tree.set_override(place, over, overrides.places.push(place.0));
            }
        }
        self.tree = Arc::new(tree);
        self.globals = globals;
        self.overrides = overrides;
    }

    fn path(&self, place: Place) -> Option<RulePath> {
        RulePath::parse(self.tree.get(place)?.path.to_bytes()).ok()
    }
}

/// Bytes of the line `global /path\n`.
fn global_len(path: &[u8]) -> u64 {
    ("global /\n".len() + path.len()) as u64
}

/// Bytes of the line `override type /path content\n`.
fn override_len(over: &Override) -> u64 {
    let fixed = "override  / \n".len() + over.kind.word().len();
    (fixed + over.path.len() + over.content.len()) as u64
}

#[cfg(test)]
mod tests;
