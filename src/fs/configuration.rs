//! The configuration file at the root of the mount, `.bedrock-config-filesystem`: what reads see and what writes do.

mod entry;
mod kept;

use super::config::{Command, CommandError, Config, Problem};
use super::lower::Lower;
use super::rules::Rules;
use crate::ledger::{Ledger, Unreadable};
use crate::log;
use crate::mutex::lock;
use crate::sys::creds::own;
use entry::Changed;
use kept::ConfigurationKept;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex};

pub use super::config::INJECT_MAX;

/// Texts in place of files, by path.
pub(crate) type Sources = HashMap<Box<[u8]>, Arc<[u8]>>;

/// The configuration in force, and its file.
pub(crate) struct Configuration {
    lower: Arc<Lower>,
    /// The mount point, for what is logged.
    mountpoint: Box<[u8]>,
    /// The configuration in force, for those who ask; as in `kept`.
    config: Mutex<Config>,
    /// What a successor finds. Held for moments.
    kept: Mutex<ConfigurationKept>,
    /// Held by whoever writes to the file or changes the configuration, from reading sources to editing files. What it guards
    /// is the right to do so.
    changing: Mutex<()>,
    /// In place of the files that inject overrides name: see [`Configuration::make_up_sources`].
    sources: Option<Sources>,
}

/// The configuration that a ledger tells of, before anything is served by it.
pub(crate) struct Restored(ConfigurationKept);

impl Restored {
    /// What `ledger` says. Nothing is an empty configuration, version 1 of the rules.
    ///
    /// # Errors
    /// [`Unreadable::Broken`].
    pub(crate) fn over(ledger: &'static Ledger) -> Result<Restored, Unreadable> {
        ConfigurationKept::over(ledger).map(Restored)
    }

    /// The rules, to be in force from the beginning.
    pub(crate) fn rules(&self) -> Rules {
        self.0.config.compile(self.0.version)
    }
}

/// A write to the file that was refused.
pub(crate) enum Refused {
    /// Now, for this reason.
    Now(CommandError),
    /// When the request was carried out before, and that was told; or there is no such handle. The errno, positive.
    Silently(i32),
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Refused {
        Refused::Now(error)
    }
}

/// Ends what was configured: it is given the commands, the configuration before, that after, and the rules before.
pub(crate) type End<'a> = &'a dyn Fn(&[Command], &Config, &Config, &Rules);

impl Configuration {
    /// `restored`, whose rules are in force on `lower`.
    pub(crate) fn new(
        lower: Arc<Lower>,
        restored: Restored,
        mountpoint: Box<[u8]>,
    ) -> Configuration {
        Configuration {
            lower,
            mountpoint,
            config: Mutex::new(restored.0.config.clone()),
            kept: Mutex::new(restored.0),
            changing: Mutex::default(),
            sources: None,
        }
    }

    /// Its size in bytes: what a read of all of it returns.
    pub(crate) fn size(&self) -> u64 {
        lock(&self.config).rendered_len()
    }

    /// The configuration in force.
    pub(crate) fn get(&self) -> Config {
        lock(&self.config).clone()
    }

    /// How often the file is open.
    pub(crate) fn opens(&self) -> usize {
        lock(&self.kept).handles.len()
    }

    /// Opens the file for request `unique`, with the handle that `fh` makes, or with the one that it was given before.
    ///
    /// # Errors
    /// ENOSPC.
    pub(crate) fn open(&self, unique: u64, fh: impl FnOnce() -> u64) -> Result<u64, Errno> {
        let mut kept = lock(&self.kept);
        if let Some(fh) = kept.answer_to(unique) {
            return Ok(fh as u64);
        }
        let fh = fh();
        kept.open(unique, fh).map_err(|_| Errno::NOSPC)?;
        Ok(fh)
    }

    /// Hands what a read through `fh` returns to `read`: see [`ConfigHandle::read`](super::config_handle::ConfigHandle::read).
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn read<T>(
        &self,
        fh: u64,
        (offset, size): (u64, usize),
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Errno> {
        let mut kept = lock(&self.kept);
        kept.read(fh, offset, size).map(read).ok_or(Errno::BADF)
    }

    /// Closes handle `fh`. Answers what is to be told of it.
    pub(crate) fn close(&self, fh: u64) -> Option<CommandError> {
        let handle = lock(&self.kept).close(fh);
        handle?.close()
    }

    /// Carries out what request `unique` writes through handle `fh`, once, however often it is asked to. Answers the number of
    /// bytes taken: all.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn write(
        &self,
        (unique, fh): (u64, u64),
        bytes: &[u8],
        end: End<'_>,
    ) -> Result<usize, Refused> {
        let _changing = lock(&self.changing);
        self.complete(end);
        let answered = lock(&self.kept).answer_to(unique);
        if let Some(answer) = answered {
            let taken = usize::try_from(answer);
            return taken.map_err(|_| Refused::Silently(answer.unsigned_abs() as i32));
        }
        let handle = lock(&self.kept).handles.get(&fh).cloned();
        let mut handle = handle.ok_or(Refused::Silently(Errno::BADF.raw_os_error()))?;
        let before = handle.leftover().to_vec();
        let mut changed = false;
        let taken = handle.write(bytes, |commands, rest| {
            let written = (unique, fh, rest, bytes.len() as i64);
            changed = self.carry_out(commands, Some(written), end)?;
            Ok(())
        });
        match &taken {
            Ok(_) if changed || handle.leftover() == before => {}
            Ok(taken) => {
                let noted = lock(&self.kept).note_write((unique, fh), &handle, *taken as i64);
                noted.map_err(|_| CommandError::new(handle.leftover(), self.no_room()))?;
            }
            Err(error) => {
                let answer = -i64::from(error.errno());
                // Without room for it the line is begun still, and what follows is refused as well.
                let _ = lock(&self.kept).note_write((unique, fh), &handle, answer);
            }
        }
        Ok(taken?)
    }

