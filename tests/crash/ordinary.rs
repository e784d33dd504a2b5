//! The mount of an ordinary user, made by fusermount3: it survives as root's does, without any privilege.

use crate::DEADLINE;
use crate::harness::{
    Bases, Env, Lower, NOBODY, Processes, User, all_of, as_user, for_everybody, private,
};
use crate::processes::{all_there, of, send, until};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Mounts, and lets `body` use the mount as that user.
fn served(env: &Env, body: impl FnOnce(&Bases) + Send) {
    let bases = Bases::new(env, Lower::Tmpfs);
    let program = for_everybody(env, &bases);
    as_user(&User::plain(NOBODY), || {
        let options = format!(
            "global={},stratum=here,keeper=yes,max_deaths=0",
            bases.global().display()
        );
        let output = Command::new(&program)
            .args(["-o", &options])
            .arg(bases.mnt())
            .env("ETCFS_ENABLE_PASSTHROUGH", "1")
            .stdin(Stdio::null())
            .output();
        let output = output.expect("start it");
        assert!(output.status.success(), "{output:?}");
        body(&bases);
        let mut unmount = Command::new("fusermount3");
        let unmounted = unmount.arg("-u").arg(bases.mnt()).status();
        assert!(unmounted.expect("run fusermount3").success());
    });
    until("all have ended", || all_of(&bases.mnt()).is_empty());
}

/// A file that is open, locked, and written to at its end.
fn held(mnt: &Path, below: &Path) -> (File, File) {
    let path = mnt.join("held");
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .expect("open");
    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("lock");
    (file, File::open(below.join("held")).expect("open beneath"))
}

#[test]
fn an_ordinary_users_mount_survives_whichever_of_its_processes_dies() {
    private(DEADLINE, |env| {
        served(env, |bases| {
            let mnt = bases.mnt();
            let (mut file, beneath) = held(&mnt, &bases.local());
            let mut expected = String::new();
            for round in 0..9 {
                let before = all_there(&mnt);
                let victim = of(&before, round % 3);
                send(victim, Signal::KILL);
                let line = format!("round {round}\n");
                file.write_all(line.as_bytes()).expect("append");
                expected += &line;
                let mut text = String::new();
                file.rewind().expect("seek");
                file.read_to_string(&mut text).expect("read");
                assert_eq!(text, expected, "{before:?}");
                let locked = flock(&beneath, FlockOperation::NonBlockingLockShared);
                assert_eq!(locked, Err(Errno::WOULDBLOCK), "the lock is held still");
                let dir = mnt.join(format!("dir-{round}"));
                fs::create_dir(&dir).expect("mkdir");
                fs::rename(&dir, mnt.join("dir")).expect("rename");
                fs::remove_dir(mnt.join("dir")).expect("rmdir");
                until("another one is in its place", || {
                    let now = Processes::of(&mnt);
                    now.are_all_there() && now.numbers().all(|pid| pid != victim)
                });
            }
            drop(file);
            until("the lock is given up", || {
                flock(&beneath, FlockOperation::NonBlockingLockShared).is_ok()
            });
            let left = fs::read_dir(&mnt).expect("list").count();
            assert_eq!(left, 2, "the file and the configuration's");
        });
    });
}
