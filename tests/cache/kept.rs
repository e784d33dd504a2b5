//! That anything is kept at all: requests are counted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use crate::harness::{Lower, User, as_user, counted, private};
use crate::{DEADLINE, cache, names, opts, served, until, warm};

/// Attributes of files are asked for once a second, in this mode too.
fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs() + 1
}

#[test]
fn names_attributes_symlinks_and_listings_cost_no_request() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let dir = etcfs.mnt().join("d");
        let look = || {
            fs::metadata(dir.join("f")).expect("stat");
            fs::symlink_metadata(dir.join("missing")).expect_err("nothing is there");
            fs::read_link(dir.join("l")).expect("readlink");
            fs::metadata(&dir).expect("stat");
            names(&dir)
        };
        let ops = ["LOOKUP", "READLINK", "READDIR", "GETATTR"];
        let counts = || ops.map(|op| counted(&etcfs, op));
        // An event that was on its way takes a lease away.
        until("all is kept", || {
            let before = counts();
            look();
            counts()[0] == before[0]
        });
        let (before, since) = (counts(), Instant::now());
        for _ in 0..500 {
            assert_eq!(look(), ["f", "l", "sub"]);
        }
        let asked: Vec<u64> = std::iter::zip(counts(), before)
            .map(|(a, b)| a - b)
            .collect();
        // A name is kept for a minute, which may end in between on a machine that stands still.
        let minutes = since.elapsed().as_secs() / 60 * 8;
        // Where a symlink leads that was born a moment ago is asked for again a few times.
        assert!(asked[1] <= minutes + 8, "{ops:?}: {asked:?}");
        assert!(asked[0].max(asked[2]) <= minutes, "{ops:?}: {asked:?}");
        assert!(asked[3] <= 4 * seconds(since), "{ops:?}: {asked:?}");
    });
}

#[test]
fn an_ordinary_user_asks_for_nothing_either_and_may_do_no_more() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let dir = etcfs.mnt().join("d");
        let user = User::plain(1000);
        let stat = || as_user(&user, || fs::metadata(dir.join("f")).map(|_| ()));
        warm(&dir.join("f"));
        until("all is kept", || {
            let before = counted(&etcfs, "LOOKUP");
            stat().expect("stat");
            counted(&etcfs, "LOOKUP") == before
        });
        let before = counted(&etcfs, "LOOKUP");
        for _ in 0..50 {
            stat().expect("stat");
        }
        assert_eq!(counted(&etcfs, "LOOKUP"), before);
        // What is kept is checked at each walk, and a change through the mount counts at once.
        for turn in 0..50 {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("chmod");
            let denied = stat().expect_err("the directory is closed");
            assert_eq!(denied.raw_os_error(), Some(libc::EACCES), "turn {turn}");
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
            stat().expect("the directory is open");
        }
    });
}

#[test]
fn nothing_is_kept_where_others_may_change_it_unheard() {
    for lower in [Lower::Overlay, Lower::Ramfs] {
        private(DEADLINE, move |env| {
            let mut opts = opts(&[]);
            opts.lower = lower;
            let etcfs = crate::harness::Etcfs::start(env, opts);
            fs::write(etcfs.local().join("f"), "text").expect("write");
            warm(&etcfs.mnt().join("f"));
            assert_eq!(cache(&etcfs, "kept"), 0, "{lower:?}");
            let before = counted(&etcfs, "LOOKUP");
            fs::metadata(etcfs.mnt().join("f")).expect("stat");
            assert_eq!(counted(&etcfs, "LOOKUP"), before + 1, "{lower:?}");
        });
    }
}

#[test]
fn an_object_of_several_names_is_asked_for_each_time() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let (dir, below) = (etcfs.mnt().join("d"), etcfs.local());
        fs::hard_link(below.join("d/f"), below.join("other")).expect("link");
        warm(&dir.join("f"));
        for turn in 0..50_u32 {
            let mode = 0o600 + turn % 8;
            let changed = fs::Permissions::from_mode(mode);
            fs::set_permissions(below.join("other"), changed).expect("chmod under the other name");
            let seen = fs::metadata(dir.join("f")).expect("stat");
            assert_eq!(seen.permissions().mode() & 0o777, mode, "turn {turn}");
        }
    });
}
