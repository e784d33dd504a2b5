//! Inject overrides of contract sections 2 and 3 on real mounts (B6 to B10, D32, D34, D41), and what overrides in
//! place cost (U2).

mod harness;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcfs_proto::Opcode;
use harness::{
    Etcfs, Lower, Opts, Trace, User, as_user, count, errno, inject, private, rest, run, source,
    text,
};
use rustix::io::Errno;

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn d41_b7_text_is_added_to_files_that_exist_and_hold_something() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let (mnt, local) = (etcfs.mnt(), etcfs.local());
        let inj = source(env, "inj", "# INJ\n");
        fs::write(local.join("full"), "a\n").unwrap();
        fs::write(local.join("unended"), "line-without-newline").unwrap();
        fs::write(local.join("empty"), "").unwrap();
        fs::create_dir(local.join("dir")).unwrap();
        symlink("full", local.join("link")).unwrap();
        for name in ["full", "unended", "empty", "dir", "link", "none"] {
            etcfs.write_config(&[inject(name, &inj)]).unwrap();
        }
        assert_eq!(text(&mnt.join("full")), "a\n# INJ\n");
        // B7
        assert_eq!(text(&mnt.join("unended")), "line-without-newline\n# INJ\n");
        assert_eq!(text(&mnt.join("empty")), "");
        assert!(mnt.join("dir").is_dir());
        assert_eq!(fs::read_link(mnt.join("link")).unwrap(), Path::new("full"));
        let missing = fs::metadata(mnt.join("none")).map_err(errno);
        assert_eq!(missing.err(), Some(Errno::NOENT));
        // A package manager creates a file, finds it empty, fills it; then it gets its text.
        let mut file = fs::File::create_new(mnt.join("none")).unwrap();
        assert_eq!(fs::metadata(mnt.join("none")).unwrap().len(), 0);
        file.write_all(b"package\n").unwrap();
        assert_eq!(text(&mnt.join("none")), "package\n", "still being written");
        drop(file);
        assert_eq!(text(&mnt.join("none")), "package\n# INJ\n");
    });
}

#[test]
fn b6_an_injected_file_keeps_its_group_whoever_asks() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let inj = source(env, "inj", "# INJ\n");
        fs::write(etcfs.local().join("sudoers"), "root ALL\n").unwrap();
        fs::set_permissions(
            etcfs.local().join("sudoers"),
            std::os::unix::fs::PermissionsExt::from_mode(0o440),
        )
        .unwrap();
        etcfs.write_config(&[inject("sudoers", &inj)]).unwrap();
        let mnt = etcfs.mnt();
        let meta = as_user(&User::plain(1000), || {
            fs::metadata(mnt.join("sudoers")).unwrap()
        });
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (0, 0, 0o440)
        );
        assert_eq!(text(&etcfs.local().join("sudoers")), "root ALL\n# INJ\n");
    });
}

#[test]
fn b8_the_copy_in_force_is_edited_and_old_text_does_not_pile_up() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let inj = source(env, "inj", "# S1\n");
        fs::write(etcfs.global().join("sudoers"), "global\n").unwrap();
        fs::write(etcfs.local().join("sudoers"), "local\n# S1\n").unwrap();
        etcfs
            .write_config(&["add_global /sudoers".to_owned(), inject("sudoers", &inj)])
            .unwrap();
        let path = etcfs.mnt().join("sudoers");
        assert_eq!(text(&path), "global\n# S1\n");
        // D32: another text for the same path takes the old one's place.
        source(env, "inj", "# S2\n");
        etcfs.write_config(&[inject("sudoers", &inj)]).unwrap();
        assert_eq!(text(&etcfs.global().join("sudoers")), "global\n# S2\n");
        assert_eq!(text(&path), "global\n# S2\n");
        // D34: awk removes and adds.
        source(env, "inj", "# S3\n");
        etcfs.write_config(&["rm_override /sudoers"]).unwrap();
        assert_eq!(text(&etcfs.global().join("sudoers")), "global\n");
        assert_eq!(text(&path), "global\n");
        etcfs.write_config(&[inject("sudoers", &inj)]).unwrap();
        assert_eq!(text(&path), "global\n# S3\n");
        etcfs
            .write_config(&["add_override symlink /sudoers /right"])
            .unwrap();
        assert_eq!(text(&etcfs.global().join("sudoers")), "global\n");
        // The local copy was never in force.
        assert_eq!(text(&etcfs.local().join("sudoers")), "local\n# S1\n");
    });
}

#[test]
fn d34_nested_files_lose_their_text_and_absent_ones_are_no_error() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let inj = source(env, "inj", "# INJ\n");
        fs::create_dir_all(etcfs.local().join("a/b")).unwrap();
        fs::write(etcfs.local().join("a/b/file"), "x\n").unwrap();
        for name in ["a/b/file", "a/b/none", "no/dir/file"] {
            etcfs.write_config(&[inject(name, &inj)]).unwrap();
        }
        assert_eq!(text(&etcfs.mnt().join("a/b/file")), "x\n# INJ\n");
        for name in ["a/b/file", "a/b/none", "no/dir/file"] {
            etcfs
                .write_config(&[format!("rm_override /{name}")])
                .unwrap();
        }
        assert_eq!(text(&etcfs.mnt().join("a/b/file")), "x\n");
        assert_eq!(etcfs.stderr(), "");
    });
}

