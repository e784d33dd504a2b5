use super::*;
use std::time::UNIX_EPOCH;

fn entry(number: usize) -> Deed {
    Deed {
        time: UNIX_EPOCH + std::time::Duration::from_millis(1_500),
        path: format!("file{number}").into_bytes().into(),
        kind: OverrideKind::Symlink,
        content: b"/right".as_slice().into(),
        side: Side::Local,
        found: Stood::Symlink(b"else\nwhere".as_slice().into()),
        changed_by: Some(Process {
            pid: 7,
            comm: Some(b"ln".as_slice().into()),
        }),
        met_by: Some(Process { pid: 8, comm: None }),
        result: Ok(()),
    }
}

#[test]
fn the_newest_entries_are_kept() {
    let journal = Journal::over(Ledger::private().unwrap()).unwrap();
    for number in 0..300 {
        journal.add(entry(number));
    }
    let entries = journal.entries();
    assert_eq!(entries.len(), JOURNAL_MAX);
    assert_eq!(*entries[0].path, *b"file44");
    assert_eq!(*entries[255].path, *b"file299");
    assert_eq!(journal.total(), 300);
}

#[test]
fn an_entry_is_one_line_whatever_names_it_holds() {
    let mut entry = entry(1);
    assert_eq!(
        entry.to_string(),
        "a symlink to else\\nwhere was there, made by ln[7], met by ?[8]; made a symlink to /right"
    );
    entry.found = Stood::Directory;
    entry.changed_by = None;
    entry.met_by = None;
    entry.result = Err(Errno::NOTEMPTY);
    assert_eq!(
        entry.to_string(),
        "a directory was there, met by a change of the configuration; left as it is, for it cannot be made a symlink to \
         /right: Directory not empty"
    );
}

#[test]
fn who_removed_it_put_nothing_there_and_a_first_injection_undoes_nothing() {
    let mut entry = entry(1);
    entry.found = Stood::Nothing;
    entry.met_by = entry.changed_by.clone();
    assert_eq!(
        entry.to_string(),
        "nothing was there, removed and met by ln[7]; made a symlink to /right"
    );
    entry.kind = OverrideKind::Inject;
    entry.found = Stood::File;
    entry.changed_by = None;
    assert_eq!(
        entry.to_string(),
        "the text of /right was missing, met by ln[7]; put in"
    );
    entry.found = Stood::OldText;
    entry.met_by = None;
    assert_eq!(
        entry.to_string(),
        "it held text that is configured no more, met by a change of the configuration; taken out"
    );
}

/// Every kind of entry, with the longest names that there can be.
fn entries() -> Vec<Deed> {
    let long = |byte: u8| vec![byte; 4095].into_boxed_slice();
    let mut all = vec![entry(1)];
    let mut longest = entry(2);
    longest.path = long(b'p');
    longest.content = long(b'c');
    longest.found = Stood::Symlink(long(b't'));
    longest.met_by = longest.changed_by.clone();
    longest.result = Err(Errno::NOTEMPTY);
    longest.side = Side::Global;
    all.push(longest);
    for found in [
        Stood::Nothing,
        Stood::File,
        Stood::OldText,
        Stood::Directory,
        Stood::Other(libc::S_IFIFO),
    ] {
        let mut entry = entry(3);
        entry.kind = OverrideKind::Inject;
        entry.changed_by = None;
        entry.found = found;
        all.push(entry);
    }
    all
}

#[test]
fn a_successor_goes_on_with_the_journal() {
    let ledger = Ledger::private().unwrap();
    let journal = Journal::over(ledger).unwrap();
    for _ in 0..50 {
        entries().into_iter().for_each(|entry| journal.add(entry));
    }
    let restart = |n: u64| Restart {
        time: UNIX_EPOCH + Duration::from_millis(n),
        why: format!("signal {n}").into_bytes().into(),
        stall: Duration::from_micros(n),
    };
    (0..100).for_each(|n| journal.restarted(restart(n)));
    let next = Journal::over(ledger).unwrap();
    assert_eq!(next.entries(), journal.entries());
    assert_eq!((next.total(), next.entries().len()), (350, JOURNAL_MAX));
    assert_eq!(next.restarts(), journal.restarts());
    let (restarts, all) = next.restarts();
    assert_eq!((restarts.len(), all), (RESTARTS_MAX, 100));
    assert_eq!(restarts.last(), Some(&restart(99)));
    next.add(entry(9));
    assert_eq!(
        *Journal::over(ledger).unwrap().entries()[255].path,
        *b"file9"
    );
}

#[test]
fn an_entry_that_is_being_written_is_there_or_is_not() {
    use crate::ledger::crash::killed_at;
    for at in 0..4 {
        let ledger = Ledger::private().unwrap();
        let journal = Journal::over(ledger).unwrap();
        (0..JOURNAL_MAX).for_each(|n| journal.add(entry(n)));
        let killed = killed_at(at, move || journal.add(entry(1000)));
        assert_eq!(killed, at < 3);
        let entries = Journal::over(ledger).unwrap().entries();
        let last = entries.last().map(|entry| &*entry.path);
        let is_there = at >= 2;
        assert_eq!(last == Some(&b"file1000"[..]), is_there, "{at}");
        assert_eq!(
            entries.len(),
            if is_there {
                JOURNAL_MAX
            } else {
                JOURNAL_MAX - 1
            }
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_journal_or_none(
        words in proptest::collection::vec((0..64_usize, proptest::num::u64::ANY), 0..30),
        small in proptest::num::u64::ANY,
    ) {
        let ledger = Ledger::private().unwrap();
        let journal = Journal::over(ledger).unwrap();
        entries().into_iter().for_each(|entry| journal.add(entry));
        let all = ledger.words(Region::Journal);
        for (at, word) in words {
            let word = if at % 2 == 0 { word } else { word % 64 };
            all[2048 + at].store(word, std::sync::atomic::Ordering::Relaxed);
        }
        all[2048].store(small % 4, std::sync::atomic::Ordering::Relaxed);
        let _ = Journal::over(ledger);
    }
}
