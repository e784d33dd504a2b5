//! The configuration file at the root of the mount, `.bedrock-config-filesystem`: what reads see and what writes do.

use super::config::{Command, CommandError, Config, Problem};
use super::ids::NodeId;
use super::ids::Side;
use super::stat::Stat;
use super::{Fs, Sources};
use crate::log;
use crate::mutex::lock;
use crate::sys::creds::own;
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The largest text that an inject override may add, in bytes.
pub const INJECT_MAX: u64 = 1 << 20;

impl Fs {
    /// Its size in bytes: what a read of all of it returns.
    pub fn config_size(&self) -> u64 {
        lock(&self.config).rendered_len()
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    /// Carries out `commands`, all or none, and puts the new rules in force at once (contract D30, D35). Text that is no
    /// longer injected leaves its file before this returns (D32, D34).
    ///
    /// Changes are made one after another; those who read the configuration or act on it wait for none of this.
    ///
    /// # Errors
    /// The first command that cannot be carried out, such as an injection whose source cannot be read.
    pub fn change_config(&self, commands: &[Command]) -> Result<(), CommandError> {
        let _turn = lock(&self.changing);
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
        let old = self.config();
        let next = old.apply_all(commands.iter().zip(texts))?;
        if next.is_unchanged_from(&old) {
            return Ok(());
        }
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        let rules = self.rules.swap(Arc::new(next.compile(version)));
        *lock(&self.config) = next.clone();
        let end = own(|| {
            self.end_superseded(commands, &old, &next, &rules);
            Ok(())
        });
        if let Err(errno) = end {
            log::error(format_args!(
                "{}: text that is injected no more stays in its files, for the daemon cannot act as root: {errno}",
                crate::printable::printable(&self.settings.mountpoint)
            ));
        }
        Ok(())
    }

    /// From here on the texts of inject overrides come from `sources`, by path, and no file is read for them: whoever
    /// carries out somebody else's recording must not put files of this machine into it.
    pub fn make_up_sources(&mut self, sources: Sources) {
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

    /// `user.bedrock.stratum` of a node: `global`, or the stratum's name (contract D36).
    ///
    /// # Errors
    /// ESTALE for a node that is not known.
    pub fn stratum_of(&self, id: NodeId) -> Result<Vec<u8>, Errno> {
        if id != NodeId::CONFIG {
            let node = self.nodes.get(id).ok_or(Errno::STALE)?;
            if node.side() == Side::Local {
                return Ok(self.settings.stratum.to_vec());
            }
        }
        Ok(b"global".to_vec())
    }

    /// `user.bedrock.localpath` of a node: the mount point and the path below it; the root has a slash at its end, and
    /// the configuration file is `/` (contract D36). `look` looks at a name in a directory with the rights of whoever is to
    /// be told.
    ///
    /// # Errors
    /// As [`Fs::walked_path`].
    pub fn localpath_of(
        &self,
        id: NodeId,
        look: impl Fn(BorrowedFd<'_>, &CStr) -> Result<Stat, Errno>,
    ) -> Result<Vec<u8>, Errno> {
        if id == NodeId::CONFIG {
            return Ok(b"/".to_vec());
        }
        let mut path = self.settings.mountpoint.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(&self.walked_path(id, look)?);
        Ok(path)
    }
}
