//! What a change of the configuration does to files at once: text that is no longer configured leaves the file it is in
//! (contract D32, D34). Symlinks and directories stay as they are; what is new is applied at the next access.

use super::Enforcer;
use super::inject_file::{Change, Edited};
use super::seen::{Seen, Telling};
use crate::fs::config::{Command, Config};
use crate::fs::ids::Side;
use crate::fs::journal::Stood;
use crate::fs::lower::walk::open_beneath;
use crate::fs::rules::{Override, OverrideKind, Rules};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a writer of the configuration waits for somebody who writes to the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the file is looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

impl Enforcer {
    /// Ends the overrides that `commands` have replaced or removed between `old`, whose rules are `rules`, and `new`,
    /// which must be in force already: requests that still hold the old rules find the overrides retired.
    ///
    /// What fails goes to the journal and the log, not to the writer: the configuration has changed.
    pub(in crate::fs) fn end_superseded(
        &self,
        commands: &[Command],
        old: &Config,
        new: &Config,
        rules: &Rules,
    ) {
        let mut ended = HashSet::new();
        for path in commands.iter().filter_map(Command::override_path) {
            let (Some(was), is) = (old.override_of(path), new.override_of(path)) else {
                continue;
            };
            if is.is_some_and(|is| Arc::ptr_eq(was, is)) || !ended.insert(was.number) {
                continue;
            }
            let seen = self.retire(was);
            if was.kind == OverrideKind::Inject {
                self.end_inject((was, &seen), is, rules);
            }
        }
    }

    fn end_inject(
        &self,
        (was, seen): (&Override, &Seen),
        is: Option<&Arc<Override>>,
        rules: &Rules,
    ) {
        let change = match is {
            Some(is) if is.kind == OverrideKind::Inject && is.text == was.text => return,
            Some(is) if is.kind == OverrideKind::Inject => Change::Replace(&was.text, &is.text),
            _ => Change::Take(&was.text),
        };
        let side = self.lower.side_of(rules, &rules.find(&was.path));
        let result = match self.edit_at(side, &was.path, change) {
            Ok(Edited::Nothing | Edited::InPlace) => return,
            Ok(Edited::Done) => Ok(()),
            Ok(Edited::Busy) => Err(Errno::BUSY),
            // No directory, or a symlink on the way: then no file was ever injected into there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return,
            Err(errno) => Err(errno),
        };
        let telling = match result {
            Ok(()) => Telling::Journal,
            Err(_) => Telling::JournalAndLog,
        };
        self.tell((was, seen), side, Stood::OldText, None, result, telling);
    }

    /// Edits the file `path` on `side`, waiting a while for those who write to it.
    fn edit_at(&self, side: Side, path: &[u8], change: Change<'_>) -> Result<Edited, Errno> {
        let (above, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        let above = CString::new(above).map_err(|_| Errno::INVAL)?;
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let dir = open_beneath(self.lower.base(side).dir.as_fd(), &above)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.edit(side, dir.as_fd(), &name, change) {
                Ok(Edited::Busy) if Instant::now() < until => std::thread::sleep(INTERVAL),
                other => return other,
            }
        }
    }
}
