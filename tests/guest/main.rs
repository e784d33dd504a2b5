//! What holds on every kernel (contract K10): the same tests run on this machine's and, by `scripts/kernels`, on others
//! that are booted for them. What a kernel cannot do is known from its version, not from the daemon's word.

#[path = "../harness/mod.rs"]
mod harness;
mod objects;

use etcfs_proto::Opcode;
use harness::{Env, Etcfs, Lower, Opts, Trace, User, as_user, count, linux, private};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(100);

/// `FUSE_PASSTHROUGH` came with protocol 7.40.
fn passes_through() -> bool {
    linux() >= (6, 9)
}

/// Serves `lower` with these options, as Bedrock does.
fn served(env: &Env, lower: Lower, options: &[&str]) -> Etcfs {
    let options = options.iter().map(|&o| o.to_owned()).collect();
    Etcfs::start(
        env,
        Opts {
            lower,
            options,
            ..Opts::default()
        },
    )
}

/// Runs `body` without passthrough and with it (or its refusal), on tmpfs and on a file system that knows no birth times.
fn every_way(body: fn(&Etcfs)) {
    for lower in [Lower::Tmpfs, Lower::Ramfs] {
        for options in [&[][..], &["passthrough"]] {
            private(DEADLINE, move |env| body(&served(env, lower, options)));
        }
    }
}

fn rdwr(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}

#[test]
fn asking_for_passthrough_gives_it_or_one_line_that_says_why() {
    private(DEADLINE, |env| {
        let etcfs = served(env, Lower::Tmpfs, &["passthrough"]);
        let said = etcfs.stderr();
        if passes_through() {
            assert_eq!(said, "", "nothing speaks against it");
        } else {
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(
                said.contains("passthrough is off: the kernel does not offer it"),
                "{said}"
            );
        }
    });
}

/// Reads, writes, appends, maps and runs files, with two opens at once, as `user`.
fn use_files(etcfs: &Etcfs, user: &User) {
    let dir = etcfs.mnt().join(format!("of-{}", user.uid));
    fs::create_dir(&dir).expect("mkdir");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    as_user(user, || {
        let path = dir.join("file");
        fs::write(&path, vec![b'a'; 10_000]).expect("create and write");
        assert_eq!(fs::read(&path).expect("read").len(), 10_000);
        let (one, two) = (rdwr(&path), rdwr(&path));
        one.write_all_at(b"one", 0).expect("write");
        two.write_all_at(b"two", 3).expect("write");
        let mut beginning = [0; 8];
        one.read_exact_at(&mut beginning, 0).expect("read");
        assert_eq!(&beginning, b"onetwoaa");
        let mut log = OpenOptions::new().append(true).open(&path).expect("open");
        log.write_all(b"end").expect("append");
        map(&one, b'm');
        one.sync_all().expect("fsync");
        drop((one, two, log));
        let all = fs::read(&path).expect("read");
        assert_eq!(
            (all.len(), all[0], &all[1..6], &all[10_000..]),
            (10_003, b'm', &b"netwo"[..], &b"end"[..])
        );
        let program = dir.join("program");
        fs::copy(env!("CARGO_BIN_EXE_etcfs"), &program).expect("copy a program");
        let output = Command::new(&program).arg("-V").output().expect("run it");
        assert!(output.stdout.starts_with(b"etcfs "), "{output:?}");
    });
}

/// Stores `byte` at the beginning of a shared mapping.
#[allow(unsafe_code)]
fn map(file: &File, byte: u8) {
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping of one page of an open, longer file, written within it and unmapped again.
    unsafe {
        let at = mmap(std::ptr::null_mut(), 4096, prot, MapFlags::SHARED, file, 0).expect("mmap");
        at.cast::<u8>().write_volatile(byte);
        msync(at, 4096, MsyncFlags::SYNC).expect("msync");
        munmap(at, 4096).expect("munmap");
    }
}

