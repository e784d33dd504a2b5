//! Open files and directories, kept with their node.
//!
//! A handle owns a descriptor opened with the client's own flags, so that reads, writes, truncation and `fstat` act on
//! the object that was opened, whatever its name has become since.

pub(crate) mod ahead;

use super::backing::Backing;
use super::budget::{Charge, HeldDescriptor, handles_of, slot_of};
use super::ids::NodeId;
use super::rules::{Place, Rules};
use crate::ledger::flight::tally::{Changer, Number};
use crate::ledger::handle::HandleRecord;
use crate::ledger::table::Slot;
use ahead::Ahead;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// An open regular file.
pub(crate) struct File {
    /// The lower file.
    pub(crate) fd: OwnedFd,
    /// The client's flags of open(2).
    pub(crate) flags: u32,
    /// It is open with the node's backing id.
    pub(crate) registered: bool,
    /// Counts the descriptor; none for one made for a moment.
    pub(crate) held: Option<HeldDescriptor>,
}

impl File {
    /// True if the descriptor can be written through.
    pub(crate) fn is_writable(&self) -> bool {
        self.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32
    }
}

/// An open directory.
pub(crate) struct Dir {
    /// The lower directory, with a position of its own.
    pub(crate) fd: OwnedFd,
    /// What a rule adds to the listing or hides from it: the rules in force at open, and the directory's place. Of one that a
    /// predecessor has opened, those in force when it is first used.
    pub(crate) merge: OnceLock<Option<(Arc<Rules>, Place)>>,
    /// What was read through `fd` and may still be asked for.
    pub(crate) ahead: Mutex<Ahead>,
    /// Counts the descriptor.
    pub(crate) held: Option<HeldDescriptor>,
}

/// How many opens of a node there are before further ones share a descriptor: what opens a file that often does little else.
const MANY: usize = 16;

/// Set in the handle number of an open that needs no descriptor here: passed through, for reading. Such numbers differ
/// all the same, because RELEASE ends the locks that were taken through its handle.
pub(crate) const NO_DESCRIPTOR: u64 = 1 << 63;

/// What a successor will find of a handle. `None`: it will not, because there was no room.
pub(crate) type Noted = Option<Slot<HandleRecord>>;

/// What is open, and what a successor will find of it, which ends first.
struct OpenOnce<T> {
    _noted: Noted,
    what: Arc<T>,
}

/// The opens of one user that need no descriptor here: they are counted as one.
struct Loan {
    noted: Noted,
    count: u32,
    held: HeldDescriptor,
}

impl Loan {
    fn set(&mut self, count: u32) {
        self.count = count;
        if let Some(record) = &self.noted {
            record.set_count(count);
        }
    }
}

/// Opens that need no descriptor here, by user.
#[derive(Default)]
struct Lent {
    /// Boxed together with the handles: nearly always there is one user.
    first: Option<Loan>,
    more: Vec<Loan>,
}

/// Everything open on one node, by handle number.
#[derive(Default)]
pub(crate) struct Handles {
    files: BTreeMap<u64, OpenOnce<File>>,
    dirs: BTreeMap<u64, OpenOnce<Dir>>,
    /// How the node's opens are served.
    pub(crate) backing: Backing,
    /// How many of `files` are open for writing.
    writers: usize,
    /// Opens on their way for which the kernel keeps no attributes: see [`super::attributes`].
    pub(crate) opening: usize,
    /// Opens without a descriptor.
    lent: Lent,
}

/// What stands for the handles of a node that has none.
static NONE: Handles = Handles {
    files: BTreeMap::new(),
    dirs: BTreeMap::new(),
    backing: Backing::NONE,
    writers: 0,
    opening: 0,
    lent: Lent {
        first: None,
        more: Vec::new(),
    },
};

impl Lent {
    fn of(&mut self, slot: usize) -> Option<&mut Loan> {
        let all = self.first.iter_mut().chain(&mut self.more);
        all.into_iter().find(|loan| loan.held.slot() == slot)
    }

    fn end_one(&mut self, slot: usize) {
        if let Some(loan) = self.of(slot).filter(|loan| loan.count > 1) {
            loan.set(loan.count - 1);
            return;
        }
        let ended = |loan: &Loan| loan.held.slot() == slot;
        self.first.take_if(|first| ended(first));
        self.more.retain(|one| !ended(one));
    }

    fn add(&mut self, loan: Loan) {
        match &mut self.first {
            first @ None => *first = Some(loan),
            Some(_) => self.more.push(loan),
        }
    }
}

/// The handles of a node, locked. They take memory from the first change on until nothing is left of them.
pub(crate) struct HandlesGuard<'a>(MutexGuard<'a, Option<Box<Handles>>>);

impl<'a> HandlesGuard<'a> {
    /// The handles behind a lock.
    pub(crate) fn new(locked: MutexGuard<'a, Option<Box<Handles>>>) -> HandlesGuard<'a> {
        HandlesGuard(locked)
    }
}

impl Deref for HandlesGuard<'_> {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for HandlesGuard<'_> {
    fn deref_mut(&mut self) -> &mut Handles {
        self.0.get_or_insert_default()
    }
}

impl Drop for HandlesGuard<'_> {
    fn drop(&mut self) {
        if self
            .0
            .as_ref()
            .is_some_and(|all| all.is_empty() && all.opening == 0 && all.backing.is_idle())
        {
            *self.0 = None;
        }
    }
}

