//! A name that others rename over all the time can be opened all the time, as natively.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, private};

/// Two of uid 1000's threads put new files in a file's place, each through its own mount if there are two, while root opens
/// it in all of `ways`. Returns how often, and what failed.
fn open_all_the_time(dirs: &[PathBuf], ways: &[PathBuf]) -> (usize, Vec<String>) {
    let done = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(4);
    let name = "file";
    fs::write(dirs[0].join(name), "text").expect("write");
    std::thread::scope(|scope| {
        for (nth, dir) in dirs.iter().enumerate() {
            let done = &done;
            scope.spawn(move || {
                as_user(&User::plain(1000), || {
                    let new = dir.join(format!("new{nth}"));
                    while !done.load(Ordering::Relaxed) {
                        fs::write(&new, "text").expect("write a new file");
                        fs::rename(&new, dir.join(name)).expect("rename over");
                    }
                });
            });
        }
        let mut failed = Vec::new();
        let mut opened = 0;
        while Instant::now() < end {
            for way in ways {
                let path = way.join(name);
                let results = [
                    fs::File::open(&path).map(|_| ()),
                    fs::OpenOptions::new().write(true).open(&path).map(|_| ()),
                    fs::metadata(&path).map(|_| ()),
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)),
                ];
                opened += results.len();
                failed.extend(
                    results
                        .into_iter()
                        .filter_map(Result::err)
                        .map(|e| e.to_string()),
                );
            }
        }
        done.store(true, Ordering::Relaxed);
        (opened, failed)
    })
}

fn shared(path: &Path) {
    fs::create_dir(path).expect("mkdir");
    chown(path, Some(1000), Some(1000)).expect("chown");
}

/// The kernel looks again once. Where what it then found could be gone as well, root's open failed ten times in twenty seconds
/// with ESTALE.
#[test]
fn a_name_that_is_renamed_over_all_the_time_can_be_opened_all_the_time() {
    for options in [&[][..], &["passthrough"]] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, Lower::Tmpfs);
            let other = bases.second(env, "other");
            let opts = Opts {
                options: options.iter().map(|&option| option.to_owned()).collect(),
                config: vec!["add_global /g".to_owned()],
                ..Opts::default()
            };
            shared(&bases.global().join("g"));
            let native = bases.native().join("g");
            shared(&native);
            let one = Etcfs::serve(env, bases, opts.clone());
            let two = Etcfs::serve(env, other, opts);
            let mounts = [one.mnt().join("g"), two.mnt().join("g")];
            let (opened, failed) = open_all_the_time(&mounts, &mounts);
            println!("{opened} calls on the mounts, {options:?}");
            assert_eq!(failed, Vec::<String>::new(), "of {opened}, {options:?}");
            let natively = [native.clone(), native];
            let (opened, failed) = open_all_the_time(&natively, &natively);
            assert_eq!(failed, Vec::<String>::new(), "of {opened}, natively");
        });
    }
}
