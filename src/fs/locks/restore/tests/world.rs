use super::super::*;
use crate::fs::locks::ask::Ask;
use crate::fs::locks::in_use::Use;
use rustix::fd::{AsRawFd as _, OwnedFd, RawFd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use std::fs::File;

pub(super) const NODE: NodeId = NodeId(7);
/// A file, and the ledger of those who lock it.
#[derive(Clone)]
pub(super) struct World {
    pub(super) ledger: &'static Ledger,
    file: Arc<OwnedFd>,
}

/// What one owner has: the same as the lower file says, or the test fails.
pub(super) type Has = (Owner, Vec<(u64, u64, &'static str)>, Vec<u64>, bool);

impl World {
    pub(super) fn new() -> World {
        World {
            ledger: Ledger::private().unwrap(),
            file: Arc::new(memfd_create("locked", MemfdFlags::CLOEXEC).unwrap()),
        }
    }

    /// The locks after whoever had them was killed.
    pub(super) fn restored(&self) -> Arc<Locks> {
        let named = self.ledger.named_descriptors();
        let inherited = Inherited::of(named);
        let locks = Locks::over(self.ledger, &inherited, 1000).unwrap();
        inherited.close_rest();
        locks
    }

    /// As [`Inherited::keep`] closes what no record names, of this file.
    pub(super) fn close_unnamed(&self) {
        use std::os::unix::fs::MetadataExt as _;
        let mut kept = self.ledger.named_descriptors();
        kept.push(self.file.as_raw_fd());
        let ino = rustix::fs::fstat(&*self.file).unwrap().st_ino;
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let unnamed = open.filter_map(|entry| {
            let same = std::fs::metadata(entry.path()).is_ok_and(|stat| stat.ino() == ino);
            let fd: RawFd = entry.file_name().to_str()?.parse().ok()?;
            (same && !kept.contains(&fd)).then_some(fd)
        });
        Inherited::of(unnamed.collect::<Vec<_>>()).close_rest();
    }

    pub(super) fn open(&self, writable: bool) -> Result<Description, Errno> {
        let file = File::options()
            .read(true)
            .write(writable)
            .open(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        Ok(Description {
            fd: file.unwrap().into(),
            writable,
        })
    }

    pub(super) fn used(&self, locks: &Arc<Locks>, ask: &Ask) -> Use {
        match locks.find(NODE, ask.owner) {
            Some(used) => used,
            None => locks.add(NODE, ask, || self.open(ask.fh % 2 == 0)).unwrap(),
        }
    }

    /// As `Locker::set_lock` does.
    pub(super) fn set(&self, locks: &Arc<Locks>, ask: &Ask) -> Result<(), Errno> {
        let used = self.used(locks, ask);
        let exclusive =
            matches!(ask.owner, Owner::Posix(_)) && ask.kind == Some(LockKind::Exclusive);
        if exclusive && !used.description().writable {
            used.move_to(self.open(true)?)?;
        }
        used.set(ask)
    }

    /// What everybody has, which is what the lower file says too, and what is counted.
    pub(super) fn all(&self, locks: &Arc<Locks>) -> Vec<Has> {
        let Some(table) = locks.tables.get(NODE) else {
            assert_eq!((locks.len(), locks.ranges.total()), (0, 0));
            return Vec::new();
        };
        let table = lock(&table);
        let mut all: Vec<Has> = Vec::new();
        for (&owner, holder) in &table.owners {
            let locked = lock(&holder.locked);
            let noted = locked
                .ranges
                .within(WHOLE)
                .into_iter()
                .map(|(range, kind)| {
                    let word = match kind {
                        LockKind::Shared => "READ",
                        LockKind::Exclusive => "WRITE",
                    };
                    (range.first, range.last, word)
                });
            let mut noted: Vec<_> = noted.collect();
            noted.sort_unstable();
            let (below, flocked) = below(holder.description.load().fd.as_raw_fd());
            assert_eq!((&noted, locked.flocked), (&below, flocked), "{owner:?}");
            assert_eq!(owner_of(holder.kept.record()), Some(owner));
            let through: Vec<u64> = locked.handles.keys().copied().collect();
            for &fh in &through {
                assert!(table.through.contains(&(fh, owner)));
            }
            all.push((owner, noted, through, flocked));
        }
        let handles: usize = all.iter().map(|has| has.2.len()).sum();
        assert_eq!(table.through.len(), handles);
        assert_eq!(
            locks.ranges.total(),
            all.iter().map(|has| has.1.len()).sum::<usize>()
        );
        assert_eq!(locks.len(), all.len());
        let kept = &locks.kept;
        assert_eq!(kept.ranges.used().count(), locks.ranges.total());
        assert_eq!(kept.owners.used().count(), all.len());
        assert_eq!(kept.handles.used().count(), handles);
        assert_eq!(kept.changes.used().count(), 0);
        all.sort();
        all
    }
}

/// In which order who has what came to it.
pub(super) fn sinces(locks: &Locks) -> Vec<(Owner, u64)> {
    let Some(table) = locks.tables.get(NODE) else {
        return Vec::new();
    };
    let table = lock(&table);
    let owners = table.owners.iter();
    let mut all: Vec<_> = owners
        .map(|(&owner, holder)| (owner, holder.holds_since()))
        .collect();
    all.sort_unstable();
    all
}

/// What the kernel says is locked through the descriptor: ranges, and whether with `flock(2)`.
pub(super) fn below(fd: RawFd) -> (Vec<(u64, u64, &'static str)>, bool) {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    let (mut ranges, mut flocked) = (Vec::new(), false);
    for line in text.lines().filter(|line| line.starts_with("lock:")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let kind = if words[4] == "READ" { "READ" } else { "WRITE" };
        match words[2] {
            "FLOCK" => flocked = true,
            "OFDLCK" => {
                let last = match words[8] {
                    "EOF" => i64::MAX as u64,
                    last => last.parse().unwrap(),
                };
                ranges.push((words[7].parse().unwrap(), last, kind));
            }
            other => panic!("{other}: {line}"),
        }
    }
    ranges.sort_unstable();
    (ranges, flocked)
}

pub(super) fn ask(owner: Owner, fh: u64, (first, last): (u64, u64), kind: Option<LockKind>) -> Ask {
    Ask {
        owner,
        fh,
        range: Range { first, last },
        kind,
        pid: 77,
        thread: 0,
        uid: 1000,
    }
}

pub(super) const SHARED: Option<LockKind> = Some(LockKind::Shared);
pub(super) const EXCLUSIVE: Option<LockKind> = Some(LockKind::Exclusive);
pub(super) const END: u64 = i64::MAX as u64;
