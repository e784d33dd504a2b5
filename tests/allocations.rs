//! No allocation on the warm paths (issue 4): the daemon runs in this process, under an allocator that counts what every
//! thread but the client's asks for.

mod harness;

use etcfs::cli::{Options, Parsed};
use etcfs::sys::background::Readiness;
use etcfs::sys::signals::Signals;
use harness::{Bases, Env, Lower, private};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
const TIMES: usize = 200;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Set in the threads of the test itself.
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn count() {
    // A thread that is ending has no thread-local storage any more, and is none of the daemon's workers.
    if !EXEMPT.try_with(Cell::get).unwrap_or(true) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Serves a tree from within this process while `body` runs.
fn serving(env: &Env, body: impl FnOnce(&Path)) {
    EXEMPT.set(true);
    let bases = Bases::new(env, Lower::Tmpfs);
    fs::create_dir(bases.local().join("d")).expect("mkdir");
    fs::write(bases.local().join("d/f"), [7; 4096]).expect("write");
    std::os::unix::fs::symlink("target", bases.local().join("d/l")).expect("symlink");
    let options = format!(
        "allow_other,passthrough,stratum=here,global={}",
        bases.global().display()
    );
    let mnt = bases.mnt();
    let args = ["-f".into(), "-o".into(), options, mnt.display().to_string()];
    let Ok(Parsed::Run(options)) = Options::parse(args) else {
        panic!("the options are good");
    };
    let daemon = std::thread::spawn(move || {
        let signals = Signals::block().expect("block the signals");
        etcfs::daemon::run(&options, &signals, Readiness::foreground())
    });
    while !fs::read_to_string("/proc/thread-self/mountinfo")
        .expect("mountinfo")
        .contains("fuse.etcfs")
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    wake_every_worker(&mnt);
    body(&mnt);
    rustix::mount::unmount(&mnt, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    let end = daemon.join().expect("no panic");
    assert_eq!(end, std::process::ExitCode::SUCCESS);
}

/// Readers of the tables register once per thread, so every worker has to have met them: two clients at a time keep
/// both busy where there are two.
fn wake_every_worker(mnt: &Path) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                EXEMPT.set(true);
                for _ in 0..1000 {
                    fs::symlink_metadata(mnt.join("d/f")).expect("stat");
                    drop(File::open(mnt.join("d/f")).expect("open"));
                }
            });
        }
    });
}

/// How many allocations the daemon makes for `TIMES` operations, once it is warm.
fn allocations(mut operation: impl FnMut(usize)) -> u64 {
    for n in 0..500 {
        operation(1000 + n);
    }
    // What the kernel sends after a call has returned counts to the warming.
    std::thread::sleep(Duration::from_millis(100));
    let before = COUNT.load(Ordering::Relaxed);
    for n in 0..TIMES {
        operation(n);
    }
    std::thread::sleep(Duration::from_millis(100));
    COUNT.load(Ordering::Relaxed) - before
}

/// Checks that an operation allocates nothing. A worker that is kept from its CPU for long is relieved by another thread, which
/// takes a few allocations and says nothing about the path.
fn none(count: u64, what: &str) {
    assert!(count < TIMES as u64 / 20, "{what}: {count} of {TIMES}");
}

#[test]
fn warm_paths_allocate_nothing() {
    private(DEADLINE, |env| {
        serving(env, |mnt| {
            let dir = mnt.join("d");
            let stat = allocations(|_| {
                fs::symlink_metadata(dir.join("f")).expect("stat");
            });
            none(stat, "stat");
            let missing = allocations(|_| {
                fs::symlink_metadata(dir.join("none")).expect_err("it is not there");
            });
            none(missing, "stat of a missing name");
            let readlink = allocations(|_| {
                fs::read_link(dir.join("l")).expect("readlink");
            });
            none(readlink, "readlink");
            let read = allocations(|_| {
                let file = File::open(dir.join("f")).expect("open");
                file.read_exact_at(&mut [0; 4096], 0).expect("read");
            });
            none(read, "open, read, close");
        });
    });
}

/// A new file is a new node, which has to live somewhere: its two table entries, its name, its handle.
#[test]
fn creating_and_renaming_allocate_for_the_new_node_only() {
    private(DEADLINE, |env| {
        serving(env, |mnt| {
            let dir = mnt.join("d");
            let create = allocations(|n| {
                let file = File::create_new(dir.join(format!("new{n}"))).expect("create");
                file.write_all_at(&[9; 4096], 0).expect("write");
            });
            assert!(
                create <= 10 * TIMES as u64,
                "{create} for {TIMES} creations"
            );
            let rename = allocations(|n| {
                fs::rename(dir.join(format!("new{n}")), dir.join("f")).expect("rename");
            });
            // The new name, and what is kept of the file that was replaced.
            assert!(rename <= 4 * TIMES as u64, "{rename} for {TIMES} renames");
        });
    });
}
