//! Names that users choose (of files, attributes, link targets, programs) on their way to an administrator's terminal, to a
//! log and to the kernel's log: one line stays one line, and nothing in it acts on the terminal.

use super::DEADLINE;
use crate::harness::{CONFIG, Env, Etcfs, Opts, User, as_user, private};
use etcfs::ctl::door::Door;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Names as an attacker would choose them.
const NAMES: [&[u8]; 7] = [
    b"a\n<0>etcfs: lie",
    b"\x1b[2J\x1b]0;title\x07",
    b"\xff\xfe\x9b31m",
    b"\xc2\x9b2J",
    "\u{202e}txt\u{2028}\u{200b}".as_bytes(),
    b"back\\x1b[0m\\slash",
    b"\r\x08\x08\x7f",
];

/// Nothing but text in lines, of which none is somebody else's.
fn assert_tame(what: &str, text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap_or_else(|e| panic!("{what}: {e}"));
    for line in text.lines() {
        let acts = |c: char| {
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        };
        assert!(!line.chars().any(acts), "{what}: {line:?}");
        assert!(!line.starts_with("<0>"), "{what}: {line:?}");
    }
}

/// uid 1000 does what comes to logs, with all the names, by a program that is called like one of them.
fn act(mnt: &Path) {
    as_user(&User::plain(1000), || {
        for (nth, name) in NAMES.iter().enumerate() {
            // The name of the process is the thread's.
            let comm = std::ffi::CString::new(*name).expect("no NUL");
            rustix::thread::set_name(&comm).expect("prctl");
            let path = mnt.join(OsStr::from_bytes(name));
            fs::write(&path, "x").expect("write");
            fs::metadata(&path).expect("stat");
            let attribute = [b"user.", *name].concat();
            let set = lsetxattr(&path, &attribute[..], b"v", XattrFlags::empty());
            assert!(set.is_ok() || nth == 2, "{set:?}: tmpfs takes any UTF-8");
            let _ = lgetxattr(&path, &attribute[..], &mut [0; 16][..]);
            let link = mnt.join(format!("link{nth}"));
            std::os::unix::fs::symlink(OsStr::from_bytes(name), &link).expect("symlink");
            fs::rename(&link, mnt.join(OsStr::from_bytes(&[*name, b"2"].concat())))
                .expect("rename");
            let program = mnt.join(OsStr::from_bytes(&[*name, b"3"].concat()));
            fs::copy("/bin/true", &program).expect("copy");
            let run = Command::new(&program).arg(OsStr::from_bytes(name)).status();
            assert!(run.expect("run").success());
        }
        rustix::thread::set_name(c"test").expect("prctl");
    });
}

fn etcfsctl(args: &[&OsStr]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
    command.args(args).output().expect("run etcfsctl")
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn assert_output_is_tame(args: &[&OsStr]) -> Output {
    let output = etcfsctl(args);
    assert_tame(&format!("{args:?}"), &output.stdout);
    assert_tame(&format!("{args:?}"), &output.stderr);
    output
}

fn open_to_all(etcfs: &Etcfs) {
    use std::os::unix::fs::PermissionsExt as _;
    for dir in [etcfs.mnt(), etcfs.global()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    }
}

#[test]
fn everything_that_tells_of_requests_is_tame() {
    private(DEADLINE, |env| {
        let opts = Opts {
            flags: vec!["-d".to_owned()],
            config: vec!["add_override symlink /over /target".to_owned()],
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        open_to_all(&etcfs);
        let mnt = etcfs.mnt();
        let tape = env.scratch().join("tape");
        let streams: Vec<_> = [
            vec![os("log")],
            vec![os("trace")],
            vec![os("--json"), os("log")],
            vec![os("--json"), os("trace")],
            vec![
                os("--json"),
                os("top"),
                os("--interval"),
                os("0.3"),
                os("--count"),
                os("2"),
            ],
            vec![os("record"), tape.as_os_str()],
        ]
        .into_iter()
        .map(|args| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
            command
                .args(&args)
                .arg(&mnt)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            (
                format!("{args:?}"),
                command.spawn().expect("start etcfsctl"),
            )
        })
        .collect();
        let until = Instant::now() + Duration::from_secs(20);
        while listeners(&mnt) < streams.len() as u64 {
            assert!(Instant::now() < until, "all listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        act(&mnt);
        // Somebody replaces an override, which the journal tells of, with who it was.
        as_user(&User::plain(1000), || {
            rustix::thread::set_name(c"\x1b[31mred\n").expect("prctl");
            let _ = fs::remove_file(mnt.join("over"));
            let _ = std::os::unix::fs::symlink(OsStr::from_bytes(NAMES[1]), mnt.join("over"));
            let _ = fs::read_link(mnt.join("over"));
            rustix::thread::set_name(c"test").expect("prctl");
        });
        std::thread::sleep(Duration::from_millis(700));
        for (what, mut child) in streams {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, Signal::INT);
            let output = match child.try_wait() {
                Ok(_) => child.wait_with_output().expect("read"),
                Err(error) => panic!("{what}: {error}"),
            };
            assert_tame(&what, &output.stdout);
            assert_tame(&what, &output.stderr);
            let quiet = what.contains("record");
            assert!(quiet || output.stdout.len() > 300, "{what}: {output:?}");
        }
        for json in [&[][..], &[os("--json")]] {
            for command in [os("stats"), os("journal"), os("doctor")] {
                assert_output_is_tame(&[json, &[command, mnt.as_os_str()]].concat());
            }
            for name in NAMES
                .iter()
                .filter(|name| std::str::from_utf8(name).is_ok())
            {
                let path = mnt.join(OsStr::from_bytes(name));
                let output =
                    assert_output_is_tame(&[json, &[os("which"), path.as_os_str()]].concat());
                assert!(output.status.success(), "{output:?}");
            }
            let output = assert_output_is_tame(&[json, &[os("decode"), tape.as_os_str()]].concat());
            assert!(output.stdout.len() > 3000, "{output:?}");
        }
        assert_output_is_tame(&[os("stats"), os("--prometheus"), mnt.as_os_str()]);
        // In JSON the strings are whole for whoever decodes them.
        let tape = env.scratch().join(OsStr::from_bytes(NAMES[1]));
        assert_output_is_tame(&[os("decode"), tape.as_os_str()]);
        let said = etcfs.stderr();
        assert!(said.len() > 10_000, "-d prints");
        assert_tame("-d", said.as_bytes());
    });
}

fn listeners(mnt: &Path) -> u64 {
    let output = etcfsctl(&[os("--json"), os("stats"), mnt.as_os_str()]);
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    stats["listeners"].as_u64().expect("a number")
}

/// The watchdog tells of slow requests with the caller's name, and a rename of attributes that could not be carried.
#[test]
fn what_the_daemon_logs_by_itself_is_tame() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                options: vec!["watchdog=1".to_owned()],
                ..Opts::default()
            },
        );
        let wrong = OsStr::from_bytes(b"\x1b[2J\x9b /path\n");
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(etcfs.mnt().join(CONFIG))
            .expect("open");
        std::io::Write::write_all(&mut file, wrong.as_bytes()).expect_err("no such command");
        let said = etcfs.stderr();
        assert!(said.contains(r"\x1b[2J"), "{said}");
        assert_tame("the log", said.as_bytes());
        // The start, too, tells of paths.
        let mut command = Etcfs::command(&bases_named(env), &Opts::default());
        let output = command.output().expect("run");
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty());
        assert_tame("a failed start", &output.stderr);
    });
}

