//! The daemon from its start to its end, as Bedrock, fstab and users start and end it (contract D1 to D22).

mod harness;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use harness::{Bases, CONFIG, Env, Etcfs, Lower, Opts, User, as_user, mounts, private};
use rustix::mount::UnmountFlags;
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(90);
const LONG: Duration = Duration::from_secs(30);

fn binary() -> PathBuf {
    std::env::var_os("ETCFS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_etcfs").into(), PathBuf::from)
}

fn etcfs(args: &[&OsStr]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).env_clear();
    command.output().expect("run the daemon")
}

fn background() -> Opts {
    Opts {
        background: true,
        ..Opts::default()
    }
}

/// Code 1, and one line on stderr that has all the parts; nothing mounted at `at`.
fn assert_refused(output: &Output, parts: &[&str], at: &Path) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.ends_with('\n'), "{line:?}");
    assert!(
        parts.iter().all(|part| line.contains(part)),
        "{line:?} lacks one of {parts:?}"
    );
    assert!(!is_mounted(at), "{line}");
}

fn is_mounted(at: &Path) -> bool {
    mounts().iter().any(|mount| mount.at == at)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + LONG;
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn d1_d2_d9_d11_exit_0_of_the_parent_means_that_the_mount_answers() {
    // Contract D1, D2, D9, D11.
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, background());
        etcfs
            .read_config()
            .expect("the next command opens the configuration file");
        let of = |name: &str| PathBuf::from(format!("/proc/{}/{name}", etcfs.pid()));
        assert_eq!(fs::read_to_string(of("comm")).expect("comm"), "etcfs\n");
        let status = fs::read_to_string(of("status")).expect("status");
        assert!(status.contains("\nUmask:\t0000\n"), "{status}");
        until("descriptors 0, 1 and 2 are nothing", || {
            (0..3).all(|fd| {
                fs::read_link(of(&format!("fd/{fd}"))).is_ok_and(|to| to == Path::new("/dev/null"))
            })
        });
        assert_eq!(fs::read_link(of("cwd")).expect("cwd"), Path::new("/"));
        let stat = fs::read_to_string(of("stat")).expect("stat");
        let session = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(3))
            .map(str::to_owned);
        assert_eq!(
            session,
            Some(etcfs.pid().to_string()),
            "a session of its own"
        );
    });
}

#[test]
fn d19_ending_signals_unmount_even_if_busy_and_exit_0() {
    // Contract D19.
    private(DEADLINE, |env| {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let bases = Bases::new(env, Lower::Tmpfs);
            fs::write(bases.local().join("busy"), "x").expect("write");
            let mut etcfs = Etcfs::serve(env, bases, Opts::default());
            let held = fs::File::open(etcfs.mnt().join("busy")).expect("open");
            etcfs.signal(signal);
            let status = etcfs.wait(LONG).expect("it ends");
            assert_eq!(status.code(), Some(0), "{signal:?}: {}", etcfs.stderr());
            assert!(etcfs.mount().is_none(), "{signal:?}");
            assert_eq!(
                fs::read(etcfs.mnt().join("busy")).expect("the directory is back"),
                b"x"
            );
            assert_eq!(etcfs.stderr(), "");
            drop(held);
            drop(etcfs);
            for view in ["fs", "below"] {
                rustix::mount::unmount(env.dir(view), UnmountFlags::DETACH).expect("unmount");
            }
        }
    });
}

#[test]
fn d20_sigpipe_ends_nothing() {
    // Contract D20.
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        etcfs.signal(Signal::PIPE);
        etcfs.read_config().expect("it still answers");
    });
}

#[test]
fn d18_daemon_leaves_with_the_last_user_of_a_lazily_unmounted_mount() {
    // Contract D18.
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let held = fs::File::open(etcfs.mnt().join(CONFIG)).expect("open");
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("umount -l");
        held.metadata().expect("it still answers");
        assert_eq!(etcfs.wait(Duration::from_millis(50)), None);
        drop(held);
        assert_eq!(
            etcfs.wait(LONG).expect("it ends").code(),
            Some(0),
            "{}",
            etcfs.stderr()
        );
    });
}

#[test]
fn mount_over_ours_survives_our_end() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("t", etcfs.mnt(), "tmpfs", flags, None).expect("mount a tmpfs");
        etcfs.signal(Signal::TERM);
        assert_eq!(etcfs.wait(LONG).expect("it ends").code(), Some(0));
        assert!(
            etcfs.stderr().contains("another mount covers ours"),
            "{}",
            etcfs.stderr()
        );
        let top = mounts()
            .into_iter()
            .rfind(|mount| mount.at == etcfs.mnt())
            .expect("a mount");
        assert_eq!(top.fstype, "tmpfs");
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("unmount");
    });
}

