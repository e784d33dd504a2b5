//! Starting: D1 to D15, D21, D22.

use super::harness::CONFIG;
use super::minibedrock::{STRATA, World, until};
use super::{bare, world};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

fn status(pid: i32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

#[test]
fn d1_d2_d5_every_stratum_starts_and_takes_its_configuration_at_once() {
    bare(|world| {
        for stratum in STRATA {
            world
                .sh(&format!(
                    "exec 9>/tmp/lock
                     chroot /proc/1/root/bedrock/strata/{stratum} {} &&
                     echo 'add_global /hosts' >> /bedrock/strata/{stratum}/etc/{CONFIG}",
                    super::minibedrock::START
                ))
                .unwrap_or_else(|e| panic!("{stratum}: {e}"));
            assert_eq!(
                fs::read_to_string(world.etc(stratum, CONFIG)).expect("read"),
                "global /hosts\n"
            );
        }
    });
}

#[test]
fn d1_no_environment_and_an_empty_etc_are_enough() {
    bare(|world| {
        let etc = world.stratum("alpha").join("etc");
        fs::remove_dir_all(&etc).expect("empty /etc");
        fs::create_dir(&etc).expect("mkdir");
        world
            .sh(
                "cd /tmp; exec env -i /usr/sbin/chroot /proc/1/root/bedrock/strata/alpha \
                 /bedrock/libexec/etcfs -o allow_other /etc",
            )
            .expect("start");
        assert_eq!(
            fs::read_to_string(world.etc("alpha", CONFIG)).expect("read"),
            ""
        );
    });
}

#[test]
fn d3_d4_a_debugging_daemon_stays_and_keeps_inherited_descriptors() {
    bare(|world| {
        // The shell in the background stays the daemon's parent, as in Bedrock's script.
        let mut shell = world
            .command(
                "mkdir -p /bedrock/var/cache/etcfs-alpha
                 exec 9>/bedrock/var/cache/etcfs-alpha/lock
                 chroot /proc/1/root/bedrock/strata/alpha /bedrock/libexec/etcfs -d -o allow_other /etc \
                     >> /bedrock/var/cache/etcfs-alpha/log 2>&1",
            )
            .stdout(Stdio::null())
            .spawn()
            .expect("start");
        until("alpha's mount", || world.etc_mounts("alpha").len() == 1);
        let pid = world.daemon("alpha");
        let lock = fs::read_link(format!("/proc/{pid}/fd/9")).expect("descriptor 9");
        assert_eq!(
            lock,
            world.root().join("bedrock/var/cache/etcfs-alpha/lock")
        );
        assert!(fs::metadata(world.etc("alpha", "hosts")).is_ok());
        let log = world.root().join("bedrock/var/cache/etcfs-alpha/log");
        until("the log names the operation", || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("hosts"))
        });
        assert!(
            shell.try_wait().expect("wait").is_none(),
            "it stays in the foreground"
        );
        world.sh("kill $(pidof etcfs)").expect("kill");
        shell.wait().expect("the shell ends with it");
        assert!(world.etc_mounts("alpha").is_empty());
    });
}

