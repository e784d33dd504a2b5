//! Passthrough (contract U11, U12; issue 4): no read or write reaches the daemon, no open fails for its mode, nothing
//! leaks, and nothing is granted that the lower file system denies.
//!
//! That the mode was on is proved by what the daemon was asked: no READ and no WRITE.

mod harness;

use etcfs_proto::Opcode;
use harness::{Env, Etcfs, Lower, Opts, Trace, User, as_user, count, private};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

fn passing(env: &Env, lower: Lower) -> Etcfs {
    let etcfs = Etcfs::start(
        env,
        Opts {
            lower,
            vars: vec![("ETCFS_ENABLE_PASSTHROUGH".into(), "1".into())],
            ..Opts::default()
        },
    );
    assert_eq!(
        etcfs.stderr(),
        "",
        "nothing speaks against passthrough here"
    );
    etcfs
}

/// How a client opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Rdonly,
    Wronly,
    Rdwr,
    Append,
    Trunc,
    Direct,
    Mmap,
}

const EVERY: [How; 7] = [
    How::Rdonly,
    How::Wronly,
    How::Rdwr,
    How::Append,
    How::Trunc,
    How::Direct,
    How::Mmap,
];

impl How {
    fn open(self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match self {
            How::Rdonly => options.read(true),
            How::Wronly => options.write(true),
            How::Rdwr | How::Mmap => options.read(true).write(true),
            How::Append => options.append(true),
            How::Trunc => options.write(true).truncate(true),
            How::Direct => options.read(true).custom_flags(libc::O_DIRECT),
        };
        options.open(path)
    }

    /// Uses an open file, and leaves it 4 KiB of one byte.
    fn use_it(self, file: &mut File) {
        let page = [b'a'; 4096];
        match self {
            How::Rdonly => {
                let mut byte = [0; 1];
                let _ = file.read_at(&mut byte, 0).expect("read");
            }
            How::Wronly | How::Rdwr | How::Trunc => {
                file.write_all_at(&page, 0).expect("write");
            }
            How::Append => {
                file.set_len(0).expect("ftruncate");
                file.write_all(&page).expect("append");
            }
            How::Direct => {
                let mut buffer = Aligned([0; 4096]);
                file.seek(io::SeekFrom::Start(0)).expect("seek");
                let _ = file.read(&mut buffer.0).expect("read directly");
            }
            How::Mmap => mapped(file),
        }
    }
}

#[repr(align(4096))]
struct Aligned([u8; 4096]);

/// Stores through a shared mapping of the file's first page.
#[allow(unsafe_code)]
fn mapped(file: &File) {
    file.set_len(4096).expect("ftruncate");
    // SAFETY: a new mapping of one page of an open file, written within its length and unmapped again.
    unsafe {
        let map = rustix::mm::mmap(
            std::ptr::null_mut(),
            4096,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::SHARED,
            file,
            0,
        )
        .expect("mmap");
        std::ptr::write_bytes(map.cast::<u8>(), b'a', 4096);
        rustix::mm::munmap(map, 4096).expect("munmap");
    }
}

/// What happens to the name between the first open and the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    HardLink,
    Rename,
    Unlink,
}

/// Opens a file in every mode while it is open in every other, by `user`, after every change of its name.
fn every_pair(root: &Path, user: &User) {
    let dir = root.join(format!("by-{}", user.uid));
    fs::create_dir(&dir).expect("mkdir");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    as_user(user, || {
        for first in EVERY {
            for second in EVERY {
                for then in [Then::Nothing, Then::HardLink, Then::Rename, Then::Unlink] {
                    let what = format!("{first:?}, {second:?} after {then:?}");
                    let path = dir.join("file");
                    fs::write(&path, [b'a'; 4096]).unwrap_or_else(|e| panic!("{what}: write: {e}"));
                    let mut one = first
                        .open(&path)
                        .unwrap_or_else(|e| panic!("{what}: first: {e}"));
                    let at = renamed(&path, then, &one);
                    let mut two = second
                        .open(&at)
                        .unwrap_or_else(|e| panic!("{what}: second: {e}"));
                    second.use_it(&mut two);
                    first.use_it(&mut one);
                    second.use_it(&mut two);
                    assert!(one.metadata().expect("fstat").len() <= 4096, "{what}");
                    drop((one, two));
                    for name in ["file", "other"] {
                        let _ = fs::remove_file(dir.join(name));
                    }
                }
            }
        }
    });
}

