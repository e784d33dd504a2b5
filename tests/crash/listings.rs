//! Listings that are under way while servers are killed and names come and go.

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, private};
use rustix::fs::{Mode, OFlags, RawDir};
use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

const NAMES: usize = 700;

/// Lists `dir` with a buffer of some names. After each `between` is given the names that came.
fn list(dir: &Path, mut between: impl FnMut(&[String])) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).expect("open");
    let mut buffer = [MaybeUninit::uninit(); 3000];
    let mut entries = RawDir::new(&fd, &mut buffer);
    let (mut all, mut some) = (Vec::new(), Vec::new());
    while let Some(entry) = entries.next() {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_str().expect("UTF-8").to_owned();
        if !name.starts_with('.') {
            some.push(name);
        }
        if entries.is_buffer_empty() {
            between(&some);
            all.append(&mut some);
        }
    }
    all
}

/// As `rm -r` does it, while somebody makes others: on ramfs, and on tmpfs before Linux 6.6, an entry's offset is the number
/// of those before it.
#[test]
fn who_removes_what_is_listed_is_shown_each_name_once_whoever_is_killed() {
    private(DEADLINE, |env| {
        for lower in [Lower::Ramfs, Lower::Tmpfs] {
            let opts = Opts {
                options: vec!["keeper=yes".into(), "max_deaths=0".into()],
                ..Opts::default()
            };
            let etcfs = Etcfs::serve(env, Bases::new(env, lower), opts);
            for (dir, beneath, kills) in [
                (etcfs.native(), etcfs.native(), false),
                (etcfs.mnt(), etcfs.local(), false),
                (etcfs.mnt(), etcfs.local(), true),
            ] {
                let beneath = beneath.join(format!("listed-{kills}"));
                fs::create_dir(&beneath).expect("mkdir");
                for number in 0..NAMES {
                    fs::write(beneath.join(format!("name-{number:04}")), "").expect("write");
                }
                let dir = dir.join(format!("listed-{kills}"));
                let mut times = 0;
                let mut all = list(&dir, |names| {
                    times += 1;
                    for name in names {
                        fs::remove_file(dir.join(name)).expect("unlink");
                    }
                    if times % 4 == 0 {
                        fs::write(dir.join(format!("new-{times}")), "").expect("write");
                    }
                    if kills && times % 3 == 0 {
                        etcfs.kill_server();
                    }
                });
                all.retain(|name| name.starts_with("name-"));
                let unlike: BTreeSet<&String> = all.iter().collect();
                let at = dir.display();
                assert_eq!(
                    all.len(),
                    unlike.len(),
                    "{lower:?}, {at}: a name came twice"
                );
                assert_eq!(all.len(), NAMES, "{lower:?}, {at}: names are missing");
                fs::remove_dir_all(&dir).expect("remove");
            }
        }
    });
}
