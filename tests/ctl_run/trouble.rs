//! Daemons that hang, are of another version, or are pestered; and the watchdog.

use super::harness::{CONFIG, Etcfs, Opts, User, as_user, mounts, private};
use super::{DEADLINE, arg, failure, json, run, text};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recv, send, socket_with,
};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// A connection to the daemon's socket, made by hand.
fn dial(etcfs: &Etcfs) -> OwnedFd {
    let socket = new_socket();
    connect(&socket, &address(etcfs.mount().expect("mounted").minor)).expect("connect");
    socket
}

fn new_socket() -> OwnedFd {
    let kind = SocketType::SEQPACKET;
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket")
}

fn address(minor: u32) -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(format!("etcfs/0:{minor}").as_bytes()).expect("a name")
}

fn answer(socket: &OwnedFd) -> String {
    let mut buffer = vec![0; 70_000];
    let (len, _) = recv(socket, &mut buffer[..], RecvFlags::empty()).expect("an answer");
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn a_stopped_daemon_does_not_hang_the_client() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        etcfs.signal(Signal::STOP);
        let begun = Instant::now();
        for args in [
            vec!["--timeout", "0.5", "stats", arg(&mnt)],
            vec!["--timeout", "0.5", "doctor", arg(&mnt)],
            vec!["--timeout", "0.5", "log", arg(&mnt)],
            vec!["--timeout", "0.5", "which", arg(&mnt)],
        ] {
            let line = failure(&args);
            assert!(line.contains("does not answer within 500ms"), "{line}");
            assert!(line.contains(&format!("pid {}", etcfs.pid())), "{line}");
            assert!(line.contains("T (stopped)"), "{line}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "bounded");
        etcfs.signal(Signal::CONT);
        json(&["stats", arg(&mnt)]);
    });
}

#[test]
fn a_killed_daemon_is_told_from_one_that_hangs() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        etcfs.signal(Signal::KILL);
        etcfs.wait(Duration::from_secs(10)).expect("it ends");
        if etcfs.mount().is_some() {
            let line = failure(&["stats", arg(&mnt)]);
            assert!(line.contains("it has died"), "{line}");
        }
    });
}

#[test]
fn no_mount_and_the_wrong_path_are_told() {
    private(DEADLINE, |env| {
        let dir = env.dir("plain");
        assert!(failure(&["stats", arg(&dir)]).contains("no etcfs is mounted there"));
        assert!(failure(&["which", arg(&dir)]).contains("is not in a mounted etcfs"));
        let first = Etcfs::start(env, Opts::default());
        let only = mounts().iter().filter(|m| m.fstype == "fuse.etcfs").count() == 1;
        if only {
            assert!(text(&["stats"]).contains(arg(&first.mnt())));
        }
    });
}

#[test]
fn another_version_is_told_in_one_line() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let socket = dial(&etcfs);
        send(
            &socket,
            br#"{"etcfs":99,"ask":"stats"}"#,
            SendFlags::empty(),
        )
        .expect("send");
        let told = answer(&socket);
        assert!(
            told.contains("version 1") && told.contains("version 99"),
            "{told}"
        );
    });
}

#[test]
fn strangers_are_refused() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let said = as_user(&User::plain(1000), || {
            let socket = dial(&etcfs);
            let _ = send(
                &socket,
                br#"{"etcfs":1,"ask":"stats"}"#,
                SendFlags::NOSIGNAL,
            );
            answer(&socket)
        });
        assert!(
            said.contains("only root and the user who mounted"),
            "{said}"
        );
        assert!(!said.contains("stratum"), "{said}");
    });
}

