//! Global names: directories, parents, listings, links, and what rules cost (D35, D39, D40, S6, U6).

use crate::harness::{CONFIG, Env, Etcfs, Trace, User, as_user, errno};
use crate::{names, open, served, text};
use etcfs_proto::Opcode;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

#[test]
fn d39_children_of_a_global_directory_are_global() {
    served(|_, etcfs| {
        for (dir, what) in [(etcfs.local(), "local"), (etcfs.global(), "global")] {
            fs::create_dir_all(dir.join("gd/deep")).expect("mkdir");
            fs::create_dir_all(dir.join("default")).expect("mkdir");
            for name in [
                "gd/f",
                "gd/deep/f",
                "default/grub",
                "default/useradd",
                "plain",
            ] {
                fs::write(dir.join(name), what).expect("write");
            }
            fs::write(dir.join(format!("gd/only-{what}")), what).expect("write");
        }
        etcfs
            .write_config(&["add_global /gd", "add_global /default/grub"])
            .expect("configure");
        let read = |name: &str| fs::read_to_string(etcfs.mnt().join(name)).map_err(errno);
        for (name, what) in [
            ("gd/f", "global"),
            ("gd/deep/f", "global"),
            ("gd/only-global", "global"),
            ("default/grub", "global"),
            ("default/useradd", "local"),
            ("plain", "local"),
        ] {
            assert_eq!(read(name).as_deref(), Ok(what), "{name}");
        }
        assert_eq!(read("gd/only-local"), Err(Errno::NOENT));
        assert_eq!(
            names(&etcfs.mnt().join("gd")),
            ["deep", "f", "only-global"].map(String::from).into()
        );
        assert_eq!(
            names(&etcfs.mnt().join("default")),
            ["grub", "useradd"].map(String::from).into()
        );
        fs::write(etcfs.mnt().join("gd/deep/new"), "x").expect("write");
        fs::create_dir(etcfs.mnt().join("gd/newdir")).expect("mkdir");
        assert!(
            etcfs.global().join("gd/deep/new").exists()
                && etcfs.global().join("gd/newdir").is_dir()
        );
        // Taken out of the configuration, the same names are local at once, also below a directory that is held.
        let held = fs::File::open(etcfs.mnt().join("default")).expect("open");
        etcfs
            .write_config(&["rm_global /gd", "rm_global /default/grub"])
            .expect("configure");
        assert_eq!(read("gd/f").as_deref(), Ok("local"));
        assert_eq!(read("default/grub").as_deref(), Ok("local"));
        let grub = rustix::fs::openat(
            &held,
            "grub",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .expect("open");
        let mut bytes = [0; 10];
        let n = rustix::io::read(grub, &mut bytes).expect("read");
        assert_eq!(&bytes[..n], b"local");
    });
}

#[test]
fn d40_a_global_name_needs_its_local_parent_and_makes_its_global_one() {
    served(|_, etcfs| {
        etcfs
            .write_config(&["add_global /resolvconf/run/x", "add_global /top"])
            .expect("configure");
        let name = etcfs.mnt().join("resolvconf/run/x");
        let create = || fs::write(&name, "x").map_err(errno);
        assert_eq!(create(), Err(Errno::NOENT), "no local parent");
        fs::create_dir_all(etcfs.mnt().join("resolvconf/run")).expect("mkdir");
        assert_eq!(
            fs::metadata(&name).map_err(errno).map(drop),
            Err(Errno::NOENT),
            "no global parent"
        );
        as_user(&User::plain(0), || {
            rustix::process::umask(Mode::from_raw_mode(0o077));
            create()
        })
        .expect("create");
        let made = etcfs.global().join("resolvconf/run");
        let stat = fs::metadata(&made).expect("stat");
        assert_eq!(
            (stat.mode() & 0o7777, stat.uid(), stat.gid()),
            (0o755, 0, 0)
        );
        assert_eq!(
            fs::metadata(made.join("x")).expect("stat").mode() & 0o777,
            0o600
        );
        assert!(!etcfs.local().join("resolvconf/run/x").exists());
        fs::write(etcfs.mnt().join("top"), "t").expect("write");
        assert!(etcfs.global().join("top").exists() && !etcfs.local().join("top").exists());
    });
}

#[test]
fn s6_listings_merge_both_sides() {
    served(|_, etcfs| {
        for name in ["both", "only-local", "hidden"] {
            fs::write(etcfs.local().join(name), "l").expect("write");
        }
        for name in ["both", "only-global", "not-configured"] {
            fs::write(etcfs.global().join(name), "g").expect("write");
        }
        let lines = ["both", "only-global", "hidden"].map(|name| format!("add_global /{name}"));
        etcfs.write_config(&lines).expect("configure");
        etcfs
            .write_config(&["add_override directory /promised x"])
            .expect("configure");
        let expected = ["both", "only-local", "only-global", "promised", CONFIG].map(String::from);
        assert_eq!(names(&etcfs.mnt()), expected.into());
        assert_eq!(
            fs::read_to_string(etcfs.mnt().join("both")).expect("read"),
            "g"
        );
        assert_eq!(
            fs::metadata(etcfs.mnt().join("hidden"))
                .map_err(errno)
                .map(drop),
            Err(Errno::NOENT)
        );
    });
}

#[test]
fn s6_a_link_to_the_other_side_is_exdev() {
    served(|_, etcfs| {
        etcfs
            .write_config(&["add_global /g", "add_global /h", "add_global /gd"])
            .expect("configure");
        fs::write(etcfs.mnt().join("g"), "g").expect("write");
        fs::write(etcfs.mnt().join("l"), "l").expect("write");
        fs::create_dir(etcfs.mnt().join("gd")).expect("mkdir");
        let link = |from: &str, to: &str| {
            fs::hard_link(etcfs.mnt().join(from), etcfs.mnt().join(to)).map_err(errno)
        };
        assert_eq!(link("l", "h"), Err(Errno::XDEV));
        assert_eq!(link("g", "l2"), Err(Errno::XDEV));
        assert_eq!(link("l", "gd/l"), Err(Errno::XDEV));
        assert_eq!(link("g", "gd/g"), Ok(()), "within a side");
        assert_eq!(
            fs::metadata(etcfs.mnt().join("g")).expect("stat").nlink(),
            2
        );
        assert!(!etcfs.global().join("h").exists());
    });
}

/// What a row of ordinary calls asks of the daemon and what that costs in system calls.
fn cost(env: &Env, etcfs: &Etcfs) -> Vec<(Opcode, usize)> {
    let path = etcfs.mnt().join("plain/f");
    let work = || {
        fs::metadata(&path).expect("stat");
        fs::metadata(etcfs.mnt().join("plain/missing")).expect_err("is missing");
        fs::read_link(etcfs.mnt().join("plain/l")).expect("readlink");
        fs::rename(&path, etcfs.mnt().join("plain/g")).expect("rename");
        fs::rename(etcfs.mnt().join("plain/g"), &path).expect("rename");
    };
    work();
    let trace = Trace::of(env, etcfs);
    for _ in 0..5 {
        work();
    }
    // GETATTR comes as the kernel's clock ticks, not as the daemon works.
    let asked = trace
        .end()
        .into_iter()
        .filter(|request| request.opcode != Opcode::GETATTR);
    let mut all: Vec<_> = asked
        .map(|request| (request.opcode, request.calls.len()))
        .collect();
    all.sort_by_key(|(opcode, calls)| (opcode.0, *calls));
    all
}

#[test]
fn u6_ten_thousand_rules_cost_no_more_calls_than_forty() {
    served(|env, etcfs| {
        fs::create_dir(etcfs.mnt().join("plain")).expect("mkdir");
        fs::write(etcfs.mnt().join("plain/f"), "x").expect("write");
        std::os::unix::fs::symlink("t", etcfs.mnt().join("plain/l")).expect("symlink");
        let add = |range: std::ops::Range<u32>| {
            let lines: String = range
                .map(|n| format!("add_global /d{}/file{n}\n", n % 50))
                .collect();
            // One handle: a line that a write ends in continues in the next.
            let fd = open(etcfs, OFlags::WRONLY).expect("open");
            for chunk in lines.as_bytes().chunks(60_000) {
                assert_eq!(rustix::io::write(&fd, chunk), Ok(chunk.len()));
            }
        };
        add(0..40);
        let few = cost(env, etcfs);
        add(40..10_000);
        assert_eq!(text(etcfs).lines().count(), 10_000);
        let many = cost(env, etcfs);
        for all in [&few, &many] {
            assert!(all.len() > 40, "the trace is whole: {all:?}");
        }
        // How often the kernel asks again depends on its clock, and now and then a thread has to be woken; what a request
        // costs by itself does not change. They are sorted: the first of its kind is the cheapest.
        let each = |mut all: Vec<(Opcode, usize)>| {
            all.dedup_by_key(|(opcode, _)| *opcode);
            all
        };
        assert_eq!(each(few), each(many));
    });
}