#[test]
fn reads_and_writes_come_to_the_daemon_only_where_the_kernel_cannot_pass_them() {
    private(DEADLINE, |env| {
        let etcfs = served(env, Lower::Tmpfs, &["passthrough"]);
        let trace = Trace::of(env, &etcfs);
        use_files(&etcfs, &User::plain(0));
        use_files(&etcfs, &User::plain(1000));
        let requests = trace.end();
        assert!(count(&requests, Opcode::OPEN) >= 12);
        for opcode in [Opcode::READ, Opcode::WRITE] {
            let came = count(&requests, opcode);
            assert_eq!(came == 0, passes_through(), "{came} {opcode}");
        }
    });
}

#[test]
fn files_are_read_written_mapped_and_run() {
    every_way(|etcfs| {
        use_files(etcfs, &User::plain(0));
        use_files(etcfs, &User::plain(1000));
        let beneath = fs::read(etcfs.local().join("of-1000/file")).expect("read beneath");
        assert_eq!((beneath.len(), beneath[0]), (10_003, b'm'));
    });
}

#[test]
fn what_changes_beneath_is_seen_by_the_next_open() {
    every_way(|etcfs| {
        let (path, below) = (etcfs.mnt().join("f"), etcfs.local().join("f"));
        for round in 0..5 {
            let text = format!("round {round} {}", "x".repeat(round * 1000));
            fs::write(&below, &text).expect("write beneath");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
            let mut file = File::open(&path).expect("open");
            let mut seen = String::new();
            file.read_to_string(&mut seen).expect("read");
            assert_eq!(seen, text);
        }
    });
}

#[test]
fn what_changes_beneath_is_seen_through_an_open_handle() {
    every_way(|etcfs| {
        let (path, below) = (etcfs.mnt().join("f"), etcfs.local().join("f"));
        fs::write(&below, [b'0'; 5000]).expect("write beneath");
        let file = rdwr(&path);
        let first = |file: &File| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, 0).expect("read");
            byte[0]
        };
        for digit in *b"123456" {
            // Two ticks, within which the kernel may keep attributes and a lower file system the same time of change.
            std::thread::sleep(Duration::from_millis(50));
            rdwr(&below)
                .write_all_at(&[digit], 0)
                .expect("write beneath");
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(first(&file), digit);
        }
        let mut log = OpenOptions::new().append(true).open(&below).expect("open");
        log.write_all(b"tail").expect("append beneath");
        std::thread::sleep(Duration::from_millis(50));
        let mut tail = [0; 4];
        file.read_exact_at(&mut tail, 5000).expect("read the tail");
        assert_eq!(&tail, b"tail");
    });
}

