//! `-o survive_shutdown`: what an init sends to all processes does not end the daemon, an unmount does (contract U10).

use std::fs;
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::harness::{Bases, Etcfs, Lower, Opts, private};
use crate::{DEADLINE, LONG, background, until};

fn surviving() -> Opts {
    Opts {
        options: vec!["survive_shutdown".to_owned(), "log=info".to_owned()],
        ..Opts::default()
    }
}

fn command_line(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).expect("read the command line")
}

/// Waits until the daemon has taken a signal, which it tells.
fn follows_not(etcfs: &Etcfs, signal: Signal, name: &str) {
    etcfs.signal(signal);
    until(&format!("it tells of {name}"), || {
        etcfs
            .stderr()
            .contains(&format!("{name} does not end the daemon"))
    });
}

#[test]
fn u10_term_and_hup_do_not_end_it_and_an_unmount_does() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("busy"), "x").expect("write");
        let mut etcfs = Etcfs::serve(env, bases, surviving());
        let held = fs::File::open(etcfs.mnt().join("busy")).expect("open");
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")] {
            follows_not(&etcfs, signal, name);
            assert_eq!(fs::read(etcfs.mnt().join("busy")).expect("read"), b"x");
        }
        // Gone for newcomers, and served on for who was there.
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("umount -l");
        etcfs.signal(Signal::TERM);
        for _ in 0..20 {
            held.metadata().expect("it still answers");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        drop(held);
        let status = etcfs.wait(LONG).expect("it ends with its last user");
        assert_eq!(status.code(), Some(0), "{}", etcfs.stderr());
    });
}

#[test]
fn u10_int_unmounts_and_ends_it_as_ever() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, surviving());
        follows_not(&etcfs, Signal::TERM, "SIGTERM");
        etcfs.signal(Signal::INT);
        let status = etcfs.wait(LONG).expect("it ends");
        assert_eq!(status.code(), Some(0), "{}", etcfs.stderr());
        assert!(etcfs.mount().is_none());
    });
}

#[test]
fn u10_systemd_sees_the_mark_and_pidof_still_finds_it() {
    private(DEADLINE, |env| {
        let plain = Etcfs::start(env, background());
        assert_eq!(command_line(plain.pid())[0], b'/');
        drop(plain);
        for view in ["fs", "below"] {
            rustix::mount::unmount(env.dir(view), UnmountFlags::DETACH).expect("unmount");
        }
        let etcfs = Etcfs::start(
            env,
            Opts {
                background: true,
                ..surviving()
            },
        );
        assert_eq!(command_line(etcfs.pid())[0], b'@');
        let comm = fs::read_to_string(format!("/proc/{}/comm", etcfs.pid())).expect("comm");
        assert_eq!(comm, "etcfs\n", "contract D11");
        let found = Command::new("pidof").arg("etcfs").output().expect("pidof");
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let pid = etcfs.pid().to_string();
        assert!(found.split_whitespace().any(|one| one == pid), "{found:?}");
        // TERM does not end it.
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("umount -l");
    });
}

/// Process 1 of a namespace of its own ends like an init: TERM to all, a while later the unmount, and nothing is left. Its
/// four services stop slowly, and read a global file until then; each prints how often that failed.
const INIT: &str = r#"
"$@" || exit 90
service() {
    trap 'stopping=40' TERM
    stopping=; failed=0
    until [ "$stopping" = 0 ]; do
        read -r line <"$MNT/g" 2>/dev/null || failed=$((failed + 1))
        if [ -n "$stopping" ]; then stopping=$((stopping - 1)); sleep 0.01; fi
        [ "$line" = text ] || failed=$((failed + 1))
        line=
        : >"$READY/$1"
    done
    echo "$failed"
}
for i in 1 2 3 4; do service $i & services="$services $!"; done
until [ -e "$READY/1" ] && [ -e "$READY/2" ] && [ -e "$READY/3" ] && [ -e "$READY/4" ]; do sleep 0.01; done
kill -TERM -1; kill -CONT -1
wait $services
umount "$MNT" 2>/dev/null
until [ "$i" -gt 300 ]; do
    pidof etcfs >/dev/null || exit 0
    i=$((i + 1))
    sleep 0.2
done
exit 91
"#;

fn failures(env: &crate::harness::Env, name: &str, options: &[&str]) -> Vec<u32> {
    let bases = Bases::new(env, Lower::Tmpfs);
    fs::write(bases.global().join("g"), "text\n").expect("write");
    let opts = Opts {
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..background()
    };
    let daemon = Etcfs::command(&bases, &opts);
    let start = r#""$@" && echo "add_global /g" >>"$MNT/.bedrock-config-filesystem""#;
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", INIT, "init", "sh", "-c", start, "start"])
        .arg(daemon.get_program())
        .args(daemon.get_args())
        .env("MNT", bases.mnt())
        .env("READY", env.dir(name))
        .stdin(Stdio::null())
        .output()
        .expect("run unshare(1)");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for view in ["fs", "below"] {
        rustix::mount::unmount(env.dir(view), UnmountFlags::DETACH).expect("unmount");
    }
    said.lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}

#[test]
fn u10_services_that_stop_after_term_was_sent_to_all_read_on_without_a_failure() {
    private(DEADLINE, |env| {
        assert_eq!(failures(env, "with", &["survive_shutdown"]), [0; 4]);
        // Without it they fail, so the test would see it.
        let without = failures(env, "without", &[]);
        assert!(
            without.len() == 4 && without.iter().all(|&n| n > 0),
            "{without:?}"
        );
    });
}
