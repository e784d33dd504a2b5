//! Few requests, few system calls: exact counts, the same on every machine (issue 4's table, contract section 7).
//!
//! Read from strace's record of the daemon: which requests came, and how many calls each took from reading it to
//! writing the answer. Warm: every operation runs once before it is counted.

mod growth;
#[path = "../harness/mod.rs"]
mod harness;
mod watched;

use etcfs_proto::Opcode;
use harness::{Env, Etcfs, Opts, Request, Trace, private};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
/// How often each operation is counted: too seldom for a row of requests after which a worker tells the thread that
/// follows a lone caller, which is one more call (`session/lone_caller`).
const TIMES: usize = 10;
/// The kernel's number of the directory that is served.
const ROOT: u64 = 1_000_000_000_000_001;

struct Budget {
    /// What each operation may ask.
    requests: BTreeMap<Opcode, usize>,
    /// What each request may cost in system calls.
    calls: BTreeMap<Opcode, usize>,
}

fn budget(rows: &[(Opcode, usize, usize)]) -> Budget {
    Budget {
        requests: rows.iter().map(|r| (r.0, r.1)).collect(),
        calls: rows.iter().map(|r| (r.0, r.2)).collect(),
    }
}

fn served(env: &Env) -> Etcfs {
    let etcfs = Etcfs::start(
        env,
        Opts {
            options: vec!["passthrough".into(), "cache=strict".into()],
            ..Opts::default()
        },
    );
    let dir = etcfs.mnt().join("d");
    fs::create_dir(&dir).expect("mkdir");
    fs::write(dir.join("f"), [7; 4096]).expect("write");
    std::os::unix::fs::symlink("target", dir.join("l")).expect("symlink");
    etcfs
}

/// Runs `operation` warm and checks what it asked and what that cost.
fn check(env: &Env, etcfs: &Etcfs, budget: &Budget, mut operation: impl FnMut(&Path, usize)) {
    let dir = etcfs.mnt().join("d");
    operation(&dir, 1000);
    operation(&dir, 1001);
    let trace = Trace::of(env, etcfs);
    for n in 0..TIMES {
        operation(&dir, n);
    }
    let requests = trace.end();
    let mut seen: BTreeMap<Opcode, usize> = BTreeMap::new();
    // A directory's attributes are good for a tick of the kernel's clock: the root's are asked for once in each tick, and
    // those of another one if a tick ends between the lookup of the directory and that of a name in it.
    let directories: BTreeSet<u64> = requests
        .iter()
        .filter(|r| r.opcode == Opcode::LOOKUP)
        .map(|r| r.nodeid)
        .collect();
    let of_tick = |r: &&Request| r.opcode == Opcode::GETATTR && directories.contains(&r.nodeid);
    for request in requests.iter().filter(|r| !of_tick(r)) {
        *seen.entry(request.opcode).or_default() += 1;
    }
    for (opcode, count) in &seen {
        let allowed = match *opcode {
            Opcode::FORGET | Opcode::BATCH_FORGET => TIMES,
            other => budget.requests.get(&other).map_or(0, |n| n * TIMES),
        };
        assert!(
            *count <= allowed,
            "{opcode}: {count} requests, {allowed} allowed; all: {seen:?}"
        );
    }
    for (opcode, per_operation) in &budget.requests {
        let count = seen.get(opcode).copied().unwrap_or(0);
        assert_eq!(count, per_operation * TIMES, "{opcode}; all: {seen:?}");
    }
    let worst = |opcode: Opcode| -> Option<&Request> {
        requests
            .iter()
            .filter(|r| r.opcode == opcode)
            .max_by_key(|r| r.calls.len())
    };
    // strace prints strings in hexadecimal.
    let proc: String = b"/proc"
        .iter()
        .map(|byte| format!("\\x{byte:02x}"))
        .collect();
    for request in &requests {
        let looks = request.calls.iter().any(|call| call.contains(&proc));
        assert!(
            !looks,
            "{} looks into /proc: {:?}",
            request.opcode, request.calls
        );
    }
    for (opcode, allowed) in &budget.calls {
        let worst = worst(*opcode).expect("it was asked");
        assert!(
            worst.calls.len() <= *allowed,
            "{opcode} took {} system calls, {allowed} allowed:\n{}",
            worst.calls.len(),
            worst.calls.join("\n")
        );
    }
}

