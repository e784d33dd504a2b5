//! The process that serves a mount, where another one keeps it: it can be killed, and another one serves then.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Etcfs;

impl Etcfs {
    /// The process that serves: the keeper's child that has threads. `None`: there is none at this moment.
    pub fn server(&self) -> Option<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.head());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let serves = |pid: &&str| {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            tasks.is_ok_and(|tasks| tasks.count() > 1)
        };
        let mut children = children.split_ascii_whitespace();
        children.find(serves)?.parse().ok()
    }

    /// All processes of the daemon.
    pub fn processes(&self) -> Vec<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.head());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let children = children.split_ascii_whitespace();
        let children = children.filter_map(|pid| pid.parse().ok());
        std::iter::once(self.head()).chain(children).collect()
    }

    /// Kills the process that serves, and does not wait for another one.
    pub fn strike(&self) {
        if let Some(pid) = self.server().and_then(Pid::from_raw) {
            // It may have been struck before.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Kills the process that serves, and waits until another one does.
    pub fn kill_server(&self) {
        let served = self.server();
        self.strike();
        std::fs::metadata(self.mnt()).expect("stat");
        while self.server().is_none() || self.server() == served {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Of processes those that none of the others has made: the keepers.
pub(super) fn heads(found: &[i32]) -> Vec<i32> {
    let parent = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        line.and_then(|pid| pid.trim().parse::<i32>().ok())
    };
    let is_head = |pid: &&i32| parent(pid).is_none_or(|parent| !found.contains(&parent));
    found.iter().filter(is_head).copied().collect()
}
