//! The model: nodes, handles, sides and rules over two lower directories. Nothing here knows an opcode or a reply.
//!
//! # The rooms, from the bottom up
//!
//! A room imports from those above it in this list only, and [`Fs`] owns the parts and knows how they hang together.
//!
//! | room | what is in it |
//! |---|---|
//! | [`ids`], [`settings`], [`begin`], [`asker`], [`kernel`], [`budget`] | what things are called, what the daemon was told, why it cannot begin, who asks, what is asked of the kernel, who is charged |
//! | [`stat`], [`mark`], [`made`] | what a lower object is, whether it has changed, whether it is the one just made |
//! | [`staging`] | temporary names, places of the daemon's own, and what killed daemons have left |
//! | [`rules`], [`config`], [`config_handle`], [`inject`] | which names are global, what overrides want, the text of it all, and what injection makes of a file's bytes: no I/O |
//! | [`backing`], [`handle`], [`node`] | the tables: backing ids, open files and directories, known inodes and where each was last found |
//! | [`lower`] | from a name to a lower directory and a side, from there to a node, and from a node back to its inode |
//! | [`attributes`], [`passthrough`], [`locks`], [`grants`], [`closing`] | what the kernel may keep, which files it reads by itself, clients' locks, set-id programs and devices, files that hang when they are closed |
//! | [`watch`] | which names, attributes and listings the kernel keeps, and what makes it let go |
//! | [`opens`], [`listing`] | opening files and listing directories for clients |
//! | [`cross`] | a rename from one side to the other |
//! | [`enforce`], [`journal`] | overrides, enforced, and what was done for them |
//! | [`configuration`], [`explain`] | changing the configuration; telling where something is |

pub mod asker;
pub(crate) mod attributes;
pub(crate) mod backing;
pub(crate) mod begin;
pub(crate) mod budget;
pub(crate) mod closing;
pub mod config;
pub(crate) mod config_handle;
pub mod configuration;
pub mod cross;
pub mod enforce;
pub(crate) mod explain;
pub(crate) mod grants;
pub(crate) mod handle;
pub mod ids;
pub(crate) mod inject;
pub mod journal;
pub(crate) mod kernel;
pub(crate) mod listing;
pub(crate) mod locks;
pub mod lower;
pub(crate) mod made;
pub(crate) mod mark;
pub(crate) mod node;
pub(crate) mod opens;
pub(crate) mod passthrough;
pub mod rules;
pub mod settings;
pub mod staging;
pub mod stat;
#[cfg(test)]
mod survival;
pub(crate) mod watch;

use crate::ledger::Ledger;
use crate::sys::inherit::Inherited;
use backing::registry::Registry;
pub(crate) use begin::NotBegun;
use config::{Command, CommandError};
use configuration::Configuration;
use enforce::Enforcer;
use explain::Explainer;
use ids::Side;
use lower::{BaseDir, Lower};
use rustix::fd::RawFd;
use rustix::io::Errno;
use settings::Settings;
use std::sync::Arc;

/// One mounted tree.
pub struct Fs {
    /// What lies below, and what is known of it.
    pub lower: Arc<Lower>,
    /// The clients' locks.
    pub(crate) locks: Arc<locks::Locks>,
    /// What takes them.
    pub(crate) locker: locks::Locker,
    /// What the clients have open.
    pub(crate) opens: opens::Opens,
    /// What the daemon was told at start.
    pub(crate) settings: Settings,
    /// The time that ordinary users' copies across sides may take.
    pub(crate) copies: cross::Share,
    /// What files give to who runs or opens them.
    pub(crate) grants: grants::Grants,
    /// How the kernel is told what it must not keep.
    pub(crate) notices: Arc<attributes::Notices>,
    /// What the kernel keeps, where it is to keep anything.
    pub(crate) watch: watch::CacheWatch,
    /// Which files the kernel reads and writes itself.
    pub(crate) passthrough: Arc<passthrough::Passthrough>,
    /// The configuration, and its file.
    pub(crate) configuration: Configuration,
    /// What enforces overrides.
    pub enforcer: Enforcer,
    /// What tells where things are.
    pub(crate) explain: Explainer,
}

/// How many files and directories the clients may have open, as a multiple of what directories in use may hold, unless
/// [`Settings::open_limit`] says otherwise.
const OPENS: usize = 3;

