//! The configuration as a successor finds it: a log of what was written to its file, with the state of each open handle.
//!
//! One write is one entry: its commands with the texts of injections, the line that it begins, and what it was answered. So
//! all of it counts or nothing, wherever the writer is killed, and a request that is carried out once more is answered
//! what it was answered before.

use super::entry::{Changed, EntryKind, Note, parse};
use crate::fs::config::{Command, Config, LineBuffer};
use crate::fs::config_handle::{ConfigHandle, Shown};
use crate::ledger::fields::FieldWriter;
use crate::ledger::log::{Full, Log};
use crate::ledger::{Ledger, Region, Unreadable};
use std::collections::{BTreeMap, VecDeque};

/// Set by the kernel in the number of a request that it hands out once more (`FUSE_UNIQUE_RESEND`, Linux 6.9).
const RESENT: u64 = 1 << 63;

/// How many answers are remembered. The kernel lets one write to the file at a time, and few open it.
const ANSWERS: usize = 64;

/// Words that stay free for saying that a change has been completed.
const SPARE: usize = 512;

/// A log of fewer words is not written anew.
const SHORT: usize = 8192;

/// The configuration, its open handles, and where they are written down.
pub(super) struct ConfigurationKept {
    pub(super) config: Config,
    /// The version of its rules.
    pub(super) version: u64,
    pub(super) handles: BTreeMap<u64, ConfigHandle>,
    /// What requests were answered: the last ones.
    answers: VecDeque<(u64, i64)>,
    log: Log,
    /// How long the log was when it was last written anew.
    anew: usize,
    /// A change is in force whose end is to be said. Until then the log is not written anew, as what ended is told by it.
    pub(super) ending: bool,
    /// The change that a predecessor has not completed.
    pub(super) unfinished: Option<Unfinished>,
}

/// A change whose old texts may still be in their files.
pub(super) struct Unfinished {
    pub(super) commands: Vec<Command>,
    pub(super) old: Config,
    pub(super) old_version: u64,
}

impl ConfigurationKept {
    /// What `ledger` says. Nothing is version 1 of an empty configuration.
    ///
    /// # Errors
    /// [`Unreadable::Broken`].
    pub(super) fn over(ledger: &'static Ledger) -> Result<ConfigurationKept, Unreadable> {
        let mut kept = ConfigurationKept {
            config: Config::new(),
            version: 1,
            handles: BTreeMap::new(),
            answers: VecDeque::new(),
            log: Log::over(ledger, Region::Configuration)?,
            anew: 0,
            ending: false,
            unfinished: None,
        };
        // The texts that readers are shown are made at the end, for those who have not closed the file.
        let mut shown: BTreeMap<u64, Config> = BTreeMap::new();
        let log = Log::over(ledger, Region::Configuration)?;
        log.read(|entry| {
            let Some(note) = parse(&entry)? else {
                return Ok(());
            };
            kept.take(note, &mut shown)
        })?;
        for (fh, config) in shown {
            if let Some(handle) = kept.handles.get_mut(&fh) {
                let lines = LineBuffer::holding(handle.leftover()).unwrap_or_default();
                *handle = ConfigHandle::new(lines, Some(Shown::of(&config)));
            }
        }
        kept.ending = kept.unfinished.is_some();
        Ok(kept)
    }

    /// How many bytes of texts there is room for.
    pub(super) fn room(&self) -> usize {
        self.log.room()
    }

    #[cfg(test)]
    /// How many words the log has.
    pub(super) fn log_len(&self) -> usize {
        self.log.len()
    }

    /// Takes an entry of the log.
    fn take(&mut self, note: Note, shown: &mut BTreeMap<u64, Config>) -> Result<(), Unreadable> {
        if let (Some(unique), Some(result)) = (note.unique, note.result) {
            self.remember(unique, result);
        }
        if let Some(fh) = note.fh {
            match note.kind {
                EntryKind::Close => {
                    self.handles.remove(&fh);
                    shown.remove(&fh);
                }
                kind => {
                    if kind == EntryKind::Open {
                        self.handles.insert(fh, ConfigHandle::default());
                        shown.remove(&fh);
                    }
                    let Some(handle) = self.handles.get_mut(&fh) else {
                        return Err(Unreadable::Broken("a handle that is not open"));
                    };
                    if let Some(rest) = &note.rest {
                        let lines = LineBuffer::holding(rest);
                        let lines = lines.ok_or(Unreadable::Broken("a line that is too long"))?;
                        handle.begin_line_of(&ConfigHandle::new(lines, None));
                    }
                    if note.shows {
                        shown.insert(fh, self.config.clone());
                    }
                    if let Some(text) = &note.text {
                        shown.remove(&fh);
                        let lines = LineBuffer::holding(handle.leftover()).unwrap_or_default();
                        *handle = ConfigHandle::new(lines, Some(Shown::text(text)));
                    }
                }
            }
        }
        if note.kind == EntryKind::Ended {
            self.unfinished = None;
        }
        // Nobody else has it, unless it is to be known later: then nothing of it is copied.
        let old = note.ends.then(|| self.config.clone());
        if !note.commands.is_empty() {
            let commands = note
                .commands
                .iter()
                .map(|(command, text)| (command, text.clone()));
            let next = std::mem::take(&mut self.config).with_all(commands);
            self.config = next.map_err(|_| Unreadable::Broken("a rule that cannot be"))?;
        }
        let old_version = self.version;
        self.version = note.version.unwrap_or(old_version);
        if let Some(old) = old {
            let commands = note.commands.into_iter();
            self.unfinished = Some(Unfinished {
                commands: commands.map(|(command, _)| command).collect(),
                old,
                old_version,
            });
        }
        Ok(())
    }

