//! The end of the machine: an init that tells everybody to end, waits, and kills (contract U10). Pid 1 of the small Bedrock's
//! namespace, so that "all processes" are its own.

use super::DEADLINE;
use super::harness::private;
use super::minibedrock::{START, STRATA, World, until};
use std::fs;
use std::time::Duration;

/// Nobody else may ever be meant: only where pid 1 is the shell that stands for init.
const ONLY_HERE: &str = "[ $(cat /proc/1/comm) = sh ] || exit 9\n";

/// What stops slowly, and reads a global file of /etc meanwhile, which is not in the directory beneath.
const SERVICE: &str = "trap '' TERM HUP\nwhile [ ! -e /tmp/stop ]; do
    cat /bedrock/strata/alpha/etc/only-global >/dev/null 2>>/tmp/failed; echo x >>/tmp/reads; sleep 0.01\ndone\necho >/tmp/stopped";

struct Machine {
    world: World,
}

impl Machine {
    /// Serves all strata with `environment`, and begins to read.
    fn new(world: World, environment: &str) -> Machine {
        for stratum in STRATA {
            let start = format!(
                "exec 9>/tmp/lock; {environment} chroot /proc/1/root/bedrock/strata/{stratum} {START}"
            );
            world.sh(&start).expect("start");
            world.configure(stratum, &["add_global /only-global"]);
        }
        fs::write(world.etc("alpha", "only-global"), "text").expect("write");
        let machine = Machine { world };
        machine.detached(SERVICE);
        machine.reads_on();
        assert_eq!(machine.failed(), "");
        machine
    }

    /// Starts a script that nobody outside of the namespace waits for: nsenter(1) stops with who it waits for, and stays so.
    fn detached(&self, script: &str) {
        let script = format!(
            "setsid -f sh -c '{}' >/dev/null 2>&1",
            script.replace('\'', "'\\''")
        );
        self.world.sh(&script).expect("start");
    }

    fn lines(&self, name: &str) -> String {
        fs::read_to_string(self.world.root().join("tmp").join(name)).unwrap_or_default()
    }

    /// What could not be read.
    fn failed(&self) -> String {
        self.lines("failed")
    }

    /// Waits until the service has read some dozens of times more.
    fn reads_on(&self) {
        let enough = self.lines("reads").len() + 60;
        until("the service has read", || {
            self.lines("reads").len() >= enough
        });
    }

    /// Tells everybody to end.
    fn tell_all(&self, how: &str) {
        let _ = fs::remove_file(self.world.root().join("tmp/told"));
        self.detached(&format!(
            "{ONLY_HERE}sleep 0.2\n{how}\necho told >/tmp/told"
        ));
        until("all are told", || self.lines("told") == "told\n");
        self.reads_on();
    }

    /// The service has stopped; then what is left is unmounted, and killed.
    fn ends(self) {
        fs::write(self.world.root().join("tmp/stop"), "").expect("write");
        until("the service stops", || !self.lines("stopped").is_empty());
        for stratum in STRATA {
            let unmount = format!("umount -l /bedrock/strata/{stratum}/etc");
            self.world.sh(&unmount).expect("unmount");
            until("its daemon has ended", || {
                self.world.daemons(stratum).is_empty()
            });
        }
    }
}

fn on_a_machine(environment: &'static str, body: impl FnOnce(Machine) + Send + 'static) {
    private(DEADLINE, move |env| {
        body(Machine::new(World::new(env), environment));
    });
}

#[test]
fn u10_a_service_that_stops_slowly_reads_on_where_the_daemon_survives_shutdown() {
    for keeper in [
        "ETCFS_SURVIVE_SHUTDOWN=1 ETCFS_KEEPER=yes",
        "ETCFS_SURVIVE_SHUTDOWN=1 ETCFS_KEEPER=no",
    ] {
        on_a_machine(keeper, |machine| {
            machine.tell_all("kill -TERM -1; kill -HUP -1");
            std::thread::sleep(Duration::from_millis(500));
            machine.tell_all("kill -TERM -1; kill -CONT -1");
            assert_eq!(machine.failed(), "");
            machine.ends();
        });
    }
}

/// As `etcfsctl help shutdown` has it for OpenRC and for sysvinit.
#[test]
fn u10_killall5_that_is_told_to_omit_the_daemons_leaves_them_alone() {
    for omitted in [
        "-o $(pidof etcfs | tr ' ' ,)",
        "$(for pid in $(pidof etcfs); do echo -o $pid; done)",
    ] {
        on_a_machine("ETCFS_KEEPER=yes", move |machine| {
            machine.tell_all(&format!("killall5 -15 {omitted}"));
            assert_eq!(machine.failed(), "");
            machine.ends();
        });
    }
}

/// What the others are compared with.
#[test]
fn u10_without_that_the_service_cannot_read_any_more() {
    on_a_machine("ETCFS_KEEPER=yes", |machine| {
        machine.tell_all("kill -TERM -1");
        until("a read has failed", || {
            machine.failed().contains("No such file")
        });
    });
}