fn renamed(path: &Path, then: Then, open: &File) -> PathBuf {
    let other = path.with_file_name("other");
    match then {
        Then::Nothing => path.to_owned(),
        Then::HardLink => {
            fs::hard_link(path, &other).expect("link");
            other
        }
        Then::Rename => {
            fs::rename(path, &other).expect("rename");
            other
        }
        Then::Unlink => {
            use std::os::fd::AsRawFd as _;
            fs::remove_file(path).expect("unlink");
            PathBuf::from(format!("/proc/thread-self/fd/{}", open.as_raw_fd()))
        }
    }
}

#[test]
fn u12_every_pair_of_opens_succeeds_and_none_reads_through_the_daemon() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let trace = Trace::of(env, &etcfs);
        every_pair(&etcfs.mnt(), &User::plain(0));
        every_pair(&etcfs.mnt(), &User::plain(1000));
        let requests = trace.end();
        assert!(count(&requests, Opcode::OPEN) > 500);
        assert_eq!(count(&requests, Opcode::READ), 0, "READ");
        assert_eq!(count(&requests, Opcode::WRITE), 0, "WRITE");
    });
}

#[test]
fn u12_root_and_a_user_share_one_file() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        let path = etcfs.mnt().join("shared");
        fs::write(&path, "root").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
        let mut held = How::Rdwr.open(&path).expect("root opens");
        as_user(&User::plain(1000), || {
            for how in EVERY {
                let mut file = how.open(&path).unwrap_or_else(|e| panic!("{how:?}: {e}"));
                how.use_it(&mut file);
            }
        });
        How::Rdwr.use_it(&mut held);
        assert_eq!(
            fs::read(etcfs.local().join("shared"))
                .expect("beneath")
                .len(),
            4096
        );
    });
}

#[test]
fn created_and_nameless_files_are_passed_through_and_programs_run() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let trace = Trace::of(env, &etcfs);
        let mut made = File::create_new(etcfs.mnt().join("made")).expect("create");
        made.write_all(b"made").expect("write");
        let mut nameless = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(etcfs.mnt())
            .expect("O_TMPFILE");
        nameless.write_all(b"nameless").expect("write");
        let mut text = String::new();
        nameless.rewind().expect("rewind");
        nameless.read_to_string(&mut text).expect("read");
        assert_eq!(text, "nameless");
        let program = etcfs.mnt().join("program");
        fs::copy(env!("CARGO_BIN_EXE_etcfs"), &program).expect("copy");
        let output = Command::new(&program).arg("-V").output().expect("run it");
        assert!(output.stdout.starts_with(b"etcfs "), "{output:?}");
        let requests = trace.end();
        assert_eq!(count(&requests, Opcode::READ), 0, "READ");
        assert_eq!(count(&requests, Opcode::WRITE), 0, "WRITE");
        assert_eq!(
            fs::read(etcfs.local().join("made")).expect("beneath"),
            b"made"
        );
    });
}

#[test]
fn sizes_and_times_equal_the_lower_files_after_every_step() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let (upper, lower) = (etcfs.mnt().join("f"), etcfs.local().join("f"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&upper)
            .expect("create");
        let same = |step: &str| {
            let beneath = fs::metadata(&lower).expect("stat beneath");
            for (way, seen) in [
                ("stat", fs::metadata(&upper).expect("stat")),
                ("fstat", file.metadata().expect("fstat")),
            ] {
                let fields = |m: &fs::Metadata| {
                    (
                        m.len(),
                        m.blocks(),
                        m.mtime(),
                        m.mtime_nsec(),
                        m.ctime_nsec(),
                        m.mode(),
                    )
                };
                assert_eq!(fields(&seen), fields(&beneath), "{way} after {step}");
            }
        };
        same("create");
        file.write_all_at(&[1; 10_000], 0).expect("write");
        same("write");
        file.set_len(5000).expect("ftruncate");
        same("ftruncate");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 20)
            .expect("fallocate");
        same("fallocate");
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 0, 4096).expect("punch a hole");
        same("a punched hole");
        assert_eq!(
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).expect("SEEK_DATA"),
            4096
        );
        let copied =
            rustix::fs::copy_file_range(&file, Some(&mut 4096), &file, Some(&mut (2 << 20)), 4096);
        assert_eq!(copied.expect("copy_file_range"), 4096);
        same("copy_file_range");
        file.sync_all().expect("fsync");
        mapped(&file);
        file.sync_all().expect("fsync");
        same("a mapped write");
        fs::OpenOptions::new()
            .append(true)
            .open(&lower)
            .and_then(|mut f| f.write_all(b"beneath"))
            .expect("append beneath");
        std::thread::sleep(Duration::from_millis(20));
        same("an append beneath");
    });
}

