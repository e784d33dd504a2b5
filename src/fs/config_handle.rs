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
use std::sync::Arc;

/// The state of one open handle.
#[derive(Debug, Default, Clone)]
pub(crate) struct ConfigHandle {
    shown: Option<Shown>,
    lines: LineBuffer,
}

/// What a reader is shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Which configuration it is, if it has not been too long.
    of: Option<Config>,
    text: Arc<[u8]>,
}

impl Shown {
    /// The text of `config`.
    pub(crate) fn of(config: &Config) -> Shown {
        Shown {
            of: Some(config.clone()),
            text: config.render().into(),
        }
    }

    /// A text that was one's of a configuration.
    pub(crate) fn text(text: &[u8]) -> Shown {
        Shown {
            of: None,
            text: text.into(),
        }
    }

    #[cfg(test)]
    /// The text.
    pub(crate) fn whole(&self) -> &[u8] {
        &self.text
    }

    /// The text, unless it is that of `config`.
    pub(crate) fn other_than(&self, config: &Config) -> Option<&[u8]> {
        let same = self
            .of
            .as_ref()
            .is_some_and(|of| of.is_unchanged_from(config));
        (!same).then_some(&*self.text)
    }
}

impl ConfigHandle {
    /// One with the begun line of `lines`, whose reader is shown `shown`.
    pub(crate) fn new(lines: LineBuffer, shown: Option<Shown>) -> ConfigHandle {
        ConfigHandle { shown, lines }
    }

    /// What its reader is shown.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    /// The line begun and not yet ended.
    pub(crate) fn leftover(&self) -> &[u8] {
        self.lines.leftover()
    }

    /// Goes on with the begun line of `other`.
    pub(crate) fn begin_line_of(&mut self, other: &ConfigHandle) {
        self.lines = other.lines.clone();
    }

    /// True if a read from `offset` takes up `config` anew.
    pub(crate) fn takes_up(&self, config: &Config, offset: u64) -> bool {
        match &self.shown {
            Some(shown) => offset == 0 && shown.other_than(config).is_some(),
            None => true,
        }
    }

    /// At most `size` bytes of the file from `offset`, fewer only at its end and none beyond. `config` is the
    /// configuration in force, which is taken up at offset 0 and by the first read of a handle.
    pub(crate) fn read(&mut self, config: &Config, offset: u64, size: usize) -> &[u8] {
        if self.takes_up(config, offset) {
            self.shown = Some(Shown::of(config));
        }
        let text = self.shown.as_ref().map_or(&[][..], |shown| &shown.text);
        let from = usize::try_from(offset).map_or(text.len(), |from| from.min(text.len()));
        let to = from.saturating_add(size).min(text.len());
        &text[from..to]
    }

    /// Takes the bytes of one write. The commands of the lines they end, if any, go to `commit` all together, with the line
    /// that is begun behind them; it puts all of them in force or none (D30). Returns the number of bytes taken: all.
    ///
    /// # Errors
    ///
    /// The first line that is no command, or what `commit` says. Nothing has changed then, and neither the bytes of
    /// this write nor a line begun by an earlier one are kept: a writer that goes on after an error begins a new line.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        commit: impl FnOnce(&[Command], &[u8]) -> Result<(), CommandError>,
    ) -> Result<usize, CommandError> {
        let taken = self
            .commands(bytes)
            .and_then(|commands| match commands.is_empty() {
                true => Ok(()),
                false => commit(&commands, self.lines.leftover()),
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

#[cfg(test)]
mod tests;
