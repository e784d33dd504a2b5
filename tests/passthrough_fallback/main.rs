//! Passthrough that was asked for and is not possible: one line says why, and everything works without it; one odd file
//! never switches the whole mount off (contract U11).
//!
//! What kernels between 6.9 and 6.11, or a full table of files, would answer is put into the daemon's system calls by
//! strace. A kernel without passthrough is booted by `scripts/kernels`, which runs tests/guest.

#[path = "../harness/mod.rs"]
mod harness;
mod rights;

use etcfs_proto::Opcode;
use harness::{Bases, CONFIG, Env, Etcfs, Lower, Opts, Request, Trace, User, as_user};
use harness::{count, private};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::MountFlags;
use rustix::thread::CapabilitySet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(90);

/// One worker, so that strace's counters count the daemon's calls.
fn opts(lower: Lower, options: &[&str]) -> Opts {
    let mut all = vec!["threads=1".to_owned()];
    all.extend(options.iter().map(|&o| o.to_owned()));
    Opts {
        lower,
        options: all,
        ..Opts::default()
    }
}

fn asked(env: &Env) -> Etcfs {
    let etcfs = Etcfs::start(env, opts(Lower::Tmpfs, &["passthrough"]));
    assert_eq!(etcfs.stderr(), "", "nothing speaks against it yet");
    etcfs
}

/// The one line that the daemon has said, which has all the parts.
fn assert_one_line(said: &str, parts: &[&str]) {
    assert_eq!(said.lines().count(), 1, "{said:?}");
    for part in ["etcfs: passthrough is off", "everything works without it"] {
        assert!(said.contains(part), "{said:?} lacks {part:?}");
    }
    for part in parts {
        assert!(said.contains(part), "{said:?} lacks {part:?}");
    }
}

/// Makes, reads, changes and removes a file.
fn assert_works(dir: &Path) {
    let path = dir.join("works");
    fs::write(&path, "text").expect("write");
    assert_eq!(fs::read(&path).expect("read"), b"text");
    let file = fs::File::options().append(true).open(&path).expect("open");
    std::io::Write::write_all(&mut &file, b", more").expect("append");
    assert_eq!(fs::read(&path).expect("read"), b"text, more");
    fs::remove_file(&path).expect("unlink");
}

/// Whether reading this file asks the daemon for its bytes.
fn is_read_through_the_daemon(env: &Env, etcfs: &Etcfs, path: &Path) -> bool {
    let trace = Trace::of(env, etcfs);
    fs::read(path).expect("read");
    let requests = trace.end();
    assert_eq!(count(&requests, Opcode::OPEN), 1, "{}", path.display());
    count(&requests, Opcode::READ) > 0
}

/// Reads the files of these names one after the other while `ioctl` fails with `error` in the calls that `when` names
/// (strace's syntax); returns for each whether it was read through the daemon, and all requests.
fn with_failing_ioctl(
    env: &Env,
    etcfs: &Etcfs,
    error: &str,
    when: &str,
    names: &[&str],
) -> (Vec<bool>, Vec<Request>) {
    for name in names {
        fs::write(etcfs.local().join(name), *name).expect("write beneath");
    }
    let inject = format!("--inject=ioctl:error={error}:when={when}");
    let trace = Trace::with(env, etcfs, &[&inject]);
    for name in names {
        let read = fs::read_to_string(etcfs.mnt().join(name));
        assert_eq!(read.expect("read"), **name);
    }
    let requests = trace.end();
    // The requests of one worker are in order: what comes after an OPEN and before the next one is about that file.
    let mut through = Vec::new();
    for request in &requests {
        match request.opcode {
            Opcode::OPEN => through.push(false),
            Opcode::READ => *through.last_mut().expect("an OPEN came before") = true,
            _ => {}
        }
    }
    assert_eq!(through.len(), names.len());
    (through, requests)
}

/// The calls of the opens among the requests that hold `part`.
fn calls(requests: &[Request], part: &str) -> Vec<String> {
    let opens = requests.iter().filter(|r| r.opcode == Opcode::OPEN);
    let calls = opens.flat_map(|r| &r.calls);
    calls.filter(|c| c.contains(part)).cloned().collect()
}

#[test]
fn without_the_variable_it_is_off_and_info_says_so() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts(Lower::Tmpfs, &[]));
        assert_works(&etcfs.mnt());
        assert_eq!(etcfs.stderr(), "", "nobody asked for it");
        let file = etcfs.mnt().join("f");
        fs::write(&file, "x").expect("write");
        assert!(is_read_through_the_daemon(env, &etcfs, &file));
    });
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts(Lower::Tmpfs, &["log=info"]));
        assert_one_line(&etcfs.stderr(), &["ETCFS_ENABLE_PASSTHROUGH=1"]);
    });
}