#[test]
fn set_ids_and_capabilities_go_when_another_user_writes() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let cases = [("mount", etcfs.mnt()), ("native", etcfs.native())];
        let outcome = cases.map(|(name, root)| {
            let path = root.join("setid");
            fs::write(&path, "x").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).expect("chmod");
            as_user(&User::plain(1000), || {
                let file = OpenOptions::new().write(true).open(&path).expect("open");
                file.write_all_at(b"y", 0)
                    .unwrap_or_else(|e| panic!("{name}: write: {e}"));
            });
            fs::metadata(&path).expect("stat").mode() & 0o7777
        });
        assert_eq!(outcome[0], outcome[1], "mode on the mount, and natively");
        let outcome = cases_root(&etcfs);
        assert_eq!(
            outcome[0], outcome[1],
            "root's own write: on the mount, and natively"
        );
    });
}

/// Root has CAP_FSETID and keeps the bits.
fn cases_root(etcfs: &Etcfs) -> [u32; 2] {
    [etcfs.mnt(), etcfs.native()].map(|root| {
        let path = root.join("setid-root");
        fs::write(&path, "x").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).expect("chmod");
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        file.write_all_at(b"y", 0).expect("write");
        fs::metadata(&path).expect("stat").mode() & 0o7777
    })
}

#[test]
fn what_is_denied_natively_is_denied() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let lower = etcfs.local().join("immutable");
        fs::write(&lower, "x").expect("write");
        let chattr = Command::new("chattr")
            .arg("+i")
            .arg(&lower)
            .status()
            .expect("chattr");
        assert!(chattr.success());
        let path = etcfs.mnt().join("immutable");
        let reader = File::open(&path).expect("it can be read");
        for how in [How::Wronly, How::Rdwr, How::Append, How::Trunc] {
            let errno = how
                .open(&path)
                .expect_err("it cannot be written")
                .raw_os_error();
            assert_eq!(errno, Some(libc::EPERM), "{how:?}");
        }
        drop(reader);
        let _ = Command::new("chattr").arg("-i").arg(&lower).status();

        let secret = etcfs.mnt().join("secret");
        fs::write(&secret, "x").expect("write");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
        let held = File::open(&secret).expect("root opens, so an id is in force");
        as_user(&User::plain(1000), || {
            for how in EVERY {
                let errno = how
                    .open(&secret)
                    .expect_err("not the user's")
                    .raw_os_error();
                assert_eq!(errno, Some(libc::EACCES), "{how:?}");
            }
        });
        drop(held);

        let program = etcfs.mnt().join("program");
        fs::copy("/bin/sleep", &program).expect("copy");
        let mut child = Command::new(&program).arg("30").spawn().expect("run it");
        let busy = OpenOptions::new().write(true).open(&program);
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(
            busy.expect_err("it is running").raw_os_error(),
            Some(libc::ETXTBSY)
        );
    });
}

#[test]
fn an_unlinked_files_blocks_are_back_at_once() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        let path = etcfs.mnt().join("large");
        let free = || rustix::fs::statvfs(etcfs.local()).expect("statvfs").f_bfree;
        let before = free();
        let mut file = File::create(&path).expect("create");
        for _ in 0..500 {
            file.write_all(&[3; 1 << 20]).expect("write");
        }
        drop(file);
        // Opened for reading, its id is one that is kept for a while.
        assert_eq!(
            File::open(&path)
                .expect("open")
                .metadata()
                .expect("fstat")
                .len(),
            500 << 20
        );
        assert!(before - free() >= (500 << 20) / 4096);
        fs::remove_file(&path).expect("unlink");
        let removed = Instant::now();
        while before - free() > 16 && removed.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            before - free() <= 16,
            "{} blocks are not back",
            before - free()
        );
    });
}

#[test]
fn u12_a_hundred_thousand_opens_leave_no_descriptor() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        for name in ["a", "b"] {
            fs::write(etcfs.mnt().join(name), [5; 4096]).expect("write");
        }
        let descriptors = || {
            fs::read_dir(format!("/proc/{}/fd", etcfs.pid()))
                .expect("the daemon's descriptors")
                .count()
        };
        std::thread::sleep(Duration::from_millis(2500));
        let before = descriptors();
        std::thread::scope(|scope| {
            for client in 0..2 {
                let mnt = etcfs.mnt();
                scope.spawn(move || {
                    for n in 0..50_000 {
                        let name = if n % 3 == 0 { "b" } else { "a" };
                        let write = (n + client) % 5 == 0;
                        let file = OpenOptions::new()
                            .read(true)
                            .write(write)
                            .open(mnt.join(name));
                        let file =
                            file.unwrap_or_else(|e| panic!("open {n} of client {client}: {e}"));
                        if n % 16 == 0 {
                            let mut page = [0; 4096];
                            file.read_exact_at(&mut page, 0).expect("read");
                        }
                    }
                });
            }
        });
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(descriptors(), before);
    });
}
