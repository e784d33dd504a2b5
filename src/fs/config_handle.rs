//! One open handle of `.bedrock-config-filesystem`, apart from all I/O.
//!
//! Reading shows the configuration as it was when the reading began, so that the size that stat shows, the bytes that a
//! whole read returns and the end of the file agree (D24, D45) however long the reader takes. Reading from offset 0 begins
//! anew.
//!
//! Writing appends commands whatever the offset: the file is written with O_APPEND, with O_TRUNC and with neither (D26),
//! and there is nothing to overwrite or truncate. A truncation that is not part of an open is EINVAL, as there is no
//! length to set.

use super::config::{Command, CommandError, Config, LineBuffer, Problem, parse_line};
use crate::mutex::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The state of one open handle.
#[derive(Debug, Default)]
pub(crate) struct ConfigHandle {
    shown: Option<(Config, Vec<u8>)>,
    lines: LineBuffer,
}

impl ConfigHandle {
    /// At most `size` bytes of the file from `offset`, fewer only at its end and none beyond. `config` is the
    /// configuration in force, which is taken up at offset 0 and by the first read of a handle.
    pub(crate) fn read(&mut self, config: &Config, offset: u64, size: usize) -> &[u8] {
        let stale = match &self.shown {
            Some((shown, _)) => offset == 0 && !shown.is_unchanged_from(config),
            None => true,
        };
        if stale {
            self.shown = Some((config.clone(), config.render()));
        }
        let text = self.shown.as_ref().map_or(&[][..], |(_, text)| text);
        let from = usize::try_from(offset).map_or(text.len(), |from| from.min(text.len()));
        let to = from.saturating_add(size).min(text.len());
        &text[from..to]
    }

    /// Takes the bytes of one write. The commands of the lines they end, if any, go to `commit` all together, which
    /// puts all of them in force or none (D30). Returns the number of bytes taken: all.
    ///
    /// # Errors
    ///
    /// The first line that is no command, or what `commit` says. Nothing has changed then, and neither the bytes of
    /// this write nor a line begun by an earlier one are kept: a writer that goes on after an error begins a new line.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        commit: impl FnOnce(&[Command]) -> Result<(), CommandError>,
    ) -> Result<usize, CommandError> {
        let taken = self
            .commands(bytes)
            .and_then(|commands| match commands.is_empty() {
                true => Ok(()),
                false => commit(&commands),
            });
        match taken {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.lines.clear();
                Err(error)
            }
        }
    }

    /// What is to be logged when the handle is closed: a line that never got its newline (D30) and so never was a
    /// command.
    pub(crate) fn close(self) -> Option<CommandError> {
        let line = self.lines.leftover();
        (!line.is_empty()).then(|| CommandError::new(line, Problem::Unfinished))
    }

    fn commands(&mut self, bytes: &[u8]) -> Result<Vec<Command>, CommandError> {
        let lines = self.lines.push(bytes)?;
        lines.iter().map(|line| parse_line(line)).collect()
    }
}

/// The open handles.
#[derive(Debug, Default)]
pub(crate) struct ConfigHandles(Mutex<BTreeMap<u64, Arc<Mutex<ConfigHandle>>>>);

impl ConfigHandles {
    /// Adds a fresh one, whose number is `fh`.
    pub(crate) fn add(&self, fh: u64) {
        lock(&self.0).insert(fh, Arc::default());
    }

    /// The handle `fh`.
    pub(crate) fn get(&self, fh: u64) -> Option<Arc<Mutex<ConfigHandle>>> {
        lock(&self.0).get(&fh).cloned()
    }

    /// Takes the handle `fh` out.
    pub(crate) fn remove(&self, fh: u64) -> Option<Arc<Mutex<ConfigHandle>>> {
        lock(&self.0).remove(&fh)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

#[cfg(test)]
mod tests;