#[test]
fn a_value_that_says_no_leaves_it_off_without_a_word_and_an_odd_one_is_quoted() {
    for (value, line) in [
        ("", None),
        ("0", None),
        ("no", None),
        ("true", Some("\"true\"")),
        ("1 ", Some("\"1 \"")),
    ] {
        private(DEADLINE, move |env| {
            let vars = vec![("ETCFS_ENABLE_PASSTHROUGH".into(), value.into())];
            let opts = Opts {
                vars,
                ..opts(Lower::Tmpfs, &[])
            };
            let etcfs = Etcfs::start(env, opts);
            assert_works(&etcfs.mnt());
            match line {
                None => assert_eq!(etcfs.stderr(), "", "{value:?}"),
                Some(quoted) => assert_one_line(&etcfs.stderr(), &[quoted, "1 and yes"]),
            }
            let file = etcfs.mnt().join("f");
            fs::write(&file, "x").expect("write");
            assert!(is_read_through_the_daemon(env, &etcfs, &file), "{value:?}");
        });
    }
}

#[test]
fn overlayfs_beneath_needs_a_depth_of_two() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts(Lower::Overlay, &["passthrough"]));
        assert_works(&etcfs.mnt());
        assert_one_line(&etcfs.stderr(), &["overlayfs", "-o max_stack_depth=2"]);
        let file = etcfs.mnt().join("f");
        fs::write(&file, "x").expect("write");
        assert!(is_read_through_the_daemon(env, &etcfs, &file));
    });
    private(DEADLINE, |env| {
        let options = ["passthrough", "max_stack_depth=2"];
        let etcfs = Etcfs::start(env, opts(Lower::Overlay, &options));
        assert_works(&etcfs.mnt());
        let file = etcfs.mnt().join("f");
        fs::write(&file, "x").expect("write");
        assert!(!is_read_through_the_daemon(env, &etcfs, &file));
        assert_eq!(etcfs.stderr(), "");
    });
}

#[test]
fn overlayfs_on_overlayfs_is_served_and_no_depth_is_recommended_in_vain() {
    for (depth, part) in [
        ("1", "unless it lies on another stacked one"),
        ("2", "max_stack_depth=2, which is in force"),
    ] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, Lower::Overlay);
            let upper = env.dir("upper");
            let data = format!(
                "lowerdir={},upperdir={},workdir={}",
                bases.native().display(),
                upper.display(),
                env.dir("work").display()
            );
            let data = std::ffi::CString::new(data).expect("paths without NUL");
            let none = MountFlags::empty();
            rustix::mount::mount("two", bases.mnt(), "overlay", none, data.as_c_str())
                .expect("mount an overlayfs over an overlayfs");
            let depth = format!("max_stack_depth={depth}");
            let opts = opts(Lower::Overlay, &["passthrough", &depth]);
            let etcfs = Etcfs::serve(env, bases, opts);
            assert_works(&etcfs.mnt());
            let file = etcfs.mnt().join("f");
            fs::write(&file, "x").expect("write");
            assert!(is_read_through_the_daemon(env, &etcfs, &file), "{depth}");
            let said = etcfs.stderr();
            let local = said.lines().find(|line| line.contains(part));
            assert_one_line(local.unwrap_or(&said), &["overlayfs", part]);
            assert_eq!(fs::read(upper.join("f")).expect("read the layer"), b"x");
        });
    }
}

#[test]
fn a_side_on_overlayfs_leaves_the_other_side_passed_through() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Overlay);
        let plain = MountFlags::empty();
        rustix::mount::mount("global", bases.global(), "tmpfs", plain, c"mode=0755")
            .expect("mount a tmpfs for the global side");
        fs::write(bases.global().join("shared"), "global").expect("write");
        fs::write(bases.local().join("own"), "local").expect("write");
        let mut opts = opts(Lower::Overlay, &["passthrough"]);
        opts.config = vec!["add_global /shared".to_owned()];
        let etcfs = Etcfs::serve(env, bases, opts);
        let mnt = etcfs.mnt();
        assert!(!is_read_through_the_daemon(
            env,
            &etcfs,
            &mnt.join("shared")
        ));
        assert!(is_read_through_the_daemon(env, &etcfs, &mnt.join("own")));
        assert!(!is_read_through_the_daemon(
            env,
            &etcfs,
            &mnt.join("shared")
        ));
        assert_one_line(&etcfs.stderr(), &["overlayfs"]);
    });
}

#[test]
fn a_file_of_another_file_system_within_the_lower_directory_is_served_and_the_rest_passed_through()
{
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("plain"), "plain").expect("write");
        let odd = bases.mnt().join("odd");
        fs::create_dir(&odd).expect("mkdir");
        rustix::mount::mount("proc", &odd, "proc", MountFlags::empty(), None).expect("mount proc");
        let etcfs = Etcfs::serve(env, bases, opts(Lower::Tmpfs, &["passthrough"]));
        let mnt = etcfs.mnt();
        let version = fs::read_to_string("/proc/version").expect("read natively");
        for _ in 0..2 {
            let read = fs::read_to_string(mnt.join("odd/version")).expect("read");
            assert_eq!(read, version);
            assert!(!is_read_through_the_daemon(env, &etcfs, &mnt.join("plain")));
        }
        assert_one_line(&etcfs.stderr(), &["procfs", "at no max_stack_depth"]);
    });
}

