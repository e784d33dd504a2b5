//! `etcfsctl` and a daemon that did not come together: of other versions, in other chroots.

use super::harness::{Env, Etcfs, Opts, private};
use super::trouble::{answer, dial};
use super::{DEADLINE, arg, failure, json, text};
use etcfs::ctl::door::Door;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::Signal;
use std::fs;
use std::process::Command;
use std::time::Duration;

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

/// A mount whose daemon has gone, and this process in the daemon's place.
fn impostor(env: &Env) -> (Etcfs, Door) {
    let mut etcfs = Etcfs::start(env, Opts::default());
    let minor = etcfs.mount().expect("mounted").minor;
    etcfs.signal(Signal::KILL);
    etcfs.wait(Duration::from_secs(10)).expect("it ends");
    assert!(etcfs.mount().is_some(), "the mount outlives its daemon");
    (etcfs, Door::open((0, minor), None).expect("a door"))
}

/// Answers one client with `messages`; what it asked.
fn answer_with(door: &Door, messages: &[&[u8]]) -> String {
    let client = door.next().expect("a client");
    let mut asked = [0; 5000];
    let (len, _) = recv(&client, &mut asked[..], RecvFlags::empty()).expect("an ask");
    for message in messages {
        send(&client, message, SendFlags::NOSIGNAL).expect("send");
    }
    String::from_utf8_lossy(&asked[..len]).into_owned()
}

#[test]
fn a_daemon_of_another_version_is_told_in_one_line() {
    private(DEADLINE, |env| {
        let (etcfs, door) = impostor(env);
        let mnt = etcfs.mnt();
        let told = |args: &[&str], messages: &[&[u8]]| {
            std::thread::scope(|scope| {
                let daemon = scope.spawn(|| answer_with(&door, messages));
                let line = failure(args);
                let asked = daemon.join().expect("the daemon");
                assert!(asked.starts_with("{\"etcfs\":1,"), "{asked}");
                line
            })
        };
        let stats = ["stats", arg(&mnt)];
        let newer = br#"{"etcfs":99,"version":"9.9.9","pid":1,"shape":["round"]}"#;
        let older = br#"{"etcfs":0,"version":"0.0.1","pid":1}"#;
        for (head, version, protocol) in [
            (&newer[..], "version 9.9.9", "version 99"),
            (&older[..], "version 0.0.1", "version 0 "),
        ] {
            for args in [&stats[..], &["log", arg(&mnt)], &["doctor", arg(&mnt)]] {
                let line = told(args, &[head]);
                for part in [version, protocol, "use the one that came with the daemon"] {
                    assert!(line.contains(part), "{part}: {line}");
                }
            }
        }
        // A daemon that refuses, in whatever version, has its say.
        let refusal = br#"{"etcfs":99,"version":"9.9.9","pid":1,"error":"asked in version 1"}"#;
        assert!(told(&stats, &[refusal]).contains("asked in version 1"));
        // The same protocol, but a report that lacks what this program shows.
        let same = br#"{"etcfs":1,"version":"0.9.0","pid":1}"#;
        let line = told(&stats, &[same, br#"{"nodes":"many"}"#]);
        assert!(
            line.contains("is it an etcfs of another version?"),
            "{line}"
        );
        for nonsense in [&b"\xff\x00"[..], b"[]", b"{}", &[b'['; 60_000]] {
            let line = told(&stats, &[nonsense]);
            assert!(
                line.contains("is it an etcfs of another version?"),
                "{line}"
            );
        }
        // One that hangs up is asked again, for a while.
        std::thread::spawn(move || {
            loop {
                answer_with(&door, &[]);
            }
        });
        let line = failure(&stats);
        assert!(line.contains("hung up"), "{line}");
    });
}

#[test]
fn one_daemon_answers_inside_and_outside_of_its_stratum() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                config: vec!["add_global /hosts".to_owned()],
                ..Opts::default()
            },
        );
        fs::write(etcfs.global().join("hosts"), "x").expect("write");
        // The stratum: the mount is its /etc, and nothing else is in it but the program, which needs no library.
        let stratum = etcfs.mnt().parent().expect("a directory above").to_owned();
        fs::copy(
            env!("CARGO_BIN_EXE_tested-etcfsctl"),
            stratum.join("etcfsctl"),
        )
        .expect("copy");
        fs::create_dir(stratum.join("proc")).expect("mkdir");
        rustix::mount::mount_bind("/proc", stratum.join("proc")).expect("bind");
        let inside = |args: &[&str]| {
            let mut command = Command::new("chroot");
            let output = command.arg(&stratum).arg("/etcfsctl").args(args).output();
            let output = output.expect("run chroot");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?}: {said}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        fs::metadata(etcfs.mnt().join("hosts")).expect("stat");
        let stats: serde_json::Value =
            serde_json::from_str(&inside(&["--json", "stats"])).expect("JSON");
        assert_eq!(stats["pid"], json(&["stats", arg(&etcfs.mnt())])["pid"]);
        assert_eq!(stats["pid"], etcfs.pid());
        let which = inside(&["which", "/etc/hosts"]);
        assert!(which.contains("global"), "{which}");
        // The path is as it was asked about, everything else is the same.
        let outside = text(&["which", arg(&etcfs.mnt().join("hosts"))]);
        let rest = |told: &str| told.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(rest(&which), rest(&outside));
        assert!(inside(&["doctor", "/etc"]).contains("passthrough"));
        // No new name anywhere: neither in the mount nor beside it (contract P8).
        let names = fs::read_dir(etcfs.mnt()).expect("list");
        let names: Vec<_> = names
            .map(|name| name.expect("an entry").file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    });
}
