//! The overrides of contract sections 2 and 3 on real mounts: D34, D41 to D44, B3, B6.

mod harness;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Etcfs, Opts, User, as_user, errno, hidden_names, private, rest, target};
use rustix::io::Errno;

const DEADLINE: Duration = Duration::from_secs(60);

fn configured(lines: &[&str]) -> Opts {
    Opts {
        config: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Opts::default()
    }
}

/// Owner, group and permission bits.
fn owned(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn d41_a_missing_symlink_is_made_by_the_first_access() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&["add_override symlink /localtime /bedrock/strata/x/zone"]),
        );
        assert!(etcfs.local().join("localtime").symlink_metadata().is_err());
        assert_eq!(
            target(&etcfs.mnt().join("localtime")),
            "/bedrock/strata/x/zone"
        );
        assert_eq!(
            target(&etcfs.local().join("localtime")),
            "/bedrock/strata/x/zone"
        );
        assert_eq!(hidden_names(&etcfs.local()), Vec::<String>::new());
    });
}

#[test]
fn d41_whatever_stands_in_a_symlinks_way_is_replaced() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let (local, mnt) = (etcfs.local(), etcfs.mnt());
        fs::write(local.join("file"), "text").unwrap();
        symlink("/else/where", local.join("link")).unwrap();
        fs::create_dir(local.join("dir")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            local.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let names = ["file", "link", "dir", "fifo"];
        for name in names {
            etcfs
                .write_config(&[format!("add_override symlink /{name} /right/{name}")])
                .unwrap();
        }
        for name in names {
            assert_eq!(target(&mnt.join(name)), format!("/right/{name}"));
            assert_eq!(target(&local.join(name)), format!("/right/{name}"));
        }
        assert_eq!(hidden_names(&local), Vec::<String>::new());
    });
}

#[test]
fn d41_a_change_beneath_the_mount_is_undone_too() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, configured(&["add_override symlink /link /right"]));
        let (below, above) = (etcfs.local().join("link"), etcfs.mnt().join("link"));
        assert_eq!(target(&above), "/right");
        for other in ["/wrong", "/other"] {
            rest();
            fs::remove_file(&below).unwrap();
            symlink(other, &below).unwrap();
            assert_eq!(target(&above), "/right");
            assert_eq!(target(&below), "/right");
        }
    });
}

#[test]
fn d42_a_directory_override_makes_the_directory_and_nothing_above_it() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&[
                "add_override directory /zsh x",
                "add_override symlink /zsh/zshenv /bedrock/zshenv",
                "add_override directory /no/parent x",
                "add_override symlink /no/link /bedrock/none",
            ]),
        );
        let mnt = etcfs.mnt();
        // The walk to the nested name makes its directory first.
        assert_eq!(target(&mnt.join("zsh/zshenv")), "/bedrock/zshenv");
        assert_eq!(owned(&etcfs.local().join("zsh")), (0, 0, 0o755));
        assert_eq!(
            fs::metadata(mnt.join("no/parent")).map_err(errno).err(),
            Some(Errno::NOENT)
        );
        assert!(!etcfs.local().join("no").exists());
    });
}

#[test]
fn d42_a_file_or_symlink_in_a_directorys_way_is_replaced() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        fs::write(etcfs.local().join("file"), "text").unwrap();
        symlink("/tmp", etcfs.local().join("link")).unwrap();
        for name in ["file", "link"] {
            etcfs
                .write_config(&[format!("add_override directory /{name} x")])
                .unwrap();
            let path = etcfs.mnt().join(name);
            assert!(fs::symlink_metadata(&path).unwrap().is_dir());
            assert_eq!(owned(&etcfs.local().join(name)), (0, 0, 0o755));
        }
        assert_eq!(hidden_names(&etcfs.local()), Vec::<String>::new());
    });
}

#[test]
fn b6_what_is_made_belongs_to_root_whoever_asks_and_whatever_the_directory_hands_down() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&[
                "add_override symlink /sub/link /right",
                "add_override directory /sub/dir x",
            ]),
        );
        let sub = etcfs.local().join("sub");
        fs::create_dir(&sub).unwrap();
        std::os::unix::fs::chown(&sub, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(&sub, Permissions::from_mode(0o2777)).unwrap();
        let user = User::plain(1000);
        let mnt = etcfs.mnt();
        // Another request with an umask of its own comes first on every worker.
        as_user(&user, || {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            for n in 0..16 {
                fs::write(mnt.join(format!("sub/own{n}")), "").unwrap();
            }
            assert_eq!(target(&mnt.join("sub/link")), "/right");
            assert!(mnt.join("sub/dir").is_dir());
        });
        assert_eq!(owned(&sub.join("link")), (0, 0, 0o777));
        assert_eq!(owned(&sub.join("dir")), (0, 0, 0o755));
        assert_eq!(owned(&sub.join("own0")), (1000, 1000, 0o600));
    });
}

