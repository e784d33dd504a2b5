//! Upgrades between two programs whose states are of two versions, up and down.
//!
//! The other one is built with the feature `other-state`: its records are longer, its regions lie elsewhere, and it has one more.

use super::held::all;
use super::{script, serve, upgrade, upgraded_to};
use crate::DEADLINE;
use crate::harness::{Bases, Lower, Processes, private};
use crate::processes::{all_there, send};
use rustix::process::Signal;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The other program; cargo makes it if nobody has named it.
fn other() -> PathBuf {
    if let Some(named) = std::env::var_os("ETCFS_OTHER_STATE_BIN") {
        return named.into();
    }
    // Where cargo is told what to build for there is one folder more.
    let own = Path::new(env!("CARGO_BIN_EXE_etcfs"));
    let profile = own.parent().expect("the folder of the programs");
    let target = profile.parent().expect("the target folder");
    let ours = target.join("other-state");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--offline",
            "--locked",
            "--bin",
            "etcfs",
        ])
        .args(["--features", "other-state", "--target-dir"])
        .arg(&ours)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("run cargo");
    assert!(built.success(), "cargo builds the other program");
    let within = target.file_name().expect("a name");
    let places = [ours.join(within).join("debug"), ours.join("debug")];
    let mut programs = places.iter().map(|place| place.join("etcfs"));
    programs
        .find(|program| program.exists())
        .expect("cargo has built it")
}

/// The program that the keeper is.
fn program_of(mnt: &Path) -> PathBuf {
    let keeper = Processes::of(mnt).keeper.expect("a keeper");
    fs::read_link(format!("/proc/{keeper}/exe")).expect("its program")
}

/// What clients hold goes on each time, as with an upgrade to the same program.
fn up_and_down(lower: Lower, options: &'static [&'static str]) {
    let other = other();
    private(DEADLINE, move |env| {
        let etcfs = serve(env, Bases::new(env, lower), options);
        let native = all(&etcfs.native(), &|| {});
        let mnt = etcfs.mnt();
        let programs = [other.clone(), super::etcfs()];
        let times = Cell::new(0);
        let served = all(&mnt, &|| {
            let program = &programs[times.get() % 2];
            times.set(times.get() + 1);
            upgraded_to(program, &mnt);
            all_there(&mnt);
            let canonical = fs::canonicalize(program).expect("it is there");
            assert_eq!(program_of(&mnt), canonical);
        });
        assert_eq!(served, native);
    });
}

#[test]
fn a_state_of_another_version_is_gone_on_with_up_and_down() {
    up_and_down(Lower::Tmpfs, &[]);
}

#[test]
fn a_state_of_another_version_is_gone_on_with_and_files_stay_passed_through() {
    up_and_down(Lower::Ext4, &["passthrough"]);
}

/// The program before goes on with its own state, of which the other one has made a copy.
#[test]
fn a_program_of_another_version_that_does_not_serve_leaves_the_state_as_it_was() {
    let other = other();
    private(DEADLINE, move |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Tmpfs), &["max_deaths=0"]);
        let mnt = etcfs.mnt();
        let file = mnt.join("f");
        fs::write(&file, "text").expect("write");
        let open = fs::File::open(&file).expect("open");
        let asks = format!(
            "case \"$1\" in --understands-state=*) exec {} \"$@\" ;; esac\nexit 3",
            other.display()
        );
        let program = script(env, "other", &asks);
        let output = upgrade(&program, &mnt).output().expect("run etcfsctl");
        assert!(!output.status.success());
        all_there(&mnt);
        for round in 0..12 {
            let before = all_there(&mnt);
            let programs = [&other, &super::etcfs()];
            let mut asked = upgrade(programs[round as usize % 2], &mnt);
            let asked = asked.spawn().expect("run etcfsctl");
            std::thread::sleep(Duration::from_millis(4 * round));
            send(before.keeper.expect("a keeper"), Signal::KILL);
            assert_eq!(fs::read(&file).expect("read"), b"text", "{before:?}");
            asked.wait_with_output().expect("wait");
            assert_eq!(fs::read(&file).expect("read"), b"text");
        }
        assert_eq!(open.metadata().expect("stat").len(), 4);
        upgraded_to(&other, &mnt);
        upgraded_to(&super::etcfs(), &mnt);
        assert_eq!(fs::read(&file).expect("read"), b"text");
    });
}