impl Fs {
    /// A tree over the two base directories, without rules.
    ///
    /// # Errors
    /// What opening and looking at them answers.
    pub fn new(local: BaseDir, global: BaseDir, settings: Settings) -> Result<Fs, Errno> {
        let ledger = Ledger::private()?;
        Fs::over(ledger, &Inherited::default(), local, global, settings).map_err(|why| match why {
            NotBegun::Lower(errno) => errno,
            // An empty one says nothing; only memory can be missing.
            NotBegun::State(_) => Errno::NOMEM,
        })
    }

    /// A tree over the two base directories, without rules, with everything that is known and open according to `ledger`. What
    /// is open of passthrough is taken up when that is [enabled](passthrough::Passthrough::enable).
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub(crate) fn over(
        ledger: &'static Ledger,
        inherited: &Inherited,
        local: BaseDir,
        global: BaseDir,
        settings: Settings,
    ) -> Result<Fs, NotBegun> {
        crate::sys::xattr::prepare();
        staging::left::remove_left(ledger, inherited);
        staging::living::write_down_in(ledger);
        let journal = journal::Journal::over(ledger)?;
        let restored = configuration::Restored::over(ledger)?;
        let rules = restored.rules();
        let lower = Arc::new(Lower::over(
            ledger, inherited, local, global, &settings, rules,
        )?);
        let notices = Arc::<attributes::Notices>::default();
        let locks = locks::Locks::over(ledger, inherited, settings.dir_limit)?;
        let passthrough =
            passthrough::Passthrough::over(lower.clone(), Registry::over(ledger, inherited)?);
        let passthrough = Arc::new(passthrough);
        let sides = [Side::Local, Side::Global].map(|side| lower.base(side).dev);
        let grants = grants::Grants::new(&settings, sides);
        let fs = Fs {
            locker: locks::Locker::new(locks.clone(), lower.clone(), notices.clone()),
            opens: opens::Opens::over(
                ledger,
                lower.clone(),
                locks.clone(),
                notices.clone(),
                passthrough.clone(),
                grants,
                settings.open_limit.unwrap_or(settings.dir_limit * OPENS),
            ),
            configuration: Configuration::new(lower.clone(), restored, settings.mountpoint.clone()),
            enforcer: Enforcer::new(lower.clone(), journal, settings.mountpoint.clone()),
            explain: Explainer::new(lower.clone(), &settings),
            watch: watch::CacheWatch::over(ledger),
            lower,
            notices,
            passthrough,
            locks,
            grants,
            settings,
            copies: cross::Share::default(),
        };
        fs.opens.restore(ledger, inherited)?;
        Ok(fs)
    }

    /// The numbers of all descriptors that `ledger` names, for [`Inherited::keep`].
    pub(crate) fn descriptors_in(ledger: &'static Ledger) -> Vec<RawFd> {
        ledger.named_descriptors()
    }

    /// Carries out `commands`, all or none. Text that is no longer injected leaves its file before this returns (contract
    /// D32, D34).
    ///
    /// # Errors
    /// As [`Configuration::change`].
    pub fn change_config(&self, commands: &[Command]) -> Result<(), CommandError> {
        self.configuration
            .change(commands, &|commands, old, new, rules| {
                self.enforcer.end_superseded(commands, old, new, rules);
            })?;
        self.let_go();
        Ok(())
    }

    /// Has the kernel let go of what it keeps: rules say something else of it, or what they have enforced was undone.
    fn let_go(&self) {
        if let Some(on) = self.watch.on() {
            on.drop_everything();
        }
    }

    /// Carries out what request `unique` writes to the configuration file through handle `fh`; see [`Configuration::write`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn write_config(
        &self,
        (unique, fh): (u64, u64),
        bytes: &[u8],
    ) -> Result<usize, configuration::Refused> {
        let end: configuration::End<'_> = &|commands, old, new, rules| {
            self.enforcer.end_superseded(commands, old, new, rules);
        };
        let written = self.configuration.write((unique, fh), bytes, end);
        self.let_go();
        written
    }

    /// Takes text out of files that a predecessor has taken out of the configuration, and has not come to take out there.
    /// It may wait for those who write to such a file.
    pub(crate) fn go_on_with_config(&self) {
        self.configuration.go_on(&|commands, old, new, rules| {
            self.enforcer.end_superseded(commands, old, new, rules);
        });
    }

    /// Who owns what is made for `caller`: the daemon's own user where it cannot make things in others' names.
    pub(crate) fn maker(&self, caller: u32) -> u32 {
        match self.settings.privileged {
            true => caller,
            false => rustix::process::geteuid().as_raw(),
        }
    }
}
