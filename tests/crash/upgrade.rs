//! Another program in place of the one that serves: a good one, and such as are none.

mod held;
mod versions;

use crate::DEADLINE;
use crate::harness::{Bases, Env, Lower, Processes, mounts, private};
use crate::processes::{all_there, send, serve, until};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The program of the tests.
fn etcfs() -> PathBuf {
    let program = std::env::var_os("ETCFS_BIN");
    program.map_or_else(|| env!("CARGO_BIN_EXE_etcfs").into(), PathBuf::from)
}

fn etcfsctl(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
    command.args(words).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

/// `etcfsctl upgrade`.
fn upgrade(program: &Path, mnt: &Path) -> Command {
    let mut command = etcfsctl(&["upgrade"]);
    command.arg(program).arg(mnt);
    command
}

fn ended(child: Child) -> Output {
    child.wait_with_output().expect("wait for etcfsctl")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// It goes on as the program that was asked for.
fn upgraded(mnt: &Path) {
    upgraded_to(&etcfs(), mnt);
}

/// It goes on as this one.
fn upgraded_to(program: &Path, mnt: &Path) {
    let output = upgrade(program, mnt).output().expect("run etcfsctl");
    assert!(output.status.success(), "{}", told(&output));
}

/// A program that is a script.
fn script(env: &Env, name: &str, lines: &str) -> PathBuf {
    let path = env.scratch().join(name);
    // Under another name first: while it can be written it cannot be executed.
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("write a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

/// A script that says that it understands the state, as the program of the tests does, and then does that.
fn pretender(env: &Env, name: &str, then: &str) -> PathBuf {
    let program = etcfs();
    let lines = format!(
        "case \"$1\" in --understands-state=*) exec {} \"$@\" ;; esac\n{then}",
        program.display()
    );
    script(env, name, &lines)
}

#[test]
fn what_knows_nothing_of_it_is_asked_one_thing_and_given_nothing() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &[]);
        let mnt = etcfs.mnt();
        let open = fs::File::create(mnt.join("f")).expect("create");
        let before = all_there(&mnt);
        let seen = env.scratch().join("seen");
        let program = script(
            env,
            "stranger",
            &format!(
                "{{ echo \"$# $1\"; for fd in /proc/$$/fd/*; do readlink $fd; done; }} >{} 2>&1",
                seen.display()
            ),
        );
        let output = upgrade(&program, &mnt).output().expect("run etcfsctl");
        assert!(!output.status.success());
        assert!(told(&output).contains("nothing has changed"), "{output:?}");
        let seen = fs::read_to_string(&seen).expect("it was executed");
        let (first, open_there) = seen.split_once('\n').expect("lines");
        assert!(first.starts_with("1 --understands-state="), "{seen}");
        assert!(!open_there.contains("/dev/fuse"), "{seen}");
        assert!(!open_there.contains("/fs/etc"), "{seen}");
        assert_eq!(open_there.matches("memfd:etcfs-state").count(), 1, "{seen}");
        let at = mounts().into_iter().filter(|mount| mount.at == mnt);
        assert_eq!(at.count(), 1, "nothing is mounted over it");
        let now = all_there(&mnt);
        assert_eq!(now.server, before.server, "nobody was replaced");
        drop(open);
        upgraded(&mnt);
    });
}

/// The trial took all of the keeper's time before, and held all that was open.
#[test]
fn a_program_that_hangs_when_it_is_asked_holds_nothing_up() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &[]);
        let mnt = etcfs.mnt();
        let tool = mnt.join("tool");
        let mut written = fs::OpenOptions::new();
        written.write(true).create(true).mode(0o755);
        let written = written.open(&tool).expect("create");
        fs::write(&tool, "#!/bin/sh\nexit 7\n").expect("write");
        let begun = env.scratch().join("begun");
        let lines = format!("touch {}\nexec sleep 600", begun.display());
        let program = script(env, "sleeper", &lines);
        let asked = upgrade(&program, &mnt).spawn().expect("run etcfsctl");
        until("it is asked", || begun.exists());
        // A process that held it would make this ETXTBSY.
        drop(written);
        let status = Command::new(&tool).status().expect("it can be executed");
        assert_eq!(status.code(), Some(7));
        let before = all_there_beside(&mnt);
        send(before.server.expect("a server"), Signal::KILL);
        assert_eq!(fs::read(&tool).expect("read").len(), 17);
        let output = ended(asked);
        assert!(!output.status.success());
        assert!(told(&output).contains("nothing has changed"), "{output:?}");
        upgraded(&mnt);
    });
}

