//! Who may register files: CAP_SYS_ADMIN of the initial user namespace decides.

use super::harness::{NOBODY, for_everybody};
use super::*;

/// Runs the daemon in the background by way of `command`, whose last argument it becomes.
fn in_background(mut command: Command, bases: &Bases, options: &str) -> Output {
    let mut all = format!("global={},stratum=here", bases.global().display());
    all.push_str(options);
    command.args(["-o", &all]).arg(bases.mnt());
    command
        .env("ETCFS_ENABLE_PASSTHROUGH", "1")
        .stdin(Stdio::null());
    command.output().expect("start it")
}

#[test]
fn root_of_a_user_namespace_is_refused_in_one_line() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let mut command = Command::new("unshare");
        // Only who is in that namespace may use its mount.
        let script = "\"$@\" && cd \"$MNT\" && echo text >f && cat f && cd / && umount \"$MNT\"";
        command
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(env!("CARGO_BIN_EXE_etcfs"))
            .env("MNT", bases.mnt());
        let output = in_background(command, &bases, ",allow_other");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"text\n", "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_one_line(&said, &["CAP_SYS_ADMIN of the initial user namespace"]);
        assert_eq!(
            fs::read(bases.local().join("f")).expect("beneath"),
            b"text\n"
        );
    });
}

/// Mounts as `user`, finds that the mount works, and unmounts it; returns what the daemon has said.
fn mounted_by(env: &Env, user: &User) -> String {
    let bases = Bases::new(env, Lower::Tmpfs);
    let program = for_everybody(env, &bases);
    as_user(user, || {
        let output = in_background(Command::new(&program), &bases, "");
        assert!(output.status.success(), "{output:?}");
        assert_works(&bases.mnt());
        let unmounted = Command::new("fusermount3")
            .arg("-u")
            .arg(bases.mnt())
            .status();
        assert!(unmounted.expect("run fusermount3").success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    })
}

#[test]
fn an_ordinary_users_mount_is_served_without_it_in_one_line() {
    private(DEADLINE, |env| {
        let said = mounted_by(env, &User::plain(NOBODY));
        assert_one_line(&said, &["CAP_SYS_ADMIN"]);
    });
}

/// Who may not copy the mounts beneath opens files so that reading leaves their access times alone.
#[test]
fn an_ordinary_users_noatime_holds_for_its_own_files() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let program = for_everybody(env, &bases);
        let path = bases.local().join("file");
        fs::write(&path, "text").expect("write");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
        for (option, changes) in [(",noatime", false), (",ro", false), (",relatime", true)] {
            let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(978_307_200);
            let times = fs::FileTimes::new().set_accessed(old);
            for at in [&path, &bases.local()] {
                let file = fs::File::open(at).expect("open");
                file.set_times(times).expect("set the access time");
            }
            as_user(&User::plain(NOBODY), || {
                let output = in_background(Command::new(&program), &bases, option);
                assert!(output.status.success(), "{output:?}");
                assert_eq!(fs::read(bases.mnt().join("file")).expect("read"), b"text");
                assert!(fs::read_dir(bases.mnt()).expect("list").count() > 1);
                let mut unmount = Command::new("fusermount3");
                let unmounted = unmount.arg("-u").arg(bases.mnt()).status();
                assert!(unmounted.expect("run fusermount3").success());
            });
            for at in [&path, &bases.local()] {
                let now = fs::metadata(at).expect("stat").accessed().expect("atime");
                assert_eq!(now != old, changes, "{option}, {}", at.display());
            }
        }
    });
}

#[test]
fn the_capability_decides_and_not_the_user() {
    private(DEADLINE, |env| {
        let user = User::plain(NOBODY).with(CapabilitySet::SYS_ADMIN);
        assert_eq!(mounted_by(env, &user), "");
    });
}

#[test]
fn root_without_the_capability_cannot_mount_and_is_told_what_is_missing() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"])
            .arg(env!("CARGO_BIN_EXE_etcfs"));
        let output = in_background(command, &bases, ",allow_other");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("CAP_SYS_ADMIN"), "{said}");
    });
}
