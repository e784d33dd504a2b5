//! The daemon from its start to its end, as Bedrock, fstab and users start and end it (contract D1 to D22).

#[path = "../harness/mod.rs"]
mod harness;

mod again;
mod below;
mod checkout;
mod dead;
mod ending;
mod places;
mod shutdown;
mod starting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Opts, mounts};

const DEADLINE: Duration = Duration::from_secs(90);
const LONG: Duration = Duration::from_secs(30);

fn binary() -> PathBuf {
    std::env::var_os("ETCFS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_etcfs").into(), PathBuf::from)
}

fn is_mounted(at: &Path) -> bool {
    mounts().iter().any(|mount| mount.at == at)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + LONG;
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn background() -> Opts {
    Opts {
        background: true,
        ..Opts::default()
    }
}
