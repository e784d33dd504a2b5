//! What a predecessor has left of its places when it was killed.

use super::temp_names::name_of;
use super::{enter, is_hidden, is_ours};
use crate::fs::stat::Stat;
use crate::ledger::place::{PlaceFound, PlaceRecord};
use crate::ledger::table::Table;
use crate::ledger::{Ledger, Region};
use crate::sys::inherit::Inherited;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;

/// Removes the places that a predecessor had when it was killed, with what is in them. To be called before anybody takes its
/// descriptors over, with the daemon's own rights.
///
/// What is in a place is either something new that has not got its name, or something old that has lost it to that, so
/// nothing is lost; what may be missed is not written down ([`Staging::aside`](super::Staging::aside)). Where the directory around it is not known any more, or somebody has moved the place, it goes as what
/// any killed daemon has left: see [`sweep`](super::sweep).
pub(in crate::fs) fn remove_left(ledger: &'static Ledger, inherited: &Inherited) {
    remove_all(&ledger.table(Region::Places), inherited);
}

fn remove_all(table: &Table<PlaceRecord>, inherited: &Inherited) {
    for (slot, record) in table.used() {
        let found = record.found();
        let within = found.within.and_then(|fd| inherited.duplicate(fd));
        if let Some(within) = within {
            // What fails stays, as above.
            let _ = remove(within.as_fd(), found);
        }
        record.end();
        table.give(slot);
    }
}

fn remove(within: BorrowedFd<'_>, found: PlaceFound) -> Result<(), Errno> {
    let object = name_of(found.object);
    let around = Stat::of(within)?;
    let place = name_of(found.place);
    debug_assert!(is_hidden(place.to_bytes()));
    let dir = enter(within, &place, &around)?;
    if rustix::fs::unlinkat(&dir, &*object, AtFlags::empty()) == Err(Errno::ISDIR) {
        rustix::fs::unlinkat(&dir, &*object, AtFlags::REMOVEDIR)?;
    }
    match Stat::at(within, &place) {
        Ok(stat) if is_ours(&stat) => rustix::fs::unlinkat(within, &*place, AtFlags::REMOVEDIR),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::staging::Staging;
    use crate::fs::staging::living::{Living, WRITTEN, write_down_in};
    use crate::ledger::crash::{killed_at, point};
    use rustix::fd::AsRawFd as _;
    use std::fs::File;
    use std::path::Path;

    /// A directory that goes with it.
    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("etcfs-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Dir(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let names = std::fs::read_dir(path).unwrap().flatten();
        let mut names: Vec<_> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_left_of_a_place_at_any_point_is_removed_at_once() {
        let dir = Dir::new("places");
        let ledger = Ledger::private().unwrap();
        write_down_in(ledger);
        let mut left = 0;
        for at in 0.. {
            std::fs::write(dir.0.join("old"), "old").unwrap();
            let within = File::open(&dir.0).unwrap();
            let fd = within.as_raw_fd();
            let work = move || {
                let staging = Staging::within(within.as_fd()).unwrap();
                point();
                staging
                    .make(&mut |at, name| rustix::fs::symlinkat("to", at, name))
                    .unwrap();
                point();
                staging.exchange(c"old").unwrap();
                point();
                drop(staging);
            };
            let killed = killed_at(at, work);
            if !killed {
                assert_eq!(names(&dir.0), ["old"]);
                break;
            }
            left += usize::from(names(&dir.0).len() > 1);
            let table = WRITTEN.get().unwrap();
            let named = if table.used().next().is_some() {
                vec![fd]
            } else {
                vec![]
            };
            assert_eq!(ledger.named_descriptors(), named);
            remove_all(table, &Inherited::of([fd]));
            assert_eq!(names(&dir.0), ["old"], "killed at {at}");
            assert_eq!(table.used().count(), 0);
            std::fs::remove_file(dir.0.join("old")).unwrap();
        }
        assert!(left > 2, "{left}");
    }

    #[test]
    fn what_is_not_ours_or_not_there_is_let_be() {
        let dir = Dir::new("strangers");
        let ledger = Ledger::private().unwrap();
        let table: &'static Table<PlaceRecord> = Box::leak(Box::new(ledger.table(Region::Places)));
        let within = File::open(&dir.0).unwrap();
        let stranger = dir.0.join(name_of(7).to_str().unwrap());
        std::fs::create_dir(&stranger).unwrap();
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&stranger, open_to_all).unwrap();
        std::fs::write(stranger.join(name_of(8).to_str().unwrap()), "theirs").unwrap();
        for (place, object) in [(7, 8), (9, 8)] {
            std::mem::forget(Living::begin_in(Some(table), within.as_fd(), place, object));
        }
        let of_nothing = table.take().unwrap();
        table.at(of_nothing).begin(1_000_000, 1, 2);
        remove_left(ledger, &Inherited::of([within.as_raw_fd()]));
        assert_eq!(names(&stranger).len(), 1);
        assert_eq!(
            ledger.table::<PlaceRecord>(Region::Places).used().count(),
            0
        );
    }

    #[test]
    fn what_was_set_aside_is_not_removed_and_gets_its_name_back_if_that_is_free() {
        use crate::fs::staging::sweep::give_back;
        let dir = Dir::new("aside");
        let ledger = Ledger::private().unwrap();
        let file = dir.0.join("old");
        for taken in [false, true] {
            std::fs::write(&file, "content").unwrap();
            let within = File::open(&dir.0).unwrap();
            let ino = Stat::at(within.as_fd(), c"old").unwrap().0.stx_ino;
            let own = within.try_clone().unwrap();
            let killed = killed_at(0, move || {
                let aside = Staging::aside(own.as_fd()).unwrap();
                aside.take(c"old").unwrap();
                point();
            });
            assert!(killed && !file.exists());
            remove_left(ledger, &Inherited::of([within.as_raw_fd()]));
            if taken {
                std::fs::write(&file, "another").unwrap();
            }
            give_back(within.as_fd(), c"old", &|stat| stat.0.stx_ino == ino).unwrap();
            let content = std::fs::read_to_string(&file).unwrap();
            assert_eq!(content, if taken { "another" } else { "content" });
            assert_eq!(names(&dir.0).len(), if taken { 2 } else { 1 });
        }
    }
}
