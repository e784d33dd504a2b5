//! The configuration file and the global names on a real mount, byte for byte (contract D23 to D33, D35, D39, D40, S6, U6).

#[path = "../harness/mod.rs"]
mod harness;

mod file;
mod global;
mod killed;

use harness::{CONFIG, Env, Etcfs, Opts, private};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

fn served(body: impl FnOnce(&Env, &Etcfs) + Send + 'static) {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        body(env, &etcfs);
    });
}

fn config(etcfs: &Etcfs) -> PathBuf {
    etcfs.mnt().join(CONFIG)
}

fn open(etcfs: &Etcfs, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(config(etcfs), flags | OFlags::CLOEXEC, Mode::empty())
}

/// One write(2) through a handle of its own.
fn write(etcfs: &Etcfs, text: &[u8]) -> rustix::io::Result<usize> {
    rustix::io::write(open(etcfs, OFlags::WRONLY | OFlags::APPEND)?, text)
}

fn text(etcfs: &Etcfs) -> String {
    etcfs.read_config().expect("read the configuration")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let list = fs::read_dir(dir).expect("list");
    list.map(|e| {
        e.expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8")
    })
    .collect()
}