#[test]
fn d41_text_that_was_taken_out_comes_back_and_edits_stay() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let path = etcfs.mnt().join("profile");
        fs::write(&path, "a\n").unwrap();
        etcfs
            .write_config(&[inject("profile", &source(env, "inj", "# INJ\n"))])
            .unwrap();
        assert_eq!(text(&path), "a\n# INJ\n");
        rest();
        fs::write(&path, "edited\n").unwrap();
        assert_eq!(text(&path), "edited\n# INJ\n");
        rest();
        // As editors save: a new file takes the name.
        fs::write(etcfs.mnt().join("profile.new"), "saved\n").unwrap();
        fs::rename(etcfs.mnt().join("profile.new"), &path).unwrap();
        assert_eq!(text(&path), "saved\n# INJ\n");
        rest();
        // Beneath the mount.
        fs::write(etcfs.local().join("profile"), "below\n").unwrap();
        assert_eq!(text(&path), "below\n# INJ\n");
    });
}

#[test]
fn b10_an_immutable_file_is_served_without_its_text_and_told_of_once() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                lower: Lower::Ext4,
                ..Opts::default()
            },
        );
        let below = etcfs.local().join("profile");
        fs::write(&below, "a\n").unwrap();
        run(Command::new("chattr").arg("+i").arg(&below)).unwrap();
        etcfs
            .write_config(&[inject("profile", &source(env, "inj", "# INJ\n"))])
            .unwrap();
        for _ in 0..2 {
            assert_eq!(text(&etcfs.mnt().join("profile")), "a\n");
            rest();
        }
        assert_eq!(
            etcfs.stderr().matches("/profile").count(),
            1,
            "{}",
            etcfs.stderr()
        );
        run(Command::new("chattr").arg("-i").arg(&below)).unwrap();
        assert_eq!(text(&etcfs.mnt().join("profile")), "a\n# INJ\n");
    });
}

#[test]
fn u2_an_override_in_place_costs_the_look_at_its_name_and_nothing_else() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        fs::write(etcfs.local().join("profile"), "a\n").unwrap();
        etcfs
            .write_config(&[
                "add_override symlink /localtime /bedrock/zone".to_owned(),
                "add_override directory /zsh x".to_owned(),
                inject("profile", &source(env, "inj", "# INJ\n")),
            ])
            .unwrap();
        let warm = || {
            fs::read_link(mnt.join("localtime")).unwrap();
            fs::symlink_metadata(mnt.join("zsh")).unwrap();
            assert_eq!(text(&mnt.join("profile")), "a\n# INJ\n");
        };
        warm();
        // What was just made could still change without a trace: it is believed once its change time lies back.
        std::thread::sleep(Duration::from_millis(100));
        warm();
        let trace = Trace::of(env, &etcfs);
        for _ in 0..100 {
            fs::symlink_metadata(mnt.join("localtime")).unwrap();
            fs::read_link(mnt.join("localtime")).unwrap();
            fs::symlink_metadata(mnt.join("zsh")).unwrap();
            fs::symlink_metadata(mnt.join("profile")).unwrap();
        }
        let requests = trace.end();
        let lookups = count(&requests, Opcode::LOOKUP);
        assert!(lookups >= 400, "{lookups}");
        // Whom a request wakes, such as a worker that sleeps, has nothing to do with what is asked. Reading the request,
        // statx, writing the answer.
        let dear = requests.iter().filter(|request| {
            let of_its_own = |call: &&String| !call.contains("FUTEX_WAKE");
            request.calls.iter().filter(of_its_own).count() > 3
        });
        let dear: Vec<_> = dear.map(|request| request.calls.join("\n")).collect();
        // A machine that is short of memory may have the kernel forget one of the names, which is then met anew.
        assert!(dear.len() <= 4, "{}", dear.join("\n\n"));
    });
}

#[test]
fn b2_a_file_renamed_from_the_other_side_gets_the_text_of_its_new_name() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let inj = source(env, "inj", "# INJ\n");
        let mnt = etcfs.mnt();
        fs::write(etcfs.global().join("login.defs"), "old\n").unwrap();
        etcfs
            .write_config(&[
                "add_global /login.defs".to_owned(),
                inject("login.defs", &inj),
            ])
            .unwrap();
        assert_eq!(text(&mnt.join("login.defs")), "old\n# INJ\n");
        rest();
        fs::write(mnt.join("login.defs-new"), "new\n").unwrap();
        fs::rename(mnt.join("login.defs-new"), mnt.join("login.defs")).unwrap();
        assert_eq!(text(&mnt.join("login.defs")), "new\n# INJ\n");
        assert_eq!(text(&etcfs.global().join("login.defs")), "new\n# INJ\n");
    });
}