#[test]
fn what_is_no_regular_file_and_the_configuration_file_switch_nothing_off() {
    private(DEADLINE, |env| {
        let etcfs = asked(env);
        let mnt = etcfs.mnt();
        let mode = Mode::from_raw_mode(0o644);
        let null = makedev(1, 3);
        mknodat(CWD, mnt.join("fifo"), FileType::Fifo, mode, 0).expect("mkfifo");
        mknodat(CWD, mnt.join("null"), FileType::CharacterDevice, mode, null).expect("mknod");
        mknodat(CWD, mnt.join("socket"), FileType::Socket, mode, 0).expect("mknod");
        std::os::unix::fs::symlink("plain", mnt.join("link")).expect("symlink");
        fs::create_dir(mnt.join("dir")).expect("mkdir");
        fs::write(mnt.join("plain"), "plain").expect("write");
        let both = fs::File::options()
            .read(true)
            .write(true)
            .open(mnt.join("fifo"))
            .expect("open the FIFO");
        drop(both);
        assert!(fs::File::open(mnt.join("socket")).is_err());
        assert!(fs::File::open(mnt.join("null")).is_err(), "nodev");
        assert_eq!(fs::read_dir(mnt.join("dir")).expect("list").count(), 0);
        etcfs
            .write_config(&["add_global /shared"])
            .expect("configure");
        assert!(is_read_through_the_daemon(env, &etcfs, &mnt.join(CONFIG)));
        for name in ["plain", "link"] {
            assert!(!is_read_through_the_daemon(env, &etcfs, &mnt.join(name)));
        }
        assert_eq!(etcfs.stderr(), "");
    });
}

#[test]
fn a_kernel_that_refuses_o_path_is_given_open_descriptors_from_then_on() {
    private(DEADLINE, |env| {
        let etcfs = asked(env);
        let names = ["a", "b", "c"];
        let (through, requests) = with_failing_ioctl(env, &etcfs, "EBADF", "1", &names);
        assert_eq!(through, [false; 3], "all are passed through");
        assert_eq!(
            calls(&requests, "ioctl(").len(),
            4,
            "one attempt more, once"
        );
        assert_eq!(calls(&requests, "O_PATH").len(), 1, "and never again so");
        assert_eq!(etcfs.stderr(), "");
    });
}

#[test]
fn a_kernel_that_refuses_every_descriptor_fails_no_open() {
    private(DEADLINE, |env| {
        let etcfs = asked(env);
        let (through, _) = with_failing_ioctl(env, &etcfs, "EBADF", "1+", &["a", "b"]);
        assert_eq!(through, [true; 2]);
        // Its opens are over, so the next one asks again, and this time nothing is put in its way.
        assert!(!is_read_through_the_daemon(
            env,
            &etcfs,
            &etcfs.mnt().join("a")
        ));
        assert_eq!(etcfs.stderr(), "");
    });
}

#[test]
fn one_file_that_cannot_be_registered_is_served_and_the_others_passed_through() {
    for error in ["EINVAL", "EISDIR", "ENOMEM", "ENFILE", "EIO"] {
        private(DEADLINE, move |env| {
            let etcfs = asked(env);
            // An open for reading is tried twice: on a pinned file, and on the descriptor that a plain open needs.
            let (through, _) = with_failing_ioctl(env, &etcfs, error, "1..2", &["a", "b"]);
            assert_eq!(through, [true, false], "{error}");
            assert!(!is_read_through_the_daemon(
                env,
                &etcfs,
                &etcfs.mnt().join("a")
            ));
            assert_eq!(etcfs.stderr(), "", "{error}");
        });
    }
}

#[test]
fn what_holds_for_the_whole_mount_or_file_system_is_said_once() {
    for (error, part) in [
        ("EPERM", "CAP_SYS_ADMIN of the initial user namespace"),
        ("ELOOP", "-o max_stack_depth=2"),
        ("EOPNOTSUPP", "cannot read by itself"),
    ] {
        private(DEADLINE, move |env| {
            let etcfs = asked(env);
            let names = ["a", "b", "c"];
            let (through, requests) = with_failing_ioctl(env, &etcfs, error, "1", &names);
            assert_eq!(through, [true; 3], "{error}");
            assert_eq!(calls(&requests, "ioctl(").len(), 1, "{error}: asked once");
            assert_works(&etcfs.mnt());
            assert_one_line(&etcfs.stderr(), &[part]);
        });
    }
}