impl Handles {
    /// The file handle `fh`.
    pub(crate) fn file(&self, fh: u64) -> Option<Arc<File>> {
        Some(self.files.get(&fh)?.what.clone())
    }

    /// Any open file of the node: what `fstat` and `fchmod` act on, since the kernel sends those without a handle.
    pub(crate) fn any_file(&self) -> Option<Arc<File>> {
        let (_, first) = self.files.first_key_value()?;
        Some(first.what.clone())
    }

    /// True if a client has the file open for writing.
    pub(crate) fn any_writable(&self) -> bool {
        self.writers > 0
    }

    /// True if a client writes the file, or may be about to: one is being opened.
    pub(crate) fn may_be_written(&self) -> bool {
        self.any_writable() || self.opening > 0
    }

    /// The directory handle `fh`.
    pub(crate) fn dir(&self, fh: u64) -> Option<Arc<Dir>> {
        Some(self.dirs.get(&fh)?.what.clone())
    }

    /// Adds an open file.
    pub(crate) fn add_file(&mut self, fh: u64, file: Arc<File>, noted: Noted) {
        self.writers += usize::from(file.is_writable());
        let open = OpenOnce {
            _noted: noted,
            what: file,
        };
        self.files.insert(fh, open);
    }

    /// An open file of the same user that is like one with these flags, once that user has [`MANY`]. The slot is the upper
    /// part of a handle's number, so a user's handles stand together, the latest last.
    pub(crate) fn alike(&self, slot: usize, flags: u32, registered: bool) -> Option<Arc<File>> {
        let latest = self.files.range(handles_of(slot)).rev().take(MANY);
        let mut found = None;
        let mut seen = 0;
        for (_, OpenOnce { what: file, .. }) in latest {
            seen += 1;
            if (file.flags, file.registered) == (flags, registered) && file.held.is_some() {
                found = found.or(Some(file));
            }
        }
        found.filter(|_| seen == MANY).cloned()
    }

    /// Takes note of an open of `node` without a descriptor, and returns its handle. `note`: has a successor find the first one.
    pub(crate) fn lend(
        &mut self,
        node: NodeId,
        charge: Charge<'_>,
        number: u64,
        note: impl FnOnce(u64) -> Noted,
    ) -> u64 {
        let slot = charge.slot();
        let (charge, asker) = charge.of_loan();
        let fh = charge.number(number) | NO_DESCRIPTOR;
        let loans = Number::Loans { node: node.0, fh };
        if let Some(loan) = self.lent.of(slot) {
            let before = loan.count;
            asker.count(loans, before.into(), || loan.set(before + 1));
            charge.into_sharing_handle(number);
        } else {
            let (fh, held) = charge.into_handle(number);
            let noted = asker.count(loans, 0, || note(fh));
            self.lent_before(1, held, noted);
        }
        fh
    }

    /// True if opens of the user of handle `fh` are taken note of.
    pub(crate) fn lends(&mut self, fh: u64) -> bool {
        self.lent.of(slot_of(fh)).is_some()
    }

    /// Takes note of `count` opens of one user without a descriptor.
    pub(crate) fn lent_before(&mut self, count: u32, held: HeldDescriptor, noted: Noted) {
        self.lent.add(Loan { noted, count, held });
    }

    /// The end of such an open of `node`.
    pub(crate) fn end_lending(&mut self, node: NodeId, fh: u64, asker: Changer<'_>) {
        let slot = slot_of(fh);
        let Some(before) = self.lent.of(slot).map(|loan| loan.count) else {
            return;
        };
        let loans = Number::Loans { node: node.0, fh };
        asker.count(loans, before.into(), || self.lent.end_one(slot));
    }

    /// Adds an open directory.
    pub(crate) fn add_dir(&mut self, fh: u64, dir: Dir, noted: Noted) {
        let open = OpenOnce {
            _noted: noted,
            what: Arc::new(dir),
        };
        self.dirs.insert(fh, open);
    }

    /// Takes a file handle out; the descriptor closes when its last user is done.
    pub(crate) fn remove_file(&mut self, fh: u64) -> Option<Arc<File>> {
        let file = self.files.remove(&fh)?.what;
        self.writers -= usize::from(file.is_writable());
        Some(file)
    }

    /// Takes a directory handle out.
    pub(crate) fn remove_dir(&mut self, fh: u64) -> Option<Arc<Dir>> {
        Some(self.dirs.remove(&fh)?.what)
    }

    /// The numbers of the directory handles.
    pub(crate) fn dirs(&self) -> Vec<u64> {
        self.dirs.keys().copied().collect()
    }

    /// How many handles are open.
    pub(crate) fn len(&self) -> usize {
        self.files.len() + self.dirs.len()
    }

    /// True when nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
