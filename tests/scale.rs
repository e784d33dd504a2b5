//! Large trees and many open files within the descriptor limit, at a bounded cost per node.

mod harness;

use harness::{Env, Etcfs, Lower, Opts, errno, forget_names, private};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit, setrlimit};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);
const DIRS: usize = 400;
const FILES: usize = 500;
/// What a known node may cost, in bytes (issue 2).
const NODE_BYTES: usize = 256;

/// The daemon's own memory, in bytes: anonymous, and shared with its keeper.
fn memory(etcfs: &Etcfs) -> usize {
    let text =
        fs::read_to_string(format!("/proc/{}/status", etcfs.pid())).expect("read the status");
    let kib = |name: &str| -> usize {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.expect(name).trim().trim_end_matches("kB").trim();
        number.parse().expect("a number")
    };
    (kib("RssAnon:") + kib("RssShmem:")) * 1024
}

fn descriptors(etcfs: &Etcfs) -> usize {
    fs::read_dir(format!("/proc/{}/fd", etcfs.pid()))
        .expect("list")
        .count()
}

/// How many nodes the daemon knows, as etcfsctl tells.
fn nodes(etcfs: &Etcfs) -> usize {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
        .args(["--json", "stats"])
        .arg(etcfs.mnt())
        .output()
        .expect("run etcfsctl");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let stats: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    stats["nodes"]
        .as_u64()
        .unwrap_or_else(|| panic!("no nodes in {text}")) as usize
}

fn dir(base: &Path, n: usize) -> PathBuf {
    base.join(format!("directory-{n}"))
}

