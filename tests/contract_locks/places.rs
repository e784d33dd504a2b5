//! Where locks are taken: files on one mount, on two over one global file system, and natively.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, private};

pub const RDWR: i32 = libc::O_RDWR;
pub const RDONLY: i32 = libc::O_RDONLY;
pub const AGAIN: Result<String, Errno> = Err(Errno::AGAIN);

/// What a `fcntl(2)` lock answers.
pub fn ok() -> Result<String, Errno> {
    Ok(String::new())
}

/// What `flock(2)` and `close(2)` answer.
pub fn done() -> Result<String, Errno> {
    Ok("0".to_owned())
}

/// Two strata over one global file system, and the file `shared` that both see as global.
pub fn two_strata(env: &Env, more: &[&str]) -> (Etcfs, Etcfs, PathBuf) {
    let bases = Bases::new(env, Lower::Tmpfs);
    fs::write(bases.global().join("shared"), "x").expect("write");
    let opts = |stratum: &str| Opts {
        stratum: stratum.to_owned(),
        config: vec!["add_global /shared".to_owned()],
        options: more.iter().map(|&o| o.to_owned()).collect(),
        ..Opts::default()
    };
    let native = bases.global().join("shared");
    let second = bases.second(env, "beta");
    let alpha = Etcfs::serve(env, bases, opts("alpha"));
    let beta = Etcfs::serve(env, second, opts("beta"));
    (alpha, beta, native)
}

/// A mount with one file, on it and natively.
pub fn one_file(env: &Env, options: &[&str]) -> (Etcfs, PathBuf, PathBuf) {
    let opts = Opts {
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Opts::default()
    };
    let etcfs = Etcfs::start(env, opts);
    fs::write(etcfs.local().join("f"), "x").expect("write");
    fs::write(etcfs.native().join("f"), "x").expect("write");
    let (mount, native) = (etcfs.mnt().join("f"), etcfs.native().join("f"));
    (etcfs, mount, native)
}

/// Runs the same calls on a native file and on mounts without and with passthrough: the expectations hold for all.
pub fn on_both(case: impl Fn(&Path) + Copy + Send + 'static) {
    on_both_and_beneath(move |file, _| case(file));
}

/// The same, with the lower file beside each.
pub fn on_both_and_beneath(case: impl Fn(&Path, &Path) + Copy + Send + 'static) {
    for options in [&[][..], &["passthrough"]] {
        private(DEADLINE, move |env| {
            let (etcfs, mount, native) = one_file(env, options);
            eprintln!("natively");
            case(&native, &native);
            eprintln!("on the mount, {options:?}");
            case(&mount, &etcfs.local().join("f"));
        });
    }
}

/// Kills a process that an agent has started, by the number that it answered.
pub fn end(child: &str) {
    let pid = Pid::from_raw(child.parse().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kill");
}
