//! The mount in use: D16, D17, D23, D24, D45, F1, S4.

use super::harness::{CONFIG, User, as_user, errno};
use super::world;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn d16_df_works_on_everything() {
    world(|world| {
        world
            .strat(
                "alpha",
                "df /etc /etc/hosts /etc/ssl /etc/shadow > /dev/null && stat -f /etc/shadow > /dev/null",
            )
            .expect("df as root");
        world
            .strat(
                "alpha",
                "setpriv --reuid 1000 --regid 1000 --clear-groups df /etc /etc/shadow > /dev/null",
            )
            .expect("df as a user, on what it cannot read");
    });
}

#[test]
fn d17_bind_mounts_over_and_inside_the_mount_stay() {
    world(|world| {
        world
            .sh("mkdir -p /tmp/over/sub; echo covered > /tmp/over/sub/file; echo 'a file' > /tmp/file
                 cd /bedrock/strata/alpha/etc
                 mkdir sub; echo inside > sub/file; touch single
                 mount --bind /tmp/over/sub sub
                 mount --bind /tmp/file single
                 mount --bind /tmp/file hosts")
            .expect("bind");
        let read = |name: &str| fs::read_to_string(world.etc("alpha", name)).expect("read");
        // Lookups, changes and listings around them must not drop them.
        for n in 0..50 {
            fs::write(world.etc("alpha", "other"), format!("{n}")).expect("write");
            fs::rename(world.etc("alpha", "other"), world.etc("alpha", "moved")).expect("rename");
            assert!(fs::read_dir(world.etc("alpha", "")).expect("list").count() > 10);
            fs::write(world.etc("beta", "hosts"), format!("beta's {n}\n")).expect("write");
            assert_eq!(read("sub/file"), "covered\n");
            assert_eq!(read("single"), "a file\n");
            assert_eq!(read("hosts"), "a file\n");
        }
        world.configure("alpha", &["add_global /moved", "rm_global /moved"]);
        assert_eq!(read("sub/file"), "covered\n");
        // As natively, a mount point can be neither removed nor replaced.
        assert_eq!(
            fs::remove_file(world.etc("alpha", "single")).map_err(errno),
            Err(Errno::BUSY)
        );
        assert_eq!(
            fs::rename(world.etc("alpha", "moved"), world.etc("alpha", "single")).map_err(errno),
            Err(Errno::BUSY)
        );
        world
            .sh("cd /bedrock/strata/alpha/etc; umount sub single hosts")
            .expect("unmount");
        assert_eq!(read("sub/file"), "inside\n");
        assert_eq!(read("single"), "");
        assert_eq!(read("hosts"), "beta's 49\n");
    });
}

/// Natively a rename in a mount namespace where nothing is mounted on the name takes away what is mounted on it in others
/// (`detach_mounts`, Linux 3.18). The C program keeps it.
#[test]
fn r5_a_bind_mount_goes_when_another_stratum_renames_over_the_name() {
    world(|world| {
        world
            .sh("set -e; cd /tmp; mkdir native; echo 'a container' >container; echo old >native/hosts
                 mount --bind container native/hosts
                 mount --bind container /bedrock/strata/alpha/etc/hosts
                 mount --bind container /bedrock/strata/alpha/etc/passwd")
            .expect("bind");
        let read = |path: &str| fs::read_to_string(world.root().join(path)).expect("read");
        let (native, ours) = ("tmp/native/hosts", "bedrock/strata/alpha/etc/hosts");
        for path in [native, ours] {
            assert_eq!(read(path), "a container\n");
        }
        world
            .sh(
                "set -e; echo new >/tmp/new; cd /tmp/native; cp /tmp/new hosts.new
                 unshare --mount sh -ec 'umount hosts; mv hosts.new hosts'
                 cd /bedrock/strata/beta/etc; cp /tmp/new hosts.new; mv hosts.new hosts",
            )
            .expect("rename");
        for path in [native, ours] {
            assert_eq!(read(path), "new\n", "{path}");
        }
        // A name that nobody renames over keeps its own.
        assert_eq!(read("bedrock/strata/alpha/etc/passwd"), "a container\n");
    });
}

#[test]
fn d17_a_subtree_bound_elsewhere_keeps_working() {
    world(|world| {
        world
            .sh("mkdir /tmp/ssl; mount --bind /bedrock/strata/alpha/etc/ssl /tmp/ssl; echo x > /tmp/ssl/new")
            .expect("bind");
        assert_eq!(
            fs::read_to_string(world.etc("alpha", "ssl/new")).expect("read"),
            "x\n"
        );
        world.sh("umount /tmp/ssl").expect("unmount");
    });
}

#[test]
fn d23_d24_d45_the_configuration_file() {
    world(|world| {
        let listed = world
            .strat("alpha", &format!("ls -a /etc | grep -cx {CONFIG}"))
            .expect("ls");
        assert_eq!(listed.trim(), "1");
        let below = world
            .strat(
                "alpha",
                &format!("find /etc -mindepth 2 -name {CONFIG} | wc -l"),
            )
            .expect("find");
        assert_eq!(below.trim(), "0");
        let text = world
            .sh(&format!(
                "timeout 10 cat /bedrock/strata/alpha/etc/{CONFIG}"
            ))
            .expect("cat ends by itself");
        let path = world.etc("alpha", CONFIG);
        let stat = fs::metadata(&path).expect("stat");
        assert_eq!(stat.len(), text.len() as u64);
        assert_eq!((stat.uid(), stat.gid(), stat.nlink()), (0, 0, 1));
        assert_eq!(stat.permissions().mode(), 0o100_600);
        let as_other = as_user(&User::plain(1000), || {
            (
                fs::metadata(&path).map(|s| s.len()).map_err(errno),
                fs::read(&path).map(drop).map_err(errno),
                fs::OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map(drop)
                    .map_err(errno),
            )
        });
        assert_eq!(
            as_other,
            (
                Ok(text.len() as u64),
                Err(Errno::ACCESS),
                Err(Errno::ACCESS)
            )
        );
        // In a subdirectory the name is an ordinary one.
        let below = world.etc("alpha", &format!("ssl/{CONFIG}"));
        fs::write(&below, "mine").expect("write");
        assert_eq!(fs::read_to_string(&below).expect("read"), "mine");
        fs::remove_file(&below).expect("remove");
    });
}

#[test]
fn f1_the_death_of_one_daemon_leaves_the_others_global_files() {
    world(|world| {
        for victim in ["bedrock", "alpha"] {
            world.kill_all(victim);
            fs::write(world.etc("beta", "hosts"), format!("without {victim}\n")).expect("write");
            assert_eq!(
                fs::read_to_string(world.etc("beta", "hosts")).expect("read"),
                format!("without {victim}\n")
            );
            assert!(fs::metadata(world.etc("beta", "passwd")).is_ok());
        }
        // A repaired daemon serves the same files again.
        for victim in ["bedrock", "alpha"] {
            world
                .enable(victim)
                .unwrap_or_else(|e| panic!("{victim}: {e}"));
            world.configure(victim, &["add_global /hosts"]);
            assert_eq!(
                fs::read_to_string(world.etc(victim, "hosts")).expect("read"),
                "without alpha\n"
            );
        }
    });
}

#[test]
fn f1_a_global_file_passes_through_one_daemon_only() {
    world(|world| {
        let pid = world.daemon("bedrock");
        let bedrock = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(bedrock, rustix::process::Signal::STOP).expect("stop");
        // A daemon that passed requests on to the stopped one would wait for it.
        let got = world.sh("timeout 20 cat /bedrock/strata/alpha/etc/hosts");
        let wrote = world.sh("timeout 20 sh -c 'echo new > /bedrock/strata/alpha/etc/hosts'");
        rustix::process::kill_process(bedrock, rustix::process::Signal::CONT).expect("continue");
        got.expect("read while the bedrock stratum's daemon is stopped");
        wrote.expect("write while the bedrock stratum's daemon is stopped");
        assert_eq!(
            fs::read_to_string(world.etc("bedrock", "hosts")).expect("read"),
            "new\n"
        );
    });
}

/// The test's own threads are outside of the daemons' pid namespace, so that requests name no process.
#[test]
fn s4_callers_of_other_pid_namespaces_keep_their_identity_and_groups() {
    world(|world| {
        let many: Vec<u32> = (2000..2300).collect();
        let dir = world.etc("alpha", "team");
        fs::create_dir(&dir).expect("mkdir");
        std::os::unix::fs::chown(&dir, Some(0), Some(2299)).expect("chown");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o2770)).expect("chmod");
        let made = as_user(&User::plain(1000).in_groups(&many), || {
            fs::write(dir.join("made"), "x").map_err(errno)?;
            fs::read(dir.join("made")).map_err(errno)
        });
        assert_eq!(made, Ok(b"x".to_vec()));
        let stat = fs::metadata(dir.join("made")).expect("stat");
        assert_eq!((stat.uid(), stat.gid()), (1000, 2299));
        let stranger = as_user(&User::plain(1000).in_groups(&many[..299]), || {
            fs::read(dir.join("made")).map(drop).map_err(errno)
        });
        assert_eq!(stranger, Err(Errno::ACCESS));
        // Set-id bits go as for anybody.
        fs::set_permissions(dir.join("made"), fs::Permissions::from_mode(0o6777)).expect("chmod");
        as_user(&User::plain(1001).in_groups(&many), || {
            fs::write(dir.join("made"), "y").expect("write");
        });
        let stat = fs::metadata(dir.join("made")).expect("stat");
        assert_eq!(stat.mode() & 0o7777, 0o777);
    });
}
