//! Who has processes of the daemons die, and other programs take their place.

use crate::harness::{Etcfs, Rng, number};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EACH_UPGRADE: Duration = Duration::from_secs(5);

/// The processes of a mount, as far as they are there at the moment.
#[derive(Debug, Default, Clone, Copy)]
pub struct Processes {
    pub keeper: Option<i32>,
    pub server: Option<i32>,
    pub spare: Option<i32>,
}

impl Processes {
    /// Those whose command line names the mount point. The server is the one with threads, the spare keeper a child of the
    /// keeper's.
    pub fn of(mnt: &Path) -> Processes {
        let mut found = Processes::default();
        let mut single = Vec::new();
        for pid in all_of(mnt) {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            match threads {
                0 => {}
                1 => single.push(pid),
                _ => found.server = Some(pid),
            }
        }
        found.spare = single
            .iter()
            .copied()
            .find(|&pid| parent(pid).is_some_and(|parent| single.contains(&parent)));
        found.keeper = single.into_iter().find(|&pid| Some(pid) != found.spare);
        found
    }

    /// True if each of them is there.
    pub fn are_all_there(&self) -> bool {
        self.keeper.is_some() && self.server.is_some() && self.spare.is_some()
    }

    /// The numbers of those that are there.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        [self.keeper, self.server, self.spare].into_iter().flatten()
    }
}

/// All processes that were started on this mount point and have not ended.
pub fn all_of(mnt: &Path) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("list /proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = line.split(|byte| *byte == 0);
            let first = arguments.next().unwrap_or_default();
            !first.ends_with(b"etcfsctl")
                && arguments.any(|it| it == mnt.as_os_str().as_encoded_bytes())
        })
        .collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(1)?.parse().ok()
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