/// As [`all_there`] while a program is being asked.
fn all_there_beside(mnt: &Path) -> Processes {
    until("a server", || Processes::of(mnt).server.is_some());
    Processes::of(mnt)
}

#[test]
fn what_is_executed_and_does_not_serve_is_gone_back_from() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &[]);
        let mnt = etcfs.mnt();
        let locked = fs::File::create(mnt.join("locked")).expect("create");
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).expect("lock");
        for (name, then) in [
            ("ends", "exit 0"),
            ("fails", "exit 3"),
            ("dies", "kill -9 $$"),
            ("hangs", "exec sleep 600"),
            ("stops", "kill -STOP $$"),
            ("knows-no-option", "exec /bin/true \"$@\""),
        ] {
            let program = pretender(env, name, then);
            let asked = upgrade(&program, &mnt).spawn().expect("run etcfsctl");
            let output = ended(asked);
            assert!(!output.status.success(), "{name}");
            let told = told(&output);
            assert!(told.contains("was gone back to"), "{name}: {told}");
            // All that was open is, and what is new can be.
            rustix::io::write(&locked, b"x").expect("write");
            fs::write(mnt.join(name), name).expect("write");
            assert_eq!(fs::read_to_string(mnt.join(name)).expect("read"), name);
            let other = fs::File::open(mnt.join("locked")).expect("open");
            let again =
                rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockExclusive);
            assert_eq!(again, Err(rustix::io::Errno::WOULDBLOCK), "{name}");
            all_there(&mnt);
        }
        let journal = etcfsctl(&["journal"]).arg(&mnt).output().expect("journal");
        let journal = String::from_utf8_lossy(&journal.stdout).into_owned();
        assert_eq!(journal.matches("another program did not serve").count(), 6);
        upgraded(&mnt);
        all_there(&mnt);
        rustix::io::write(&locked, b"x").expect("write");
    });
}

/// Within these 60 ms a kill of the keeper took the mount away when nobody stood by.
#[test]
fn a_keeper_that_is_killed_at_any_moment_of_an_upgrade_is_replaced() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &["max_deaths=0"]);
        let mnt = etcfs.mnt();
        let file = mnt.join("f");
        fs::write(&file, "text").expect("write");
        for round in 0..30 {
            let before = all_there(&mnt);
            let asked = upgrade(&super::upgrade::etcfs(), &mnt)
                .spawn()
                .expect("run etcfsctl");
            std::thread::sleep(Duration::from_millis(2 * round));
            send(before.keeper.expect("a keeper"), Signal::KILL);
            assert_eq!(fs::read(&file).expect("read"), b"text", "{before:?}");
            // It may have been in vain.
            ended(asked);
            assert_eq!(fs::read(&file).expect("read"), b"text");
        }
        all_there(&mnt);
        upgraded(&mnt);
    });
}

#[test]
fn two_upgrades_and_a_restart_at_once_all_succeed() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &["max_deaths=0"]);
        let mnt = etcfs.mnt();
        for _ in 0..5 {
            let program = super::upgrade::etcfs();
            let all = [
                upgrade(&program, &mnt).spawn().expect("run etcfsctl"),
                upgrade(&program, &mnt).spawn().expect("run etcfsctl"),
                etcfsctl(&["restart"])
                    .arg(&mnt)
                    .spawn()
                    .expect("run etcfsctl"),
            ];
            for output in all.map(ended) {
                assert!(output.status.success(), "{}", told(&output));
            }
        }
    });
}