    /// What request `unique` was answered: a number of bytes or a handle, or an errno below 0.
    pub(super) fn answer_to(&self, unique: u64) -> Option<i64> {
        let unique = unique & !RESENT;
        let answers = self.answers.iter().rev();
        answers
            .into_iter()
            .find(|answer| answer.0 == unique)
            .map(|answer| answer.1)
    }

    fn remember(&mut self, unique: u64, result: i64) {
        let unique = unique & !RESENT;
        if unique != 0 {
            self.answers.push_back((unique, result));
        }
        if self.answers.len() > ANSWERS {
            self.answers.pop_front();
        }
    }

    /// Writes down that the file was opened, by request `unique`, with handle `fh`.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn open(&mut self, unique: u64, fh: u64) -> Result<(), Full> {
        let note = Note::of(EntryKind::Open)
            .with_handle(fh)
            .with_answer(unique, fh as i64);
        self.add(&note.fields(), EntryKind::Open)?;
        self.remember(unique, fh as i64);
        self.handles.insert(fh, ConfigHandle::default());
        Ok(())
    }

    /// Writes down that handle `fh` is closed; hands back what it was.
    pub(super) fn close(&mut self, fh: u64) -> Option<ConfigHandle> {
        let handle = self.handles.remove(&fh)?;
        let note = Note::of(EntryKind::Close).with_handle(fh);
        // Without room for it, a successor has a handle too many.
        let _ = self.add(&note.fields(), EntryKind::Close);
        Some(handle)
    }

    /// Reads through `fh`: see [`ConfigHandle::read`].
    pub(super) fn read(&mut self, fh: u64, offset: u64, size: usize) -> Option<&[u8]> {
        if self.handles.get(&fh)?.takes_up(&self.config, offset) {
            let mut note = Note::of(EntryKind::Shown).with_handle(fh);
            note.shows = true;
            // Without room for it, a successor shows the file as it is then.
            let _ = self.add(&note.fields(), EntryKind::Shown);
        }
        let config = self.config.clone();
        Some(self.handles.get_mut(&fh)?.read(&config, offset, size))
    }

    /// Writes down a write that changes nothing but the line that is begun, to that of `handle`, or was refused.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn note_write(
        &mut self,
        (unique, fh): (u64, u64),
        handle: &ConfigHandle,
        result: i64,
    ) -> Result<(), Full> {
        let mut note = Note::of(EntryKind::Write)
            .with_handle(fh)
            .with_answer(unique, result);
        note.rest = Some(handle.leftover().into());
        self.add(&note.fields(), EntryKind::Write)?;
        self.remember(unique, result);
        if let Some(kept) = self.handles.get_mut(&fh) {
            kept.begin_line_of(handle);
        }
        Ok(())
    }

    /// Writes down that `next` is the configuration, by `changed`. From then on it counts.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn change(&mut self, next: Config, changed: &Changed<'_>) -> Result<(), Full> {
        self.add(&changed.fields(self.version + 1), EntryKind::Write)?;
        self.version += 1;
        self.config = next;
        self.ending = changed.ends;
        if let Some((unique, fh, rest, result)) = changed.written {
            self.remember(unique, result);
            if let (Some(kept), Some(lines)) =
                (self.handles.get_mut(&fh), LineBuffer::holding(rest))
            {
                kept.begin_line_of(&ConfigHandle::new(lines, None));
            }
        }
        Ok(())
    }

    /// Writes down that what the last change ended has been seen to.
    pub(super) fn completed(&mut self) {
        self.unfinished = None;
        if std::mem::take(&mut self.ending) {
            let note = Note::of(EntryKind::Ended).fields();
            // There is room: see `SPARE`. Otherwise it is seen to once more.
            let _ = self.log.add(EntryKind::Ended.code(), &note, 0);
        }
    }

    fn add(&mut self, fields: &FieldWriter, kind: EntryKind) -> Result<(), Full> {
        let grown = self.log.len() > (2 * self.anew).max(SHORT);
        if grown && !self.ending {
            // What cannot be shortened is gone on with.
            let _ = self.write_anew();
        }
        let added = self.log.add(kind.code(), fields, SPARE);
        if added.is_ok() || self.ending {
            return added;
        }
        self.write_anew()?;
        self.log.add(kind.code(), fields, SPARE)
    }

    fn write_anew(&mut self) -> Result<(), Full> {
        let rules = self.config.commands().map(|(command, text)| {
            let mut note = Note::of(EntryKind::Rule);
            note.commands.push((command, text));
            (EntryKind::Rule.code(), note.fields())
        });
        let answers = self.answers.iter().map(|&(unique, result)| {
            let note = Note::of(EntryKind::Answer).with_answer(unique, result);
            (EntryKind::Answer.code(), note.fields())
        });
        let handles = self.handles.iter().map(|(&fh, handle)| {
            let mut note = Note::of(EntryKind::Open).with_handle(fh);
            note.rest = Some(handle.leftover().into());
            let text = handle.shown().map(|shown| shown.other_than(&self.config));
            note.shows = text == Some(None);
            note.text = text.flatten().map(Into::into);
            (EntryKind::Open.code(), note.fields())
        });
        let mut version = Note::of(EntryKind::Rule);
        version.version = Some(self.version);
        let version = std::iter::once((EntryKind::Rule.code(), version.fields()));
        let all = rules.chain(version).chain(answers).chain(handles);
        self.log.begin_anew(all, SPARE)?;
        self.anew = self.log.len();
        Ok(())
    }
}
