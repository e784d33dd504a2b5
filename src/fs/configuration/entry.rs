//! One entry of the configuration's log.

use crate::fs::config::{Command, INJECT_MAX, parse_line};
use crate::ledger::Unreadable;
use crate::ledger::fields::{FieldReader, FieldWriter};
use crate::ledger::log::Entry;
use std::sync::Arc;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// The file was written to, or the configuration changed otherwise.
    Write,
    /// What the change before ended has been seen to.
    Ended,
    /// The file was opened.
    Open,
    /// A handle was closed.
    Close,
    /// A reader is shown the configuration.
    Shown,
    /// Rules that there have been before.
    Rule,
    /// What a request was answered.
    Answer,
}

const KINDS: [EntryKind; 7] = [
    EntryKind::Write,
    EntryKind::Ended,
    EntryKind::Open,
    EntryKind::Close,
    EntryKind::Shown,
    EntryKind::Rule,
    EntryKind::Answer,
];

impl EntryKind {
    /// As it stands in the log.
    pub(super) fn code(self) -> u32 {
        self as u32 + 1
    }
}

const UNIQUE: u32 = 1;
const HANDLE: u32 = 2;
const RESULT: u32 = 3;
const VERSION: u32 = 4;
const COMMAND: u32 = 5;
/// Of the command before.
const INJECTED: u32 = 6;
const REST: u32 = 7;
const ENDS: u32 = 8;
const SHOWS: u32 = 9;
const TEXT: u32 = 10;

/// An entry.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) kind: EntryKind,
    /// The request.
    pub(super) unique: Option<u64>,
    /// What it was answered.
    pub(super) result: Option<i64>,
    pub(super) fh: Option<u64>,
    /// The version of the rules, from this entry on.
    pub(super) version: Option<u64>,
    /// With the texts that are injected.
    pub(super) commands: Vec<(Command, Option<Arc<[u8]>>)>,
    /// The line that is begun.
    pub(super) rest: Option<Vec<u8>>,
    /// There may be text in files that is configured no more.
    pub(super) ends: bool,
    /// The reader is shown the configuration as it is here.
    pub(super) shows: bool,
    /// The reader is shown this.
    pub(super) text: Option<Vec<u8>>,
}

impl Note {
    /// An entry that says nothing else.
    pub(super) fn of(kind: EntryKind) -> Note {
        Note {
            kind,
            unique: None,
            result: None,
            fh: None,
            version: None,
            commands: Vec::new(),
            rest: None,
            ends: false,
            shows: false,
            text: None,
        }
    }

    /// About handle `fh`.
    pub(super) fn with_handle(self, fh: u64) -> Note {
        Note {
            fh: Some(fh),
            ..self
        }
    }

    /// About request `unique`, which is answered `result`.
    pub(super) fn with_answer(self, unique: u64, result: i64) -> Note {
        Note {
            unique: Some(unique),
            result: Some(result),
            ..self
        }
    }

    /// As it is written down.
    pub(super) fn fields(&self) -> FieldWriter {
        let mut fields = FieldWriter::default();
        let numbers = [
            (UNIQUE, self.unique),
            (RESULT, self.result.map(|result| result as u64)),
            (HANDLE, self.fh),
            (VERSION, self.version),
        ];
        for (tag, number) in numbers {
            number.inspect(|number| fields.put(tag, &number.to_ne_bytes()));
        }
        for (command, text) in &self.commands {
            put_command(&mut fields, command, text.as_deref());
        }
        for (tag, bytes) in [(REST, &self.rest), (TEXT, &self.text)] {
            bytes.as_ref().inspect(|bytes| fields.put(tag, bytes));
        }
        for (tag, is) in [(ENDS, self.ends), (SHOWS, self.shows)] {
            if is {
                fields.put(tag, &[]);
            }
        }
        fields
    }
}

fn put_command(fields: &mut FieldWriter, command: &Command, text: Option<&[u8]>) {
    fields.put(COMMAND, &command.line());
    text.inspect(|text| fields.put(INJECTED, text));
}

/// A change of the configuration, to be written down.
pub(super) struct Changed<'a> {
    pub(super) commands: &'a [Command],
    /// The texts that they inject.
    pub(super) texts: &'a [Option<Arc<[u8]>>],
    pub(super) ends: bool,
    /// The request that asks for it, the handle, the line that is begun behind it, and the answer.
    pub(super) written: Option<(u64, u64, &'a [u8], i64)>,
}

impl Changed<'_> {
    /// As it is written down, with the version that it makes.
    pub(super) fn fields(&self, version: u64) -> FieldWriter {
        let mut note = Note::of(EntryKind::Write);
        if let Some((unique, fh, rest, result)) = self.written {
            note = note.with_handle(fh).with_answer(unique, result);
            note.rest = Some(rest.into());
        }
        note.version = Some(version);
        note.ends = self.ends;
        let mut fields = note.fields();
        for (command, text) in self.commands.iter().zip(self.texts) {
            put_command(&mut fields, command, text.as_deref());
        }
        fields
    }
}

/// What an entry says; nothing where it is of a kind that is not known.
///
/// # Errors
/// [`Unreadable::Broken`].
pub(super) fn parse(entry: &Entry) -> Result<Option<Note>, Unreadable> {
    let broken = |what| move || Unreadable::Broken(what);
    let Some(&kind) = KINDS.iter().find(|kind| kind.code() == entry.kind) else {
        return Ok(None);
    };
    let found = FieldReader::in_bytes(&entry.bytes);
    let found = found.ok_or_else(broken("an entry of the configuration"))?;
    let mut note = Note {
        unique: found.number(UNIQUE),
        result: found.number(RESULT).map(|result| result as i64),
        fh: found.number(HANDLE),
        version: found.number(VERSION),
        rest: found.get(REST).map(Into::into),
        text: found.get(TEXT).map(Into::into),
        ends: found.get(ENDS).is_some(),
        shows: found.get(SHOWS).is_some(),
        ..Note::of(kind)
    };
    for (tag, bytes) in found.all() {
        match tag {
            COMMAND => {
                let command = parse_line(bytes);
                let command = command.map_err(|_| Unreadable::Broken("a rule that cannot be"))?;
                note.commands.push((command, None));
            }
            INJECTED if bytes.len() as u64 <= INJECT_MAX => {
                let last = note.commands.last_mut();
                last.ok_or_else(broken("a text of no rule"))?.1 = Some(bytes.into());
            }
            INJECTED => return Err(Unreadable::Broken("a text that is too long")),
            _ => {}
        }
    }
    let of_handle = matches!(kind, EntryKind::Open | EntryKind::Close | EntryKind::Shown);
    match of_handle && note.fh.is_none() {
        true => Err(Unreadable::Broken("a handle of the configuration")),
        false => Ok(Some(note)),
    }
}
