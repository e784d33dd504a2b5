//! Nothing is left: neither ids nor descriptors nor an unlinked file's blocks.

use crate::harness::{Etcfs, Lower, Trace, private, stats};
use crate::{DEADLINE, passing};
use etcfs_proto::Opcode;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// What the daemon holds: its own count of ids and of handles, and the kernel's of its descriptors.
fn held(etcfs: &Etcfs) -> [u64; 3] {
    let stats = stats(etcfs);
    let figure = |name: &str| stats[name].as_u64().expect("a number");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", etcfs.pid()));
    let descriptors = descriptors.expect("the daemon's descriptors").count();
    [
        figure("backing_ids"),
        figure("handles"),
        u64::try_from(descriptors).expect("a count"),
    ]
}

/// Ids stay for a moment after their last use, so it takes a moment until nothing is held.
fn comes_back_to(etcfs: &Etcfs, before: [u64; 3]) {
    let began = Instant::now();
    while held(etcfs) != before {
        let late = began.elapsed() > Duration::from_secs(20);
        assert!(!late, "{:?} are held, {before:?} before", held(etcfs));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn u12_a_hundred_thousand_opens_by_two_processes_leave_neither_ids_nor_descriptors() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        for name in ["a", "b"] {
            fs::write(etcfs.mnt().join(name), [5; 4096]).expect("write");
        }
        std::thread::sleep(Duration::from_millis(2500));
        let before = held(&etcfs);
        assert_eq!(before[..2], [0, 0], "nothing is open yet");
        let mnt = etcfs.mnt();
        let clients = [0, 1].map(|client| {
            let mut command = std::process::Command::new(std::env::current_exe().expect("self"));
            command
                .args(["--exact", "leaks::client_of_the_test_above", "--nocapture"])
                .env("ETCFS_TEST_CLIENT", format!("{client} {}", mnt.display()))
                .stdout(std::process::Stdio::null());
            command.spawn().expect("start a client")
        });
        for mut client in clients {
            assert!(client.wait().expect("wait").success(), "an open failed");
        }
        comes_back_to(&etcfs, before);
        let stats = stats(&etcfs);
        let ops = stats["ops"].as_array().expect("figures by opcode");
        let of = |name: &str| ops.iter().find(|op| op["op"] == name);
        for name in ["OPEN", "RELEASE"] {
            let op = of(name).unwrap_or_else(|| panic!("no {name} in {stats}"));
            let count = op["count"].as_u64().expect("a number");
            assert!(count >= 100_000, "{count} {name}");
            assert_eq!(op["errors"].as_object().map(|e| e.len()), Some(0), "{name}");
        }
        assert!(of("READ").is_none() && of("WRITE").is_none(), "{stats}");
    });
}

/// What the two processes run: 50,000 opens on the mount. Alone it makes a thousand natively, to show that it can.
#[test]
fn client_of_the_test_above() {
    let Ok(told) = std::env::var("ETCFS_TEST_CLIENT") else {
        private(DEADLINE, |env| {
            for name in ["a", "b"] {
                fs::write(env.scratch().join(name), [5; 4096]).expect("write");
            }
            open_often(env.scratch(), 0, 1000);
        });
        return;
    };
    let (client, mnt) = told.split_once(' ').expect("a number and a path");
    open_often(mnt.as_ref(), client.parse().expect("a number"), 50_000);
}

fn open_often(dir: &std::path::Path, client: usize, times: usize) {
    for n in 0..times {
        let name = if n % 3 == 0 { "b" } else { "a" };
        let write = (n + client) % 5 == 0;
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .open(dir.join(name));
        let file = file.unwrap_or_else(|e| panic!("open {n} of client {client}: {e}"));
        if n % 16 == 0 {
            let mut page = [0; 4096];
            file.read_exact_at(&mut page, 0).expect("read");
        }
    }
}

#[test]
fn ids_of_many_files_stay_within_their_bound_and_go() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        for n in 0..3000 {
            fs::write(etcfs.local().join(format!("f{n}")), "text").expect("write beneath");
        }
        let before = held(&etcfs);
        for n in 0..3000 {
            let path = etcfs.mnt().join(format!("f{n}"));
            assert_eq!(fs::read(path).expect("read"), b"text");
        }
        let [ids, handles, _] = held(&etcfs);
        assert!(ids <= 512, "{ids} ids are kept without a use");
        assert!(handles <= 1, "{handles} handles");
        comes_back_to(&etcfs, before);
    });
}

#[test]
fn the_forget_of_an_unlinked_file_gives_its_id_back() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        let path = etcfs.mnt().join("f");
        fs::write(&path, "text").expect("write");
        let trace = Trace::of(env, &etcfs);
        assert_eq!(fs::read(&path).expect("read"), b"text");
        fs::remove_file(&path).expect("unlink");
        let requests = trace.end();
        let forgets = |opcode| matches!(opcode, Opcode::FORGET | Opcode::BATCH_FORGET);
        let closes = |call: &String| call.starts_with("ioctl(");
        let gives_back = requests
            .iter()
            .any(|request| forgets(request.opcode) && request.calls.iter().any(closes));
        assert!(gives_back, "{requests:#?}");
    });
}

/// Writes 500 MiB to a file and removes it by `remove`; its blocks have to be back, a little later because FORGET comes
/// after unlink(2) has returned, and on an emulated machine freeing them takes a while.
fn space_is_back(etcfs: &Etcfs, remove: impl Fn(&Etcfs)) {
    let path = etcfs.mnt().join("large");
    let free = || {
        let stat = rustix::fs::statvfs(etcfs.local());
        stat.expect("statvfs").f_bfree
    };
    let before = free();
    let mut file = File::create(&path).expect("create");
    for _ in 0..500 {
        file.write_all(&[3; 1 << 20]).expect("write");
    }
    drop(file);
    // Opened for reading, its id is one that is kept for a while.
    let size = File::open(&path).and_then(|file| Ok(file.metadata()?.len()));
    assert_eq!(size.expect("open and fstat"), 500 << 20);
    assert!(before - free() >= (500 << 20) / 4096);
    remove(etcfs);
    let removed = Instant::now();
    while before - free() > 16 && removed.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let missing = before - free();
    assert!(missing <= 16, "{missing} blocks are not back");
}

#[test]
fn an_unlinked_files_blocks_are_back_at_once() {
    private(DEADLINE, |env| {
        space_is_back(&passing(env, Lower::Tmpfs), |etcfs| {
            fs::remove_file(etcfs.mnt().join("large")).expect("unlink");
        });
    });
}

#[test]
fn a_replaced_files_blocks_are_back_at_once() {
    private(DEADLINE, |env| {
        space_is_back(&passing(env, Lower::Tmpfs), |etcfs| {
            fs::write(etcfs.mnt().join("small"), "x").expect("write");
            let (from, to) = (etcfs.mnt().join("small"), etcfs.mnt().join("large"));
            fs::rename(from, to).expect("rename over it");
        });
    });
}
