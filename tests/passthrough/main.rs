//! Passthrough (contract U11, U12; issue 4): no read or write reaches the daemon, no open fails for its mode, nothing
//! leaks, and nothing is granted that the lower file system denies.
//!
//! That the mode was on is proved by what the daemon was asked: no READ and no WRITE.

#[path = "../harness/mod.rs"]
mod harness;

mod how;
mod leaks;
mod privileges;
mod rights;
mod steps;
mod table;

use harness::{Env, Etcfs, Lower, Opts, counted, private};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
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
fn hard_links_share_one_id() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Tmpfs);
        let names = ["one", "two", "three"].map(|name| etcfs.mnt().join(name));
        fs::write(&names[0], "text").expect("write");
        for name in &names[1..] {
            fs::hard_link(&names[0], name).expect("link");
        }
        let files = names.map(|name| File::open(name).expect("open"));
        assert_eq!(harness::stats(&etcfs)["backing_ids"].as_u64(), Some(1));
        drop(files);
    });
}

/// With a depth of 1 the mount is no deeper than a lower overlayfs would be, so one more fits on top of it; with 2 it is
/// as deep as the kernel lets file systems be.
#[test]
fn overlayfs_lies_on_top_of_the_mount_at_depth_one_only() {
    for (depth, fits) in [(1, true), (2, false)] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    lower: Lower::Tmpfs,
                    options: vec!["passthrough".into(), format!("max_stack_depth={depth}")],
                    ..Opts::default()
                },
            );
            fs::write(etcfs.mnt().join("f"), "text").expect("write");
            let data = format!(
                "lowerdir={},upperdir={},workdir={}",
                etcfs.mnt().display(),
                env.dir("upper").display(),
                env.dir("work").display()
            );
            let data = std::ffi::CString::new(data).expect("paths without NUL");
            let (at, none) = (env.dir("over"), rustix::mount::MountFlags::empty());
            let mounted = rustix::mount::mount("over", &at, "overlay", none, data.as_c_str());
            if fits {
                mounted.expect("mount an overlayfs on top");
                assert_eq!(fs::read(at.join("f")).expect("read"), b"text");
                fs::write(at.join("f"), "changed").expect("copy up");
                assert_eq!(fs::read(at.join("f")).expect("read"), b"changed");
                let below = fs::read(etcfs.local().join("f")).expect("read beneath");
                assert_eq!(below, b"text");
            } else {
                assert_eq!(mounted, Err(rustix::io::Errno::INVAL));
            }
        });
    }
}
