//! Overrides that cannot be enforced: what is there is served, the failure is told once (contract B10, S16).

mod harness;

use std::fs;
use std::time::Duration;

use harness::{
    Bases, Etcfs, Lower, Opts, errno, hidden_names, inject, private, rest, source, target, text,
};
use rustix::io::Errno;

const DEADLINE: Duration = Duration::from_secs(60);

fn configured(lines: &[&str]) -> Opts {
    Opts {
        config: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Opts::default()
    }
}

#[test]
fn s16_what_cannot_be_undone_is_served_as_it_is_and_told_once() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let (local, mnt) = (etcfs.local(), etcfs.mnt());
        fs::create_dir(local.join("full")).unwrap();
        fs::write(local.join("full/file"), "text").unwrap();
        etcfs
            .write_config(&["add_override symlink /full /right"])
            .unwrap();
        for _ in 0..3 {
            assert_eq!(fs::read(mnt.join("full/file")).unwrap(), b"text");
            assert!(fs::symlink_metadata(mnt.join("full")).unwrap().is_dir());
            rest();
        }
        let told = etcfs.stderr();
        let lines: Vec<_> = told.lines().filter(|l| l.contains("/full")).collect();
        assert_eq!(lines.len(), 1, "{told}");
        assert!(lines[0].contains("Directory not empty"), "{told}");
        // Once it can be done, it is.
        fs::remove_file(local.join("full/file")).unwrap();
        assert_eq!(target(&mnt.join("full")), "/right");
        assert_eq!(hidden_names(&local), Vec::<String>::new());
    });
}

#[test]
fn s16_on_a_read_only_file_system_nothing_is_enforced_and_everything_answers() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&[
                "add_override symlink /link /right",
                "add_override directory /dir x",
            ]),
        );
        fs::write(etcfs.local().join("link"), "text").unwrap();
        let flags = rustix::mount::MountFlags::RDONLY;
        let below = etcfs.local().parent().unwrap().to_owned();
        rustix::mount::mount_remount(&below, flags, c"").unwrap();
        assert_eq!(fs::read(etcfs.mnt().join("link")).unwrap(), b"text");
        assert_eq!(
            fs::metadata(etcfs.mnt().join("dir")).map_err(errno).err(),
            Some(Errno::NOENT)
        );
        assert!(
            etcfs.stderr().contains("Read-only file system"),
            "{}",
            etcfs.stderr()
        );
        rustix::mount::mount_remount(&below, rustix::mount::MountFlags::empty(), c"").unwrap();
        rest();
        assert_eq!(target(&etcfs.mnt().join("link")), "/right");
    });
}

#[test]
fn b10_on_a_full_file_system_what_is_there_is_served_and_no_call_fails_for_want_of_space() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let at = bases.mnt().join("full");
        fs::create_dir(&at).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("full", &at, "tmpfs", flags, c"size=16k").unwrap();
        fs::write(at.join("file"), "text\n").unwrap();
        fs::write(at.join("link"), "link\n").unwrap();
        fs::write(at.join("fill"), [0; 16384]).unwrap_err();
        let below = env.dir("view");
        rustix::mount::mount_bind(&at, &below).unwrap();
        // Symlinks and directories take no block there, but long targets do.
        let long = format!("/{}", "right/".repeat(100));
        let config = vec![
            inject("full/file", &source(env, "inj", &"# INJ\n".repeat(1000))),
            format!("add_override symlink /full/link {long}"),
            format!("add_override symlink /full/none {long}"),
        ];
        let opts = Opts {
            config,
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts);
        let full = etcfs.mnt().join("full");
        for _ in 0..5 {
            assert_eq!(text(&full.join("file")), "text\n");
            assert_eq!(text(&full.join("link")), "link\n");
            let none = fs::symlink_metadata(full.join("none")).map_err(errno);
            assert_eq!(none.err(), Some(Errno::NOENT));
        }
        let told = etcfs.stderr();
        for name in ["/full/file", "/full/link", "/full/none"] {
            let lines: Vec<_> = told.lines().filter(|l| l.contains(name)).collect();
            assert_eq!(lines.len(), 1, "{name}: {told}");
            assert!(lines[0].contains("No space left on device"), "{told}");
        }
        assert_eq!(hidden_names(&below), Vec::<String>::new());
        // Once there is room, all of it is done.
        fs::remove_file(below.join("fill")).unwrap();
        rest();
        assert!(text(&full.join("file")).ends_with("# INJ\n"));
        assert_eq!(target(&full.join("link")), long);
        assert_eq!(target(&full.join("none")), long);
    });
}
