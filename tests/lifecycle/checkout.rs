//! The scripts work from any folder: below /tmp, where the tests' own trees are, and with blanks in its name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Env, private};
use crate::{DEADLINE, binary};

/// This repository, seen at a place below /tmp with blanks in its name, and a folder for temporary files with some too.
fn checkout(env: &Env) -> (PathBuf, PathBuf) {
    let (seen, temporary) = (env.dir("a check out"), env.dir("temp files"));
    assert!(seen.starts_with("/tmp"), "{}", seen.display());
    rustix::mount::mount_bind_recursive(env!("CARGO_MANIFEST_DIR"), &seen).expect("bind");
    (seen, temporary)
}

/// A program of the checkout; what it prints.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{error}");
    said
}

#[test]
fn the_demo_runs_from_a_folder_with_blanks_below_tmp() {
    private(DEADLINE, |env| {
        let (seen, temporary) = checkout(env);
        let program = env.dir("built here").join("etcfs");
        fs::copy(binary(), &program).expect("copy the daemon");
        let said = run(Command::new(seen.join("scripts/demo"))
            .current_dir("/")
            .env("ETCFS_DEMO", &program)
            .env("ETCFS_DEMO_WAY", "root")
            .env("TMPDIR", &temporary));
        for part in ["10.0.0.7 printer", "the daemon exited with 0"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
}

#[test]
fn a_suite_runs_from_a_folder_with_blanks_below_tmp() {
    private(DEADLINE, |env| {
        let (seen, temporary) = checkout(env);
        let said = run(Command::new(seen.join("scripts/suites"))
            .args(["--lower", "tmpfs", "git"])
            .current_dir("/")
            .env("ETCFS", binary())
            .env("ETCFS_SUITES_INSIDE", "1")
            .env("TMPDIR", &temporary));
        assert!(said.contains(" passed, 0 failed"), "{said}");
    });
}

/// As scripts/deb does, with programs that were built before, and documents that a stand-in for their maker makes.
#[test]
fn installing_works_from_and_to_folders_with_blanks() {
    private(DEADLINE, |env| {
        let (seen, _) = checkout(env);
        let (target, into) = (env.dir("the target"), env.dir("installed here"));
        let host = run(Command::new("rustc").arg("-vV"));
        let host = host.lines().find_map(|line| line.strip_prefix("host: "));
        let built = target.join(host.expect("a host"));
        for dir in ["release", "debug"] {
            fs::create_dir_all(built.join(dir)).expect("mkdir");
        }
        for name in ["etcfs", "etcfsctl"] {
            fs::copy(binary(), built.join("release").join(name)).expect("copy");
        }
        let maker = built.join("debug/etcfs-docs");
        let script = "#!/bin/sh -e\ncd \"$1\"\nmkdir -p man completions/bash completions/zsh completions/fish\ncd man\n\
                      touch etcfs.8 etcfsctl.8 etcfs-config.5\ncd ../completions\n\
                      touch bash/etcfs bash/etcfsctl zsh/_etcfs zsh/_etcfsctl fish/etcfs.fish fish/etcfsctl.fish\n";
        fs::create_dir_all(target.join("docs")).expect("mkdir");
        fs::write(&maker, script).expect("write");
        fs::set_permissions(&maker, fs::Permissions::from_mode(0o755)).expect("chmod");
        let make = |what: &str| {
            run(Command::new("make")
                .arg("-C")
                .arg(&seen)
                .args([what, "CARGO=true", "prefix=/usr"])
                .arg(format!("DESTDIR={}", into.display()))
                .env("CARGO_TARGET_DIR", &target))
        };
        make("install");
        let installed = |path: &str| into.join("usr").join(path).is_file();
        assert!(installed("sbin/etcfs") && installed("share/man/man8/etcfsctl.8"));
        make("uninstall");
        assert!(!installed("sbin/etcfs") && !installed("share/man/man8/etcfsctl.8"));
        assert!(Path::new(&into).join("usr/sbin").is_dir());
    });
}
