//! Entries of the journal, as they lie in the ledger.

use super::{Deed, Process, Restart, Stood};
use crate::fs::ids::Side;
use crate::fs::rules::OverrideKind;
use crate::ledger::fields::{FieldReader, FieldWriter};
use rustix::io::Errno;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TIME: u32 = 1;
const PATH: u32 = 2;
const KIND: u32 = 3;
const CONTENT: u32 = 4;
const SIDE: u32 = 5;
/// Which [`Stood`]; what a symlink led to, or which file type it was.
const FOUND: u32 = 6;
const TARGET: u32 = 7;
const TYPE: u32 = 8;
const CHANGED_BY: u32 = 9;
const MET_BY: u32 = 10;
const ERRNO: u32 = 11;
const WHY: u32 = 12;
const STALL: u32 = 13;

const KINDS: [OverrideKind; 3] = [
    OverrideKind::Symlink,
    OverrideKind::Directory,
    OverrideKind::Inject,
];

const SIDES: [Side; 2] = [Side::Local, Side::Global];

/// An enforcement, to be written down.
pub(super) fn of_deed(deed: &Deed) -> FieldWriter {
    let place = |n: Option<usize>| n.unwrap_or(0) as u64;
    let mut fields = FieldWriter::default()
        .with_number(TIME, nanos(deed.time))
        .with(PATH, &deed.path)
        .with_number(
            KIND,
            place(KINDS.iter().position(|&kind| kind == deed.kind)),
        )
        .with(CONTENT, &deed.content)
        .with_number(
            SIDE,
            place(SIDES.iter().position(|&side| side == deed.side)),
        );
    let found = match &deed.found {
        Stood::Nothing => 0,
        Stood::Symlink(target) => {
            fields.put(TARGET, target);
            1
        }
        Stood::File => 2,
        Stood::OldText => 3,
        Stood::Directory => 4,
        Stood::Other(kind) => {
            fields.put(TYPE, &u64::from(*kind).to_ne_bytes());
            5
        }
    };
    fields = fields.with_number(FOUND, found);
    for (tag, process) in [(CHANGED_BY, &deed.changed_by), (MET_BY, &deed.met_by)] {
        if let Some(process) = process {
            // One byte says that there is a name.
            let name = process.comm.iter().flat_map(|comm| [&[0][..], comm]);
            let name: Vec<u8> = name.flatten().copied().collect();
            fields.put(tag, &[&process.pid.to_ne_bytes()[..], &name].concat());
        }
    }
    if let Err(errno) = deed.result {
        fields.put(ERRNO, &(errno.raw_os_error() as u64).to_ne_bytes());
    }
    fields
}

/// The enforcement that was written down so.
pub(super) fn deed(bytes: &[u8]) -> Option<Deed> {
    let found = FieldReader::in_bytes(bytes)?;
    let place = |tag| usize::try_from(found.number(tag)?).ok();
    let process = |tag| match found.get(tag) {
        None => Some(None),
        Some(bytes) => {
            let (pid, name) = bytes.split_first_chunk()?;
            Some(Some(Process {
                pid: u32::from_ne_bytes(*pid),
                comm: name.split_first().map(|(_, comm)| comm.into()),
            }))
        }
    };
    Some(Deed {
        time: time(found.number(TIME)?)?,
        path: found.get(PATH)?.into(),
        kind: *KINDS.get(place(KIND)?)?,
        content: found.get(CONTENT)?.into(),
        side: *SIDES.get(place(SIDE)?)?,
        found: match found.number(FOUND)? {
            0 => Stood::Nothing,
            1 => Stood::Symlink(found.get(TARGET)?.into()),
            2 => Stood::File,
            3 => Stood::OldText,
            4 => Stood::Directory,
            5 => Stood::Other(u32::try_from(found.number(TYPE)?).ok()?),
            _ => return None,
        },
        changed_by: process(CHANGED_BY)?,
        met_by: process(MET_BY)?,
        result: match found.number(ERRNO) {
            None => Ok(()),
            Some(errno) => Err(errno_of(errno)?),
        },
    })
}

/// A restart, to be written down.
pub(super) fn of_restart(restart: &Restart) -> FieldWriter {
    // A place has 1 KiB.
    let why = &restart.why[..restart.why.len().min(512)];
    FieldWriter::default()
        .with_number(TIME, nanos(restart.time))
        .with(WHY, why)
        .with_number(STALL, restart.stall.as_nanos() as u64)
}

/// The restart that was written down so.
pub(super) fn restart(bytes: &[u8]) -> Option<Restart> {
    let found = FieldReader::in_bytes(bytes)?;
    Some(Restart {
        time: time(found.number(TIME)?)?,
        why: found.get(WHY)?.into(),
        stall: Duration::from_nanos(found.number(STALL)?),
    })
}

/// Nanoseconds since 1970; 0 for what was before.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanos: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))
}

fn errno_of(raw: u64) -> Option<Errno> {
    // What the kernel calls errors (`MAX_ERRNO`).
    let raw = i32::try_from(raw)
        .ok()
        .filter(|raw| (1..4096).contains(raw))?;
    Some(Errno::from_raw_os_error(raw))
}
