//! Inject overrides against the clock: nobody's lines are lost, no open is refused, and no user who swaps names leads
//! the daemon outside (B24).

mod harness;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Etcfs, Opts, User, as_user, errno, inject, private, source, text};
use rustix::io::Errno;

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn no_line_of_a_writer_is_lost_while_text_comes_and_goes() {
    lose_no_line(&[]);
}

#[test]
fn no_line_of_a_writer_that_is_passed_through_is_lost_while_text_comes_and_goes() {
    lose_no_line(&["passthrough"]);
}

fn lose_no_line(options: &'static [&'static str]) {
    private(DEADLINE, |env| {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let etcfs = Etcfs::start(
            env,
            Opts {
                options,
                ..Opts::default()
            },
        );
        let (first, second) = (source(env, "one", "# ONE\n"), source(env, "two", "# TWO\n"));
        let (mnt, below) = (etcfs.mnt().join("log"), etcfs.local().join("log"));
        fs::write(&below, "start\n").unwrap();
        let done = AtomicBool::new(false);
        let written = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (name, path) in [("m", &mnt), ("b", &below)] {
                let (done, written) = (&done, &written);
                scope.spawn(move || {
                    let mut n = 0;
                    while !done.load(Ordering::Relaxed) {
                        let opened = OpenOptions::new().append(true).open(path);
                        let mut file = opened.unwrap_or_else(|e| panic!("{name}: {e}"));
                        file.write_all(format!("{name}{n}\n").as_bytes()).unwrap();
                        drop(file);
                        n += 1;
                        written.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    // The count goes behind the lines, as one more of them.
                    let mut file = OpenOptions::new().append(true).open(path).unwrap();
                    file.write_all(format!("{name} wrote {n}\n").as_bytes())
                        .unwrap();
                });
            }
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = fs::read(&mnt);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            for round in (0..).take_while(|n| *n < 60 || written.load(Ordering::Relaxed) < 200) {
                let line = match round % 3 {
                    0 => inject("log", &first),
                    1 => inject("log", &second),
                    _ => "rm_override /log".to_owned(),
                };
                etcfs.write_config(&[line]).unwrap();
                let _ = fs::metadata(&mnt);
                std::thread::sleep(Duration::from_millis(5));
            }
            done.store(true, Ordering::Relaxed);
        });
        // Text that could not be taken out for all the writing goes with the next removal.
        for from in [&first, &second] {
            etcfs
                .write_config(&[inject("log", from), "rm_override /log".to_owned()])
                .unwrap();
        }
        let content = text(&mnt);
        for name in ["m", "b"] {
            let lines: Vec<&str> = content
                .lines()
                .filter(|line| line.starts_with(name))
                .collect();
            let total = format!("{name} wrote {}", lines.len() - 1);
            assert!(
                lines.contains(&total.as_str()),
                "{name}: {} lines\n{content}",
                lines.len()
            );
        }
        assert_eq!(content.matches("# ").count(), 0, "{content}");
        let names: Vec<_> = fs::read_dir(etcfs.local())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["log"]);
    });
}

#[test]
fn no_open_through_the_mount_is_refused_because_of_a_lease() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let inj = source(env, "inj", "# INJ\n");
        fs::write(etcfs.local().join("file"), "start\n").unwrap();
        fs::hard_link(etcfs.local().join("file"), etcfs.local().join("link")).unwrap();
        fs::write(etcfs.local().join("single"), "start\n").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for name in ["file", "single"] {
                let (done, path) = (&done, etcfs.mnt().join(name));
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let opened = OpenOptions::new()
                            .read(true)
                            .write(true)
                            .custom_flags(libc::O_NONBLOCK)
                            .open(&path);
                        match opened.map(drop).map_err(errno) {
                            // Replaced twice between a look and an open: the kernel looks again once only.
                            Ok(()) | Err(Errno::STALE) => {}
                            Err(errno) => panic!("{name}: {errno}"),
                        }
                    }
                });
            }
            for _ in 0..30 {
                etcfs
                    .write_config(&[inject("file", &inj), inject("single", &inj)])
                    .unwrap();
                let _ = fs::read(etcfs.mnt().join("file"));
                etcfs
                    .write_config(&["rm_override /file", "rm_override /single"])
                    .unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(text(&etcfs.mnt().join("file")), "start\n");
    });
}

#[test]
fn b24_a_user_who_swaps_names_in_an_own_directory_leads_no_override_outside() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let inj = source(env, "inj", "# INJ\n");
        let outside = env.dir("outside");
        fs::write(outside.join("secret"), "secret\n").unwrap();
        let own = etcfs.local().join("own");
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
        etcfs
            .write_config(&[
                inject("own/file", &inj),
                "add_override directory /own/dir x".to_owned(),
                "add_override symlink /own/dir/link /right".to_owned(),
            ])
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                as_user(&User::plain(1000), || {
                    while !done.load(Ordering::Relaxed) {
                        let _ = fs::write(own.join("new"), "user\n");
                        let _ = fs::rename(own.join("new"), own.join("file"));
                        let _ = symlink(outside.join("secret"), own.join("new"));
                        let _ = fs::rename(own.join("new"), own.join("file"));
                        let _ = symlink(&outside, own.join("new"));
                        let _ = fs::rename(own.join("dir"), own.join("old"));
                        let _ = fs::rename(own.join("new"), own.join("dir"));
                        let _ = fs::remove_file(own.join("dir"));
                        let _ = fs::rename(own.join("old"), own.join("dir"));
                    }
                });
            });
            for round in 0..300 {
                let _ = fs::symlink_metadata(etcfs.mnt().join("own/file"));
                let _ = fs::symlink_metadata(etcfs.mnt().join("own/dir/link"));
                // A new override has no rest to keep.
                if round % 10 == 0 {
                    etcfs.write_config(&["rm_override /own/file"]).unwrap();
                    etcfs.write_config(&[inject("own/file", &inj)]).unwrap();
                    etcfs.write_config(&["rm_override /own/dir"]).unwrap();
                    etcfs
                        .write_config(&["add_override directory /own/dir x"])
                        .unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(text(&outside.join("secret")), "secret\n");
        let names: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        let meta = fs::metadata(outside.join("secret")).unwrap();
        assert_eq!(
            (meta.uid(), meta.mode() & 0o7777, meta.nlink()),
            (0, 0o644, 1)
        );
    });
}