#[test]
fn stat_is_two_lookups_of_three_calls() {
    private(DEADLINE, |env| {
        let budget = budget(&[(Opcode::LOOKUP, 2, 3)]);
        check(env, &served(env), &budget, |dir, _| {
            assert_eq!(
                fs::symlink_metadata(dir.join("f")).expect("stat").len(),
                4096
            );
        });
    });
}

/// The kernel asks for the ACL of each directory anew that was looked up, because every LOOKUP makes it forget what it knew
/// (`fuse_dentry_revalidate`). The mount's root is never looked up: its ACL is asked for when its attributes are.
#[test]
fn an_ordinary_users_stat_costs_one_acl_look_per_directory_more_and_none_for_the_root() {
    private(DEADLINE, |env| {
        let etcfs = served(env);
        let path = etcfs.mnt().join("d/f");
        let stat = || {
            harness::as_user(&harness::User::plain(1000), || {
                fs::symlink_metadata(&path).expect("stat").len()
            })
        };
        stat();
        let trace = Trace::of(env, &etcfs);
        for _ in 0..TIMES {
            assert_eq!(stat(), 4096);
        }
        let requests = trace.end();
        let of = |opcode, is_root: bool| {
            let all = requests.iter().filter(|r| r.opcode == opcode);
            all.filter(|r| (r.nodeid == ROOT) == is_root).count()
        };
        let [of_root, of_others] = [true, false].map(|it| of(Opcode::LOOKUP, it));
        assert_eq!((of_root, of_others), (TIMES, TIMES));
        // The directory is searched; the file is only looked at.
        assert!(of(Opcode::GETXATTR, false) <= TIMES);
        assert!(of(Opcode::GETXATTR, true) <= of(Opcode::GETATTR, true));
        for request in &requests {
            assert!(
                request.calls.len() <= 3,
                "{}: {:?}",
                request.opcode,
                request.calls
            );
        }
    });
}

/// Whether the global directory may be searched is asked by the look itself, which is made in the caller's name.
#[test]
fn stat_of_a_global_name_takes_no_more_than_of_a_local_one() {
    for uid in [0, 1000] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    config: vec!["add_global /hosts".into()],
                    options: vec!["cache=strict".into()],
                    ..Opts::default()
                },
            );
            fs::write(etcfs.global().join("hosts"), "text").expect("write");
            fs::write(etcfs.local().join("local"), "text").expect("write");
            let hosts = etcfs.mnt().join("hosts");
            let local = etcfs.mnt().join("local");
            let stat = || {
                harness::as_user(&harness::User::plain(uid), || {
                    for path in [&hosts, &local] {
                        assert_eq!(fs::symlink_metadata(path).expect("stat").len(), 4);
                    }
                });
            };
            stat();
            let trace = Trace::of(env, &etcfs);
            (0..TIMES).for_each(|_| stat());
            let requests = trace.end();
            assert_eq!(harness::count(&requests, Opcode::LOOKUP), 2 * TIMES);
            let calls = requests.iter().map(|r| r.calls.len()).sum::<usize>();
            // Worker by worker, the caller's identity is put on once.
            assert!(calls <= 3 * requests.len() + 2 * 3, "{calls} calls");
        });
    }
}

#[test]
fn stat_of_a_missing_name_is_two_lookups_of_three_calls() {
    private(DEADLINE, |env| {
        let budget = budget(&[(Opcode::LOOKUP, 2, 3)]);
        check(env, &served(env), &budget, |dir, _| {
            fs::symlink_metadata(dir.join("none")).expect_err("it is not there");
        });
    });
}

#[test]
fn open_read_close_is_four_requests_and_no_read() {
    private(DEADLINE, |env| {
        let budget = budget(&[
            (Opcode::LOOKUP, 2, 3),
            (Opcode::OPEN, 1, 4),
            (Opcode::RELEASE, 1, 3),
        ]);
        check(env, &served(env), &budget, |dir, _| {
            let file = fs::File::open(dir.join("f")).expect("open");
            let mut bytes = [0; 4096];
            file.read_exact_at(&mut bytes, 0).expect("read");
            assert_eq!(bytes, [7; 4096]);
        });
    });
}