fn bases_named(env: &Env) -> crate::harness::Bases {
    // Its directories are made and taken away again.
    let name = String::from_utf8(NAMES[0].to_vec())
        .expect("UTF-8")
        .replace('/', "_");
    let bases = crate::harness::Bases::new(env, crate::harness::Lower::Tmpfs).second(env, &name);
    fs::remove_dir(bases.mnt()).expect("rmdir");
    bases
}

/// An ordinary user's daemon can say anything to a root that asks it.
#[test]
fn a_daemon_that_lies_does_not_reach_the_terminal() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let minor = etcfs.mount().expect("mounted").minor;
        let mnt = etcfs.mnt();
        let asked = |command: &str| {
            let output = etcfsctl(&[os("--json"), os(command), mnt.as_os_str()]);
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let reports = ["stats", "journal", "doctor"].map(|command| (command, asked(command)));
        etcfs.signal(Signal::KILL);
        etcfs.wait(Duration::from_secs(10)).expect("it ends");
        let door = Door::open((0, minor), None).expect("a door");
        let evil = "\\u001b[2J\\n<0>lie\u{9b}31m\u{202e}";
        let head = format!("{{\"etcfs\":1,\"version\":\"{evil}\",\"pid\":1}}");
        let lies = reports.map(|(command, report)| {
            let lie = report.replace("here", evil).replace("ok", evil);
            (command, lie.replace("\"0.1.0\"", &format!("\"{evil}\"")))
        });
        let record = format!(
            "{{\"comm\":\"{evil}\",\"op\":\"{evil}\",\"path\":\"{evil}\",\"args\":\"{evil}\",\"result\":\"{evil}\",\"request\":\"{evil}\"}}"
        );
        let refusal = format!("{{\"etcfs\":1,\"version\":\"1\",\"pid\":1,\"error\":\"{evil}\"}}");
        let serve = |head: &str, body: &str, args: &[&OsStr]| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let client = door.next().expect("a client");
                    let mut asked = [0; 5000];
                    recv(&client, &mut asked[..], RecvFlags::empty()).expect("an ask");
                    for text in [head, body].iter().filter(|text| !text.is_empty()) {
                        send(&client, text.as_bytes(), SendFlags::NOSIGNAL).expect("send");
                    }
                });
                assert_output_is_tame(args)
            })
        };
        for json in [&[][..], &[os("--json")]] {
            for (command, lie) in &lies {
                let args = [json, &[os(command), mnt.as_os_str()]].concat();
                serve(&head, lie, &args);
                let output = serve(&refusal, "", &args);
                assert!(String::from_utf8_lossy(&output.stderr).contains(r"\x1b[2J\x0a<0>lie"));
            }
            for command in ["log", "trace"] {
                let count = [os(command), os("--count"), os("1"), mnt.as_os_str()];
                let output = serve(&head, &record, &[json, &count].concat());
                assert!(output.status.success(), "{output:?}");
            }
        }
        serve(
            &head,
            &lies[0].1,
            &[os("stats"), os("--prometheus"), mnt.as_os_str()],
        );
        let nowhere = PathBuf::from(OsStr::from_bytes(NAMES[1]));
        assert_output_is_tame(&[os("stats"), nowhere.as_os_str()]);
    });
}
