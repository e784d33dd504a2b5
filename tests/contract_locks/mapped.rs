//! A file that is mapped and locked by several, as databases do: before a client is told that it has a lock, and before one is
//! given up, the kernel writes what was stored in mappings, for which a thread of the server waits. The server is killed then.
#![allow(unsafe_code)]

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, private};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PAGE: usize = 4096;
const PAGES: usize = 8;
const CLIENTS: u64 = 4;

/// Locks the whole of `file`, or gives the lock up. The lock belongs to the open file (`F_OFD_SETLKW`).
fn lock(file: &File, kind: libc::c_int) {
    // SAFETY: all zero is a whole struct.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = kind as libc::c_short;
    // SAFETY: reads the struct, which lives until the call returns.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const whole) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Counts one up in each page of the file, under a lock, until `over`. Returns how often.
fn count(path: &Path, over: &AtomicBool) -> u64 {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("open");
    let (access, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping of the whole file, which nobody truncates.
    let at = unsafe { mmap(std::ptr::null_mut(), PAGES * PAGE, access, shared, &file, 0) };
    let at = at.expect("mmap").cast::<u8>();
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        lock(&file, libc::F_WRLCK);
        for page in 0..PAGES {
            // SAFETY: within the mapping, and aligned; others change it as atomically.
            let counter = unsafe { AtomicU64::from_ptr(at.add(page * PAGE).cast()) };
            let before = counter.load(Ordering::Relaxed);
            counter.store(before + 1, Ordering::Relaxed);
        }
        lock(&file, libc::F_UNLCK);
        times += 1;
    }
    times
}

/// With the binary before the keeper looked after such threads, the first or second kill left all clients waiting for ever.
#[test]
fn who_maps_and_locks_goes_on_when_servers_are_killed() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        std::fs::write(bases.local().join("file"), [0; PAGES * PAGE]).expect("write");
        let etcfs = Etcfs::serve(
            env,
            bases,
            Opts {
                options: vec!["keeper=yes,max_deaths=0".into()],
                ..Opts::default()
            },
        );
        let (path, over) = (etcfs.mnt().join("file"), AtomicBool::new(false));
        let times: u64 = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| count(&path, &over)))
                .collect();
            for wait in 0..30 {
                std::thread::sleep(Duration::from_millis(20 + wait * 3));
                etcfs.kill_server();
            }
            over.store(true, Ordering::Relaxed);
            clients
                .into_iter()
                .map(|one| one.join().expect("a client"))
                .sum()
        });
        let below = std::fs::read(etcfs.local().join("file")).expect("read");
        for page in below.chunks(PAGE) {
            let counted = page.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
            assert_eq!(counted, Some(times), "each was counted once");
        }
    });
}
