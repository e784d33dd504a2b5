//! What the daemon says by itself: the watchdog's lines, and where lines go.

use super::harness::{CONFIG, Env, Etcfs, Opts, mounts, private};
use super::{DEADLINE, arg, json};
use rustix::process::Signal;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A daemon over a directory that another, stopped one serves.
#[test]
fn the_watchdog_tells_once_of_a_request_that_hangs_and_of_its_end() {
    private(DEADLINE, |env| {
        let below = Etcfs::start(env, Opts::strict());
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
        let until = Instant::now() + Duration::from_secs(60);
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
        for part in ["LOOKUP (request ", " uid 0 takes ", "thread ", "fuse"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(text.matches("has been answered").count(), 1, "{text}");
        let age = stats["in_flight"][0]["age_us"]
            .as_f64()
            .expect("a request in flight");
        assert!(age > 1e6, "{stats}");
    });
}

/// A /dev of this namespace alone, so that the machine's own logs hear nothing: with a syslog that this test reads, and a
/// file in the place of the kernel's log.
struct Logs {
    syslog: UnixDatagram,
    kmsg: PathBuf,
}

impl Logs {
    fn new(env: &Env) -> Logs {
        let dev = env.dir("dev");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("dev", &dev, "tmpfs", flags, None).expect("tmpfs");
        for name in ["null", "fuse"] {
            fs::write(dev.join(name), "").expect("a place");
            let real = std::path::Path::new("/dev").join(name);
            rustix::mount::mount_bind(&real, dev.join(name)).expect("bind");
        }
        let (syslog, kmsg) = (dev.join("log"), dev.join("kmsg"));
        fs::write(&kmsg, "").expect("a place");
        let syslog = UnixDatagram::bind(syslog).expect("bind");
        rustix::mount::mount_bind_recursive(&dev, "/dev").expect("bind");
        Logs { syslog, kmsg }
    }

    /// The next line for syslog.
    fn line(&self) -> String {
        let patience = Some(Duration::from_secs(20));
        self.syslog.set_read_timeout(patience).expect("a timeout");
        let mut line = [0; 2000];
        let len = self.syslog.recv(&mut line).expect("a line");
        String::from_utf8_lossy(&line[..len]).into_owned()
    }

    /// What the kernel's log has got; the first line is there once `line` has returned it or a later one.
    fn kernel(&self) -> String {
        fs::read_to_string(&self.kmsg).expect("the kernel's log")
    }

    fn heard_nothing(&self) -> bool {
        self.syslog.set_nonblocking(true).expect("a socket");
        self.syslog.recv(&mut [0; 1]).is_err() && self.kernel().is_empty()
    }
}

fn background(options: &[&str]) -> Opts {
    Opts {
        background: true,
        options: options.iter().map(ToString::to_string).collect(),
        ..Opts::default()
    }
}

#[test]
fn in_the_background_lines_go_to_syslog_and_to_the_kernels_log() {
    private(DEADLINE, |env| {
        let logs = Logs::new(env);
        let etcfs = Etcfs::start(env, background(&[]));
        let no_path = etcfs.write_config(&["add_global"]);
        no_path.expect_err("no path, no command");
        let line = logs.line();
        // The stratum, for the daemons of all serve an /etc; the file; what was refused.
        let mnt = etcfs.mnt();
        let prefix = format!(
            "<27>etcfs[{}]: here: {}/{CONFIG}: line \"",
            etcfs.pid(),
            mnt.display()
        );
        assert!(line.starts_with(&prefix), "{line}");
        assert!(line.contains("add_global"), "{line}");
        while logs.kernel().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(logs.kernel(), line);
    });
}

#[test]
fn without_a_syslog_the_kernels_log_has_the_line() {
    private(DEADLINE, |env| {
        let logs = Logs::new(env);
        fs::remove_file("/dev/log").expect("remove");
        let etcfs = Etcfs::start(env, background(&["log=error"]));
        let no_path = etcfs.write_config(&["rm_global"]);
        no_path.expect_err("no path, no command");
        while !logs.kernel().contains("rm_global") {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn in_the_foreground_lines_go_to_stderr_alone() {
    private(DEADLINE, |env| {
        let logs = Logs::new(env);
        let etcfs = Etcfs::start(env, Opts::default());
        let no_path = etcfs.write_config(&["add_global"]);
        no_path.expect_err("no path, no command");
        while !etcfs.stderr().contains("add_global") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(logs.heard_nothing());
    });
}

/// An error, a warning and an information, as far as `level` lets them through.
fn said_at(env: &Env, level: &str) -> [bool; 3] {
    let mut etcfs = Etcfs::start(
        env,
        Opts {
            options: vec![format!("log={level}")],
            ..Opts::default()
        },
    );
    let no_path = etcfs.write_config(&["add_global"]);
    no_path.expect_err("no path, no command");
    // A signal to a daemon whose mount is covered.
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("cover", etcfs.mnt(), "tmpfs", flags, None).expect("tmpfs");
    etcfs.signal(Signal::TERM);
    etcfs.wait(Duration::from_secs(20)).expect("it ends");
    rustix::mount::unmount(etcfs.mnt(), rustix::mount::UnmountFlags::DETACH).expect("unmount");
    let said = etcfs.stderr();
    [
        "add_global",
        "another mount covers this one",
        "nobody asked for it",
    ]
    .map(|what| said.contains(what))
}

#[test]
fn the_level_says_how_much_is_told() {
    for (level, told) in [
        ("error", [true, false, false]),
        ("warn", [true, true, false]),
        ("info", [true, true, true]),
        ("debug", [true, true, true]),
    ] {
        private(DEADLINE, move |env| {
            assert_eq!(said_at(env, level), told, "{level}");
        });
    }
}