    /// Carries out `commands`, all or none, and puts the new rules in force at once (contract D30, D35). `end` then ends what
    /// was configured.
    ///
    /// Changes are made one after another; those who read the configuration or act on it wait for none of this.
    ///
    /// # Errors
    /// The first command that cannot be carried out, such as an injection whose source cannot be read.
    pub(crate) fn change(&self, commands: &[Command], end: End<'_>) -> Result<(), CommandError> {
        let _changing = lock(&self.changing);
        self.complete(end);
        self.carry_out(commands, None, end).map(drop)
    }

    /// Ends what a predecessor has taken out of the configuration, and has not come to end.
    pub(crate) fn go_on(&self, end: End<'_>) {
        let _changing = lock(&self.changing);
        self.complete(end);
    }

    /// As [`Configuration::go_on`], for whoever changes the configuration.
    fn complete(&self, end: End<'_>) {
        let (unfinished, new) = {
            let mut kept = lock(&self.kept);
            (kept.unfinished.take(), kept.config.clone())
        };
        if let Some(was) = unfinished {
            let rules = was.old.compile(was.old_version);
            self.end(end, &was.commands, (&was.old, &new), &rules);
            lock(&self.kept).completed();
        }
    }

    fn no_room(&self) -> Problem {
        Problem::NoRoom(lock(&self.kept).room())
    }

    /// True if anything has changed.
    fn carry_out(
        &self,
        commands: &[Command],
        written: Option<(u64, u64, &[u8], i64)>,
        end: End<'_>,
    ) -> Result<bool, CommandError> {
        let mut room = lock(&self.kept).room();
        let mut read = |command: &Command, path| {
            let refused = |problem| CommandError::new(&command.line(), problem);
            let text = own(|| self.read_source(path));
            let text = text.map_err(|errno| refused(Problem::Source(errno)))?;
            room = room
                .checked_sub(text.len())
                .ok_or_else(|| refused(self.no_room()))?;
            Ok(text)
        };
        let texts = commands
            .iter()
            .map(|command| command.source().map(|path| read(command, path)).transpose())
            .collect::<Result<Vec<Option<Arc<[u8]>>>, CommandError>>()?;
        let old = self.get();
        let next = old.apply_all(commands.iter().zip(texts.iter().cloned()))?;
        if next.is_unchanged_from(&old) {
            return Ok(false);
        }
        let mut overridden = commands.iter().filter_map(Command::override_path);
        let changed = Changed {
            commands,
            texts: &texts,
            ends: overridden.any(|path| old.override_of(path).is_some()),
            written,
        };
        let (noted, version) = {
            let mut kept = lock(&self.kept);
            (kept.change(next.clone(), &changed), kept.version)
        };
        if noted.is_err() {
            let line = commands.last().map(Command::line).unwrap_or_default();
            return Err(CommandError::new(&line, self.no_room()));
        }
        let rules = self.lower.put_in_force(next.compile(version));
        *lock(&self.config) = next.clone();
        self.end(end, commands, (&old, &next), &rules);
        lock(&self.kept).completed();
        Ok(true)
    }

    fn end(
        &self,
        end: End<'_>,
        commands: &[Command],
        (old, new): (&Config, &Config),
        rules: &Rules,
    ) {
        let ended = own(|| {
            end(commands, old, new, rules);
            Ok(())
        });
        if let Err(errno) = ended {
            log::error(format_args!(
                "{}: text that is injected no more stays in its files, for the daemon cannot act as root: {errno}",
                crate::printable::printable(&self.mountpoint)
            ));
        }
    }

    /// From here on the texts of inject overrides come from `sources`, by path, and no file is read for them: whoever
    /// carries out somebody else's recording must not put files of this machine into it.
    pub(crate) fn make_up_sources(&mut self, sources: Sources) {
        self.sources = Some(sources);
    }

    /// Reads the text of an inject override, relative to the daemon's root (contract D33).
    fn read_source(&self, path: &[u8]) -> Result<Arc<[u8]>, Errno> {
        use std::io::Read as _;
        if let Some(sources) = &self.sources {
            return sources.get(path).cloned().ok_or(Errno::NOENT);
        }
        let fd = rustix::fs::open(
            OsStr::from_bytes(path),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        let stat = rustix::fs::fstat(&fd)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            return Err(Errno::ISDIR);
        }
        let mut text = Vec::new();
        std::fs::File::from(fd)
            .take(INJECT_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if text.len() as u64 > INJECT_MAX {
            return Err(Errno::FBIG);
        }
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests;
