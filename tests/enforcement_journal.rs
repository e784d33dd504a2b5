//! What enforcement remembers and tells (contract P6), on a tree that is not mounted.

mod harness;

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use etcfs::fs::Fs;
use etcfs::fs::asker::Daemon;
use etcfs::fs::config::parse_line;
use etcfs::fs::journal::Stood;
use etcfs::fs::lower::BaseDir;
use etcfs::fs::settings::Settings;
use etcfs::fs::stat::Stat;
use harness::{Env, inject, private, rest, source, text};
use rustix::io::Errno;

const DEADLINE: Duration = Duration::from_secs(120);

/// A tree without a mount.
fn tree(env: &Env) -> Fs {
    let base = |name| {
        let dir = fs::File::open(env.dir(name)).unwrap();
        BaseDir::new(&dir.into()).unwrap()
    };
    let settings = Settings {
        stratum: b"here".as_slice().into(),
        mountpoint: b"/etc".as_slice().into(),
        exact_globals: false,
        dir_limit: 16,
        privileged: true,
        ..Settings::default()
    };
    Fs::new(base("local"), base("global"), settings).unwrap()
}

fn configure(fs: &Fs, line: &str) {
    fs.change_config(&[parse_line(line.as_bytes()).unwrap()])
        .unwrap();
}

/// What a lookup of `name` in the root by this process does.
fn access(fs: &Fs, name: &str) -> Result<Stat, Errno> {
    let name = CString::new(name).unwrap();
    let spot = fs.lower.spot(&Daemon, fs.lower.nodes.root(), &name)?;
    let found = Stat::at(spot.dir(), &name);
    fs.enforcer
        .enforced(&spot, &name, found, std::process::id())
}

#[test]
fn p6_the_journal_says_what_was_undone_and_who_had_done_it() {
    private(DEADLINE, |env| {
        let tree = tree(env);
        let own = fs::read("/proc/thread-self/comm").unwrap();
        let main = fs::read("/proc/self/comm").unwrap();
        configure(&tree, "add_override symlink /link /right");
        assert!(access(&tree, "link").is_ok());
        assert!(access(&tree, "link").is_ok());
        rest();
        let changed = tree
            .lower
            .spot(&Daemon, tree.lower.nodes.root(), c"link")
            .unwrap();
        fs::remove_file(env.dir("local").join("link")).unwrap();
        symlink("/wrong", env.dir("local").join("link")).unwrap();
        tree.enforcer
            .note_change(&changed, rustix::thread::gettid().as_raw_pid() as u32);
        assert!(access(&tree, "link").is_ok());
        let entries = tree.enforcer.journal().entries();
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert_eq!(entries[0].found, Stood::Nothing);
        assert_eq!(entries[0].changed_by, None);
        assert_eq!(
            entries[1].found,
            Stood::Symlink(b"/wrong".as_slice().into())
        );
        let comm = |bytes: &[u8]| bytes.strip_suffix(b"\n").map(Box::from);
        assert_eq!(entries[1].changed_by.as_ref().unwrap().comm, comm(&own));
        assert_eq!(entries[1].met_by.as_ref().unwrap().comm, comm(&main));
        assert_eq!(entries[1].result, Ok(()));
        // Text that is taken out with its override is told of too, and a failure with its reason.
        let path = env.dir("local").join("file");
        fs::write(&path, "a\n").unwrap();
        let inj = source(env, "inj", "# INJ\n");
        configure(&tree, &inject("file", &inj));
        assert!(access(&tree, "file").is_ok());
        configure(&tree, "rm_override /file");
        fs::create_dir_all(env.dir("local").join("full/sub")).unwrap();
        configure(&tree, "add_override symlink /full /right");
        for _ in 0..3 {
            assert!(access(&tree, "full").unwrap().is_dir());
        }
        let found: Vec<_> = tree.enforcer.journal().entries()[2..]
            .iter()
            .map(|entry| (entry.found.clone(), entry.result))
            .collect();
        let expected = [
            (Stood::File, Ok(())),
            (Stood::OldText, Ok(())),
            (Stood::Directory, Err(Errno::NOTEMPTY)),
        ];
        assert_eq!(found, expected);
    });
}

#[test]
fn p6_the_journal_holds_the_last_256() {
    private(DEADLINE, |env| {
        let tree = tree(env);
        for n in 0..300 {
            configure(&tree, &format!("add_override symlink /link{n} /right"));
            assert!(access(&tree, &format!("link{n}")).is_ok());
        }
        let entries = tree.enforcer.journal().entries();
        assert_eq!(entries.len(), 256);
        assert_eq!(*entries[0].path, *b"link44");
        assert_eq!(tree.enforcer.journal().total(), 300);
    });
}

#[test]
fn a_request_under_old_rules_does_not_bring_an_ended_override_back() {
    private(DEADLINE, |env| {
        let tree = tree(env);
        let path = env.dir("local").join("file");
        fs::write(&path, "a\n").unwrap();
        let inj = source(env, "inj", "# INJ\n");
        configure(&tree, &inject("file", &inj));
        let late = tree
            .lower
            .spot(&Daemon, tree.lower.nodes.root(), c"file")
            .unwrap();
        configure(&tree, "rm_override /file");
        let found = Stat::at(late.dir(), c"file");
        assert!(tree.enforcer.enforced(&late, c"file", found, 0).is_ok());
        assert_eq!(text(&path), "a\n");
    });
}

/// close(2) on the mount returns before the daemon hears of it; the very next look at the file must find its text.
#[test]
fn d41_a_writer_that_is_just_leaving_is_waited_for() {
    private(DEADLINE, |env| {
        let tree = tree(env);
        let path = env.dir("local").join("file");
        let inj = source(env, "inj", "# INJ\n");
        // A busy machine may wake the writer too late, but not always.
        let waited = (0..50).any(|_| {
            fs::write(&path, "a\n").unwrap();
            configure(&tree, &inject("file", &inj));
            let writer = OpenOptions::new().append(true).open(&path).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(5));
                    drop(writer);
                });
                assert!(access(&tree, "file").is_ok());
            });
            let found = text(&path);
            configure(&tree, "rm_override /file");
            found == "a\n# INJ\n"
        });
        assert!(waited);
    });
}

#[test]
fn a_file_that_is_written_to_is_waited_for_when_its_text_must_go() {
    private(DEADLINE, |env| {
        let tree = tree(env);
        let path = env.dir("local").join("file");
        fs::write(&path, "a\n").unwrap();
        let inj = source(env, "inj", "# INJ\n");
        configure(&tree, &inject("file", &inj));
        assert!(access(&tree, "file").is_ok());
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                drop(writer);
            });
            let begun = Instant::now();
            configure(&tree, "rm_override /file");
            assert!(begun.elapsed() >= Duration::from_millis(100));
        });
        assert_eq!(text(&path), "a\n");
        // One that is never closed keeps its text, and the journal says so.
        configure(&tree, &inject("file", &inj));
        assert!(access(&tree, "file").is_ok());
        let _writer = OpenOptions::new().append(true).open(&path).unwrap();
        configure(&tree, "rm_override /file");
        assert_eq!(text(&path), "a\n# INJ\n");
        let last = tree.enforcer.journal().entries().pop().unwrap();
        assert_eq!(
            (last.found, last.result),
            (Stood::OldText, Err(Errno::BUSY))
        );
    });
}
