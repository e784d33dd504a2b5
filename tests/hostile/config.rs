//! Odd configurations. What each command means is tested with the rules; here it is what a mount makes of them.

use super::harness::{CONFIG, Etcfs, Opts, errno, private};
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(200);

fn write(etcfs: &Etcfs, bytes: &[u8]) -> Result<usize, Errno> {
    let file = OpenOptions::new()
        .append(true)
        .open(etcfs.mnt().join(CONFIG))
        .expect("open");
    (&file).write(bytes).map_err(errno)
}

/// One write(2) that must change nothing and leave the daemon well.
fn refused(etcfs: &Etcfs, bytes: &[u8], answer: Errno) {
    let before = etcfs.read_config().expect("read");
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    assert_eq!(write(etcfs, bytes), Err(answer), "{shown:?}");
    assert_eq!(etcfs.read_config().expect("read"), before, "{shown:?}");
}

#[test]
fn d31_what_is_no_command_is_refused_and_changes_nothing() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        assert_eq!(write(&etcfs, b"add_global /kept\n"), Ok(17));
        for bytes in [
            b"\n".as_slice(),
            b"\0\n",
            b"add_global /a\0b\n",
            b"add_global\0/a\n",
            b"add_override symlink /a b\0c\n",
            b"add_global \n",
            b"add_global /\n",
            b"add_global /../etc/passwd\n",
            b"add_global /a/../b\n",
            b"add_global /a/./b\n",
            b"add_global ..\n",
            b"add_override symlink /../x y\n",
            b"add_override directory /a/.. x\n",
            b"add_override nothing /a b\n",
            b"add_override symlink /a\n",
            b"ADD_GLOBAL /a\n",
            b"rm_global \n",
            b"rm_global\n",
            b"rm_override \n",
            b"add_global /.bedrock-config-filesystem\n",
            b"add_global /good\nnonsense\n",
            b"nonsense\nadd_global /good\n",
            b"add_global /new\nline\n",
            b"\xff\xfe\n",
        ] {
            refused(&etcfs, bytes, Errno::INVAL);
        }
        let long = format!("add_global /{}\n", "x".repeat(256));
        refused(&etcfs, long.as_bytes(), Errno::NAMETOOLONG);
        let deep = format!("add_global {}\n", "/abcdefg".repeat(600));
        refused(&etcfs, deep.as_bytes(), Errno::NAMETOOLONG);
        let content = format!("add_override symlink /a {}\n", "x".repeat(5000));
        refused(&etcfs, content.as_bytes(), Errno::NAMETOOLONG);
        refused(
            &etcfs,
            b"add_override inject /a /nowhere/at/all\n",
            Errno::NOENT,
        );
        refused(&etcfs, b"add_override inject /a /proc\n", Errno::ISDIR);
        // A FIFO, an endless device: the writer gets an answer.
        let fifo = env.scratch().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("mkfifo");
        for source in [
            fifo.as_path(),
            Path::new("/dev/zero"),
            Path::new("/dev/full"),
        ] {
            let line = format!("add_override inject /a {}\n", source.display());
            let _ = write(&etcfs, line.as_bytes());
            assert!(etcfs.read_config().is_ok(), "after {line:?}");
        }
        assert!(write(&etcfs, b"rm_override /a\n").is_ok());
        assert_eq!(etcfs.read_config().expect("read"), "global /kept\n");
    });
}

#[test]
fn names_that_are_not_utf8_can_be_global() {
    private(DEADLINE, |env| {
        use std::os::unix::ffi::OsStrExt;
        let etcfs = Etcfs::start(env, Opts::default());
        let name = std::ffi::OsStr::from_bytes(b"odd \xff\t name");
        let mut line = b"add_global /".to_vec();
        line.extend_from_slice(name.as_bytes());
        line.push(b'\n');
        // A blank within a path would make the writer remove another one (D26).
        assert_eq!(write(&etcfs, &line), Err(Errno::INVAL));
        fs::write(etcfs.mnt().join(name), "x").expect("write");
        assert!(etcfs.local().join(name).exists());
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        assert_eq!(write(&etcfs, b"add_global /\xff\xfe\n"), Ok(15));
        fs::write(etcfs.mnt().join(name), "x").expect("write");
        assert!(etcfs.global().join(name).exists());
        assert_eq!(write(&etcfs, b"rm_global /\xff\xfe\n"), Ok(14));
        assert!(!etcfs.mnt().join(name).exists());
    });
}