#[test]
fn d15_mount_of_a_killed_daemon_is_replaced() {
    // Contract D15.
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let mut killed = Etcfs::serve(env, bases.clone(), Opts::default());
        killed.signal(Signal::KILL);
        killed.wait(LONG).expect("it dies");
        assert!(fs::metadata(killed.mnt()).is_err(), "a dead mount is left");
        let etcfs = Etcfs::serve(env, bases, background());
        etcfs.read_config().expect("the new one answers");
        assert_eq!(
            mounts()
                .iter()
                .filter(|mount| mount.at == etcfs.mnt())
                .count(),
            1,
            "contract D12"
        );
        etcfs.signal(Signal::TERM);
        until("it is unmounted", || etcfs.mount().is_none());
    });
}

#[test]
fn d2_d6_d7_d8_refusals_are_one_line_and_exit_code_1() {
    // Contract D2, D6, D7, D8.
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let at = bases.mnt();
        let mnt = at.as_os_str();
        let os = OsStr::new;
        assert_refused(&etcfs(&[]), &["no mountpoint given"], &at);
        assert_refused(
            &etcfs(&[os("-o"), os("frobnicate"), mnt]),
            &["frobnicate", "unknown option"],
            &at,
        );
        let mut list = std::ffi::OsString::from("stratum=here,global=");
        list.push(bases.global());
        let missing = env.scratch().join("missing");
        assert_refused(
            &etcfs(&[os("-o"), &list, missing.as_os_str()]),
            &["missing", "create the directory"],
            &missing,
        );
        let mut elsewhere = std::ffi::OsString::from("stratum=here,global=");
        elsewhere.push(&missing);
        assert_refused(
            &etcfs(&[os("-o"), &elsewhere, mnt]),
            &["missing", "global="],
            &at,
        );
        assert_refused(
            &etcfs(&[os("-f"), os("-o"), &elsewhere, mnt]),
            &["missing", "global="],
            &at,
        );
        let program = env.scratch().join("etcfs");
        fs::copy(binary(), &program).expect("copy the daemon");
        let refused = as_user(&User::plain(65534), || {
            Command::new(&program)
                .args([os("-o"), os("allow_other"), mnt])
                .current_dir("/")
                .output()
                .expect("run")
        });
        assert_refused(&refused, &["error: not running as root."], &at);
        assert_eq!(refused.stderr, b"error: not running as root.\n");
    });
}

#[test]
fn d7_help_and_version_exit_0() {
    // Contract D7.
    for (arg, part) in [
        ("-h", "Usage: etcfs"),
        ("--help", "allow_other"),
        ("-V", "etcfs 0."),
        ("--version", "etcfs 0."),
    ] {
        let output = etcfs(&[OsStr::new(arg)]);
        assert_eq!(output.status.code(), Some(0), "{arg}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(part),
            "{arg}"
        );
        assert_eq!(output.stderr, b"", "{arg}");
    }
}

#[test]
fn d4_inherited_descriptors_stay_open() {
    // Contract D4.
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let lock = fs::File::create(env.scratch().join("lock")).expect("create");
        let mut command = Etcfs::command(&bases, &Opts::default());
        let inherited = rustix::io::dup(&lock).expect("dup");
        let number = std::os::fd::AsRawFd::as_raw_fd(&inherited);
        let mut child = command.spawn().expect("start the daemon");
        until("it is mounted", || is_mounted(&bases.mnt()));
        let link =
            fs::read_link(format!("/proc/{}/fd/{number}", child.id())).expect("the descriptor");
        assert_eq!(link, env.scratch().join("lock"));
        rustix::mount::unmount(bases.mnt(), UnmountFlags::DETACH).expect("unmount");
        child.wait().expect("it ends");
    });
}

/// A tree with nothing but what a stratum must have: the directories, /proc and /dev/fuse.
fn stratum(env: &Env) -> PathBuf {
    let root = env.dir("stratum");
    for dir in ["etc", "proc", "dev", "global"] {
        fs::create_dir(root.join(dir)).expect("mkdir");
    }
    fs::write(root.join("etc/local"), "l").expect("write");
    fs::write(root.join("global/shared"), "g").expect("write");
    fs::copy(binary(), root.join("etcfs")).expect("copy the daemon");
    rustix::mount::mount_bind("/proc", root.join("proc")).expect("bind");
    fs::write(root.join("dev/fuse"), "").expect("write");
    rustix::mount::mount_bind("/dev/fuse", root.join("dev/fuse")).expect("bind");
    root
}

