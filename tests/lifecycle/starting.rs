//! Starting: what the parent promises, what is refused, what is inherited.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::mount::UnmountFlags;

use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, private};
use crate::{DEADLINE, background, binary, is_mounted, until};

fn etcfs(args: &[&OsStr]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).env_clear();
    command.output().expect("run the daemon")
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
            Some(etcfs.head().to_string()),
            "a session of its own"
        );
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
        assert_eq!(refused.status.code(), Some(1));
        assert!(!is_mounted(&at));
        let said = String::from_utf8_lossy(&refused.stderr);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "error: not running as root.");
        assert!(
            lines.len() == 2 && lines[1].contains("leave out allow_other"),
            "{said}"
        );
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
