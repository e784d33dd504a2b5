//! What is asked with `cache=watch`: nothing of what the kernel keeps.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use etcfs_proto::Opcode;

use crate::harness::{Env, Etcfs, Opts, Request, Trace, private};
use crate::{DEADLINE, TIMES};

fn served(env: &Env) -> Etcfs {
    let etcfs = Etcfs::start(
        env,
        Opts {
            options: vec!["passthrough".into(), "cache=watch".into()],
            ..Opts::default()
        },
    );
    let dir = etcfs.local().join("d");
    fs::create_dir(&dir).expect("mkdir");
    fs::write(dir.join("f"), [7; 4096]).expect("write");
    std::os::unix::fs::symlink("target", dir.join("l")).expect("symlink");
    for n in 0..20 {
        fs::write(dir.join(format!("{n}")), "").expect("write");
    }
    // A symlink that was born a moment ago is asked for again.
    std::thread::sleep(Duration::from_millis(400));
    etcfs
}

/// Checks what `operation` asks when it is carried out again and again. Attributes are asked for once a second.
fn check(operation: impl Fn(&Path) + Send + 'static, allowed: &[(Opcode, usize)]) {
    private(DEADLINE, {
        let allowed: BTreeMap<Opcode, usize> = allowed.iter().copied().collect();
        move |env| {
            let etcfs = served(env);
            let dir = etcfs.mnt().join("d");
            for _ in 0..3 {
                operation(&dir);
                std::thread::sleep(Duration::from_millis(80));
            }
            let trace = Trace::of(env, &etcfs);
            let since = Instant::now();
            (0..TIMES).for_each(|_| operation(&dir));
            let seconds = since.elapsed().as_secs() as usize + 1;
            let requests = trace.end();
            let mut seen: BTreeMap<Opcode, usize> = BTreeMap::new();
            requests
                .iter()
                .for_each(|request: &Request| *seen.entry(request.opcode).or_default() += 1);
            for (opcode, count) in &seen {
                let most = match *opcode {
                    Opcode::GETATTR => 4 * seconds,
                    other => allowed.get(&other).map_or(0, |n| n * TIMES),
                };
                assert!(
                    *count <= most,
                    "{opcode}: {count}, {most} allowed; all: {seen:?}"
                );
            }
        }
    });
}

#[test]
fn stat_asks_nothing() {
    check(
        |dir| {
            fs::metadata(dir.join("f")).expect("stat");
        },
        &[],
    );
}

#[test]
fn stat_of_a_missing_name_asks_nothing() {
    check(
        |dir| drop(fs::metadata(dir.join("missing")).expect_err("nothing is there")),
        &[],
    );
}

#[test]
fn readlink_asks_nothing() {
    check(
        |dir| drop(fs::read_link(dir.join("l")).expect("readlink")),
        &[],
    );
}

#[test]
fn open_read_close_is_an_open_and_a_release() {
    check(
        |dir| {
            let mut data = [0; 4096];
            let mut file = fs::File::open(dir.join("f")).expect("open");
            file.read_exact(&mut data).expect("read");
        },
        &[(Opcode::OPEN, 1), (Opcode::RELEASE, 1)],
    );
}

#[test]
fn a_listing_is_an_open_and_a_release() {
    check(
        |dir| assert_eq!(fs::read_dir(dir).expect("list").count(), 22),
        &[(Opcode::OPENDIR, 1), (Opcode::RELEASEDIR, 1)],
    );
}
