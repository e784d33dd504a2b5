//! The server is killed while it has had the kernel keep things.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{Etcfs, private};
use crate::{DEADLINE, cache, opts, replace, text, until, warm};

#[test]
fn a_successor_shows_nothing_old() {
    private(DEADLINE, |env| {
        let mut all = opts(&["keeper=yes", "max_deaths=0"]);
        all.config = vec!["add_global /hosts".to_owned()];
        let etcfs = Etcfs::start(env, all);
        let (above, below) = (etcfs.mnt(), etcfs.local());
        fs::create_dir(below.join("d")).expect("mkdir");
        for turn in 0..25 {
            let said = format!("{turn}");
            replace(&below.join("d/f"), "before");
            until("before", || text(&above.join("d/f")) == "before");
            for name in ["d/f", "d/missing", "d/l", "hosts", "hosts.new"] {
                warm(&above.join(name));
            }
            warm(&above.join("d"));
            assert!(cache(&etcfs, "kept") > 0);
            if turn % 2 == 0 {
                etcfs.strike();
            }
            replace(&below.join("d/f"), &said);
            fs::write(below.join("d/missing"), &said).expect("write");
            let _ = fs::remove_file(below.join("d/l"));
            symlink(&said, below.join("d/l")).expect("symlink");
            if turn % 2 == 1 {
                etcfs.kill_server();
            }
            until("a file replaced", || text(&above.join("d/f")) == said);
            until("a file made", || text(&above.join("d/missing")) == said);
            until("a symlink replaced", || {
                fs::read_link(above.join("d/l")).is_ok_and(|to| to.as_os_str() == &*said)
            });
            fs::write(above.join("hosts.new"), &said).expect("write");
            fs::rename(above.join("hosts.new"), above.join("hosts")).expect("rename");
            assert_eq!(text(&etcfs.global().join("hosts")), said);
            until("the global one", || {
                replace(&etcfs.global().join("hosts"), "another");
                text(&above.join("hosts")) == "another"
            });
            fs::remove_file(below.join("d/missing")).expect("unlink");
            until("a file removed", || !above.join("d/missing").exists());
        }
    });
}
