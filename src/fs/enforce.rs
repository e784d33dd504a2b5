//! Overrides, enforced.
//!
//! Whatever names a path has it looked up first, and the look at the name is what an override is recognised by: one
//! that is in place costs no system call beyond it. What is not in place is put there before the lookup is answered,
//! as root and with fixed owner and mode, whoever asks (contract B6).
//!
//! Where that fails (a directory that is not empty, an immutable file, a full or read-only file system) the object is
//! served as it is, and the failure goes to the journal and once to the log (B10). An override is not applied again
//! within a second of its last application, so that `unlink` and `open(O_CREAT | O_EXCL)` by a package manager succeed
//! at the second try (D43).

mod apply;
mod in_place;
pub mod inject_file;
pub mod original;
mod seen;
mod superseded;
mod switch;

use super::mark::Mark;
use seen::{Gate, Seen, Telling, Verdict};

use super::ids::Side;
use super::journal::{Deed, Journal, Process, Stood};
use super::lower::Lower;
use super::lower::resolve::Spot;
use super::node::Node;
use super::rules::{Override, OverrideKind};
use super::stat::Stat;
use crate::log;
use crate::sys::creds::own;
use inject_file::{Change, Edited, Look};
use original::EditStep;
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use scc::HashIndex;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often, and how long each time, the closing of a file that is to be edited is waited for.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// What enforces overrides.
pub struct Enforcer {
    lower: Arc<Lower>,
    /// The mount point, for what is logged.
    mountpoint: Box<[u8]>,
    /// What it has done.
    journal: Journal,
    /// What is known of overrides that something was done or noted about, by their numbers.
    seen: HashIndex<u64, Arc<Seen>, foldhash::fast::RandomState>,
}

impl Enforcer {
    /// Of the overrides in force on `lower`, which is mounted at `mountpoint`; what it does goes to `journal`.
    pub(crate) fn new(lower: Arc<Lower>, journal: Journal, mountpoint: Box<[u8]>) -> Enforcer {
        Enforcer {
            lower,
            mountpoint,
            journal,
            seen: HashIndex::default(),
        }
    }

    /// What enforcement has done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Notes that the process `pid` changes what stands at `spot`, for the journal (contract P6). Costs nothing where no
    /// override is.
    pub fn note_change(&self, spot: &Spot, pid: u32) {
        if let Some(over) = &spot.over {
            self.seen(over).note_change(Process::named(pid));
        }
    }

    /// Notes that the process `pid` has opened `node` for writing, for the journal (contract P6).
    pub(crate) fn note_writer(&self, node: &Node, pid: u32) {
        if let Some(over) = self.lower.override_of(node) {
            self.seen(&over).note_change(Process::named(pid));
        }
    }

    /// True when [`Enforcer::enforced`] with this `found` may read a file and wait for a disk: not for a worker.
    pub(crate) fn may_take_long(&self, spot: &Spot, found: &Result<Stat, Errno>) -> bool {
        spot.over
            .as_ref()
            .is_some_and(|over| over.kind == OverrideKind::Inject && !self.is_in_place(over, found))
    }

    /// True when `found`, a look at the name of `over`, shows that there is nothing to do. No system call, no lock.
    fn is_in_place(&self, over: &Override, found: &Result<Stat, Errno>) -> bool {
        let stat = match found {
            Ok(stat) => stat,
            // Injection never makes a file (contract D41).
            Err(Errno::NOENT) => return over.kind == OverrideKind::Inject,
            Err(_) => return true,
        };
        let is_good = || {
            let good = |_: &u64, seen: &Arc<Seen>| seen.is_good(stat);
            self.seen.peek_with(&over.number, good) == Some(true)
        };
        match over.kind {
            OverrideKind::Directory => stat.is_dir(),
            OverrideKind::Symlink => stat.kind() == libc::S_IFLNK && is_good(),
            OverrideKind::Inject => !stat.is_file() || stat.0.stx_size == 0 || is_good(),
        }
    }