#[test]
fn a_mebibyte_in_one_go_and_ten_thousand_rules() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        // 1 MiB written at once: the kernel cuts it where it likes, also within lines.
        let line = |n: usize| format!("add_global /dir{}/name-{n:0>80}\n", n % 100);
        let mut text = String::new();
        let mut count = 0;
        while text.len() < 1 << 20 {
            text.push_str(&line(count));
            count += 1;
        }
        assert!(count >= 10_000, "{count}");
        let mut file = OpenOptions::new()
            .append(true)
            .open(etcfs.mnt().join(CONFIG))
            .expect("open");
        file.write_all(text.as_bytes()).expect("write");
        drop(file);
        let config = etcfs.read_config().expect("read");
        assert_eq!(config.lines().count(), count);
        assert_eq!(config, text.replace("add_global", "global"));
        assert_eq!(
            fs::metadata(etcfs.mnt().join(CONFIG)).expect("stat").len(),
            config.len() as u64
        );
        // They are in force, and what they do not name is where it was.
        fs::create_dir(etcfs.mnt().join("dir7")).expect("mkdir");
        let global = format!("dir7/name-{:0>80}", 107);
        fs::write(etcfs.mnt().join(&global), "x").expect("write");
        fs::write(etcfs.mnt().join("dir7/other"), "x").expect("write");
        assert!(etcfs.global().join(&global).exists());
        assert!(etcfs.local().join("dir7/other").exists());
        assert_eq!(
            fs::read_dir(etcfs.mnt().join("dir7"))
                .expect("list")
                .count(),
            2
        );
        // And they all go again.
        let removal = text.replace("add_global", "rm_global");
        let mut file = OpenOptions::new()
            .append(true)
            .open(etcfs.mnt().join(CONFIG))
            .expect("open");
        file.write_all(removal.as_bytes()).expect("write");
        assert_eq!(etcfs.read_config().expect("read"), "");
    });
}

#[test]
fn a_configuration_without_bound_is_stopped() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mut file = OpenOptions::new()
            .append(true)
            .open(etcfs.mnt().join(CONFIG))
            .expect("open");
        let mut n = 0;
        let stopped = loop {
            let mut lines = String::new();
            while lines.len() < 120_000 {
                lines.push_str(&format!(
                    "add_override symlink /rule-{n:0>200} {:0>3000}\n",
                    n
                ));
                n += 1;
            }
            match file.write_all(lines.as_bytes()) {
                Ok(()) => assert!(n < 1_000_000, "it takes all"),
                Err(error) => break errno(error),
            }
        };
        assert_eq!(stopped, Errno::NOSPC);
        drop(file);
        let config = etcfs.read_config().expect("read");
        assert!(config.len() <= 4 << 20, "{}", config.len());
        assert!(fs::write(etcfs.mnt().join("file"), "x").is_ok());
        assert!(write(&etcfs, b"rm_override /nothing\n").is_ok());
    });
}

