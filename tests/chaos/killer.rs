//! Who has processes of the daemons die, and other programs take their place.

use crate::harness::{Etcfs, Processes, Rng, number};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EACH_UPGRADE: Duration = Duration::from_secs(5);

/// Has another process serve.
pub fn replace_server(etcfs: &Etcfs) {
    let mut found = Processes::of(&etcfs.mnt());
    while !found.are_all_there() {
        std::thread::sleep(Duration::from_millis(5));
        found = Processes::of(&etcfs.mnt());
    }
    let before = found.server;
    let pid = before.and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kill");
    while found.server == before || !found.are_all_there() {
        std::thread::sleep(Duration::from_millis(5));
        found = Processes::of(&etcfs.mnt());
    }
}

/// Kills, and counts.
pub struct Killer<'a> {
    strata: &'a [Etcfs; 2],
    rng: Rng,
    kills: [u32; 3],
    upgrades: u32,
    refused: Vec<String>,
}

impl<'a> Killer<'a> {
    pub fn new(strata: &'a [Etcfs; 2]) -> Killer<'a> {
        Killer {
            strata,
            // Another run is another story; the number is told for who wants it again.
            rng: Rng::new(number("ETCFS_CHAOS_SEED").unwrap_or(std::process::id().into())),
            kills: [0; 3],
            upgrades: 0,
            refused: Vec::new(),
        }
    }

    /// Goes on until then, or until `over` says so.
    pub fn kill_until(&mut self, end: Instant, over: &mut dyn FnMut() -> bool) {
        let mut upgrade = Instant::now() + EACH_UPGRADE / 2;
        // One that runs beside the kills may be in vain, and is not counted.
        let mut beside: Option<Child> = None;
        while Instant::now() < end && !over() {
            std::thread::sleep(Duration::from_millis(50 + self.rng.below(450)));
            if Instant::now() > upgrade {
                upgrade += EACH_UPGRADE;
                let mut command = self.upgrade();
                if self.rng.one_in(2) {
                    let output = command.output().expect("run etcfsctl");
                    match output.status.success() {
                        true => self.upgrades += 1,
                        false => self
                            .refused
                            .push(String::from_utf8_lossy(&output.stderr).into_owned()),
                    }
                } else if beside
                    .as_mut()
                    .is_none_or(|it| matches!(it.try_wait(), Ok(Some(_))))
                {
                    command.stdout(Stdio::null()).stderr(Stdio::null());
                    beside = Some(command.spawn().expect("run etcfsctl"));
                }
            }
            self.kill();
        }
        if let Some(mut beside) = beside {
            beside.wait().expect("wait for etcfsctl");
        }
    }

    fn upgrade(&mut self) -> Command {
        let program = std::env::var_os("ETCFS_BIN");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
        command
            .arg("upgrade")
            .arg(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_etcfs").into()))
            .arg(self.strata[self.rng.below(2) as usize].mnt());
        command
    }

    fn kill(&mut self) {
        let mnt = self.strata[self.rng.below(2) as usize].mnt();
        let found = Processes::of(&mnt);
        let which = match self.rng.below(40) {
            0 => 1,
            1 => 2,
            _ => 0,
        };
        let victim = [found.server, found.keeper, found.spare][which];
        // Without one of them the others would be the last.
        if let Some(victim) = victim.filter(|_| which == 0 || found.are_all_there()) {
            let pid = Pid::from_raw(victim).expect("a pid");
            // It may have ended by itself, since its keeper has died.
            if kill_process(pid, Signal::KILL).is_ok() {
                self.kills[which] += 1;
            }
        }
    }

    /// What is wrong with what was done.
    pub fn failures(&self) -> Vec<String> {
        let refused = self.refused.iter();
        refused.map(|why| format!("an upgrade: {why}")).collect()
    }
}

impl fmt::Display for Killer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [servers, keepers, spares] = self.kills;
        writeln!(
            f,
            "killed: {servers} servers, {keepers} keepers, {spares} spare keepers; upgrades: {}",
            self.upgrades
        )
    }
}

/// True for what the daemon says of a death or of another program.
pub fn is_of_a_kill(line: &str) -> bool {
    [
        "; nobody served for ",
        "the keeper has died, and another one is in its place",
    ]
    .iter()
    .any(|words| line.contains(words))
}