    /// What is known of `over`.
    fn seen(&self, over: &Override) -> Arc<Seen> {
        let known = |_: &u64, seen: &Arc<Seen>| seen.clone();
        if let Some(seen) = self.seen.peek_with(&over.number, known) {
            return seen;
        }
        let entry = self.seen.entry_sync(over.number).or_default();
        let seen = entry.get().clone();
        drop(entry);
        // Rules are put in force before what they end is forgotten, so nothing of an ended override stays here.
        if !self.is_in_force(over) {
            self.seen.remove_sync(&over.number);
        }
        seen
    }

    fn is_in_force(&self, over: &Override) -> bool {
        let rules = self.lower.rules();
        let now = rules.find(&over.path).over;
        now.is_some_and(|now| now.number == over.number)
    }

    /// Forgets `over`, which is in force no more: once this returns, no request applies it any more. Returns what was known
    /// of it.
    fn retire(&self, over: &Override) -> Arc<Seen> {
        let seen = self.seen(over);
        drop(seen.gate());
        self.seen.remove_sync(&over.number);
        seen
    }

    /// What stands at `name` in `spot` once its override is enforced, given what the look at it answered. `pid` is the
    /// process that asks.
    ///
    /// # Errors
    /// What looking answers, never what enforcing did.
    pub fn enforced(
        &self,
        spot: &Spot,
        name: &CStr,
        found: Result<Stat, Errno>,
        pid: u32,
    ) -> Result<Stat, Errno> {
        match &spot.over {
            Some(over) if !self.is_in_place(over, &found) => {
                own(|| self.enforce(over, spot, name, pid))
            }
            _ => found,
        }
    }

    /// Whether something else stands where `over` is in force on `side`. Changes nothing; for reports.
    pub(crate) fn is_off(&self, side: Side, over: &Override) -> bool {
        let (above, name) = match over.path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&over.path[..at], &over.path[at + 1..]),
            None => (&b"."[..], &over.path[..]),
        };
        let (Ok(above), Ok(name)) = (CString::new(above), CString::new(name)) else {
            return false;
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let base = self.lower.base(side).dir.as_fd();
        let Ok(dir) = openat2(base, &above, flags, Mode::empty(), how) else {
            // There is nothing to look at, or no way to (before Linux 5.6): what was last found is believed.
            return true;
        };
        let stat = Stat::at(dir.as_fd(), &name).ok();
        let verdict = verdict(
            over,
            dir.as_fd(),
            &name,
            stat.as_ref(),
            &mut Gate::default(),
        );
        matches!(verdict, Verdict::Off(_))
    }

    #[cold]
    fn enforce(&self, over: &Override, spot: &Spot, name: &CStr, pid: u32) -> Result<Stat, Errno> {
        let seen = self.seen(over);
        let mut gate = seen.gate();
        // Whoever held the gate may have enforced it.
        let found = Stat::at(spot.dir(), name);
        // A request that still holds old rules must not bring an ended override back.
        if !self.is_in_force(over) {
            return found;
        }
        let stat = match &found {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(_) => return found,
        };
        let mark = stat.map(Mark::of);
        let off = match verdict(over, spot.dir(), name, stat, &mut gate) {
            Verdict::Off(off) => off,
            Verdict::InPlace => {
                gate.in_place();
                if let Some(stat) = stat {
                    seen.note_good(stat);
                }
                return found;
            }
            Verdict::Unknown => return found,
        };
        if !gate.is_due(mark) {
            return found;
        }
        let mut result = self.apply(over, spot, name, stat);
        // close(2) does not wait for RELEASE, so whoever has just written may still seem to. Asked once for each state of
        // the file, so that a look at one that is written to all the time is not delayed again and again.
        if gate.busy != mark {
            for _ in 0..BUSY_TRIES {
                if !matches!(result, Ok(Applied::Busy)) {
                    break;
                }
                std::thread::sleep(BUSY_PAUSE);
                result = self.apply(over, spot, name, stat);
            }
        }
        let result = match result {
            // Somebody writes to the file; the next access comes upon it again.
            Ok(Applied::Busy) => {
                gate.busy = mark;
                return found;
            }
            Ok(Applied::Not) => return found,
            Ok(Applied::Done) => Ok(()),
            Err(errno) => Err(errno),
        };
        let telling = gate.attempted(mark, result);
        drop(gate);
        self.tell((over, &seen), spot.side, off, Some(pid), result, telling);
        Stat::at(spot.dir(), name)
    }

    fn apply(
        &self,
        over: &Override,
        spot: &Spot,
        name: &CStr,
        found: Option<&Stat>,
    ) -> Result<Applied, Errno> {
        match over.kind {
            OverrideKind::Symlink => apply::symlink(spot.dir(), name, &over.content, found)?,
            OverrideKind::Directory => apply::directory(spot.dir(), name, found)?,
            OverrideKind::Inject => {
                match self.edit(spot.side, spot.dir(), name, Change::Put(&over.text))? {
                    Edited::Done => {}
                    Edited::Busy => return Ok(Applied::Busy),
                    Edited::Nothing | Edited::InPlace => return Ok(Applied::Not),
                }
            }
        }
        Ok(Applied::Done)
    }

    /// Edits the file `name` in `dir`, a directory on `side`, and sees to it that no client goes on with a file that is
    /// replaced.
    fn edit(
        &self,
        side: Side,
        dir: BorrowedFd<'_>,
        name: &CStr,
        change: Change<'_>,
    ) -> Result<Edited, Errno> {
        let of_dir = Stat::of(dir)?.key(side);
        let may_switch = || !self.lower.replaced.is_awaited(&of_dir, name);
        let Some(_editing) = self
            .lower
            .replaced
            .begin(of_dir, name)
            .filter(|_| may_switch())
        else {
            return Ok(Edited::Busy);
        };
        inject_file::edit(dir, name, change, &may_switch, &mut |step| {
            // What has the name then is about to lose it.
            if matches!(step, EditStep::Named | EditStep::ChangesBack) {
                if let Ok(stat) = Stat::at(dir, name) {
                    self.lower.replaced.note(stat.key(side), of_dir, name);
                }
            }
        })
    }

    /// Writes down what was done.
    fn tell(
        &self,
        (over, seen): (&Override, &Seen),
        side: Side,
        found: Stood,
        pid: Option<u32>,
        result: Result<(), Errno>,
        telling: Telling,
    ) {
        if telling == Telling::Nothing {
            return;
        }
        let entry = Deed {
            time: SystemTime::now(),
            path: over.path.clone(),
            kind: over.kind,
            content: over.content.clone(),
            side,
            found,
            changed_by: seen.take_changer(),
            met_by: pid.map(Process::named),
            result,
        };
        if telling == Telling::JournalAndLog {
            let below = crate::printable::printable(&entry.path);
            let mountpoint = crate::printable::printable(&self.mountpoint);
            log::error(format_args!("{mountpoint}/{below}: {entry}"));
        }
        self.journal.add(entry);
    }
}

