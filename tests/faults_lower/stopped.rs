//! A daemon that is stopped for a while.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, as_user, private};
use crate::others::Others;

/// How long.
const WHILE: Duration = Duration::from_secs(5);

#[test]
fn stopped_callers_wait_and_other_mounts_go_on_and_nothing_is_lost() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("file"), "text").expect("write");
        let second = bases.second(env, "second");
        let opts = Opts {
            options: vec!["passthrough".to_owned()],
            config: vec!["add_global /shared".to_owned()],
            ..Opts::default()
        };
        let shared = bases.global().join("shared");
        fs::create_dir(&shared).expect("mkdir");
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&shared, everybody).expect("chmod");
        let etcfs = Etcfs::serve(env, bases, opts.clone());
        let other = Etcfs::serve(env, second, opts);
        let others = Others::start(&other.mnt().join("shared"));
        let open = File::open(etcfs.mnt().join("file")).expect("open");
        etcfs.signal(Signal::STOP);
        let done = AtomicU32::new(0);
        let mnt = etcfs.mnt();
        let calls: [Box<dyn Fn() -> std::io::Result<()> + Sync>; 5] = [
            Box::new(|| fs::metadata(mnt.join("file")).map(drop)),
            Box::new(|| fs::write(mnt.join("new"), "written meanwhile")),
            Box::new(|| fs::create_dir(mnt.join("dir"))),
            Box::new(|| {
                fs::read_dir(mnt.join("shared"))
                    .and_then(|mut list| list.try_for_each(|entry| entry.map(drop)))
            }),
            Box::new(|| as_user(&crate::user(), || fs::write(mnt.join("shared/u"), "user's"))),
        ];
        std::thread::scope(|scope| {
            for call in &calls {
                let done = &done;
                scope.spawn(move || {
                    call().expect("it comes to its end");
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            // A client that is killed does not wait for the daemon.
            let mut killed = Command::new("cat");
            let mut killed = killed.arg(mnt.join("file")).spawn().expect("cat(1)");
            // An open file is the kernel's own affair with passthrough.
            let mut text = [0; 4];
            open.read_exact_at(&mut text, 0).expect("read");
            assert_eq!(&text, b"text");
            std::thread::sleep(WHILE);
            assert_eq!(done.load(Ordering::Relaxed), 0, "they wait");
            others.go_on();
            killed.kill().expect("kill");
            assert!(!killed.wait().expect("it dies").success());
            etcfs.signal(Signal::CONT);
        });
        assert_eq!(done.load(Ordering::Relaxed), 5);
        let new = fs::read(etcfs.local().join("new")).expect("read beneath");
        assert_eq!(new, b"written meanwhile");
        assert!(etcfs.local().join("dir").is_dir());
        assert_eq!(fs::read(shared.join("u")).expect("read beneath"), b"user's");
        others.go_on();
    });
}