#[test]
fn many_opens_leave_neither_descriptors_nor_blocks() {
    private(DEADLINE, |env| {
        let etcfs = served(env, Lower::Tmpfs, &["passthrough"]);
        let descriptors = || {
            let fds = fs::read_dir(format!("/proc/{}/fd", etcfs.pid()));
            fds.expect("the daemon's descriptors").count()
        };
        let free = || {
            let stat = rustix::fs::statvfs(etcfs.local());
            stat.expect("statvfs").f_bfree
        };
        let eventually = |what: &str, done: &dyn Fn() -> bool| {
            let began = Instant::now();
            while !done() {
                assert!(began.elapsed() < Duration::from_secs(20), "{what}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let (before, space) = (descriptors(), free());
        for name in ["a", "b"] {
            fs::write(etcfs.mnt().join(name), vec![5; 1 << 20]).expect("write");
        }
        for n in 0..1000 {
            let path = etcfs.mnt().join(["a", "b"][n % 2]);
            let held = rdwr(&path);
            let mut page = [0; 16];
            File::open(&path)
                .and_then(|f| f.read_exact_at(&mut page, 4096))
                .expect("open and read");
            drop(held);
        }
        eventually("the daemon has descriptors left", &|| {
            descriptors() == before
        });
        for name in ["a", "b"] {
            fs::remove_file(etcfs.local().join(name)).expect("unlink beneath");
        }
        eventually("an id keeps blocks", &|| free() + 8 >= space);
    });
}

#[test]
fn a_listing_of_many_names_is_whole_and_rewinds() {
    every_way(|etcfs| {
        let dir = etcfs.mnt().join("many");
        fs::create_dir(&dir).expect("mkdir");
        for n in 0..700 {
            File::create(etcfs.local().join(format!("many/name-{n:04}"))).expect("create beneath");
        }
        for _ in 0..2 {
            let mut names: Vec<_> = fs::read_dir(&dir)
                .expect("open the directory")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 700);
        }
    });
}

#[test]
fn a_lock_taken_on_the_mount_holds_beneath() {
    every_way(|etcfs| {
        let path = etcfs.mnt().join("locked");
        fs::write(&path, "x").expect("write");
        let (held, other) = (rdwr(&path), rdwr(&path));
        let below = rdwr(&etcfs.local().join("locked"));
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&held, exclusive).expect("lock");
        for file in [&other, &below] {
            assert_eq!(rustix::fs::flock(file, exclusive), Err(Errno::AGAIN));
        }
        rustix::fs::flock(&held, FlockOperation::Unlock).expect("unlock");
        rustix::fs::flock(&below, exclusive).expect("lock beneath");
        assert_eq!(rustix::fs::flock(&held, exclusive), Err(Errno::AGAIN));
        rustix::fs::flock(&below, FlockOperation::Unlock).expect("unlock");
        rustix::fs::fcntl_lock(&held, exclusive).expect("a record lock");
        rustix::fs::fcntl_lock(&held, FlockOperation::Unlock).expect("unlock");
    });
}

#[test]
fn the_configuration_file_adds_global_names_and_overrides() {
    every_way(|etcfs| {
        fs::write(etcfs.global().join("hosts"), "global\n").expect("write the global file");
        fs::write(etcfs.local().join("hosts"), "local\n").expect("write the local file");
        let lines = ["add_global /hosts", "add_override symlink /link /target"];
        etcfs.write_config(&lines).expect("configure");
        let config = etcfs.read_config().expect("read the configuration");
        for part in ["/hosts", "/link"] {
            assert!(config.contains(part), "{config}");
        }
        let hosts = etcfs.mnt().join("hosts");
        assert_eq!(fs::read_to_string(&hosts).expect("read"), "global\n");
        let link = fs::read_link(etcfs.mnt().join("link")).expect("readlink");
        assert_eq!(link, Path::new("/target"));
        fs::rename(etcfs.mnt().join("hosts"), etcfs.mnt().join("plain")).expect("rename across");
        let moved = fs::read_to_string(etcfs.local().join("plain")).expect("read beneath");
        assert_eq!(moved, "global\n");
    });
}

/// Where its rights allow it the daemon raises its limit of open files as far as the kernel does, and says where they do not.
#[test]
fn as_many_files_may_be_open_as_the_kernel_and_the_daemons_rights_allow() {
    private(DEADLINE, |env| {
        let own = rustix::thread::capabilities(None)
            .expect("capget")
            .permitted;
        let may = own.contains(rustix::thread::CapabilitySet::SYS_RESOURCE);
        let most = fs::read_to_string("/proc/sys/fs/nr_open").expect("nr_open");
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let hard = before.maximum.expect("a limit").to_string();
        let most = most.trim();
        let etcfs = served(env, Lower::Tmpfs, &[]);
        let limits = fs::read_to_string(format!("/proc/{}/limits", etcfs.pid())).expect("limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let given: Vec<&str> = line.expect("a line").split_ascii_whitespace().collect();
        let expected = if may { most } else { &hard };
        assert_eq!(given[3..5], [expected, expected]);
        let program = env!("CARGO_BIN_EXE_tested-etcfsctl");
        let doctor = Command::new(program)
            .arg("doctor")
            .arg(etcfs.mnt())
            .output();
        let said = doctor.expect("run etcfsctl").stdout;
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.contains("fs.nr_open"), expected != most, "{said}");
    });
}