/// What is to be said of `found`, which a look at the name has just shown.
fn verdict(
    over: &Override,
    dir: BorrowedFd<'_>,
    name: &CStr,
    found: Option<&Stat>,
    gate: &mut Gate,
) -> Verdict {
    let Some(stat) = found else {
        return match over.kind {
            OverrideKind::Inject => Verdict::InPlace,
            OverrideKind::Symlink | OverrideKind::Directory => Verdict::Off(Stood::Nothing),
        };
    };
    match over.kind {
        OverrideKind::Directory if stat.is_dir() => Verdict::InPlace,
        OverrideKind::Symlink if stat.kind() == libc::S_IFLNK => {
            match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) if *target.as_bytes() == *over.content => Verdict::InPlace,
                Ok(target) => Verdict::Off(Stood::of(stat, target.as_bytes())),
                Err(_) => Verdict::Unknown,
            }
        }
        OverrideKind::Inject => {
            let mark = Mark::of(stat);
            if gate.lacking == Some(mark) {
                return Verdict::Off(Stood::File);
            }
            match inject_file::look(dir, name, Change::Put(&over.text)) {
                Ok(Look::Fits) => Verdict::InPlace,
                Ok(Look::Lacks) => {
                    gate.lacking = Some(mark);
                    Verdict::Off(Stood::File)
                }
                // Applying fails in the same way and tells of it.
                Err(_) => Verdict::Off(Stood::File),
            }
        }
        OverrideKind::Directory | OverrideKind::Symlink => Verdict::Off(Stood::of(stat, b"")),
    }
}

/// What an attempt without an error came to.
enum Applied {
    Done,
    /// Not now: somebody has the file open for writing.
    Busy,
    Not,
}
