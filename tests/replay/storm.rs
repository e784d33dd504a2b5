//! What `systemctl list-unit-files` does to `/etc` (contract U1, systemd issues 14730 and 29181): unit directories opened
//! and listed again and again, every symlink in them read. One run there is 98,565 readlinkat, 45,839 openat and 39,334
//! getdents64; here it is one two-hundredth of it.

use crate::harness::Env;
use crate::mounted;
use rustix::fs::{CWD, Dir, Mode, OFlags};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const READLINKS: usize = 98_565 / 200;
const OPENS: usize = 45_839 / 200;
const LISTS: usize = 39_334 / 400;

const TARGETS: [&str; 4] = ["multi-user", "graphical", "sockets", "timers"];
const UNITS: usize = 8;

/// `/etc/systemd/system` with units, `.wants` directories full of symlinks, and drop-ins.
fn make(etc: &Path) {
    let system = etc.join("systemd/system");
    fs::create_dir_all(&system).expect("mkdir");
    for target in TARGETS {
        let wants = system.join(format!("{target}.target.wants"));
        fs::create_dir(&wants).expect("mkdir");
        for unit in 0..UNITS {
            let name = format!("unit-{unit}.service");
            symlink(format!("/usr/lib/systemd/system/{name}"), wants.join(&name)).expect("symlink");
        }
    }
    for unit in 0..UNITS {
        let name = format!("local-{unit}.service");
        let text = format!("[Unit]\nDescription=Unit {unit}\n[Service]\nExecStart=/bin/true\n");
        fs::write(system.join(&name), text).expect("write");
        fs::create_dir(system.join(format!("{name}.d"))).expect("mkdir");
    }
}

/// The storm.
fn rage(etc: &Path) {
    let system = etc.join("systemd/system");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (mut links, mut opens, mut lists) = (0, 0, 0);
    while links < READLINKS || opens < OPENS || lists < LISTS {
        for target in TARGETS {
            let wants = system.join(format!("{target}.target.wants"));
            let dir = rustix::fs::open(&wants, flags, Mode::empty()).expect("open");
            opens += 1;
            let mut dir = Dir::new(dir).expect("a directory");
            if lists < LISTS {
                assert_eq!(dir.by_ref().filter(Result::is_ok).count(), UNITS + 2);
                lists += 1;
            }
            let dir = dir.fd().expect("its descriptor");
            for unit in 0..UNITS {
                if links >= READLINKS {
                    break;
                }
                let name = format!("unit-{unit}.service");
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).expect("readlink");
                assert!(target.to_bytes().starts_with(b"/usr/lib/"));
                links += 1;
            }
        }
        for unit in 0..UNITS {
            if opens >= OPENS {
                break;
            }
            let path = system.join(format!("local-{unit}.service"));
            assert!(fs::read(path).expect("read").starts_with(b"[Unit]"));
            let missing = system.join(format!("unit-{unit}.service"));
            assert!(rustix::fs::openat(CWD, missing, OFlags::RDONLY, Mode::empty()).is_err());
            opens += 2;
        }
    }
}

/// Records it.
pub fn record(env: &Env) -> Vec<u8> {
    let etc = env.dir("storm");
    make(&etc);
    mounted::record(env, &etc, false, rage)
}
