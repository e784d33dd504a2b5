//! The process that serves a mount, where another one keeps it: it can be killed, and another one serves then.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Etcfs;

impl Etcfs {
    /// The process that serves: the keeper's child that has threads. `None`: there is none at this moment.
    pub fn server(&self) -> Option<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(children).expect("the keeper's children");
        let serves = |pid: &&str| {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            tasks.is_ok_and(|tasks| tasks.count() > 1)
        };
        let mut children = children.split_ascii_whitespace();
        children.find(serves)?.parse().ok()
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
