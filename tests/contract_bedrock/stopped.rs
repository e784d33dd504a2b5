//! Ending: D10, D18, D19, D20.

use super::minibedrock::{STRATA, until};
use super::started::inner_pid;
use super::world;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Stdio;

#[test]
fn d18_a_lazy_unmount_while_busy_ends_the_daemon_after_the_last_user() {
    world(|world| {
        let file = fs::File::open(world.etc("alpha", "hosts")).expect("open");
        let mut user = world
            .command("cd /bedrock/strata/alpha/etc/ssl && exec sleep infinity")
            .stdout(Stdio::null())
            .spawn()
            .expect("start");
        let cwd = format!("/proc/{}/cwd", user.id());
        until("it stands in /etc", || {
            world
                .sh("ls -l /proc/[0-9]*/cwd 2>/dev/null")
                .is_ok_and(|list| list.contains("etc/ssl"))
        });
        world
            .sh("umount -l /bedrock/strata/alpha/etc")
            .expect("umount -l");
        assert!(world.etc_mounts("alpha").is_empty());
        // What is open goes on working.
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_at(&file, &mut byte, 0).expect("read");
        assert!(!world.daemons("alpha").is_empty(), "{cwd}");
        drop(file);
        assert!(
            !world.daemons("alpha").is_empty(),
            "a working directory is a use"
        );
        world.sh("pkill -x -n sleep").expect("end the user");
        let _ = user.wait();
        until("the daemon has ended", || world.daemons("alpha").is_empty());
        // And it can be mounted again.
        world.enable("alpha").expect("start again");
    });
}

#[test]
fn d19_signals_unmount_even_when_busy() {
    world(|world| {
        for (stratum, signal) in STRATA
            .into_iter()
            .zip([Signal::TERM, Signal::INT, Signal::HUP])
        {
            let file = fs::File::open(world.etc(stratum, "hosts")).expect("open");
            let pid = world.daemon(stratum);
            kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("signal");
            until("the daemon has ended", || world.daemons(stratum).is_empty());
            assert!(world.etc_mounts(stratum).is_empty(), "{signal:?}");
            drop(file);
        }
    });
}

#[test]
fn d20_a_broken_pipe_is_no_reason_to_end() {
    world(|world| {
        let pid = world.daemon("alpha");
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::PIPE).expect("signal");
        assert!(fs::read(world.etc("alpha", "hosts")).is_ok());
        assert_eq!(world.daemon("alpha"), pid);
    });
}

/// Our own form of what `brl disable` does: TERM to every process whose root is in the stratum, then KILL, and an error
/// if any of them is left 0.25 s after that.
const DISABLE: &str = r#"
victims() {
    for pid in $(ps -A -o pid=); do
        case "$(readlink /proc/$pid/root 2>/dev/null)" in
        /bedrock/strata/STRATUM|/bedrock/strata/STRATUM/*) echo $pid ;;
        esac
    done
}
first="$(victims)"
[ -n "$first" ] || { echo "no victims"; exit 1; }
kill -TERM $first 2>/dev/null
for n in 1 2 3 4 5; do
    [ -n "$(victims)" ] || break
    sleep 0.05
done
echo "after TERM: $(victims | wc -l)"
left="$(victims)"
[ -z "$left" ] || kill -KILL $left 2>/dev/null
sleep 0.25
echo "after KILL: $(victims | wc -l)"
"#;

#[test]
fn d10_brl_disable_finds_and_ends_everything_of_the_stratum() {
    world(|world| {
        let file = fs::File::open(world.etc("alpha", "hosts")).expect("open");
        let said = world
            .sh(&DISABLE.replace("STRATUM", "alpha"))
            .expect("disable");
        assert!(said.contains("after KILL: 0"), "{said}");
        assert!(world.daemons("alpha").is_empty());
        assert!(world.etc_mounts("alpha").is_empty(), "TERM unmounts");
        drop(file);
        // The others are not touched.
        assert!(fs::read(world.etc("beta", "hosts")).is_ok());
        world.enable("alpha").expect("brl enable");
        assert_eq!(world.etc_mounts("alpha").len(), 1);
    });
}

#[test]
fn d19_a_pid_that_is_named_by_pidof_can_be_killed() {
    world(|world| {
        let pid = inner_pid(world, "beta");
        assert!(
            world
                .sh("pidof etcfs")
                .expect("pidof")
                .split_whitespace()
                .any(|p| p == pid.to_string())
        );
        world.sh("kill -9 $(pidof etcfs)").expect("kill");
        for stratum in STRATA {
            until("all have ended", || world.daemons(stratum).is_empty());
            world
                .enable(stratum)
                .unwrap_or_else(|e| panic!("{stratum}: {e}"));
        }
    });
}