#[test]
fn a_squatter_on_the_name_is_neither_believed_nor_in_the_way() {
    private(DEADLINE, |env| {
        // The device number of the next mount is the lowest free one: take some names from there on as another user.
        let first = Etcfs::start(env, Opts::default());
        let minor = first.mount().expect("mounted").minor;
        let squatters: Vec<OwnedFd> = as_user(&User::plain(1000), || {
            (1..40)
                .filter_map(|more| {
                    let socket = new_socket();
                    bind(&socket, &address(minor + more)).ok()?;
                    listen(&socket, 4).ok()?;
                    Some(socket)
                })
                .collect()
        });
        assert!(!squatters.is_empty());
        let at = env.dir("second");
        rustix::mount::mount(
            "lower",
            &at,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .expect("tmpfs");
        fs::create_dir(at.join("etc")).expect("mkdir");
        fs::create_dir(at.join("global")).expect("mkdir");
        let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_etcfs"))
            .args(["-f", "-o"])
            .arg(format!(
                "allow_other,stratum=s,global={}",
                at.join("global").display()
            ))
            .arg(at.join("etc"))
            .spawn()
            .expect("start");
        while !mounts().iter().any(|m| m.at == at.join("etc")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let stats = run(&["--json", "stats", arg(&at.join("etc"))]);
        rustix::mount::unmount(at.join("etc"), rustix::mount::UnmountFlags::DETACH)
            .expect("unmount");
        daemon.wait().expect("it ends");
        drop(squatters);
        assert!(
            stats.status.success(),
            "{}",
            String::from_utf8_lossy(&stats.stderr)
        );
    });
}

#[test]
fn random_messages_never_disturb_the_mount() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let bytes = proptest::collection::vec(any::<u8>(), 1..9000);
        let asks = prop_oneof![
            Just(r#"{"etcfs":1,"ask":"which","path":"../../x"}"#.to_owned()),
            Just(r#"{"etcfs":1,"ask":"which","path":"a\u0000b"}"#.to_owned()),
            Just(r#"{"etcfs":1,"ask":"log","ops":[],"min_us":18446744073709551615}"#.to_owned()),
            Just("[".repeat(4000)),
            ".{0,300}",
        ];
        let message = prop_oneof![bytes, asks.prop_map(String::into_bytes)];
        let mut runner = TestRunner::new(Config::with_cases(300));
        runner
            .run(&(message, any::<bool>()), |(message, listens)| {
                let socket = dial(&etcfs);
                let _ = send(&socket, &message, SendFlags::NOSIGNAL);
                if listens {
                    let mut buffer = [0; 4096];
                    let _ = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT);
                }
                Ok(())
            })
            .expect("no case fails");
        fs::write(mnt.join("file"), "x").expect("the mount works");
        while json(&["stats", arg(&mnt)])["listeners"] != 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn many_silent_clients_leave_room_again() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let silent: Vec<OwnedFd> = (0..16).map(|_| dial(&etcfs)).collect();
        let line = failure(&["stats", arg(&mnt)]);
        assert!(line.contains("16 clients"), "{line}");
        fs::metadata(mnt.join(CONFIG)).expect("the mount works");
        drop(silent);
        let until = Instant::now() + Duration::from_secs(20);
        while !run(&["stats", arg(&mnt)]).status.success() {
            assert!(Instant::now() < until, "the places come free");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// A daemon over a directory that another, stopped one serves.
#[test]
fn the_watchdog_tells_once_of_a_request_that_hangs_and_of_its_end() {
    private(DEADLINE, |env| {
        let below = Etcfs::start(env, Opts::default());
        fs::create_dir(below.mnt().join("dir")).expect("mkdir");
        fs::write(below.mnt().join("dir/hosts"), "x").expect("write");
        let at = env.dir("second");
        fs::create_dir(at.join("etc")).expect("mkdir");
        let log = env.scratch().join("log");
        let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_etcfs"))
            .args(["-f", "-o"])
            .arg(format!(
                "allow_other,stratum=s,watchdog=1,global={}",
                below.mnt().join("dir").display()
            ))
            .arg(at.join("etc"))
            .stderr(fs::File::create(&log).expect("create"))
            .spawn()
            .expect("start");
        let etc = at.join("etc");
        while !mounts().iter().any(|m| m.at == etc) {
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::write(etc.join(CONFIG), "add_global /hosts\n").expect("configure");
        fs::metadata(etc.join("hosts")).expect("it is there");
        below.signal(Signal::STOP);
        let path = etc.join("hosts");
        let client = std::thread::spawn(move || fs::metadata(path).map(drop));
        let told = |what: &str| {
            let text = fs::read_to_string(&log).expect("read");
            text.matches(what).count()
        };
        let until = Instant::now() + Duration::from_secs(20);
        while told("takes ") == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(1500));
        let stats = json(&["stats", arg(&etc)]);
        below.signal(Signal::CONT);
        client.join().expect("the client").expect("it is answered");
        while told("has been answered") == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = fs::read_to_string(&log).expect("read");
        rustix::mount::unmount(&etc, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        daemon.wait().expect("it ends");
        assert_eq!(text.matches("takes ").count(), 1, "{text}");
        let line = text
            .lines()
            .find(|l| l.contains("takes "))
            .expect("the line");
        for part in ["LOOKUP (request ", " uid 0, ", "thread ", "fuse"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(text.matches("has been answered").count(), 1, "{text}");
        let age = stats["in_flight"][0]["age_us"]
            .as_f64()
            .expect("a request in flight");
        assert!(age > 1e6, "{stats}");
    });
}

/// Voluntary context switches of all threads of a process: how often they have gone to sleep.
fn sleeps(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the threads");
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .expect("the count");
        line.trim().parse::<u64>().expect("a number")
    };
    tasks.flatten().map(of).sum()
}

/// Contract U5, with everything that watches in place.
#[test]
fn an_idle_daemon_is_never_woken() {
    private(DEADLINE, |env| {
        let opts = Opts {
            options: vec!["watchdog=1".to_owned()],
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        fs::write(etcfs.mnt().join("file"), "x").expect("write");
        json(&["stats", arg(&etcfs.mnt())]);
        let until = Instant::now() + Duration::from_secs(30);
        let mut before = sleeps(etcfs.pid());
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let after = sleeps(etcfs.pid());
            if after == before {
                break;
            }
            assert!(Instant::now() < until, "{before} and then {after}");
            before = after;
        }
    });
}

#[test]
fn in_the_background_lines_go_to_syslog() {
    use std::os::unix::fs::FileTypeExt as _;
    private(DEADLINE, |env| {
        // A /dev of this namespace alone, so that the machine's own syslog hears nothing.
        let dev = env.dir("dev");
        rustix::mount::mount(
            "dev",
            &dev,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .expect("tmpfs");
        for name in ["null", "fuse"] {
            let real = std::path::Path::new("/dev").join(name);
            assert!(
                fs::metadata(&real)
                    .expect("the device")
                    .file_type()
                    .is_char_device()
            );
            fs::write(dev.join(name), "").expect("a place");
            rustix::mount::mount_bind(&real, dev.join(name)).expect("bind");
        }
        let syslog = std::os::unix::net::UnixDatagram::bind(dev.join("log")).expect("bind");
        rustix::mount::mount_bind_recursive(&dev, "/dev").expect("bind");
        let etcfs = Etcfs::start(
            env,
            Opts {
                background: true,
                ..Opts::default()
            },
        );
        etcfs
            .write_config(&["add_global"])
            .expect_err("no path, no command");
        syslog
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let mut line = [0; 2000];
        let len = syslog.recv(&mut line).expect("a line");
        let line = String::from_utf8_lossy(&line[..len]).into_owned();
        assert!(
            line.starts_with(&format!("<27>etcfs[{}]: ", etcfs.pid())),
            "{line}"
        );
        assert!(line.contains("add_global"), "{line}");
    });
}

#[test]
fn a_request_that_waits_for_a_lock_is_counted_and_no_hang() {
    use rustix::fs::{FlockOperation, flock};
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let open = || fs::File::create(mnt.join("lock")).expect("open");
        let (holder, waiter) = (open(), open());
        flock(&holder, FlockOperation::LockExclusive).expect("lock");
        let waits = std::thread::spawn(move || flock(&waiter, FlockOperation::LockExclusive));
        while json(&["stats", arg(&mnt)])["lock_waiters"] != 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = text(&["doctor", arg(&mnt)]);
        assert!(said.contains("1 requests wait for a file lock"), "{said}");
        drop(holder);
        waits.join().expect("the waiter").expect("it gets the lock");
        assert_eq!(json(&["stats", arg(&mnt)])["lock_waiters"], 0);
    });
}
