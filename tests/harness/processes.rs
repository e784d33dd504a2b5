//! The processes of a daemon that has a keeper.

use std::fs;
use std::path::Path;

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