#[test]
fn rules_that_contradict_each_other_have_an_order_of_precedence() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let config = |line: &str| {
            etcfs
                .write_config(&[line])
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        };
        let link = |name: &str| fs::read_link(mnt.join(name)).map_err(errno);
        // One path, both kinds of rule: the override is enforced on the global side.
        config("add_global /both");
        config("add_override symlink /both first");
        assert_eq!(link("both").expect("readlink"), Path::new("first"));
        assert!(fs::symlink_metadata(etcfs.global().join("both")).is_ok());
        assert!(fs::symlink_metadata(etcfs.local().join("both")).is_err());
        // A later override of the same path replaces the earlier, whatever its kind, and keeps its line's place.
        config("add_override symlink /after x");
        config("add_override directory /both x");
        assert_eq!(
            etcfs.read_config().expect("read"),
            "global /both\noverride directory /both x\noverride symlink /after x\n"
        );
        // Below a global directory all is global, also what is listed itself; when the upper goes, the lower counts.
        config("add_global /tree");
        config("add_global /tree/leaf");
        fs::create_dir(mnt.join("tree")).expect("mkdir");
        fs::write(mnt.join("tree/other"), "global").expect("write");
        fs::write(mnt.join("tree/leaf"), "global").expect("write");
        assert!(etcfs.global().join("tree/other").exists());
        config("rm_global /tree");
        fs::create_dir(mnt.join("tree")).expect("mkdir on the local side");
        assert!(!mnt.join("tree/other").exists());
        assert_eq!(
            fs::read_to_string(mnt.join("tree/leaf")).expect("read"),
            "global"
        );
        // Below a symlink override a rule sleeps while the symlink is in place.
        config("add_override symlink /way elsewhere");
        config("add_override symlink /way/below never");
        assert_eq!(link("way").expect("readlink"), Path::new("elsewhere"));
        assert_eq!(link("way/below"), Err(Errno::NOENT));
        assert!(fs::symlink_metadata(etcfs.local().join("elsewhere")).is_err());
        // A directory override and rules below it all hold.
        config("add_override directory /dir x");
        config("add_override symlink /dir/inside target");
        config("add_global /dir/global");
        assert_eq!(link("dir/inside").expect("readlink"), Path::new("target"));
        fs::write(mnt.join("dir/global"), "x").expect("write");
        assert!(etcfs.global().join("dir/global").exists());
        // A symlink override onto itself, and two that point at each other, are the client's loop alone.
        config("add_override symlink /self self");
        config("add_override symlink /ping pong");
        config("add_override symlink /pong ping");
        for name in ["self", "ping", "pong"] {
            assert_eq!(fs::read(mnt.join(name)).map_err(errno), Err(Errno::LOOP));
        }
        assert!(fs::read_dir(&mnt).expect("list").count() > 5);
    });
}

#[test]
fn u9_writers_and_users_at_once_do_not_hurt_the_daemon() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for n in 0..7 {
                            let path = mnt.join(format!("n{n}"));
                            let _ = fs::write(&path, "x");
                            let _ = fs::rename(&path, mnt.join("moved"));
                            let _ = fs::read_link(mnt.join(format!("on{n}")));
                            let _ = fs::read_dir(&mnt).map(Iterator::count);
                        }
                    }
                });
            }
            let writers = [0, 1].map(|writer| {
                let (etcfs, mnt) = (&etcfs, &mnt);
                scope.spawn(move || {
                    for n in 0..1000 {
                        let name = format!("n{}", (n + writer) % 7);
                        for line in [
                            format!("add_global /{name}"),
                            format!("add_override symlink /o{name} x{n}"),
                            format!("rm_override /o{name}"),
                            format!("rm_global /{name}"),
                        ] {
                            etcfs.write_config(&[line]).expect("a good command");
                        }
                        let _ = write(etcfs, b"garbage \xff\0\n");
                        assert!(mnt.join(CONFIG).exists());
                    }
                })
            });
            for writer in writers {
                let ended = writer.join();
                stop.store(ended.is_err(), Ordering::Relaxed);
                ended.expect("a writer");
            }
            stop.store(true, Ordering::Relaxed);
        });
        let config = etcfs.read_config().expect("the daemon lives");
        assert!(config.lines().count() <= 14, "{config}");
        assert!(!etcfs.stderr().contains("panicked"), "{}", etcfs.stderr());
    });
}