/// Waits for FORGETs, which nobody else waits for; true if `done` came true in time.
fn soon(mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..500 {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn served(env: &Env) -> Etcfs {
    Etcfs::start(
        env,
        Opts {
            lower: Lower::Tmpfs,
            ..Opts::default()
        },
    )
}

#[test]
fn two_hundred_thousand_files_are_walked_read_and_removed() {
    private(DEADLINE, |env| {
        let etcfs = served(env);
        for n in 0..DIRS {
            let dir = dir(&etcfs.local(), n);
            fs::create_dir(&dir).expect("mkdir");
            for file in 0..FILES {
                // Most are empty: in a tmpfs every other one costs a page.
                fs::write(
                    dir.join(format!("file-{file}")),
                    if file % 50 == 0 { "text" } else { "" },
                )
                .expect("write");
            }
        }
        fs::read_dir(etcfs.mnt()).expect("list").count();
        let (nodes_before, memory_before) = (nodes(&etcfs), memory(&etcfs));
        let halves = [0..DIRS / 2, DIRS / 2..DIRS];
        let mnt = etcfs.mnt();
        let each = |work: &(dyn Fn(&Path, usize) + Sync)| {
            std::thread::scope(|scope| {
                for half in halves.clone() {
                    let mnt = &mnt;
                    scope.spawn(move || half.for_each(|n| work(&dir(mnt, n), n)));
                }
            });
        };
        each(&|dir, _| {
            let list = fs::read_dir(dir).expect("list");
            let count = list
                .map(|e| e.and_then(|e| e.metadata()).expect("stat"))
                .filter(fs::Metadata::is_file)
                .count();
            assert_eq!(count, FILES);
        });
        let known = nodes(&etcfs) - nodes_before;
        let bytes = memory(&etcfs).saturating_sub(memory_before) / known.max(1);
        println!(
            "{known} nodes known, {bytes} bytes each, {} descriptors",
            descriptors(&etcfs)
        );
        // The machine may take some of them back at any time.
        assert!(
            known >= DIRS * FILES / 10 * 9,
            "the kernel keeps what it has seen: {known} nodes"
        );
        assert!(
            bytes <= NODE_BYTES,
            "{bytes} bytes for each of {known} nodes"
        );
        assert!(
            descriptors(&etcfs) < DIRS + 100,
            "none for a file: {}",
            descriptors(&etcfs)
        );
        each(&|dir, _| {
            for file in 0..FILES {
                let text = fs::read(dir.join(format!("file-{file}"))).expect("read");
                assert_eq!(text.is_empty(), file % 50 != 0);
            }
        });
        assert!(
            soon(|| descriptors(&etcfs) < DIRS + 100),
            "{} descriptors",
            descriptors(&etcfs)
        );
        each(&|dir, _| fs::remove_dir_all(dir).expect("remove"));
        assert_eq!(fs::read_dir(&mnt).expect("list").count(), 1);
        forget_names(&mnt);
        assert!(
            soon(|| nodes(&etcfs) <= nodes_before),
            "{} of {nodes_before} nodes",
            nodes(&etcfs)
        );
        assert!(
            soon(|| descriptors(&etcfs) < 100),
            "{} descriptors",
            descriptors(&etcfs)
        );
        let least = || memory(&etcfs).saturating_sub(memory_before);
        println!("{} KiB more than at first afterwards", least() / 1024);
        assert!(
            soon(|| least() < known * bytes / 2),
            "{} KiB stay of {}",
            least() / 1024,
            known * bytes / 1024
        );
    });
}

/// Opens files one after the other until that fails.
fn open_until_refused(base: &Path, most: usize) -> (Vec<std::os::fd::OwnedFd>, Option<Errno>) {
    let mut open = Vec::new();
    for n in 0..most {
        let path = base.join(format!("d{}/f{n}", n % 100));
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => open.push(fd),
            Err(errno) => return (open, Some(errno)),
        }
    }
    (open, None)
}

#[test]
fn a_client_with_15_000_open_files_leaves_the_daemon_able_to_serve() {
    private(DEADLINE, |env| {
        let all = Rlimit {
            current: Some(20_000),
            maximum: Some(20_000),
        };
        setrlimit(Resource::Nofile, all).expect("20,000 descriptors");
        let etcfs = served(env);
        for n in 0..100 {
            fs::create_dir(etcfs.local().join(format!("d{n}"))).expect("mkdir");
        }
        for n in 0..19_000 {
            fs::write(etcfs.local().join(format!("d{}/f{n}", n % 100)), "").expect("write");
        }
        for n in 0..3000 {
            fs::create_dir_all(etcfs.local().join(format!("more/{n}/sub"))).expect("mkdir");
        }
        // Directories in use take descriptors, too, and give them up to files.
        let use_directories = || {
            for n in 0..3000 {
                assert!(!etcfs.mnt().join(format!("more/{n}/sub/missing")).exists());
            }
        };
        use_directories();
        let (open, refused) = open_until_refused(&etcfs.mnt(), 15_000);
        assert_eq!((open.len(), refused), (15_000, None));
        use_directories();
        assert_eq!(fs::read(etcfs.mnt().join("d0/f18000")).expect("read"), b"");
        drop(open);

        // With fewer than the client wants, opens fail in one way, and everything that needs none goes on.
        let pid = Pid::from_raw(etcfs.pid()).expect("a pid");
        let less = Rlimit {
            current: Some(6_000),
            maximum: Some(6_000),
        };
        assert!(
            soon(|| descriptors(&etcfs) < 6_000),
            "RELEASE: {}",
            descriptors(&etcfs)
        );
        prlimit(Some(pid), Resource::Nofile, less).expect("prlimit");
        let (open, refused) = open_until_refused(&etcfs.mnt(), 15_000);
        assert!(
            open.len() > 5_500,
            "directories give theirs up first: {} files",
            open.len()
        );
        assert_eq!(refused, Some(Errno::NFILE));
        for fd in open.iter().step_by(100) {
            assert_eq!(
                rustix::io::pread(fd, &mut [0_u8; 4], 0),
                Ok(0),
                "open files are read"
            );
        }
        fs::metadata(etcfs.mnt().join("d0/f0")).expect("stat needs no descriptor of its own");
        let refusals = [
            fs::read_dir(etcfs.mnt().join("d1")).map(drop),
            fs::File::open(etcfs.mnt().join("d1/f1")).map(drop),
            fs::write(etcfs.mnt().join("d1/new"), "x"),
        ];
        for result in refusals {
            assert_eq!(result.map_err(errno), Err(Errno::NFILE));
        }
        assert!(!etcfs.local().join("d1/new").exists());
        drop(open);
        assert!(
            soon(|| descriptors(&etcfs) < 1000),
            "{} descriptors",
            descriptors(&etcfs)
        );
        use_directories();
        let (open, refused) = open_until_refused(&etcfs.mnt(), 2_000);
        assert_eq!((open.len(), refused), (2_000, None), "it recovers");
        let said = etcfs.stderr();
        assert!(said.lines().count() < 50, "no flood of lines: {said}");
    });
}