#[test]
fn d1_d10_daemon_in_an_empty_stratum_serves_its_etc_and_stays_in_its_root() {
    // Contract D1, D8, D10, D12, K5: no libc, no /dev/null, no environment.
    private(DEADLINE, |env| {
        let root = stratum(env);
        let run = || {
            let mut command = Command::new("chroot");
            command.arg(&root).arg("/etcfs").args([
                "-o",
                "allow_other,global=/global,stratum=here",
                "/etc",
            ]);
            command
                .env("PATH", "/usr/sbin:/usr/bin")
                .output()
                .expect("run chroot")
        };
        let output = run();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.stderr, b"");
        let at = root.join("etc");
        fs::write(at.join(CONFIG), "add_global /shared\n").expect("configure");
        assert_eq!(fs::read(at.join("shared")).expect("global"), b"g");
        assert_eq!(fs::read(at.join("local")).expect("local"), b"l");
        let entry = mounts()
            .into_iter()
            .find(|mount| mount.at == at)
            .expect("it is mounted");
        assert_eq!(entry.fstype, "fuse.etcfs");
        let mut daemons = Vec::new();
        for process in fs::read_dir("/proc").expect("list").flatten() {
            if fs::read_link(process.path().join("root")).is_ok_and(|to| to == root) {
                daemons.push(process.file_name().to_string_lossy().into_owned());
            }
        }
        assert_eq!(
            daemons.len(),
            1,
            "one process, and it has the stratum's root: {daemons:?}"
        );
        let pid =
            rustix::process::Pid::from_raw(daemons[0].parse().expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, Signal::TERM).expect("TERM");
        until("it is unmounted", || !is_mounted(&at));
    });
}

#[test]
fn fstab_line_is_mounted_through_mount_fuse3() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("here"), "").expect("write");
        // mount(8) gives its helpers a PATH of its own.
        let programs = env.dir("programs");
        fs::copy(binary(), programs.join("etcfs")).expect("copy the daemon");
        rustix::mount::mount_bind(&programs, "/usr/local/bin").expect("bind");
        let (at, global) = (bases.mnt(), bases.global());
        let fstab = env.scratch().join("fstab");
        for (line, source) in [
            ("etcfs MNT fuse.etcfs", "etcfs"),
            ("none MNT fuse.etcfs", "none"),
            ("etcfs MNT fuse", "etcfs"),
            ("etcfs#a MNT fuse", "a"),
        ] {
            let line = line.replace("MNT", &at.display().to_string());
            let list = format!(
                "ro,allow_other,nofail,_netdev,x-test=1,stratum=here,global={}",
                global.display()
            );
            fs::write(&fstab, format!("{line} {list} 0 0\n")).expect("write");
            let output = Command::new("mount")
                .arg("-T")
                .arg(&fstab)
                .arg(&at)
                .output()
                .expect("run mount");
            assert!(
                output.status.success(),
                "{line}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let entry = mounts()
                .into_iter()
                .rfind(|mount| mount.at == at)
                .expect("it is mounted");
            assert_eq!(
                (&*entry.fstype, &*entry.source),
                ("fuse.etcfs", source),
                "{line}"
            );
            assert_eq!(entry.options, "ro,nosuid,nodev,relatime", "{line}");
            fs::metadata(at.join("here")).expect("it answers");
            rustix::mount::unmount(&at, UnmountFlags::DETACH).expect("unmount");
        }
        until("all daemons have left", || {
            !running(&programs.join("etcfs"))
        });
    });
}

/// Whether a process runs this program.
fn running(program: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("list").flatten();
    processes
        .into_iter()
        .any(|process| fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program))
}

#[test]
fn d21_nothing_is_opened_by_an_absolute_path_once_it_is_mounted() {
    // Contract D21.
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("file"), "x").expect("write");
        let trace = env.scratch().join("trace");
        let daemon = Etcfs::command(&bases, &Opts::default());
        let mut command = Command::new("strace");
        command
            .args([
                "-f",
                "-qq",
                "-y",
                "-e",
                "trace=%file,move_mount,execve",
                "-o",
            ])
            .arg(&trace);
        command
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .stdin(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().expect("start strace");
        until("it is mounted", || is_mounted(&bases.mnt()));
        let at = bases.mnt();
        assert_eq!(fs::read(at.join("file")).expect("read"), b"x");
        fs::write(at.join("new"), "y").expect("write");
        fs::rename(at.join("new"), at.join("file")).expect("rename");
        fs::write(at.join(CONFIG), "add_global /g\n").expect("configure");
        fs::write(at.join("g"), "z").expect("write a global file");
        assert_eq!(fs::read_dir(&at).expect("list").count(), 3);
        let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
            .expect("a pid");
        rustix::process::kill_process_group(group, Signal::TERM).expect("TERM");
        child.wait().expect("it ends");
        let text = fs::read_to_string(&trace).expect("the trace");
        let mut lines = text
            .lines()
            .skip_while(|line| !line.contains("move_mount("));
        assert!(
            lines.next().is_some(),
            "no move_mount in the trace:\n{text}"
        );
        let mount = format!("\"{}", at.display());
        let mut calls = 0;
        for line in lines {
            calls += 1;
            // Only the questions that send no request, and the unmount, name the mountpoint.
            let allowed = ["AT_STATX_DONT_SYNC", "umount2(", "\"/proc/"];
            let absolute = line.contains("\"/");
            assert!(
                !absolute || allowed.iter().any(|part| line.contains(part)),
                "{line}"
            );
            assert!(!line.contains(&mount) || !line.contains("open"), "{line}");
        }
        assert!(calls > 5, "the trace shows the daemon at work:\n{text}");
    });
}