#[test]
fn d43_unlink_and_exclusive_create_succeed_at_the_second_try() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, configured(&["add_override symlink /link /right"]));
        let path = etcfs.mnt().join("link");
        let create = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .map_err(errno)
        };
        assert_eq!(target(&path), "/right");
        let mut file = loop {
            rest();
            let begun = Instant::now();
            fs::remove_file(&path).unwrap();
            assert_eq!(create().err(), Some(Errno::EXIST), "undone at once");
            fs::remove_file(&path).unwrap();
            let created = create();
            // A machine that stood still for so long shows nothing.
            if begun.elapsed() < Duration::from_millis(900) {
                break created.expect("not undone again within the second");
            }
        };
        file.write_all(b"package").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"package");
        rest();
        assert_eq!(target(&path), "/right");
    });
}

#[test]
fn b3_a_rename_away_and_a_rename_over_are_allowed_and_then_undone() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, configured(&["add_override symlink /link /right"]));
        let (mnt, path) = (etcfs.mnt(), etcfs.mnt().join("link"));
        assert_eq!(target(&path), "/right");
        rest();
        fs::rename(&path, mnt.join("old")).unwrap();
        assert_eq!(target(&mnt.join("old")), "/right");
        assert_eq!(target(&path), "/right");
        rest();
        fs::write(mnt.join("new"), "new").unwrap();
        fs::rename(mnt.join("new"), &path).unwrap();
        assert_eq!(target(&path), "/right");
        assert!(!mnt.join("new").exists());
    });
}

#[test]
fn d44_root_may_remove_make_and_link_over_the_names_that_are_enforced() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&["add_override symlink /mtab /proc/mounts"]),
        );
        let path = etcfs.mnt().join("mtab");
        assert_eq!(target(&path), "/proc/mounts");
        for script in [
            "rm -f mtab && ln -s /proc/self/mounts mtab",
            "rm -rf mtab && mkdir -p mtab && rmdir mtab",
            "echo x >mtab- && mv mtab- mtab",
            "ln -sfn /else mtab",
        ] {
            let status = std::process::Command::new("sh")
                .args(["-ec", script])
                .current_dir(etcfs.mnt())
                .status()
                .unwrap();
            assert!(status.success(), "{script}");
        }
        rest();
        assert_eq!(target(&path), "/proc/mounts");
    });
}

#[test]
fn d34_a_removed_symlink_or_directory_override_leaves_the_object() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&[
                "add_override symlink /link /right",
                "add_override directory /dir x",
            ]),
        );
        let mnt = etcfs.mnt();
        assert_eq!(target(&mnt.join("link")), "/right");
        assert!(mnt.join("dir").is_dir());
        etcfs
            .write_config(&["rm_override /link", "rm_override /dir"])
            .unwrap();
        assert_eq!(target(&mnt.join("link")), "/right");
        fs::remove_file(mnt.join("link")).unwrap();
        fs::remove_dir(mnt.join("dir")).unwrap();
        rest();
        assert!(fs::symlink_metadata(mnt.join("link")).is_err());
        assert!(fs::symlink_metadata(mnt.join("dir")).is_err());
        // A changed target holds from the next access on, without a rest.
        etcfs
            .write_config(&["add_override symlink /link /first"])
            .unwrap();
        assert_eq!(target(&mnt.join("link")), "/first");
        etcfs
            .write_config(&["add_override symlink /link /second"])
            .unwrap();
        assert_eq!(target(&mnt.join("link")), "/second");
    });
}

#[test]
fn overrides_of_global_names_are_enforced_in_the_global_directory() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            configured(&[
                "add_global /shared",
                "add_override symlink /shared/link /right",
            ]),
        );
        fs::create_dir(etcfs.global().join("shared")).unwrap();
        fs::create_dir(etcfs.local().join("shared")).unwrap();
        assert_eq!(target(&etcfs.mnt().join("shared/link")), "/right");
        assert_eq!(target(&etcfs.global().join("shared/link")), "/right");
        assert!(
            etcfs
                .local()
                .join("shared/link")
                .symlink_metadata()
                .is_err()
        );
    });
}
