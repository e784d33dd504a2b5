//! Passthrough (contract U11, U12; issue 4): no read or write reaches the daemon, no open fails for its mode, nothing
//! leaks, and nothing is granted that the lower file system denies.
//!
//! That the mode was on is proved by what the daemon was asked: no READ and no WRITE.

#[path = "../harness/mod.rs"]
mod harness;

mod how;
mod leaks;
mod rights;
mod steps;
mod table;

use harness::{Env, Etcfs, Lower, Opts, User, as_user, counted, private};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);

fn passing(env: &Env, lower: Lower) -> Etcfs {
    let etcfs = Etcfs::start(
        env,
        Opts {
            lower,
            vars: vec![("ETCFS_ENABLE_PASSTHROUGH".into(), "1".into())],
            ..Opts::default()
        },
    );
    assert_eq!(
        etcfs.stderr(),
        "",
        "nothing speaks against passthrough here"
    );
    etcfs
}

#[test]
fn created_and_nameless_files_are_passed_through_and_programs_run() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let mut made = File::create_new(etcfs.mnt().join("made")).expect("create");
        made.write_all(b"made").expect("write");
        let mut nameless = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(etcfs.mnt())
            .expect("O_TMPFILE");
        nameless.write_all(b"nameless").expect("write");
        let mut text = String::new();
        nameless.rewind().expect("rewind");
        nameless.read_to_string(&mut text).expect("read");
        assert_eq!(text, "nameless");
        let program = etcfs.mnt().join("program");
        fs::copy(env!("CARGO_BIN_EXE_etcfs"), &program).expect("copy");
        let output = Command::new(&program).arg("-V").output().expect("run it");
        assert!(output.stdout.starts_with(b"etcfs "), "{output:?}");
        for op in ["READ", "WRITE"] {
            assert_eq!(counted(&etcfs, op), 0, "{op}");
        }
        assert_eq!(
            fs::read(etcfs.local().join("made")).expect("beneath"),
            b"made"
        );
    });
}

#[test]
fn set_ids_and_capabilities_go_when_another_user_writes() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let cases = [("mount", etcfs.mnt()), ("native", etcfs.native())];
        let outcome = cases.map(|(name, root)| {
            let path = root.join("setid");
            fs::write(&path, "x").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).expect("chmod");
            as_user(&User::plain(1000), || {
                let file = OpenOptions::new().write(true).open(&path).expect("open");
                file.write_all_at(b"y", 0)
                    .unwrap_or_else(|e| panic!("{name}: write: {e}"));
            });
            fs::metadata(&path).expect("stat").mode() & 0o7777
        });
        assert_eq!(outcome[0], outcome[1], "mode on the mount, and natively");
        let outcome = cases_root(&etcfs);
        assert_eq!(
            outcome[0], outcome[1],
            "root's own write: on the mount, and natively"
        );
    });
}

/// Root has CAP_FSETID and keeps the bits.
fn cases_root(etcfs: &Etcfs) -> [u32; 2] {
    [etcfs.mnt(), etcfs.native()].map(|root| {
        let path = root.join("setid-root");
        fs::write(&path, "x").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).expect("chmod");
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        file.write_all_at(b"y", 0).expect("write");
        fs::metadata(&path).expect("stat").mode() & 0o7777
    })
}
