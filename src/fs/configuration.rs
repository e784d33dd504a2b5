//! The configuration file at the root of the mount, `.bedrock-config-filesystem`: what reads see and what writes do.

use super::config::{Command, CommandError, Config, Problem};
use super::config_handle::ConfigHandles;
use super::lower::Lower;
use super::rules::Rules;
use crate::log;
use crate::mutex::lock;
use crate::sys::creds::own;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex};

/// The largest text that an inject override may add, in bytes.
pub const INJECT_MAX: u64 = 1 << 20;

/// Texts in place of files, by path.
pub(crate) type Sources = HashMap<Box<[u8]>, Arc<[u8]>>;

/// The configuration in force, and its file.
pub(crate) struct Configuration {
    lower: Arc<Lower>,
    /// The mount point, for what is logged.
    mountpoint: Box<[u8]>,
    config: Mutex<Config>,
    /// Held by whoever changes the configuration, from reading sources to editing files. What it guards is the version of
    /// the rules in force.
    changing: Mutex<u64>,
    /// The open handles of the file.
    pub(crate) handles: ConfigHandles,
    /// In place of the files that inject overrides name: see [`Configuration::make_up_sources`].
    sources: Option<Sources>,
}

impl Configuration {
    /// `config`, whose rules are in force on `lower` as the version before the first change.
    pub(crate) fn new(lower: Arc<Lower>, config: Config, mountpoint: Box<[u8]>) -> Configuration {
        let version = lower.rules().version();
        Configuration {
            lower,
            mountpoint,
            config: Mutex::new(config),
            changing: Mutex::new(version),
            handles: ConfigHandles::default(),
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

    /// Carries out `commands`, all or none, and puts the new rules in force at once (contract D30, D35). `end` then ends what
    /// was configured: it is given the configuration before, that after, and the rules before.
    ///
    /// Changes are made one after another; those who read the configuration or act on it wait for none of this.
    ///
    /// # Errors
    /// The first command that cannot be carried out, such as an injection whose source cannot be read.
    pub(crate) fn change(
        &self,
        commands: &[Command],
        end: impl FnOnce(&Config, &Config, &Rules),
    ) -> Result<(), CommandError> {
        let mut version = lock(&self.changing);
        let read = |path| own(|| self.read_source(path));
        let texts = commands
            .iter()
            .map(|command| {
                command
                    .source()
                    .map(read)
                    .transpose()
                    .map_err(|errno| CommandError::new(&command.line(), Problem::Source(errno)))
            })
            .collect::<Result<Vec<Option<Arc<[u8]>>>, _>>()?;
        let old = self.get();
        let next = old.apply_all(commands.iter().zip(texts))?;
        if next.is_unchanged_from(&old) {
            return Ok(());
        }
        *version += 1;
        let rules = self.lower.put_in_force(next.compile(*version));
        *lock(&self.config) = next.clone();
        let ended = own(|| {
            end(&old, &next, &rules);
            Ok(())
        });
        if let Err(errno) = ended {
            log::error(format_args!(
                "{}: text that is injected no more stays in its files, for the daemon cannot act as root: {errno}",
                crate::printable::printable(&self.mountpoint)
            ));
        }
        Ok(())
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
