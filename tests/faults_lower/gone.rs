//! A lower directory that is unmounted, replaced or removed beneath.

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};
use rustix::io::{Errno, Result};
use rustix::mount::UnmountFlags;

use crate::harness::{Root, private};
use crate::others::Others;
use crate::{DEADLINE, Faulty, WAYS, tmpfs};

/// What a holder of the directory can do; the descriptor is older than what happened.
fn act(root: &Root, n: u32) -> Result<Vec<u8>> {
    let dir = &root.dir;
    let (new, name) = (format!("new-{n}"), format!("name-{n}"));
    let flags = OFlags::RDWR | OFlags::CREATE;
    let file = rustix::fs::openat(dir, &*new, flags, Mode::from_raw_mode(0o644))?;
    rustix::io::write(&file, b"text")?;
    rustix::fs::renameat(dir, &*new, dir, &*name)?;
    let file = rustix::fs::openat(dir, &*name, OFlags::RDONLY, Mode::empty())?;
    let mut text = vec![0; 16];
    let len = rustix::io::read(&file, &mut text)?;
    text.truncate(len);
    Ok(text)
}

fn faulty(env: &crate::harness::Env, options: &[&str]) -> Faulty {
    Faulty::new(env, options, |at| tmpfs(at, "mode=0755"))
}

#[test]
fn unmounted_beneath_what_is_served_goes_on_as_for_who_holds_the_directory() {
    for options in WAYS {
        private(DEADLINE, move |env| {
            let faulty = faulty(env, options);
            let mut pair = faulty.pair();
            assert_eq!(
                pair.same("before", |root| act(root, 0)),
                Ok(b"text".to_vec())
            );
            let busy = rustix::mount::unmount(&faulty.at, UnmountFlags::empty());
            assert_eq!(busy, Err(Errno::BUSY), "it is in use, and umount says so");
            rustix::mount::unmount(&faulty.at, UnmountFlags::DETACH).expect("umount -l");
            assert!(!faulty.at.join("global").exists());
            assert_eq!(
                pair.same("after", |root| act(root, 1)),
                Ok(b"text".to_vec())
            );
            // By the path as well, which leads through the mount.
            fs::write(faulty.etcfs.mnt().join("g/by-path"), "x").expect("write");
            let local = faulty.etcfs.mnt().join("local");
            fs::write(&local, "x").expect("the other side");
            fs::rename(&local, faulty.etcfs.mnt().join("g/moved")).expect("across sides");
            pair.finish();
        });
    }
}

#[test]
fn replaced_beneath_what_was_taken_at_the_start_is_served_until_it_is_put_back() {
    for options in WAYS {
        private(DEADLINE, move |env| {
            let faulty = faulty(env, options);
            let own = faulty.etcfs.mnt().join("own");
            fs::create_dir(&own).expect("mkdir");
            let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(&own, everybody).expect("chmod");
            let others = Others::start(&own);
            let mut pair = faulty.pair();
            let (now, aside) = (faulty.at.join("global"), faulty.at.join("aside"));
            fs::rename(&now, &aside).expect("move the global directory aside");
            fs::create_dir_all(now.join("g")).expect("another in its place");
            fs::write(now.join("g/file"), "of the other").expect("write");
            assert_eq!(pair.same("act", |root| act(root, 0)), Ok(b"text".to_vec()));
            assert!(aside.join("g/name-0").exists(), "the one of the start");
            assert!(!faulty.etcfs.mnt().join("g/file").exists());
            others.go_on();
            fs::remove_dir_all(&now).expect("remove the other");
            fs::rename(&aside, &now).expect("put it back");
            assert_eq!(pair.same("act", |root| act(root, 1)), Ok(b"text".to_vec()));
            assert!(now.join("g/name-1").exists());
            pair.finish();
        });
    }
}

/// A directory below the base that is replaced is found at the next lookup: only the base itself is held.
#[test]
fn removed_beneath_the_holder_gets_enoent_and_a_new_one_of_that_name_is_seen_at_once() {
    for options in WAYS {
        private(DEADLINE, move |env| {
            let faulty = faulty(env, options);
            let mut pair = faulty.pair();
            let both = [faulty.at.join("global/g"), faulty.at.join("native")];
            let open = [faulty.etcfs.mnt().join("g"), faulty.at.join("native")]
                .map(|dir| fs::File::open(dir).expect("open the directory"));
            let remove = |dir: &Path| fs::remove_dir_all(dir).expect("remove");
            both.iter().for_each(|dir| remove(dir));
            let gone = pair.same("in a directory that is gone", |root| act(root, 0));
            assert_eq!(gone, Err(Errno::NOENT));
            // Who has it open can still ask; what was asked within a tick of the clock would be told again.
            for dir in &open {
                let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
                let stat = statx(dir, "", flags, StatxFlags::NLINK).expect("stat");
                assert_eq!(stat.stx_nlink, 0);
            }
            pair.finish();
            both.iter()
                .for_each(|dir| fs::create_dir(dir).expect("make anew"));
            let mut pair = faulty.pair();
            assert_eq!(
                pair.same("in the new one", |root| act(root, 1)),
                Ok(b"text".to_vec())
            );
            pair.finish();
        });
    }
}