/// Other strata may change a global file at any moment, so its attributes are not kept while it is open: one request for
/// each look at the handle, and one call in OPEN, the notice that drops what LOOKUP brought.
#[test]
fn a_global_file_costs_a_request_for_each_look_at_its_handle_and_none_by_name() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                options: vec!["passthrough".into(), "cache=strict".into()],
                config: vec!["add_global /g".into()],
                ..Opts::default()
            },
        );
        let file = etcfs.mnt().join("g");
        fs::write(etcfs.global().join("g"), [7; 4096]).expect("write");
        let open_look_close = || {
            let file = fs::File::open(&file).expect("open");
            for _ in 0..2 {
                assert_eq!(rustix::fs::fstat(&file).expect("fstat").st_size, 4096);
            }
            drop(file);
            // RELEASE comes after close(2) has returned, and until then the file counts as open.
            std::thread::sleep(Duration::from_millis(20));
            fs::symlink_metadata(etcfs.mnt().join("g")).expect("stat");
        };
        open_look_close();
        let trace = Trace::of(env, &etcfs);
        for _ in 0..TIMES {
            open_look_close();
        }
        let requests = trace.end();
        let asked = |opcode| harness::count(&requests, opcode);
        assert_eq!(asked(Opcode::LOOKUP), 2 * TIMES);
        let looks = requests
            .iter()
            .filter(|r| r.opcode == Opcode::GETATTR && r.nodeid != ROOT);
        assert_eq!(looks.count(), 2 * TIMES);
        let opens: Vec<_> = requests
            .iter()
            .filter(|r| r.opcode == Opcode::OPEN)
            .collect();
        assert_eq!(opens.len(), TIMES);
        for open in opens {
            assert!(open.calls.len() <= 5, "{:?}", open.calls);
        }
    });
}

#[test]
fn create_write_close_is_five_requests_and_no_write() {
    private(DEADLINE, |env| {
        let budget = budget(&[
            (Opcode::LOOKUP, 2, 3),
            (Opcode::CREATE, 1, 8),
            (Opcode::GETXATTR, 1, 3),
            (Opcode::RELEASE, 1, 4),
        ]);
        let etcfs = served(env);
        check(env, &etcfs, &budget, |dir, n| {
            let mut file = fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .open(dir.join(format!("new{n}")))
                .expect("create");
            file.write_all(&[9; 4096]).expect("write");
        });
        let made = fs::read(etcfs.local().join("d/new0")).expect("read beneath");
        assert_eq!(made, [9; 4096]);
    });
}

#[test]
fn readlink_is_three_requests_of_three_calls() {
    private(DEADLINE, |env| {
        let budget = budget(&[(Opcode::LOOKUP, 2, 3), (Opcode::READLINK, 1, 3)]);
        check(env, &served(env), &budget, |dir, _| {
            assert_eq!(
                fs::read_link(dir.join("l")).expect("readlink"),
                Path::new("target")
            );
        });
    });
}

#[test]
fn rename_over_a_file_is_five_requests() {
    private(DEADLINE, |env| {
        let etcfs = served(env);
        let beneath = etcfs.local().join("d");
        let budget = budget(&[(Opcode::LOOKUP, 4, 3), (Opcode::RENAME, 1, 8)]);
        for n in (0..TIMES).chain([1000, 1001]) {
            fs::write(beneath.join(format!("from{n}")), "new").expect("write");
            fs::write(beneath.join(format!("to{n}")), "old").expect("write");
        }
        check(env, &etcfs, &budget, |dir, n| {
            fs::rename(dir.join(format!("from{n}")), dir.join(format!("to{n}"))).expect("rename");
        });
        assert_eq!(fs::read(beneath.join("to0")).expect("read"), b"new");
    });
}

#[test]
fn a_listing_with_types_asks_nothing_per_entry() {
    private(DEADLINE, |env| {
        let etcfs = served(env);
        for n in 0..18 {
            fs::write(etcfs.local().join(format!("d/entry{n}")), "").expect("write");
        }
        let budget = budget(&[
            (Opcode::LOOKUP, 1, 3),
            (Opcode::OPENDIR, 1, 4),
            (Opcode::READDIR, 2, 6),
            (Opcode::RELEASEDIR, 1, 3),
        ]);
        check(env, &etcfs, &budget, |dir, _| {
            let files = fs::read_dir(dir)
                .expect("list")
                .filter(|entry| {
                    entry
                        .as_ref()
                        .expect("an entry")
                        .file_type()
                        .expect("a type")
                        .is_file()
                })
                .count();
            assert_eq!(files, 19);
        });
    });
}