#[test]
fn d8_what_is_missing_is_named_and_nothing_is_mounted() {
    bare(|world| {
        let refused = |missing: &str| {
            let error = world.enable("alpha").expect_err("it must fail");
            assert!(error.starts_with("exit status: 1"), "{error}");
            assert!(error.contains(missing), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(world.etc_mounts("alpha").is_empty());
            assert!(world.daemons("alpha").is_empty());
        };
        let alpha = world.stratum("alpha");
        rustix::fs::removexattr(&alpha, "user.bedrock.stratum").expect("removexattr");
        refused("user.bedrock.stratum");
        rustix::fs::setxattr(
            &alpha,
            "user.bedrock.stratum",
            b"alpha",
            rustix::fs::XattrFlags::empty(),
        )
        .expect("setxattr");
        let etc = world.stratum("bedrock").join("etc");
        fs::rename(&etc, etc.with_file_name("away")).expect("rename");
        refused("/bedrock/strata/bedrock");
        fs::rename(etc.with_file_name("away"), &etc).expect("rename");
        let etc = alpha.join("etc");
        fs::rename(&etc, etc.with_file_name("away")).expect("rename");
        let error = world.enable("alpha").expect_err("no mount point");
        assert!(
            error.starts_with("exit status: 1") && error.contains("/etc"),
            "{error}"
        );
        fs::rename(etc.with_file_name("away"), &etc).expect("rename");
        world
            .enable("alpha")
            .expect("and with all of it, it starts");
    });
}

#[test]
fn d9_d10_d11_d22_what_kind_of_process_it_is() {
    world(|world| {
        for stratum in STRATA {
            let pid = world.daemon(stratum);
            let root = fs::read_link(format!("/proc/{pid}/root")).expect("root");
            assert_eq!(root, world.stratum(stratum));
            assert_eq!(status(pid, "comm"), "etcfs\n");
            assert!(status(pid, "status").contains("\nUmask:\t0000\n"));
            // The server has none; the keeper has the server and the spare one.
            assert_eq!(status(pid, &format!("task/{pid}/children")), "");
            assert_eq!(world.daemons(stratum).len(), 3);
            for other in world.daemons(stratum) {
                assert_eq!(status(other, "comm"), "etcfs\n");
            }
            for fd in 0..3 {
                let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("fd");
                assert!(link.ends_with("dev/null"), "{}", link.display());
            }
            for task in fs::read_dir(format!("/proc/{pid}/task"))
                .expect("tasks")
                .flatten()
            {
                let root = fs::read_link(task.path().join("root")).expect("a thread's root");
                assert_eq!(root, world.stratum(stratum));
            }
        }
        let seen = world.sh("pidof etcfs").expect("pidof");
        assert_eq!(seen.split_whitespace().count(), 3 * STRATA.len());
        // As brl looks from init.
        for pid in seen.split_whitespace() {
            let link = world
                .sh(&format!("readlink /proc/{pid}/root"))
                .expect("readlink");
            assert!(link.starts_with("/bedrock/strata/"), "{link}");
        }
    });
}

#[test]
fn d12_d13_d14_one_mount_of_the_right_kind() {
    world(|world| {
        let mountinfo = world.sh("cat /proc/1/mountinfo").expect("mountinfo");
        for stratum in STRATA {
            let at = format!("/bedrock/strata/{stratum}/etc");
            let lines: Vec<Vec<&str>> = mountinfo
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>())
                .filter(|fields| fields[4] == at)
                .collect();
            assert_eq!(lines.len(), 1, "{mountinfo}");
            let fields = &lines[0];
            let dash = fields.iter().position(|f| *f == "-").expect("a separator");
            assert_eq!(fields[dash + 1..dash + 3], ["fuse.etcfs", "etcfs"]);
            for option in ["rw", "nosuid", "nodev"] {
                assert!(fields[5].split(',').any(|o| o == option), "{fields:?}");
            }
            for option in ["rw", "user_id=0", "group_id=0", "allow_other"] {
                assert!(
                    fields[dash + 3].split(',').any(|o| o == option),
                    "{fields:?}"
                );
            }
            assert_eq!(dash, 6, "not shared, no slave: {fields:?}");
            world
                .sh(&format!(
                    "mount --make-shared {at} && mount --make-private {at}"
                ))
                .expect("mount --make-private");
        }
    });
}

#[test]
fn d15_a_dead_mount_is_replaced() {
    world(|world| {
        world.kill_all("alpha");
        // The last of its threads closes /dev/fuse; until then the mount is not dead.
        until("the mount is dead", || {
            let asked = fs::metadata(world.etc("alpha", "fstab"));
            asked.is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))
        });
        world.enable("alpha").expect("start again");
        assert_eq!(world.etc_mounts("alpha").len(), 1);
        assert!(fs::read(world.etc("alpha", "fstab")).is_ok());
        world.configure("alpha", &["add_global /hosts"]);
        assert_eq!(
            fs::read(world.etc("alpha", "hosts")).expect("read"),
            fs::read(world.etc("beta", "hosts")).expect("read")
        );
    });
}

/// A daemon's pid in the world's own namespace.
pub fn inner_pid(world: &World, stratum: &str) -> i32 {
    let nspid = status(world.daemon(stratum), "status");
    let line = nspid
        .lines()
        .find(|l| l.starts_with("NSpid:"))
        .expect("NSpid");
    let last = line.split_whitespace().last().expect("a pid");
    last.parse().expect("a number")
}

#[test]
fn d21_the_daemon_opens_nothing_by_an_absolute_path() {
    world(|world| {
        let pid = world.daemon("alpha");
        let trace: PathBuf = world.root().join("tmp/trace");
        let mut strace = std::process::Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "trace=open,openat,openat2,execve,connect",
                "-o",
            ])
            .arg(&trace)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("start strace");
        until("strace is attached", || {
            status(pid, "status")
                .lines()
                .any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
        });
        world
            .strat(
                "alpha",
                "cd /etc; ls -la > /dev/null; cat hosts passwd localtime profile > /dev/null
                 echo x > new; mv new hosts.new; mv hosts.new hosts; stat -f . > /dev/null
                 ln -s x y; rm y; mkdir d; rmdir d; date > /dev/null; id nobody > /dev/null",
            )
            .expect("work in /etc");
        world
            .sh(&format!("kill {}", inner_pid(world, "alpha")))
            .expect("kill");
        until("the daemon is gone", || world.daemons("alpha").is_empty());
        strace.wait().expect("strace ends with it");
        let trace = fs::read_to_string(trace).expect("read the trace");
        assert!(trace.contains("openat"), "{trace}");
        // O_PATH stops at the root of the mount and sends no request: at the end the daemon looks whose mount is on top.
        let absolute: Vec<&str> = trace
            .lines()
            .filter(|line| line.contains("\"/") && !line.contains("\"/proc/"))
            .filter(|line| !line.contains("O_PATH"))
            .collect();
        assert_eq!(absolute, Vec::<&str>::new());
    });
}
