//! The table: every way to open a file, while it is open in every other way, by root and by an ordinary user, through
//! its name, another link, its name after a rename, and after its last name is gone.
//!
//! Every combination is carried out on the mount and natively, and all that it gives is compared.

use crate::harness::{Lower, User, as_user, counted, private};
use crate::how::{Anchor, EVERY, Held, How, program};
use crate::{DEADLINE, passing};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What happens to the name between the first open and the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    HardLink,
    Rename,
    Unlink,
}

/// One combination.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: How,
    second: How,
    then: Then,
    users: (u32, u32),
}

/// Every way to open while the file is open in every way, by these users in turn.
fn rows(users: &[(u32, u32)], then: Then) -> Vec<Row> {
    let mut rows = Vec::new();
    for &users in users {
        for first in EVERY {
            for second in EVERY {
                rows.push(Row {
                    first,
                    second,
                    then,
                    users,
                });
            }
        }
    }
    rows
}

/// Carries a row out in `dir`, and says what every step gave.
fn carried_out(row: Row, dir: &Path, program: &[u8]) -> Vec<String> {
    let (path, other) = (dir.join("file"), dir.join("other"));
    let page: &[u8; 4096] = program[..4096].try_into().expect("a page");
    let [one, two] = [row.users.0, row.users.1].map(User::plain);
    if !matches!(row.first, How::Create | How::Tmpfile) {
        fs::write(&path, program).expect("write the file");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("chmod");
    }
    let first = as_user(&one, || row.first.open(&path, dir));
    let mut first = match first {
        Ok(held) => held,
        Err(errno) => panic!("{row:?}: the first open: {errno}"),
    };
    // One without a name gets one where the row wants a name.
    let anchor = match (row.first, first.file()) {
        (How::Tmpfile, Some(file)) => Anchor::of_open(file),
        _ => Anchor::of(&path),
    };
    let all = PermissionsExt::from_mode(0o777);
    fs::set_permissions(anchor.path(), all).expect("chmod");
    if row.first == How::Tmpfile && row.then != Then::Nothing {
        anchor.link(&path);
    }
    match row.then {
        Then::Nothing => {}
        Then::HardLink => anchor.link(&other),
        Then::Rename => fs::rename(&path, &other).expect("rename"),
        Then::Unlink => fs::remove_file(&path).expect("unlink"),
    }
    let at = match row.then {
        // A second creation makes a new file there.
        Then::Unlink if row.second == How::Create => path,
        Then::Nothing if row.first != How::Tmpfile => path,
        Then::HardLink | Then::Rename => other,
        Then::Nothing | Then::Unlink => anchor.path(),
    };
    let second = as_user(&two, || row.second.open(&at, dir));
    let mut said = Vec::new();
    match second {
        Ok(mut second) => {
            let both = [&mut second, &mut first];
            for turn in [0, 1, 0] {
                said.push(both[turn].use_it(page));
            }
        }
        Err(errno) => said.push(format!("the second open: {errno:?}")),
    }
    // Once it is closed, a file without a name is gone on the mount; natively O_PATH keeps it.
    let kept = row.first == How::Tmpfile;
    let first = kept.then_some(first);
    let left = File::open(anchor.path()).and_then(|mut file| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok((bytes.len(), crate::harness::fnv(&bytes)))
    });
    said.push(format!("left: {left:?}"));
    drop((first, anchor));
    for name in fs::read_dir(dir).expect("list") {
        fs::remove_file(name.expect("an entry").path()).expect("unlink");
    }
    said
}

/// Carries the rows out on the mount and natively, and compares what they give; no byte may be asked of the daemon.
fn same_as_natively(users: &'static [(u32, u32)], then: Then) {
    private(DEADLINE, move |env| {
        let etcfs = passing(env, Lower::Ext4);
        let program = program();
        let dirs = [etcfs.mnt(), etcfs.native()].map(|root| {
            let dir = root.join("table");
            fs::create_dir(&dir).expect("mkdir");
            let all = PermissionsExt::from_mode(0o777);
            fs::set_permissions(&dir, all).expect("chmod");
            dir
        });
        let rows = rows(users, then);
        let mut differences = Vec::new();
        let mut busy = 0;
        for row in &rows {
            let [mount, native] = dirs.each_ref().map(|dir| carried_out(*row, dir, &program));
            if native[0].ends_with(&format!("{:?}", Errno::TXTBSY)) {
                busy += 1;
            } else {
                assert_eq!(native.len(), 4, "{row:?} succeeds natively: {native:?}");
            }
            if mount != native {
                differences.push(format!("{row:?}:\n  {mount:?}\n  {native:?}"));
            }
        }
        assert!(
            differences.is_empty(),
            "{} of {} rows differ (mount, native):\n{}",
            differences.len(),
            rows.len(),
            differences.join("\n")
        );
        assert_eq!(rows.len(), 200);
        assert!(busy > 0, "running programs are written to in some rows");
        let opens =
            counted(&etcfs, "OPEN") + counted(&etcfs, "CREATE") + counted(&etcfs, "TMPFILE");
        assert!(opens > 400, "{opens} opens");
        for op in ["READ", "WRITE"] {
            assert_eq!(counted(&etcfs, op), 0, "{op}");
        }
    });
}

/// Root twice, and one user twice.
const ONE_USER: &[(u32, u32)] = &[(0, 0), (1000, 1000)];

#[test]
fn u12_every_pair_of_opens_by_one_name_gives_what_it_gives_natively() {
    same_as_natively(ONE_USER, Then::Nothing);
}

#[test]
fn u12_every_pair_of_opens_through_another_link_gives_what_it_gives_natively() {
    same_as_natively(ONE_USER, Then::HardLink);
}

#[test]
fn u12_every_pair_of_opens_after_a_rename_gives_what_it_gives_natively() {
    same_as_natively(ONE_USER, Then::Rename);
}

#[test]
fn u12_every_pair_of_opens_after_the_last_unlink_gives_what_it_gives_natively() {
    same_as_natively(ONE_USER, Then::Unlink);
}

/// What differs between two users is who opens, not how the file is found.
#[test]
fn u12_every_pair_of_opens_by_two_users_gives_what_it_gives_natively() {
    same_as_natively(&[(0, 1000), (1000, 0)], Then::Nothing);
}

#[test]
fn u12_three_users_share_one_file_in_every_mode_at_once() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let dir = etcfs.mnt();
        let path = dir.join("shared");
        let program = program();
        fs::write(&path, &program).expect("write");
        let all = PermissionsExt::from_mode(0o777);
        fs::set_permissions(&path, all).expect("chmod");
        let page: &[u8; 4096] = program[..4096].try_into().expect("a page");
        let shared = |how: &How| !matches!(how, How::Exec | How::Tmpfile);
        let mut held: Vec<(String, Held)> = Vec::new();
        for uid in [0, 1000, 1001] {
            for how in EVERY.into_iter().filter(shared) {
                let what = format!("{how:?} by {uid}");
                let opened = as_user(&User::plain(uid), || how.open(&path, &dir));
                let opened = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
                held.push((what, opened));
                // O_TRUNC has taken the page from beneath the mappings.
                fs::write(etcfs.local().join("shared"), page).expect("write beneath");
            }
        }
        for (what, held) in &mut held {
            let said = held.use_it(page);
            assert!(!said.contains("IO"), "{what}: {said}");
        }
        let ids = crate::harness::stats(&etcfs)["backing_ids"].as_u64();
        assert_eq!(ids, Some(1), "one id for all of them");
        for op in ["READ", "WRITE"] {
            assert_eq!(counted(&etcfs, op), 0, "{op}");
        }
    });
}
